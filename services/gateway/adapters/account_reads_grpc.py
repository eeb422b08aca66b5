"""Balance and request log by gRPC, for the key that asks."""

from __future__ import annotations

from services.common.grpc.channel import GrpcChannel
from services.common.pb.mesh.billing.v1 import billing_pb2, billing_pb2_grpc
from services.common.pb.mesh.events.v1 import usage_pb2 as events_pb2
from services.common.pb.mesh.usage.v1 import usage_pb2, usage_pb2_grpc
from services.common.security.tokens import Principal
from services.gateway.account_reads import BalanceView, LoggedRequest, Result, UsageQuery
from services.gateway.ports import KeyPrincipal

_OUTCOMES: dict[Result, tuple[events_pb2.RequestOutcome.ValueType, ...]] = {
    "success": (events_pb2.REQUEST_OUTCOME_SUCCESS, events_pb2.REQUEST_OUTCOME_LIMIT_REACHED),
    "error": (
        events_pb2.REQUEST_OUTCOME_REFUSED,
        events_pb2.REQUEST_OUTCOME_UPSTREAM_ERROR,
        events_pb2.REQUEST_OUTCOME_CLIENT_GONE,
        events_pb2.REQUEST_OUTCOME_CRASHED,
    ),
}


def call_principal_from_key(principal: KeyPrincipal) -> Principal:
    """Whom a call is made for: the key itself, of its account."""
    return Principal(
        kind="key",
        account_id=principal.account_id,
        user_id=principal.user_id,
        key_id=principal.key_id,
    )


class GrpcBalances:
    """`Balances` at billing."""

    def __init__(self, channel: GrpcChannel) -> None:
        self._channel = channel
        self._stub = billing_pb2_grpc.BillingServiceStub(channel.channel())

    async def balance(self, principal: KeyPrincipal) -> BalanceView:
        answer = await self._channel.call(
            self._stub.GetBalance,
            billing_pb2.GetBalanceRequest(),
            principal=call_principal_from_key(principal),
        )
        return BalanceView(answer.posted_nanousd, answer.granted_nanousd, answer.updated_at_ms)


class GrpcRequestLog:
    """`RequestLog` at the usage service."""

    def __init__(self, channel: GrpcChannel) -> None:
        self._channel = channel
        self._stub = usage_pb2_grpc.UsageServiceStub(channel.channel())

    async def requests(
        self, principal: KeyPrincipal, query: UsageQuery
    ) -> tuple[list[LoggedRequest], int]:
        request = usage_pb2.ListRequestsRequest(
            filter=_filter_to_pb(query), offset=query.offset, with_total=True
        )
        request.page.page_size = query.limit
        answer = await self._channel.call(
            self._stub.ListRequests, request, principal=call_principal_from_key(principal)
        )
        return [_request_from_pb(row) for row in answer.requests], answer.total

    async def request(self, principal: KeyPrincipal, request_id: str) -> LoggedRequest:
        answer = await self._channel.call(
            self._stub.GetRequest,
            usage_pb2.GetRequestRequest(request_id=request_id),
            principal=call_principal_from_key(principal),
        )
        return _request_from_pb(answer)


def _filter_to_pb(query: UsageQuery) -> usage_pb2.RequestFilter:
    return usage_pb2.RequestFilter(
        since_ms=query.since_ms,
        until_ms=query.until_ms,
        model_ids=query.model_ids,
        outcomes=[outcome for result in query.results for outcome in _OUTCOMES[result]],
        http_statuses=query.http_statuses,
        session_ids=query.session_ids,
        end_user_ids=query.end_user_ids,
        tags=query.tags,
    )


def _request_from_pb(row: usage_pb2.LoggedRequest) -> LoggedRequest:
    outcome = events_pb2.RequestOutcome.Name(row.outcome)
    return LoggedRequest(
        usage_id=row.usage_id,
        request_id=row.request_id,
        key_id=row.key_id,
        trace_id=row.trace_id,
        route=row.route,
        requested_model=row.requested_model,
        model_id=row.model_id,
        stream=row.stream,
        outcome=outcome.removeprefix("REQUEST_OUTCOME_").lower(),
        http_status=row.http_status,
        error_code=row.error_code,
        failure_stage=row.failure_stage,
        finish_reason=row.finish_reason,
        received_at_ms=row.received_at_ms,
        first_token_ms=row.first_token_ms,
        latency_ms=row.latency_ms,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        cost_nanousd=row.cost_nanousd,
        session_id=row.session_id,
        end_user_id=row.end_user_id,
        tags=dict(row.tags),
    )
