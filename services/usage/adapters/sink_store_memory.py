"""The sink's store in memory: what tests and the simulator run on, with ClickHouse's rules for
repeated inserts; each batch goes alone.

An insert is split by month of the row's time; each part is written whole or not at all and is
remembered by token and month, so an insert that was cut off between parts is completed by the same
insert again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Generic

from services.usage.ports import Bounds, Row, RowTable

_Partition = tuple[str, int]


class MemorySinkStore(Generic[Row]):
    """Rows by what makes one unique; of two with the same id the first of its partition stays."""

    def __init__(self, table: RowTable[Row]) -> None:
        self.table = table
        self._id_of, self._time_of = table.id_of, table.time_of
        self.parts: list[list[Row]] = []
        self._tokens: set[tuple[str, str]] = set()
        self._batches: dict[_Partition, Bounds] = {}
        self._epochs: dict[_Partition, int] = {}

    @property
    def rows(self) -> list[Row]:
        """Every row once, as after all merges, in the table's order."""
        kept: dict[tuple[str, int, str], Row] = {}
        for part in self.parts:
            for row in part:
                key = (row.account_id, self._time_of(row), self._id_of(row))
                if key not in kept or row.log_offset < kept[key].log_offset:
                    kept[key] = row
        return [kept[key] for key in sorted(kept)]

    async def claim(self, topic: str, partition: int) -> int:
        epoch = self._epochs.get((topic, partition), 0) + 1
        self._epochs[topic, partition] = epoch
        return epoch

    async def epoch(self, topic: str, partition: int) -> int:
        return self._epochs.get((topic, partition), 0)

    async def last_batch(self, topic: str, partition: int) -> Bounds | None:
        return self._batches.get((topic, partition))

    async def record(self, bounds: Bounds, epoch: int) -> None:
        del epoch  # Kept for people to read, in a store that people read.
        known = self._batches.get((bounds.topic, bounds.partition))
        if known is None or bounds.last_offset >= known.last_offset:
            self._batches[bounds.topic, bounds.partition] = bounds

    async def insert(self, bounds: Bounds, rows: Sequence[Row]) -> None:
        by_month: dict[str, list[Row]] = {}
        for row in rows:
            month = datetime.fromtimestamp(self._time_of(row) / 1000, UTC).strftime("%Y%m")
            by_month.setdefault(month, []).append(row)
        for month in sorted(by_month):
            if (bounds.token, month) not in self._tokens:
                self.note_token(bounds.token, month)
                self.write_part(by_month[month])

    async def insert_missing(self, rows: Sequence[Row]) -> None:
        if rows:
            self.write_part(list(rows))

    def note_token(self, token: str, month: str) -> None:
        """Remembers a part's token; ClickHouse, too, does so before it commits the part."""
        self._tokens.add((token, month))

    def write_part(self, rows: list[Row]) -> None:
        """Commits one part."""
        self.parts.append(rows)

    async def stored_count(self, bounds: Bounds) -> int:
        return len(
            {
                self._id_of(row)
                for part in self.parts
                for row in part
                if (row.log_topic, row.log_partition) == (bounds.topic, bounds.partition)
                and bounds.first_offset <= row.log_offset <= bounds.last_offset
            }
        )

    async def stored_ids(self, rows: Sequence[Row]) -> set[str]:
        wanted = {self._id_of(row) for row in rows}
        return wanted & {self._id_of(row) for part in self.parts for row in part}
