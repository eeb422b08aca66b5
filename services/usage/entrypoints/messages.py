"""Between protobuf and the log's own terms."""

from __future__ import annotations

from services.common.errors import InvalidArgument
from services.common.money import TokenKind
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import usage_pb2 as events_pb2
from services.common.pb.mesh.usage.v1 import usage_pb2
from services.usage.domain.filter import RequestFilter
from services.usage.domain.row import RequestRow
from services.usage.domain.usage import OUTCOMES, USAGE_BASES, name_of, number_of
from services.usage.views import UsageSums

VALUES_MAX = 200
TAGS_MAX = 20
# Milliseconds; beyond it a time is no date that the store can hold.
_TIME_MAX_MS = 4_102_444_800_000


def filter_from_wire(wire: usage_pb2.RequestFilter) -> RequestFilter:
    """The filter of a request. Raises InvalidArgument naming what is out of bounds."""
    for name in ("since_ms", "until_ms"):
        if not 0 <= getattr(wire, name) <= _TIME_MAX_MS:
            raise InvalidArgument.of(f"filter.{name}", "is not a time in Unix milliseconds")
    if len(wire.tags) > TAGS_MAX:
        raise InvalidArgument.of("filter.tags", f"has more than {TAGS_MAX} entries")
    any_of: dict[str, frozenset[str | int]] = {
        "model_id": frozenset(wire.model_ids),
        "provider_id": frozenset(wire.provider_ids),
        "key_id": frozenset(wire.key_ids),
        "outcome": frozenset(name_of(outcome, OUTCOMES) for outcome in wire.outcomes),
        "http_status": frozenset(wire.http_statuses),
        "error_code": frozenset(wire.error_codes),
        "failure_stage": frozenset(wire.failure_stages),
        "session_id": frozenset(wire.session_ids),
        "end_user_id": frozenset(wire.end_user_ids),
    }
    for name, values in any_of.items():
        if len(values) > VALUES_MAX:
            raise InvalidArgument.of(f"filter.{name}s", f"has more than {VALUES_MAX} values")
    return RequestFilter(
        since_ms=wire.since_ms,
        until_ms=wire.until_ms,
        any_of={name: values for name, values in any_of.items() if values},
        tags=dict(wire.tags),
        trace_id=wire.trace_id,
        min_latency_ms=wire.min_latency_ms,
        min_cost_nanousd=wire.min_cost_nanousd,
    )


def request_to_wire(row: RequestRow) -> usage_pb2.LoggedRequest:
    """A row as callers see it."""
    return usage_pb2.LoggedRequest(
        usage_id=row.usage_id,
        request_id=row.request_id,
        account_id=row.account_id,
        key_id=row.key_id,
        trace_id=row.trace_id,
        worker_id=row.worker_id,
        route=row.route,
        requested_model=row.requested_model,
        model_id=row.model_id,
        provider_id=row.provider_id,
        stream=row.stream,
        outcome=events_pb2.RequestOutcome.ValueType(number_of(row.outcome, OUTCOMES)),
        http_status=row.http_status,
        error_code=row.error_code,
        failure_stage=row.failure_stage,
        finish_reason=row.finish_reason,
        received_at_ms=row.received_at,
        first_token_ms=row.first_token_ms,
        latency_ms=row.latency_ms,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        quantities=_quantities(row),
        usage_basis=events_pb2.UsageBasis.ValueType(number_of(row.usage_basis, USAGE_BASES)),
        price_version_id=row.price_version_id,
        cost_nanousd=row.cost_nanousd,
        session_id=row.session_id,
        tags=row.tags,
        end_user_id=row.end_user_id,
        attempts=_attempts(row),
    )


def sums_to_wire(sums: UsageSums) -> usage_pb2.UsageBucket:
    """Figures as callers see them."""
    return usage_pb2.UsageBucket(
        value=sums.value,
        requests=sums.requests,
        successful_requests=sums.successful_requests,
        prompt_tokens=sums.prompt_tokens,
        completion_tokens=sums.completion_tokens,
        cost_nanousd=sums.cost_nanousd,
        latency_p50_ms=sums.latency_p50_ms,
        latency_p95_ms=sums.latency_p95_ms,
    )


def _quantities(row: RequestRow) -> list[common_pb2.TokenQuantity]:
    known = {kind.value: getattr(row, f"tokens_{kind.name.lower()}") for kind in TokenKind}
    return [
        common_pb2.TokenQuantity(kind=common_pb2.TokenKind.ValueType(kind), tokens=tokens)
        for kind, tokens in (known | row.tokens_other).items()
        if tokens
    ]


def _attempts(row: RequestRow) -> list[events_pb2.Attempt]:
    columns = zip(
        row.attempts_provider_id,
        row.attempts_upstream_model,
        row.attempts_http_status,
        row.attempts_error_code,
        row.attempts_started_at_ms,
        row.attempts_latency_ms,
        row.attempts_served,
        strict=True,
    )
    return [
        events_pb2.Attempt(
            provider_id=provider_id,
            upstream_model=upstream_model,
            http_status=http_status,
            error_code=error_code,
            started_at_ms=started_at_ms,
            latency_ms=latency_ms,
            served=served,
        )
        for (
            provider_id,
            upstream_model,
            http_status,
            error_code,
            started_at_ms,
            latency_ms,
            served,
        ) in columns
    ]
