"""What a key may be told of its requests as a whole: sums, spend over time, attempts, files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from services.common.security.tokens import Principal
from services.gateway.account_reads import RequestLog, UsageQuery

Granularity = Literal["hour", "day"]
ExportFormat = Literal["csv", "parquet"]


@dataclass(frozen=True, slots=True)
class UsageTotals:
    """Figures over requests; money in nano-dollars, latencies in milliseconds."""

    requests: int = 0
    successful_requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_nanousd: int = 0
    latency_p50_ms: float = 0.0
    latency_p95_ms: float = 0.0
    first_token_p50_ms: float = 0.0
    first_token_p95_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class UsageReport:
    """Figures over all, and over each model by cost descending."""

    total: UsageTotals
    by_model: Sequence[tuple[str, UsageTotals]]


@dataclass(frozen=True, slots=True)
class LoggedAttempt:
    """One try at one provider for one request; times in milliseconds. `number` is from 1."""

    usage_id: str
    request_id: str
    number: int
    http_status: int
    error_code: str
    started_at_ms: int
    latency_ms: int
    served: bool


@dataclass(frozen=True, slots=True)
class SpendBucket:
    """One hour or day; its average is over it and the two before it."""

    start_ms: int
    requests: int
    cost_nanousd: int
    trailing_average_nanousd: int


class UsageReports(RequestLog, Protocol):
    """The usage service's side; a key is told of its own requests only. Every method raises
    AppError.
    """

    async def report(self, principal: Principal, query: UsageQuery) -> UsageReport:
        """Figures of what the query takes; its limit and offset are none of theirs."""

    async def attempts(self, principal: Principal, request_id: str) -> list[LoggedAttempt]:
        """All attempts of all requests that share the id, oldest first. Raises NotFound."""

    async def spend_trend(
        self, principal: Principal, query: UsageQuery, granularity: Granularity
    ) -> list[SpendBucket]:
        """Spend over time, oldest first and without holes."""

    def export(
        self, principal: Principal, query: UsageQuery, file_format: ExportFormat
    ) -> AsyncIterator[bytes]:
        """The pieces of a file of all that the query takes."""
