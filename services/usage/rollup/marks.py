"""The sink's store, with a mark on each past day whose rows change.

A day's figures hold as long as its marks are as many as when the figures were derived. A mark is
written before the rows, so that no reader takes old figures for a day that has new rows for longer
than one statement, and after them, so that figures that were derived in between do not stay. Who
takes a partition over marks the days of its newest batch: the owner before may have died between
the rows and their mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime

from services.common.clock import Clock
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.sink_store_clickhouse import ClickHouseSinkStore
from services.usage.domain.row import RequestRow
from services.usage.ports import Bounds
from services.usage.sink.store_over import SinkStoreOver

DAY_MS = 86_400_000


class MarkingSinkStore(SinkStoreOver[RequestRow]):
    """A `SinkStore` of requests. `clock` says which day is still going on and needs no mark."""

    def __init__(
        self, store: ClickHouseSinkStore[RequestRow], clickhouse: ClickHouse, clock: Clock
    ) -> None:
        super().__init__(store)
        self._clickhouse = clickhouse
        self._clock = clock

    async def insert(self, bounds: Bounds, rows: Sequence[RequestRow]) -> None:
        days = self._past_days(rows)
        await self._mark(days)
        await self._store.insert(bounds, rows)
        await self._mark(days)

    async def insert_missing(self, rows: Sequence[RequestRow]) -> None:
        days = self._past_days(rows)
        await self._mark(days)
        await self._store.insert_missing(rows)
        await self._mark(days)

    async def stored_count(self, bounds: Bounds) -> int:
        """As the store says; asked when a partition is taken over."""
        rows = await self._clickhouse.query(
            "SELECT DISTINCT toDate(received_at) FROM requests WHERE log_topic = {topic:String}"
            " AND log_partition = {partition:Int32}"
            " AND log_offset BETWEEN {first:Int64} AND {last:Int64}",
            {
                "topic": bounds.topic,
                "partition": bounds.partition,
                "first": bounds.first_offset,
                "last": bounds.last_offset,
            },
        )
        today = date_of(self._clock.now_ms())
        await self._mark(day for (day,) in rows if day < today)
        return await self._store.stored_count(bounds)

    def _past_days(self, rows: Sequence[RequestRow]) -> list[date]:
        today_ms = self._clock.now_ms() // DAY_MS * DAY_MS
        if not rows or min(row.received_at for row in rows) >= today_ms:
            return []
        past = {row.received_at // DAY_MS for row in rows if row.received_at < today_ms}
        return [date_of(number * DAY_MS) for number in sorted(past)]

    async def _mark(self, days: Iterable[date]) -> None:
        marked = list(days)
        if marked:
            await self._clickhouse.insert(
                "day_marks", ("day", "marks"), [marked, [1] * len(marked)]
            )


def date_of(unix_ms: int) -> date:
    """The day in UTC."""
    return datetime.fromtimestamp(unix_ms / 1000, UTC).date()
