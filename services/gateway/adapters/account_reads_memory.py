"""Balance and request log in memory, for tests and single-process demonstrations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence

from services.common.errors import InvalidArgument, NotFound
from services.common.security.tokens import Principal
from services.gateway.account_reads import BalanceView, LoggedRequest, RequestPage, UsageQuery
from services.gateway.usage_reports import (
    ExportFormat,
    Granularity,
    LoggedAttempt,
    SpendBucket,
    UsageReport,
    UsageTotals,
)

_SUCCESSES = ("success", "limit_reached")


class MemoryBalances:
    """`Balances` over a dictionary of accounts."""

    def __init__(self) -> None:
        self.by_account: dict[str, BalanceView] = {}

    async def balance(self, principal: Principal) -> BalanceView:
        return self.by_account.get(principal.account_id, BalanceView(0, 0, 0))


class MemoryRequestLog:
    """`UsageReports` over a list. A request's attempt is the one that served it."""

    def __init__(self) -> None:
        self.rows: list[LoggedRequest] = []
        # Whose a key is; a row names the key alone.
        self.account_of_key: dict[str, str] = {}

    async def requests(self, principal: Principal, query: UsageQuery) -> RequestPage:
        found = [row for row in self._own(principal) if _matches(row, query)]
        first = query.offset
        if query.cursor:
            places = [n for n, row in enumerate(found, 1) if row.usage_id == query.cursor]
            if not places:
                raise InvalidArgument.of("cursor", "is not a cursor of this list")
            first = places[0]
        rows = found[first : first + query.limit]
        more = len(found) > first + query.limit
        return RequestPage(rows, len(found), rows[-1].usage_id if more else "")

    async def request(self, principal: Principal, request_id: str) -> LoggedRequest:
        for row in self._own(principal):
            if request_id in (row.request_id, row.usage_id):
                return row
        raise NotFound(f"there is no request {request_id} in the log")

    async def report(self, principal: Principal, query: UsageQuery) -> UsageReport:
        by_model: dict[str, list[LoggedRequest]] = {}
        rows = [row for row in self._own(principal) if _matches(row, query)]
        for row in rows:
            by_model.setdefault(row.model_id, []).append(row)
        sums = [(model, _totals(found)) for model, found in by_model.items()]
        return UsageReport(
            _totals(rows), sorted(sums, key=lambda one: (-one[1].cost_nanousd, one[0]))
        )

    async def attempts(self, principal: Principal, request_id: str) -> list[LoggedAttempt]:
        named = await self.request(principal, request_id)
        rows = [row for row in self._own(principal) if row.request_id == named.request_id]
        return [
            LoggedAttempt(
                usage_id=row.usage_id,
                request_id=row.request_id,
                number=1,
                http_status=row.http_status,
                error_code=row.error_code,
                started_at_ms=row.received_at_ms,
                latency_ms=row.latency_ms,
                served=True,
            )
            for row in reversed(rows)
        ]

    async def spend_trend(
        self, principal: Principal, query: UsageQuery, granularity: Granularity
    ) -> list[SpendBucket]:
        span_ms = 3_600_000 if granularity == "hour" else 86_400_000
        rows = [row for row in self._own(principal) if _matches(row, query)]
        if not rows:
            return []
        first = (query.since_ms or rows[-1].received_at_ms) // span_ms
        last = (query.until_ms - 1 if query.until_ms else rows[0].received_at_ms) // span_ms
        buckets: list[SpendBucket] = []
        for number in range(first, last + 1):
            found = [row for row in rows if row.received_at_ms // span_ms == number]
            cost = sum(row.cost_nanousd for row in found)
            window = [*(one.cost_nanousd for one in buckets[-2:]), cost]
            average = (2 * sum(window) + len(window)) // (2 * len(window))
            buckets.append(SpendBucket(number * span_ms, len(found), cost, average))
        return buckets

    async def export(
        self, principal: Principal, query: UsageQuery, file_format: ExportFormat
    ) -> AsyncIterator[bytes]:
        if file_format != "csv":
            raise InvalidArgument.of("format", "only CSV is made here")
        yield b"usage_id,cost_nanousd\n"
        for row in self._own(principal):
            if _matches(row, query):
                yield f"{row.usage_id},{row.cost_nanousd}\n".encode()

    def _own(self, principal: Principal) -> Iterable[LoggedRequest]:
        if principal.kind == "key":
            own = [row for row in self.rows if row.key_id == principal.key_id]
        else:
            account_of = self.account_of_key.get
            own = [row for row in self.rows if account_of(row.key_id) == principal.account_id]
        return sorted(own, key=lambda row: row.received_at_ms, reverse=True)


def _totals(rows: Sequence[LoggedRequest]) -> UsageTotals:
    latencies = [row.latency_ms for row in rows]
    first_tokens = [row.first_token_ms for row in rows if row.first_token_ms]
    return UsageTotals(
        requests=len(rows),
        successful_requests=sum(row.outcome in _SUCCESSES for row in rows),
        prompt_tokens=sum(row.prompt_tokens for row in rows),
        completion_tokens=sum(row.completion_tokens for row in rows),
        cost_nanousd=sum(row.cost_nanousd for row in rows),
        latency_p50_ms=_quantile(latencies, 0.5),
        latency_p95_ms=_quantile(latencies, 0.95),
        first_token_p50_ms=_quantile(first_tokens, 0.5),
        first_token_p95_ms=_quantile(first_tokens, 0.95),
    )


def _quantile(values: Sequence[int], level: float) -> float:
    return float(sorted(values)[int(level * (len(values) - 1))]) if values else 0.0


def _matches(row: LoggedRequest, query: UsageQuery) -> bool:
    result = "success" if row.outcome in _SUCCESSES else "error"
    return (
        query.since_ms <= row.received_at_ms
        and (not query.until_ms or row.received_at_ms < query.until_ms)
        and (not query.model_ids or row.model_id in query.model_ids)
        and (not query.results or result in query.results)
        and (not query.http_statuses or row.http_status in query.http_statuses)
        and (not query.session_ids or row.session_id in query.session_ids)
        and (not query.end_user_ids or row.end_user_id in query.end_user_ids)
        and (not query.key_ids or row.key_id in query.key_ids)
        and (not query.error_codes or row.error_code in query.error_codes)
        and (not query.failure_stages or row.failure_stage in query.failure_stages)
        and (not query.trace_id or row.trace_id == query.trace_id)
        and query.min_latency_ms <= row.latency_ms
        and (not query.max_latency_ms or row.latency_ms <= query.max_latency_ms)
        and query.min_cost_nanousd <= row.cost_nanousd
        and (not query.max_cost_nanousd or row.cost_nanousd <= query.max_cost_nanousd)
        and query.tags.items() <= row.tags.items()
    )
