"""One request as the gateway recorded it, in the log's own terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.common.errors import InvalidArgument

# Names of `mesh.events.v1.RequestOutcome` by number; a number that is not here is kept as
# `unknown_<number>`.
OUTCOMES = (
    "unspecified",
    "success",
    "refused",
    "upstream_error",
    "client_gone",
    "limit_reached",
    "crashed",
)
# Names of `mesh.events.v1.UsageBasis` by number.
USAGE_BASES = ("unspecified", "provider", "tokenizer", "none")

_UNKNOWN = "unknown_"


def name_of(number: int, names: tuple[str, ...]) -> str:
    """The name of an enum's number; never fails, because a newer gateway may know more numbers."""
    return names[number] if 0 <= number < len(names) else f"{_UNKNOWN}{number}"


def number_of(name: str, names: tuple[str, ...]) -> int:
    """The number that `name_of` named; 0 where the name is none of ours."""
    if name in names:
        return names.index(name)
    digits = name.removeprefix(_UNKNOWN)
    return int(digits) if name.startswith(_UNKNOWN) and digits.lstrip("-").isdigit() else 0


class BadUsage(InvalidArgument):
    """A usage event that cannot be a row: it names no request, or its figures are impossible."""


@dataclass(frozen=True, slots=True)
class LogPosition:
    """Where in the event log a message stands."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at one provider; `served` where its answer was the caller's."""

    provider_id: str
    upstream_model: str
    http_status: int
    error_code: str
    started_at_ms: int
    latency_ms: int
    served: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedUsage:
    """The content of one usage event. Times are Unix milliseconds, latencies milliseconds from
    `received_at_ms`.

    `quantities` are tokens by the number of their kind, disjoint; `admitted_at_ms` is 0 where
    nothing was admitted.
    """

    event_id: str
    usage_id: str
    request_id: str
    account_id: str
    key_id: str
    user_id: str
    trace_id: str
    worker_id: str
    route: str
    requested_model: str
    model_id: str
    provider_id: str
    upstream_model: str
    stream: bool
    outcome: int
    http_status: int
    error_code: str
    failure_stage: str
    finish_reason: str
    received_at_ms: int
    admitted_at_ms: int
    first_token_ms: int
    latency_ms: int
    quantities: Mapping[int, int]
    usage_basis: int
    price_version_id: str
    cost_nanousd: int
    grant_id: str
    held_nanousd: int
    session_id: str
    end_user_id: str
    tags: Mapping[str, str]
    attempts: tuple[Attempt, ...]
