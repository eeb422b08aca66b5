"""What accounts have erased of their prompts and answers.

An erasure is noted first and then carried out: the sink stores nothing that is older than it, the
queries show nothing, and the rows are rewritten out of their parts. A batch that was on its way
meanwhile is caught by the next round, which carries every erasure out again.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.common.clock import Clock
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.domain.content_row import ContentRow

_OF_ACCOUNT = " WHERE account_id = {account_id:String}"
_ERASED = " AND received_at <= fromUnixTimestamp64Milli({until:Int64}, 'UTC')"


class Erasures:
    """Erasures by account; moments are Unix milliseconds, 0 where there is none."""

    def __init__(self, clickhouse: ClickHouse, clock: Clock) -> None:
        self._clickhouse = clickhouse
        self._clock = clock

    async def erase(self, account_id: str) -> tuple[int, int]:
        """Erases all that is stored of the account; gives of how many requests there was something
        and until when they were received. Raises Unavailable: then it may have been noted, and the
        next round carries it out.
        """
        until = self._clock.now_ms()
        await self._clickhouse.insert(
            "content_erasures", ("account_id", "erased_until"), [[account_id], [until]]
        )
        return await self._carry_out(account_id, until), until

    async def round(self) -> int:
        """Carries out again what was erased ever; gives how many requests were found still."""
        known = await self._clickhouse.query(
            "SELECT account_id, toUnixTimestamp64Milli(max(erased_until)) FROM content_erasures"
            " GROUP BY account_id"
        )
        return sum([await self._carry_out(account_id, until) for account_id, until in known])

    async def until(self, account_id: str) -> int:
        """Until when the account has erased."""
        return (await self._until([account_id])).get(account_id, 0)

    async def left_of(self, rows: Sequence[ContentRow]) -> list[ContentRow]:
        """The rows that are not erased."""
        if not rows:
            return []
        until = await self._until(sorted({row.account_id for row in rows}))
        return [row for row in rows if row.received_at > until.get(row.account_id, 0)]

    async def _until(self, accounts: list[str]) -> dict[str, int]:
        found = await self._clickhouse.query(
            "SELECT account_id, toUnixTimestamp64Milli(max(erased_until)) FROM content_erasures"
            " WHERE account_id IN {accounts:Array(String)} GROUP BY account_id",
            {"accounts": accounts},
        )
        return dict(found)

    async def _carry_out(self, account_id: str, until: int) -> int:
        parameters = {"account_id": account_id, "until": until}
        found = await self._clickhouse.query(
            f"SELECT uniqExact(usage_id) FROM request_contents{_OF_ACCOUNT}{_ERASED}",  # noqa: S608
            parameters,
        )
        count = int(found[0][0])
        if count:
            # Rewritten and not only masked: what is erased must not lie about in the old parts.
            await self._clickhouse.work(
                f"ALTER TABLE request_contents DELETE{_OF_ACCOUNT}{_ERASED}"
                " SETTINGS mutations_sync = 2",
                parameters,
            )
        return count
