"""The row of the request log: its columns, and what no row may be."""

from __future__ import annotations

from typing import NamedTuple

from services.usage.domain.usage import BadUsage

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
    attempts_provider_id: tuple[str, ...]
    attempts_upstream_model: tuple[str, ...]
    attempts_http_status: tuple[int, ...]
    attempts_error_code: tuple[str, ...]
    attempts_started_at_ms: tuple[int, ...]
    attempts_latency_ms: tuple[int, ...]
    attempts_served: tuple[bool, ...]
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


class RequestLine(NamedTuple):
    """What a list tells of a request: columns of table `requests`. Times are Unix milliseconds."""

    received_at: int
    usage_id: str
    request_id: str
    key_id: str
    requested_model: str
    model_id: str
    provider_id: str
    stream: bool
    outcome: str
    http_status: int
    error_code: str
    failure_stage: str
    first_token_ms: int
    latency_ms: int
    prompt_tokens: int
    completion_tokens: int
    cost_nanousd: int
    session_id: str
    end_user_id: str
    log_offset: int


# Column names as ClickHouse knows them: the attempts are one nested structure.
COLUMNS: tuple[str, ...] = tuple(
    name.replace("attempts_", "attempts.", 1) for name in RequestRow._fields
)


# One column for each kind of tokens that this version knows, side by side.
TOKEN_COLUMNS: tuple[str, ...] = tuple(
    name for name in COLUMNS if name.startswith("tokens_") and name != "tokens_other"
)
_TOKENS = slice(COLUMNS.index(TOKEN_COLUMNS[0]), COLUMNS.index(TOKEN_COLUMNS[-1]) + 1)


def check_findable(usage_id: str, account_id: str, received_at: int) -> None:
    """Raises BadUsage where a row with this key could not be found again."""
    if not usage_id:
        raise BadUsage.of("usage_id", "is empty")
    if not account_id:
        raise BadUsage.of("account_id", "is empty")
    if not TIME_MIN_MS <= received_at < TIME_MAX_MS:
        raise BadUsage.of("received_at_ms", f"is not a plausible time: {received_at}")


def checked(row: RequestRow) -> RequestRow:
    """The row, where queries can find it and sums can trust it. Raises BadUsage naming the field of
    the event that is wrong.
    """
    check_findable(row.usage_id, row.account_id, row.received_at)
    if row.admitted_at is not None and not TIME_MIN_MS <= row.admitted_at < TIME_MAX_MS:
        raise BadUsage.of("admitted_at_ms", f"is not a plausible time: {row.admitted_at}")
    if row.cost_nanousd < 0:
        raise BadUsage.of("cost_nanousd", f"is negative: {row.cost_nanousd}")
    # They are all counts, which a slice of a row of many types does not say.
    known: tuple[int, ...] = row[_TOKENS]  # type: ignore[assignment]
    if min(known) < 0 or (row.tokens_other and min(row.tokens_other.values()) < 0):
        raise BadUsage.of("quantities", "has a negative number of tokens")
    return row
