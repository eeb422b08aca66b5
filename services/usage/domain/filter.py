"""Which rows a caller may see and which it asked for, as predicates over a row.

The same filter is written as SQL in `conditions.py`; a contract test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.usage.domain.row import RequestRow


@dataclass(frozen=True, slots=True)
class Scope:
    """What a principal may see: one account, and of it one key where `key_id` is set.

    An empty account is every account; only an operator's tail may have it.
    """

    account_id: str
    key_id: str = ""

    def sees(self, row: RequestRow) -> bool:
        """True where the row is in scope."""
        return (not self.account_id or row.account_id == self.account_id) and (
            not self.key_id or row.key_id == self.key_id
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFilter:
    """Conditions that all hold; an empty set, empty string or 0 is no condition.

    `since_ms` is inclusive, `until_ms` exclusive, both by `received_at`.
    """

    since_ms: int = 0
    until_ms: int = 0
    # Column name to the values of which a row must have one.
    any_of: Mapping[str, frozenset[str | int]] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    trace_id: str = ""
    min_latency_ms: int = 0
    max_latency_ms: int = 0
    min_cost_nanousd: int = 0
    max_cost_nanousd: int = 0

    def matches(self, row: RequestRow) -> bool:
        """True where the row satisfies every condition."""
        return (
            self.since_ms <= row.received_at
            and (not self.until_ms or row.received_at < self.until_ms)
            and (not self.trace_id or row.trace_id == self.trace_id)
            and row.latency_ms >= self.min_latency_ms
            and (not self.max_latency_ms or row.latency_ms <= self.max_latency_ms)
            and row.cost_nanousd >= self.min_cost_nanousd
            and (not self.max_cost_nanousd or row.cost_nanousd <= self.max_cost_nanousd)
            and all(getattr(row, name) in values for name, values in self.any_of.items())
            and all(row.tags.get(name) == value for name, value in self.tags.items())
        )


# The columns that `any_of` may name.
FILTER_COLUMNS = frozenset(
    {
        "model_id",
        "provider_id",
        "key_id",
        "user_id",
        "outcome",
        "http_status",
        "error_code",
        "failure_stage",
        "session_id",
        "end_user_id",
    }
)
