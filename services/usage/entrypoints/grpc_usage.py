"""The gRPC API of the request log: who may call what, and each call's way to a view or a tail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc

from services.common.clock import Clock
from services.common.errors import Forbidden, InvalidArgument, RateLimitExceeded
from services.common.grpc import Access, principal
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.usage.v1 import usage_pb2, usage_pb2_grpc
from services.usage.domain.filter import Scope
from services.usage.entrypoints.messages import (
    attempts_to_wire,
    difference_to_wire,
    filter_from_wire,
    line_to_wire,
    request_to_wire,
    sums_to_wire,
)
from services.usage.export import ExportFormat, Exports
from services.usage.reconcile import Reconciler
from services.usage.sink.tail import TailHub
from services.usage.summaries import UsageSummaries
from services.usage.views import Asked, Page, UsageViews

_READERS = Access(services=frozenset({"dashboard", "gateway", "cli"}), principal="any")
POLICIES = {
    f"/mesh.usage.v1.UsageService/{method}": _READERS
    for method in (
        "ListRequests",
        "GetRequest",
        "TailRequests",
        "SummarizeUsage",
        "ListAttempts",
        "SpendTrend",
        "SpendByDay",
        "ExportRequests",
        "ListDifferences",
        "Reconcile",
    )
}
_FORMATS: dict[int, ExportFormat] = {
    usage_pb2.EXPORT_FORMAT_CSV: "csv",
    usage_pb2.EXPORT_FORMAT_PARQUET: "parquet",
}
# Differences that are listed where the caller does not say, and at most.
DIFFERENCES_DEFAULT = 100
DIFFERENCES_MAX = 1_000
# One message of an export; gRPC's own limit is four times as much.
CHUNK_BYTES = 1_048_576

# Any: nothing here reads or writes messages through the context.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


def scope_of_principal(*, all_accounts_allowed: bool = False) -> Scope:
    """What the caller may see. Raises Forbidden where it acts for no account and the call needs
    one.
    """
    caller = principal()
    if not caller.account_id and not (all_accounts_allowed and caller.kind == "operator"):
        raise Forbidden("the principal acts for no account")
    if caller.kind == "key" and not caller.key_id:
        raise Forbidden("the principal is a key without an id")
    return Scope(caller.account_id, caller.key_id if caller.kind == "key" else "")


def _page_to_wire(
    found: list[usage_pb2.LoggedRequest], page: Page[Any]
) -> usage_pb2.ListRequestsResponse:
    return usage_pb2.ListRequestsResponse(
        requests=found,
        page=common_pb2.PageResponse(next_page_token=page.next_page_token),
        total=page.total or 0,
    )


@dataclass(frozen=True, slots=True)
class Reads:
    """Everything that can be asked of the log."""

    views: UsageViews
    summaries: UsageSummaries
    exports: Exports
    reconciler: Reconciler


class UsageServicer(usage_pb2_grpc.UsageServiceServicer):
    """`mesh.usage.v1.UsageService`."""

    def __init__(self, reads: Reads, tails: TailHub, *, clock: Clock, exports_max: int) -> None:
        self._views = reads.views
        self._summaries = reads.summaries
        self._exports = reads.exports
        self._reconciler = reads.reconciler
        self._tails = tails
        self._clock = clock
        self._exports_left = exports_max

    async def ListRequests(
        self, request: usage_pb2.ListRequestsRequest, _context: Context
    ) -> usage_pb2.ListRequestsResponse:
        scope, wanted = scope_of_principal(), filter_from_wire(request.filter)
        asked: Asked = {
            "page_size": request.page.page_size,
            "page_token": request.page.page_token,
            "offset": request.offset,
            "with_total": request.with_total,
        }
        if request.view == usage_pb2.REQUEST_VIEW_BASIC:
            lines = await self._views.list_lines(scope, wanted, **asked)
            found = [line_to_wire(line, scope.account_id) for line in lines.rows]
            return _page_to_wire(found, lines)
        page = await self._views.list_requests(scope, wanted, **asked)
        return _page_to_wire([request_to_wire(row) for row in page.rows], page)

    async def GetRequest(
        self, request: usage_pb2.GetRequestRequest, _context: Context
    ) -> usage_pb2.LoggedRequest:
        row = await self._views.get_request(scope_of_principal(), request.request_id)
        return request_to_wire(row)

    async def TailRequests(
        self, request: usage_pb2.TailRequestsRequest, context: Context
    ) -> AsyncIterator[usage_pb2.LoggedRequest]:
        scope = scope_of_principal(all_accounts_allowed=True)
        with self._tails.subscribe(scope, filter_from_wire(request.filter)) as tail:
            # Sent at once, so that the caller knows from when on it misses nothing.
            await context.send_initial_metadata(())
            async for row in tail.rows():
                yield request_to_wire(row)

    async def SummarizeUsage(
        self, request: usage_pb2.SummarizeUsageRequest, _context: Context
    ) -> usage_pb2.UsageSummary:
        total, buckets = await self._summaries.summarize(
            scope_of_principal(),
            filter_from_wire(request.filter),
            group_by=request.group_by,
            then_by=request.then_by,
            limit=request.limit,
            with_times=not request.without_times,
        )
        return usage_pb2.UsageSummary(
            total=sums_to_wire(total), buckets=[sums_to_wire(bucket) for bucket in buckets]
        )

    async def ListAttempts(
        self, request: usage_pb2.ListAttemptsRequest, _context: Context
    ) -> usage_pb2.ListAttemptsResponse:
        rows = await self._views.requests_of_id(scope_of_principal(), request.request_id)
        return usage_pb2.ListAttemptsResponse(
            attempts=[
                usage_pb2.LoggedAttempt(
                    usage_id=row.usage_id,
                    request_id=row.request_id,
                    number=number,
                    attempt=attempt,
                )
                for row in rows
                for number, attempt in enumerate(attempts_to_wire(row), 1)
            ]
        )

    async def SpendTrend(
        self, request: usage_pb2.SpendTrendRequest, _context: Context
    ) -> usage_pb2.SpendTrendResponse:
        buckets = await self._summaries.spend_trend(
            scope_of_principal(),
            filter_from_wire(request.filter),
            granularity=request.granularity or "day",
            now_ms=self._clock.now_ms(),
        )
        return usage_pb2.SpendTrendResponse(
            buckets=[
                usage_pb2.SpendBucket(
                    start_ms=bucket.start_ms,
                    requests=bucket.requests,
                    cost_nanousd=bucket.cost_nanousd,
                    trailing_average_nanousd=bucket.trailing_average_nanousd,
                )
                for bucket in buckets
            ],
            requests=sum(bucket.requests for bucket in buckets),
            cost_nanousd=sum(bucket.cost_nanousd for bucket in buckets),
        )

    async def SpendByDay(
        self, request: usage_pb2.SpendByDayRequest, _context: Context
    ) -> usage_pb2.SpendByDayResponse:
        to_ms = request.to_ms or self._clock.now_ms()
        rows = await self._summaries.spend_by_day(
            scope_of_principal(), from_ms=request.from_ms, to_ms=to_ms
        )
        return usage_pb2.SpendByDayResponse(
            rows=[
                usage_pb2.SpendDay(
                    day=one.day,
                    provider_id=one.provider_id,
                    model_id=one.model_id,
                    key_id=one.key_id,
                    cost_nanousd=one.cost_nanousd,
                    requests=one.requests,
                )
                for one in rows
            ],
            cost_nanousd=sum(one.cost_nanousd for one in rows),
        )

    async def ExportRequests(
        self, request: usage_pb2.ExportRequestsRequest, _context: Context
    ) -> AsyncIterator[usage_pb2.ExportChunk]:
        scope, wanted = scope_of_principal(), filter_from_wire(request.filter)
        if request.format not in _FORMATS:
            raise InvalidArgument.of("format", "is neither CSV nor Parquet")
        if not self._exports_left:
            raise RateLimitExceeded("too many exports are being made already; try again later")
        self._exports_left -= 1
        try:
            async for data in self._exports.export(
                scope, wanted, _FORMATS[request.format], rows_max=request.rows_max
            ):
                for start in range(0, len(data), CHUNK_BYTES):
                    yield usage_pb2.ExportChunk(data=data[start : start + CHUNK_BYTES])
        finally:
            self._exports_left += 1

    async def ListDifferences(
        self, request: usage_pb2.ListDifferencesRequest, _context: Context
    ) -> usage_pb2.ListDifferencesResponse:
        scope = scope_of_principal(all_accounts_allowed=True)
        if scope.key_id:
            raise Forbidden("a key sees its requests, not its account's books")
        if request.limit > DIFFERENCES_MAX:
            raise InvalidArgument.of("limit", f"is at most {DIFFERENCES_MAX:,}")
        found = await self._reconciler.open_differences(
            scope.account_id,
            since_ms=request.since_ms,
            until_ms=request.until_ms,
            limit=request.limit or DIFFERENCES_DEFAULT,
        )
        return usage_pb2.ListDifferencesResponse(
            differences=[difference_to_wire(one) for one in found],
            compared_at_ms=await self._reconciler.compared_at_ms(),
        )

    async def Reconcile(
        self, request: usage_pb2.ReconcileRequest, _context: Context
    ) -> usage_pb2.ReconcileResponse:
        if principal().kind != "operator":
            raise Forbidden("only operators compare the log with the ledger")
        if request.until_ms and request.until_ms <= request.since_ms:
            raise InvalidArgument.of("until_ms", "is not after since_ms")
        done = await self._reconciler.compare(request.since_ms, request.until_ms)
        return usage_pb2.ReconcileResponse(
            hours=done.hours,
            requests=done.requests,
            cost_nanousd=done.cost_nanousd,
            differences=[difference_to_wire(one) for one in done.differences],
        )
