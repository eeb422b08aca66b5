"""The row of the request log: its columns, and the pure function that makes one from a usage
event.
"""

from __future__ import annotations

from typing import NamedTuple

from services.common.money import TokenKind
from services.usage.domain.usage import (
    OUTCOMES,
    USAGE_BASES,
    BadUsage,
    LogPosition,
    RecordedUsage,
    name_of,
)

# 2020-01-01 and 2100-01-01, UTC: a time outside is a broken clock or a wrong unit, and each further
# month would be a partition of its own.
TIME_MIN_MS = 1_577_836_800_000
TIME_MAX_MS = 4_102_444_800_000


class RequestRow(NamedTuple):
    """The columns of table `requests` that the sink writes, in order. Times are Unix
    milliseconds.
    """

    account_id: str
    received_at: int
    usage_id: str
    request_id: str
    key_id: str
    user_id: str
    trace_id: str
    worker_id: str
    event_id: str
    route: str
    requested_model: str
    model_id: str
    provider_id: str
    upstream_model: str
    stream: bool
    outcome: str
    http_status: int
    error_code: str
    failure_stage: str
    finish_reason: str
    admitted_at: int | None
    first_token_ms: int
    latency_ms: int
    tokens_prompt: int
    tokens_cached_prompt: int
    tokens_cache_write: int
    tokens_completion: int
    tokens_reasoning: int
    tokens_audio_prompt: int
    tokens_audio_completion: int
    tokens_other: dict[int, int]
    usage_basis: str
    price_version_id: str
    cost_nanousd: int
    grant_id: str
    held_nanousd: int
    session_id: str
    end_user_id: str
    tags: dict[str, str]
    attempts_provider_id: list[str]
    attempts_upstream_model: list[str]
    attempts_http_status: list[int]
    attempts_error_code: list[str]
    attempts_started_at_ms: list[int]
    attempts_latency_ms: list[int]
    attempts_served: list[bool]
    log_topic: str
    log_partition: int
    log_offset: int

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the whole prompt, of every kind."""
        return (
            self.tokens_prompt
            + self.tokens_cached_prompt
            + self.tokens_cache_write
            + self.tokens_audio_prompt
        )

    @property
    def completion_tokens(self) -> int:
        """Tokens of the whole answer: completion, reasoning and audio."""
        return self.tokens_completion + self.tokens_reasoning + self.tokens_audio_completion


# Column names as ClickHouse knows them: the attempts are one nested structure.
COLUMNS: tuple[str, ...] = tuple(
    name.replace("attempts_", "attempts.", 1) for name in RequestRow._fields
)


def row_from_event(event: RecordedUsage, position: LogPosition) -> RequestRow:
    """The row of one usage event; a function of its arguments alone, so that a repeated delivery
    makes the same row.

    Raises BadUsage where the event cannot be a row.
    """
    _check(event)
    tokens = event.quantities
    attempts = event.attempts
    return RequestRow(
        account_id=event.account_id,
        received_at=event.received_at_ms,
        usage_id=event.usage_id,
        request_id=event.request_id,
        key_id=event.key_id,
        user_id=event.user_id,
        trace_id=event.trace_id,
        worker_id=event.worker_id,
        event_id=event.event_id,
        route=event.route,
        requested_model=event.requested_model,
        model_id=event.model_id,
        provider_id=event.provider_id,
        upstream_model=event.upstream_model,
        stream=event.stream,
        outcome=name_of(event.outcome, OUTCOMES),
        http_status=event.http_status,
        error_code=event.error_code,
        failure_stage=event.failure_stage,
        finish_reason=event.finish_reason,
        admitted_at=event.admitted_at_ms or None,
        first_token_ms=event.first_token_ms,
        latency_ms=event.latency_ms,
        tokens_prompt=tokens.get(TokenKind.PROMPT, 0),
        tokens_cached_prompt=tokens.get(TokenKind.CACHED_PROMPT, 0),
        tokens_cache_write=tokens.get(TokenKind.CACHE_WRITE, 0),
        tokens_completion=tokens.get(TokenKind.COMPLETION, 0),
        tokens_reasoning=tokens.get(TokenKind.REASONING, 0),
        tokens_audio_prompt=tokens.get(TokenKind.AUDIO_PROMPT, 0),
        tokens_audio_completion=tokens.get(TokenKind.AUDIO_COMPLETION, 0),
        tokens_other={kind: n for kind, n in tokens.items() if kind not in _KNOWN_KINDS},
        usage_basis=name_of(event.usage_basis, USAGE_BASES),
        price_version_id=event.price_version_id,
        cost_nanousd=event.cost_nanousd,
        grant_id=event.grant_id,
        held_nanousd=event.held_nanousd,
        session_id=event.session_id,
        end_user_id=event.end_user_id,
        tags=dict(event.tags),
        attempts_provider_id=[attempt.provider_id for attempt in attempts],
        attempts_upstream_model=[attempt.upstream_model for attempt in attempts],
        attempts_http_status=[attempt.http_status for attempt in attempts],
        attempts_error_code=[attempt.error_code for attempt in attempts],
        attempts_started_at_ms=[attempt.started_at_ms for attempt in attempts],
        attempts_latency_ms=[attempt.latency_ms for attempt in attempts],
        attempts_served=[attempt.served for attempt in attempts],
        log_topic=position.topic,
        log_partition=position.partition,
        log_offset=position.offset,
    )


_KNOWN_KINDS = frozenset(int(kind) for kind in TokenKind)


def _check(event: RecordedUsage) -> None:
    """Refuses what would make a row that no query could find or that no sum could trust."""
    if not event.usage_id:
        raise BadUsage.of("usage_id", "is empty")
    if not event.account_id:
        raise BadUsage.of("account_id", "is empty")
    if not TIME_MIN_MS <= event.received_at_ms < TIME_MAX_MS:
        raise BadUsage.of("received_at_ms", f"is not a plausible time: {event.received_at_ms}")
    if event.admitted_at_ms and not TIME_MIN_MS <= event.admitted_at_ms < TIME_MAX_MS:
        raise BadUsage.of("admitted_at_ms", f"is not a plausible time: {event.admitted_at_ms}")
    if any(tokens < 0 for tokens in event.quantities.values()):
        raise BadUsage.of("quantities", "has a negative number of tokens")
    if event.cost_nanousd < 0:
        raise BadUsage.of("cost_nanousd", f"is negative: {event.cost_nanousd}")
