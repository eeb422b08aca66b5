"""The gRPC API of the live windows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import grpc

from services.common.clock import Clock
from services.common.errors import Forbidden, InvalidArgument, RateLimitExceeded, Unavailable
from services.common.grpc import Access, principal
from services.common.pb.mesh.usage.v1 import live_pb2, live_pb2_grpc
from services.usage.domain.live import RESOLUTIONS, Cell, Dimension, LiveSet

_READERS = Access(services=frozenset({"dashboard", "gateway", "cli"}), principal="any")
POLICIES = {f"/mesh.usage.v1.LiveService/{name}": _READERS for name in ("GetLive", "WatchLive")}
VALUES_MAX = 200
WATCH_EVERY_S = 1.0
# The minute of the clock that is under way, and the one before.
MINUTES_S = 120

# Any: nothing here reads or writes messages through the context.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request, checked."""

    account_id: str
    group_by: Dimension
    values: frozenset[str]
    resolution_s: int
    window_s: int
    newest_minute: bool = False


class LiveServicer(live_pb2_grpc.LiveServiceServicer):
    """`mesh.usage.v1.LiveService`."""

    def __init__(
        self, windows: LiveSet, *, clock: Clock, lag_ms: Callable[[], int], watchers_max: int
    ) -> None:
        self._windows = windows
        self._clock = clock
        self._lag_ms = lag_ms
        self._watchers_max = watchers_max
        self._watchers = 0
        self._closed = asyncio.Event()

    def close(self) -> None:
        """Ends the streams, because the process is stopping."""
        self._closed.set()

    async def GetLive(
        self, request: live_pb2.GetLiveRequest, _context: Context
    ) -> live_pb2.LiveWindows:
        return self._windows_of(wanted_of(request), after=-1)

    async def WatchLive(
        self, request: live_pb2.GetLiveRequest, _context: Context
    ) -> AsyncIterator[live_pb2.LiveWindows]:
        wanted = wanted_of(request)
        if self._watchers >= self._watchers_max:
            raise RateLimitExceeded(f"{self._watchers_max} streams are open already")
        self._watchers += 1
        try:
            after = -1
            while not self._closed.is_set():
                newest = self._windows.version
                yield self._windows_of(wanted, after=after)
                after = newest
                await self._clock.sleep(WATCH_EVERY_S)
            raise Unavailable("the service is stopping; watch again")
        finally:
            self._watchers -= 1

    def _windows_of(self, wanted: Wanted, *, after: int) -> live_pb2.LiveWindows:
        now_ms = self._clock.now_ms()
        found = self._windows.read(
            wanted.account_id,
            wanted.group_by,
            resolution_s=wanted.resolution_s,
            since_s=now_ms // 1000 - wanted.window_s,
            after=after,
        )
        return live_pb2.LiveWindows(
            resolution_s=wanted.resolution_s,
            now_ms=now_ms,
            lag_ms=self._lag_ms(),
            series=[
                live_pb2.LiveSeries(
                    value=value, buckets=[_bucket(start, cell) for start, cell in cells]
                )
                for value, cells in found
                if not wanted.values or value in wanted.values
            ],
            truncated=wanted.account_id in self._windows.truncated,
            whole=after < 0,
            newest_minute=self._newest_minute(wanted, now_ms) if wanted.newest_minute else None,
        )

    def _newest_minute(self, wanted: Wanted, now_ms: int) -> live_pb2.LiveBucket | None:
        since_s = now_ms // 1000 - MINUTES_S
        found = self._windows.read(
            wanted.account_id, "", resolution_s=60, since_s=since_s, after=-1
        )
        cells = [(start, cell) for _, of_value in found for start, cell in of_value]
        return _bucket(*cells[-1]) if cells else None


def wanted_of(request: live_pb2.GetLiveRequest) -> Wanted:
    """The request, of the principal's account. Raises InvalidArgument naming what is wrong."""
    caller = principal()
    if not caller.account_id:
        raise Forbidden("the principal acts for no account")
    if request.resolution_s not in RESOLUTIONS:
        names = ", ".join(map(str, RESOLUTIONS))
        raise InvalidArgument.of("resolution_s", f"is one of {names}")
    longest = RESOLUTIONS[request.resolution_s]
    if request.window_s > longest:
        raise InvalidArgument.of("window_s", f"is at most {longest} at this resolution")
    if request.group_by not in ("", "key", "model"):
        raise InvalidArgument.of("group_by", "is one of key, model or empty")
    if len(request.values) > VALUES_MAX:
        raise InvalidArgument.of("values", f"has more than {VALUES_MAX} entries")
    group_by, values = cast(Dimension, request.group_by), frozenset(request.values)
    if caller.kind == "key":
        if not caller.key_id:
            raise Forbidden("the principal is a key without an id")
        if group_by == "model":
            raise Forbidden("a key sees its own requests, which are not kept by model")
        group_by, values = "key", frozenset({caller.key_id})
    return Wanted(
        caller.account_id,
        group_by,
        values,
        request.resolution_s,
        request.window_s or longest,
        newest_minute=request.newest_minute and not group_by,
    )


def _bucket(start_s: int, cell: Cell) -> live_pb2.LiveBucket:
    return live_pb2.LiveBucket(
        start_ms=start_s * 1000,
        requests=cell.requests,
        errors=cell.errors,
        prompt_tokens=cell.prompt_tokens,
        completion_tokens=cell.completion_tokens,
        cost_nanousd=cell.cost_nanousd,
        latency_p50_ms=cell.quantile_ms(0.5),
        latency_p95_ms=cell.quantile_ms(0.95),
        latency_p99_ms=cell.quantile_ms(0.99),
    )
