"""The sink's store in ClickHouse: rows, the bounds of the newest batch, and who claimed a
partition.

Statements of several partitions that come at the same time are made as one (`Together`): each costs
the engine tens of milliseconds, however few rows there are. The token of an insert then names
all its batches; a batch alone has its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Generic

from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.together import Together
from services.usage.ports import Bounds, Row, RowTable

# So many ids are looked up by one statement.
_LOOKUP_MAX = 1_000
# So many rows of several partitions go into one insert.
_GROUP_ROWS_MAX = 20_000
_BATCH_COLUMNS = (
    "topic", "partition", "first_offset", "last_offset", "row_count", "is_complete", "epoch"
)  # fmt: skip
# Synchronous, whole and in one block for each month: the token deduplicates by block. A batch may
# hold any months.
_INSERT_SETTINGS = {
    "async_insert": 0,
    "max_insert_block_size": 1_048_576,
    "max_partitions_per_insert_block": 0,
    # A batch holds no row twice; looking for any costs as much as the rest of the insert.
    "optimize_on_insert": 0,
}
# Since 26.2 `deduplicate_insert` supersedes `insert_deduplicate`; before, it does not exist.
_ONCE = {"insert_deduplicate": 1, "deduplicate_insert": "enable"}
# Without a token the content would be deduplicated, against rows that a crash may have lost.
_AGAIN = {"insert_deduplicate": 0, "deduplicate_insert": "disable"}


class ClickHouseSinkStore(Generic[Row]):
    """The store of one table. `suffix` is appended to the tables' names; a rebuild writes
    beside the tables in use.
    """

    def __init__(self, clickhouse: ClickHouse, table: RowTable[Row], *, suffix: str = "") -> None:
        self._clickhouse = clickhouse
        self.table = table
        self._rows = f"{table.name}{suffix}"
        self._batches = f"sink_batches{suffix}"
        self._claims = f"sink_claims{suffix}"
        self._asking = Together(self._epochs_of)
        self._recording = Together(self._record_all)
        self._inserting = Together(self._insert_all)

    async def claim(self, topic: str, partition: int) -> int:
        # What an owner before began in this process is there, or not, before the rows are counted.
        await self._inserting.rest()
        epoch = await self.epoch(topic, partition) + 1
        await self._clickhouse.insert(
            self._claims, ("topic", "partition", "epoch"), [[topic], [partition], [epoch]]
        )
        return epoch

    async def epoch(self, topic: str, partition: int) -> int:
        return await self._asking((topic, partition))

    async def _epochs_of(self, places: Sequence[tuple[str, int]]) -> list[int]:
        rows = await self._clickhouse.query(
            f"SELECT topic, partition, max(epoch) FROM {self._claims}"  # noqa: S608 - our own table names
            " WHERE topic IN {topics:Array(String)} AND partition IN {partitions:Array(Int32)}"
            " GROUP BY topic, partition",
            {
                "topics": sorted({topic for topic, _ in places}),
                "partitions": sorted({partition for _, partition in places}),
            },
        )
        known = {(topic, partition): int(epoch) for topic, partition, epoch in rows}
        return [known.get(place, 0) for place in places]

    async def last_batch(self, topic: str, partition: int) -> Bounds | None:
        rows = await self._clickhouse.query(
            f"SELECT first_offset, last_offset, row_count, is_complete FROM {self._batches}"  # noqa: S608
            " WHERE topic = {topic:String} AND partition = {partition:Int32}"
            " ORDER BY last_offset DESC, is_complete DESC, recorded_at DESC LIMIT 1",
            {"topic": topic, "partition": partition},
        )
        return Bounds(topic, partition, *rows[0]) if rows else None

    async def record(self, bounds: Bounds, epoch: int) -> None:
        await self._recording((bounds, epoch))

    async def _record_all(self, recorded: Sequence[tuple[Bounds, int]]) -> list[None]:
        columns = zip(*(_batch_row(bounds, epoch) for bounds, epoch in recorded), strict=True)
        await self._clickhouse.insert(self._batches, _BATCH_COLUMNS, list(columns))
        return [None] * len(recorded)

    async def insert(self, bounds: Bounds, rows: Sequence[Row]) -> None:
        if rows:
            await self._inserting((bounds, rows))

    async def _insert_all(self, batches: Sequence[tuple[Bounds, Sequence[Row]]]) -> list[None]:
        for group in _groups(batches):
            token = ",".join(bounds.token for bounds, _ in group)
            rows = [row for _, batch in group for row in batch] if group[1:] else group[0][1]
            await self._insert(rows, _ONCE | {"insert_deduplication_token": token})
        return [None] * len(batches)

    async def insert_missing(self, rows: Sequence[Row]) -> None:
        await self._insert(rows, _AGAIN)

    async def _insert(self, rows: Sequence[Row], settings: Mapping[str, object]) -> None:
        if rows:
            await self._clickhouse.insert(
                self._rows,
                self.table.columns,
                # Made in the writer's thread: of many rows it takes longer than a query may wait.
                lambda: list(zip(*rows, strict=True)),
                settings={**_INSERT_SETTINGS, **settings},
            )

    async def stored_count(self, bounds: Bounds) -> int:
        rows = await self._clickhouse.query(
            f"SELECT uniqExact({self.table.id_column}) FROM {self._rows}"  # noqa: S608 - our own table names
            " WHERE log_topic = {topic:String} AND log_partition = {partition:Int32}"
            " AND log_offset BETWEEN {first:Int64} AND {last:Int64}",
            {
                "topic": bounds.topic,
                "partition": bounds.partition,
                "first": bounds.first_offset,
                "last": bounds.last_offset,
            },
        )
        return int(rows[0][0])

    async def stored_ids(self, rows: Sequence[Row]) -> set[str]:
        found: set[str] = set()
        for start in range(0, len(rows), _LOOKUP_MAX):
            found |= await self._stored_ids(rows[start : start + _LOOKUP_MAX])
        return found

    async def _stored_ids(self, rows: Sequence[Row]) -> set[str]:
        answer = await self._clickhouse.query(
            f"SELECT DISTINCT {self.table.id_column} FROM {self._rows}"  # noqa: S608 - as above
            " WHERE account_id IN {accounts:Array(String)}"
            f" AND {self.table.id_column} IN {{ids:Array(String)}}"
            f" AND {self.table.time_column} BETWEEN"
            " fromUnixTimestamp64Milli({first:Int64}, 'UTC')"
            " AND fromUnixTimestamp64Milli({last:Int64}, 'UTC')",
            {
                "accounts": sorted({row.account_id for row in rows}),
                "ids": [self.table.id_of(row) for row in rows],
                "first": min(map(self.table.time_of, rows)),
                "last": max(map(self.table.time_of, rows)),
            },
        )
        return {found for (found,) in answer}


def _groups(
    batches: Sequence[tuple[Bounds, Sequence[Row]]],
) -> Iterator[list[tuple[Bounds, Sequence[Row]]]]:
    """The batches that go into one insert: as many rows as one has at most, or a single batch."""
    group: list[tuple[Bounds, Sequence[Row]]] = []
    size = 0
    for bounds, rows in batches:
        if group and size + len(rows) > _GROUP_ROWS_MAX:
            yield group
            group, size = [], 0
        group.append((bounds, rows))
        size += len(rows)
    yield group


def _batch_row(bounds: Bounds, epoch: int) -> tuple[object, ...]:
    return (
        bounds.topic,
        bounds.partition,
        bounds.first_offset,
        bounds.last_offset,
        bounds.row_count,
        bounds.is_complete,
        epoch,
    )
