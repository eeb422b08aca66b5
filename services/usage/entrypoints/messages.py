"""Between protobuf and the log's own terms."""

from __future__ import annotations

from services.common.errors import InvalidArgument
from services.common.money import TokenKind
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import usage_pb2 as events_pb2
from services.common.pb.mesh.usage.v1 import usage_pb2
from services.usage.domain.filter import RequestFilter
from services.usage.domain.row import RequestLine, RequestRow
from services.usage.domain.usage import OUTCOMES, USAGE_BASES, name_of, number_of
from services.usage.reconcile import Difference
from services.usage.summaries import UsageSums

VALUES_MAX = 200
TAGS_MAX = 20
# Milliseconds; beyond it a time is no date that the store can hold.
_TIME_MAX_MS = 4_102_444_800_000
# The fields whose names are not their column's with an `s`.
_FIELDS = {"http_status": "filter.http_statuses"}


def filter_from_wire(wire: usage_pb2.RequestFilter) -> RequestFilter:
    """The filter of a request. Raises InvalidArgument naming what is out of bounds."""
    for name in ("since_ms", "until_ms"):
        if not 0 <= getattr(wire, name) <= _TIME_MAX_MS:
            raise InvalidArgument.of(f"filter.{name}", "is not a time in Unix milliseconds")
    if wire.until_ms and wire.until_ms <= wire.since_ms:
        raise InvalidArgument.of("filter.until_ms", "is not after filter.since_ms")
    for name in ("latency_ms", "cost_nanousd"):
        least, most = getattr(wire, f"min_{name}"), getattr(wire, f"max_{name}")
        if least < 0:
            raise InvalidArgument.of(f"filter.min_{name}", "is negative")
        if most < 0 or 0 < most < least:
            raise InvalidArgument.of(f"filter.max_{name}", f"is below filter.min_{name}")
    if len(wire.tags) > TAGS_MAX:
        raise InvalidArgument.of("filter.tags", f"has more than {TAGS_MAX} entries")
    any_of: dict[str, frozenset[str | int]] = {
        "model_id": frozenset(wire.model_ids),
        "provider_id": frozenset(wire.provider_ids),
        "key_id": frozenset(wire.key_ids),
        "user_id": frozenset(wire.user_ids),
        "outcome": frozenset(name_of(outcome, OUTCOMES) for outcome in wire.outcomes),
        "http_status": frozenset(wire.http_statuses),
        "error_code": frozenset(wire.error_codes),
        "failure_stage": frozenset(wire.failure_stages),
        "session_id": frozenset(wire.session_ids),
        "end_user_id": frozenset(wire.end_user_ids),
    }
    for name, values in any_of.items():
        if len(values) > VALUES_MAX:
            raise InvalidArgument.of(
                _FIELDS.get(name, f"filter.{name}s"), f"has more than {VALUES_MAX} values"
            )
    return RequestFilter(
        since_ms=wire.since_ms,
        until_ms=wire.until_ms,
        any_of={name: values for name, values in any_of.items() if values},
        tags=dict(wire.tags),
        trace_id=wire.trace_id,
        min_latency_ms=wire.min_latency_ms,
        max_latency_ms=wire.max_latency_ms,
        min_cost_nanousd=wire.min_cost_nanousd,
        max_cost_nanousd=wire.max_cost_nanousd,
    )


def line_to_wire(line: RequestLine | RequestRow, account_id: str) -> usage_pb2.LoggedRequest:
    """A line of a list as callers see it."""
    return usage_pb2.LoggedRequest(
        usage_id=line.usage_id,
        request_id=line.request_id,
        account_id=account_id,
        key_id=line.key_id,
        requested_model=line.requested_model,
        model_id=line.model_id,
        provider_id=line.provider_id,
        stream=line.stream,
        outcome=events_pb2.RequestOutcome.ValueType(number_of(line.outcome, OUTCOMES)),
        http_status=line.http_status,
        error_code=line.error_code,
        failure_stage=line.failure_stage,
        received_at_ms=line.received_at,
        first_token_ms=line.first_token_ms,
        latency_ms=line.latency_ms,
        prompt_tokens=line.prompt_tokens,
        completion_tokens=line.completion_tokens,
        cost_nanousd=line.cost_nanousd,
        session_id=line.session_id,
        end_user_id=line.end_user_id,
    )


def request_to_wire(row: RequestRow) -> usage_pb2.LoggedRequest:
    """A row as callers see it."""
    request = line_to_wire(row, row.account_id)
    request.MergeFrom(
        usage_pb2.LoggedRequest(
            trace_id=row.trace_id,
            worker_id=row.worker_id,
            route=row.route,
            finish_reason=row.finish_reason,
            quantities=_quantities(row),
            usage_basis=events_pb2.UsageBasis.ValueType(number_of(row.usage_basis, USAGE_BASES)),
            price_version_id=row.price_version_id,
            tags=row.tags,
            attempts=attempts_to_wire(row),
            user_id=row.user_id,
        )
    )
    return request


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
        latency_p99_ms=sums.latency_p99_ms,
        first_token_p50_ms=sums.first_token_p50_ms,
        first_token_p95_ms=sums.first_token_p95_ms,
        first_token_p99_ms=sums.first_token_p99_ms,
        error_requests=sums.requests - sums.successful_requests,
        second_value=sums.second,
    )


def difference_to_wire(difference: Difference) -> usage_pb2.LedgerDifference:
    """Where log and ledger do not agree, as callers see it."""
    return usage_pb2.LedgerDifference(
        account_id=difference.account_id,
        hour_start_ms=difference.hour_start_ms,
        log_requests=difference.log_requests,
        log_cost_nanousd=difference.log_cost_nanousd,
        ledger_requests=difference.ledger_requests,
        ledger_cost_nanousd=difference.ledger_cost_nanousd,
        only_in_log=difference.only_in_log,
        only_in_ledger=difference.only_in_ledger,
        cost_differs=difference.cost_differs,
        found_at_ms=difference.found_at_ms,
    )


def _quantities(row: RequestRow) -> list[common_pb2.TokenQuantity]:
    known = {kind.value: getattr(row, f"tokens_{kind.name.lower()}") for kind in TokenKind}
    return [
        common_pb2.TokenQuantity(kind=common_pb2.TokenKind.ValueType(kind), tokens=tokens)
        for kind, tokens in (known | row.tokens_other).items()
        if tokens
    ]


def attempts_to_wire(row: RequestRow) -> list[events_pb2.Attempt]:
    """The tries that one request took, in order."""
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
