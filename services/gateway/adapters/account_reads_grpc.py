"""Balance and request log by gRPC, for the key that asks."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from services.common.errors import InvalidArgument
from services.common.grpc.channel import GrpcChannel
from services.common.pb.mesh.billing.v1 import billing_pb2, billing_pb2_grpc
from services.common.pb.mesh.events.v1 import usage_pb2 as events_pb2
from services.common.pb.mesh.usage.v1 import usage_pb2, usage_pb2_grpc
from services.common.security.tokens import Principal
from services.gateway.account_reads import (
    BalanceView,
    LoggedRequest,
    RequestPage,
    Result,
    UsageQuery,
)
from services.gateway.ports import KeyPrincipal
from services.gateway.usage_reports import (
    ExportFormat,
    Granularity,
    LoggedAttempt,
    SpendBucket,
    UsageReport,
    UsageTotals,
)

_OUTCOMES: dict[Result, tuple[events_pb2.RequestOutcome.ValueType, ...]] = {
    "success": (events_pb2.REQUEST_OUTCOME_SUCCESS, events_pb2.REQUEST_OUTCOME_LIMIT_REACHED),
    "error": (
        events_pb2.REQUEST_OUTCOME_REFUSED,
        events_pb2.REQUEST_OUTCOME_UPSTREAM_ERROR,
        events_pb2.REQUEST_OUTCOME_CLIENT_GONE,
        events_pb2.REQUEST_OUTCOME_CRASHED,
    ),
}
_FORMATS: dict[ExportFormat, usage_pb2.ExportFormat.ValueType] = {
    "csv": usage_pb2.EXPORT_FORMAT_CSV,
    "parquet": usage_pb2.EXPORT_FORMAT_PARQUET,
}
# A file takes as long as its reader does, within reason.
_EXPORT_TIMEOUT_S = 3_600.0
# As many groups as the usage service gives.
_MODELS_MAX = 1_000


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

    async def balance(self, principal: Principal) -> BalanceView:
        answer = await self._channel.call(
            self._stub.GetBalance,
            billing_pb2.GetBalanceRequest(),
            principal=principal,
        )
        return BalanceView(answer.posted_nanousd, answer.granted_nanousd, answer.updated_at_ms)


class GrpcRequestLog:
    """`UsageReports` at the usage service."""

    def __init__(self, channel: GrpcChannel) -> None:
        self._channel = channel
        self._stub = usage_pb2_grpc.UsageServiceStub(channel.channel())

    async def requests(self, principal: Principal, query: UsageQuery) -> RequestPage:
        request = usage_pb2.ListRequestsRequest(
            filter=_filter_to_pb(query), offset=query.offset, with_total=True
        )
        request.page.page_size = query.limit
        request.page.page_token = query.cursor
        try:
            answer = await self._channel.call(self._stub.ListRequests, request, principal=principal)
        except InvalidArgument as error:
            if query.cursor and "page_token" in error.message:
                raise InvalidArgument.of("cursor", "is not a cursor of this list") from error
            raise
        rows = [_request_from_pb(row) for row in answer.requests]
        return RequestPage(rows, answer.total, answer.page.next_page_token)

    async def request(self, principal: Principal, request_id: str) -> LoggedRequest:
        answer = await self._channel.call(
            self._stub.GetRequest,
            usage_pb2.GetRequestRequest(request_id=request_id),
            principal=principal,
        )
        return _request_from_pb(answer)

    async def report(self, principal: Principal, query: UsageQuery) -> UsageReport:
        answer = await self._channel.call(
            self._stub.SummarizeUsage,
            usage_pb2.SummarizeUsageRequest(
                filter=_filter_to_pb(query), group_by="model", limit=_MODELS_MAX
            ),
            principal=principal,
        )
        by_model = [(bucket.value, _totals_from_pb(bucket)) for bucket in answer.buckets]
        return UsageReport(_totals_from_pb(answer.total), by_model)

    async def attempts(self, principal: Principal, request_id: str) -> list[LoggedAttempt]:
        answer = await self._channel.call(
            self._stub.ListAttempts,
            usage_pb2.ListAttemptsRequest(request_id=request_id),
            principal=principal,
        )
        return [
            LoggedAttempt(
                usage_id=one.usage_id,
                request_id=one.request_id,
                number=one.number,
                http_status=one.attempt.http_status,
                error_code=one.attempt.error_code,
                started_at_ms=one.attempt.started_at_ms,
                latency_ms=one.attempt.latency_ms,
                served=one.attempt.served,
            )
            for one in answer.attempts
        ]

    async def spend_trend(
        self, principal: Principal, query: UsageQuery, granularity: Granularity
    ) -> list[SpendBucket]:
        answer = await self._channel.call(
            self._stub.SpendTrend,
            usage_pb2.SpendTrendRequest(filter=_filter_to_pb(query), granularity=granularity),
            principal=principal,
        )
        return [
            SpendBucket(
                bucket.start_ms,
                bucket.requests,
                bucket.cost_nanousd,
                bucket.trailing_average_nanousd,
            )
            for bucket in answer.buckets
        ]

    async def export(
        self, principal: Principal, query: UsageQuery, file_format: ExportFormat
    ) -> AsyncIterator[bytes]:
        chunks = self._channel.stream(
            self._stub.ExportRequests,
            usage_pb2.ExportRequestsRequest(
                filter=_filter_to_pb(query), format=_FORMATS[file_format]
            ),
            principal=principal,
            timeout_s=_EXPORT_TIMEOUT_S,
        )
        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                yield chunk.data


def _totals_from_pb(bucket: usage_pb2.UsageBucket) -> UsageTotals:
    return UsageTotals(
        requests=bucket.requests,
        successful_requests=bucket.successful_requests,
        prompt_tokens=bucket.prompt_tokens,
        completion_tokens=bucket.completion_tokens,
        cost_nanousd=bucket.cost_nanousd,
        latency_p50_ms=bucket.latency_p50_ms,
        latency_p95_ms=bucket.latency_p95_ms,
        first_token_p50_ms=bucket.first_token_p50_ms,
        first_token_p95_ms=bucket.first_token_p95_ms,
    )


def _filter_to_pb(query: UsageQuery) -> usage_pb2.RequestFilter:
    return usage_pb2.RequestFilter(
        since_ms=query.since_ms,
        until_ms=query.until_ms,
        model_ids=query.model_ids,
        outcomes=[outcome for result in query.results for outcome in _OUTCOMES[result]],
        http_statuses=query.http_statuses,
        session_ids=query.session_ids,
        end_user_ids=query.end_user_ids,
        key_ids=query.key_ids,
        user_ids=query.user_ids,
        error_codes=query.error_codes,
        failure_stages=query.failure_stages,
        trace_id=query.trace_id,
        min_latency_ms=query.min_latency_ms,
        max_latency_ms=query.max_latency_ms,
        min_cost_nanousd=query.min_cost_nanousd,
        max_cost_nanousd=query.max_cost_nanousd,
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
