"""The gRPC API of the request log: who may call what, and each call's way to a view or a tail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc

from services.common.errors import Forbidden
from services.common.grpc import Access, principal
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.usage.v1 import usage_pb2, usage_pb2_grpc
from services.usage.domain.filter import Scope
from services.usage.entrypoints.messages import filter_from_wire, request_to_wire, sums_to_wire
from services.usage.sink.tail import TailHub
from services.usage.views import UsageViews

_READERS = Access(services=frozenset({"dashboard", "gateway", "cli"}), principal="any")
POLICIES = {
    f"/mesh.usage.v1.UsageService/{method}": _READERS
    for method in ("ListRequests", "GetRequest", "TailRequests", "SummarizeUsage")
}

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


class UsageServicer(usage_pb2_grpc.UsageServiceServicer):
    """`mesh.usage.v1.UsageService`."""

    def __init__(self, views: UsageViews, tails: TailHub) -> None:
        self._views = views
        self._tails = tails

    async def ListRequests(
        self, request: usage_pb2.ListRequestsRequest, _context: Context
    ) -> usage_pb2.ListRequestsResponse:
        page = await self._views.list_requests(
            scope_of_principal(),
            filter_from_wire(request.filter),
            page_size=request.page.page_size,
            page_token=request.page.page_token,
            offset=request.offset,
            with_total=request.with_total,
        )
        return usage_pb2.ListRequestsResponse(
            requests=[request_to_wire(row) for row in page.rows],
            page=common_pb2.PageResponse(next_page_token=page.next_page_token),
            total=page.total or 0,
        )

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
        total, buckets = await self._views.summarize(
            scope_of_principal(),
            filter_from_wire(request.filter),
            group_by=request.group_by,
            limit=request.limit,
        )
        return usage_pb2.UsageSummary(
            total=sums_to_wire(total), buckets=[sums_to_wire(bucket) for bucket in buckets]
        )
