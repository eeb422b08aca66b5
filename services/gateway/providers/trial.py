"""One attempt from its opening to its end: its time limit, its entry in the log, its span, its
connection.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from types import TracebackType

from prometheus_client import Histogram

from services.common.clock import Clock
from services.common.errors import GatewayTimeout
from services.common.telemetry import span
from services.gateway.providers.port import (
    AttemptFailed,
    ChatProvider,
    UpstreamAttempt,
    UpstreamStream,
)
from services.gateway.usage_entry import AttemptEntry, UsageEntry

UPSTREAM_SECONDS = Histogram(
    "mesh_gateway_upstream_seconds",
    "Time of an attempt, from sending to its end.",
    ["provider", "result"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300),
)
_upstream_seconds = lru_cache(maxsize=1_024)(UPSTREAM_SECONDS.labels)


class Trial:
    """A block in which an attempt's answer can be read; left by an error it drops the connection at
    once.
    """

    def __init__(
        self, provider: ChatProvider, attempt: UpstreamAttempt, *, entry: UsageEntry, clock: Clock
    ) -> None:
        self._provider = provider
        self._attempt = attempt
        self._clock = clock
        self._stream: UpstreamStream | None = None
        self._entry = AttemptEntry(
            provider_id=attempt.provider.provider_id,
            upstream_model=attempt.model.upstream_model,
            started_at_ms=clock.now_ms(),
        )
        entry.attempts.append(self._entry)
        self._started_s = clock.monotonic_s()
        # Also over the writes to the caller: who does not read must not hold a provider and its
        # money for ever.
        self._limit = asyncio.timeout(attempt.limits.total_s)
        self._span = span("upstream", {"mesh.provider": attempt.provider.provider_id}, "client")

    async def __aenter__(self) -> UpstreamStream:
        self._span.__enter__()
        await self._limit.__aenter__()
        try:
            self._stream = await self._provider.open(self._attempt)
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        self._entry.http_status = 200
        return self._stream

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        late: TimeoutError | None = None
        try:
            await self._limit.__aexit__(kind, error, trace)
        except TimeoutError as expired:
            late = expired
        if self._stream is not None:
            if error is None:
                self._stream.release()
            else:
                self._stream.abort()
        failure = error
        if late is not None:
            timeout = GatewayTimeout("the upstream provider took too long")
            failure = AttemptFailed(
                timeout, stage="upstream_stream", http_status=self._entry.http_status
            )
        self._note(failure)
        self._span.__exit__(type(failure) if failure else None, failure, trace)
        if late is not None and failure is not None:
            raise failure from late

    def _note(self, failure: BaseException | None) -> None:
        elapsed_s = self._clock.monotonic_s() - self._started_s
        self._entry.latency_ms = round(elapsed_s * 1000)
        self._entry.served = failure is None
        if isinstance(failure, AttemptFailed):
            self._entry.http_status = failure.http_status
            self._entry.error_code = failure.error.code
        elif failure is not None:
            self._entry.error_code = "cancelled"
        result = self._entry.error_code or "ok"
        _upstream_seconds(self._entry.provider_id, result).observe(elapsed_s)
