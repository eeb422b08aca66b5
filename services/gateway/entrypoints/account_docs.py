"""What the description of the API says of balances, limits and usage."""

from __future__ import annotations

from typing import Any

from services.gateway.entrypoints.dialect_docs import Open


class Balance(Open):
    """The wallet of the caller's account, as decimal strings of US dollars."""

    balance_usd: str
    reserved_usd: str
    available_usd: str
    reserved_breakdown: dict[str, str]
    updated_at: str | None
    message: str | None


class Meter(Open):
    """One limit and how far it is used up."""

    current: int
    limit: int
    pct: float
    resets_in_seconds: int
    is_default_limit: bool


class RateLimits(Open):
    """RPM, RPD and TPM of whoever is meant; null where there is no such limit. A key is told of
    `key` alone, people of `org`, and of all four where they name a key.
    """

    as_of: str
    key: dict[str, Meter | None] | None = None
    member: dict[str, Meter | None] | None = None
    team: dict[str, Meter | None] | None = None
    org: dict[str, Meter | None] | None = None


BALANCE: dict[str, Any] = {  # Any: JSON
    "balance_usd": "12.50",
    "reserved_usd": "0.25",
    "available_usd": "12.25",
    "reserved_breakdown": {"requests": "0.25"},
    "updated_at": "2026-09-01T12:00:00.000+00:00",
    "message": None,
}


class UsageEvent(Open):
    """One request; `cost_usd` is what it was billed."""

    event_id: str
    request_id: str
    key_id: str
    trace_id: str | None
    route: str
    model: str
    requested_model: str
    stream: bool
    status: str
    outcome: str
    http_status: int
    error_code: str | None
    failure_stage: str | None
    finish_reason: str | None
    created_at: str
    first_token_ms: int | None
    latency_ms: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost_usd: str
    routing_fallback: bool
    service_tier: str
    session_id: str | None
    end_user_id: str | None
    tags: dict[str, str]


class UsageEvents(Open):
    """A page of requests, newest first."""

    events: list[UsageEvent]
    total: int
    limit: int
    offset: int
    # The `cursor` of the next page; null on the last.
    next_cursor: str | None


class SettledRequest(Open):
    """One request by its id."""

    request_id: str
    outcome: str
    event: UsageEvent


class ModelUsage(Open):
    """Sums over the requests of one model."""

    model: str
    requests: int
    successful_requests: int
    error_requests: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost_usd: str


class UsageSums(Open):
    """Sums over requests, and a page of them by model."""

    total_requests: int
    successful_requests: int
    error_requests: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    total_cost_usd: str
    by_model: list[ModelUsage]
    by_model_total: int
    limit: int
    offset: int
    total_platform_fee_usd: str
    total_byok_platform_fee_usd: str
    total_byok_cost_usd: str
    total_byok_requests: int
    total_platform_requests: int
    total_byok_tokens: int
    total_platform_tokens: int
    cached_at: str | None


class SpendBucketObject(Open):
    """One hour or day."""

    start: str
    requests: int
    cost_usd: str
    trailing_average_usd: str


class SpendTrend(Open):
    """Spend over time."""

    granularity: str
    buckets: list[SpendBucketObject]
    total_requests: int
    total_cost_usd: str


class AttemptObject(Open):
    """One attempt at a provider."""

    event_id: str
    request_id: str
    attempt: int
    http_status: int
    error_code: str | None
    started_at: str
    latency_ms: int
    served: bool


class Attempts(Open):
    """Every attempt of a request, oldest first."""

    event_id: str
    attempts: list[AttemptObject]
