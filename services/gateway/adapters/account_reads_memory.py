"""Balance and request log in memory, for tests and single-process demonstrations."""

from __future__ import annotations

from collections.abc import Iterable

from services.common.errors import NotFound
from services.gateway.account_reads import BalanceView, LoggedRequest, UsageQuery
from services.gateway.ports import KeyPrincipal

_SUCCESSES = ("success", "limit_reached")


class MemoryBalances:
    """`Balances` over a dictionary of accounts."""

    def __init__(self) -> None:
        self.by_account: dict[str, BalanceView] = {}

    async def balance(self, principal: KeyPrincipal) -> BalanceView:
        return self.by_account.get(principal.account_id, BalanceView(0, 0, 0))


class MemoryRequestLog:
    """`RequestLog` over a list."""

    def __init__(self) -> None:
        self.rows: list[LoggedRequest] = []

    async def requests(
        self, principal: KeyPrincipal, query: UsageQuery
    ) -> tuple[list[LoggedRequest], int]:
        found = [row for row in self._own(principal) if _matches(row, query)]
        return found[query.offset : query.offset + query.limit], len(found)

    async def request(self, principal: KeyPrincipal, request_id: str) -> LoggedRequest:
        for row in self._own(principal):
            if request_id in (row.request_id, row.usage_id):
                return row
        raise NotFound(f"there is no request {request_id} in the log")

    def _own(self, principal: KeyPrincipal) -> Iterable[LoggedRequest]:
        own = (row for row in self.rows if row.key_id == principal.key_id)
        return sorted(own, key=lambda row: row.received_at_ms, reverse=True)


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
        and query.tags.items() <= row.tags.items()
    )
