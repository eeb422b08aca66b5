"""A sink's store over another: for those that do one thing more, or one otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic

from services.usage.ports import Bounds, Row, RowTable, SinkStore


class SinkStoreOver(Generic[Row]):
    """A `SinkStore` that does everything as the one below it."""

    def __init__(self, store: SinkStore[Row]) -> None:
        self._store = store

    @property
    def table(self) -> RowTable[Row]:
        return self._store.table

    async def claim(self, topic: str, partition: int) -> int:
        return await self._store.claim(topic, partition)

    async def epoch(self, topic: str, partition: int) -> int:
        return await self._store.epoch(topic, partition)

    async def last_batch(self, topic: str, partition: int) -> Bounds | None:
        return await self._store.last_batch(topic, partition)

    async def record(self, bounds: Bounds, epoch: int) -> None:
        await self._store.record(bounds, epoch)

    async def insert(self, bounds: Bounds, rows: Sequence[Row]) -> None:
        await self._store.insert(bounds, rows)

    async def insert_missing(self, rows: Sequence[Row]) -> None:
        await self._store.insert_missing(rows)

    async def stored_count(self, bounds: Bounds) -> int:
        return await self._store.stored_count(bounds)

    async def stored_ids(self, rows: Sequence[Row]) -> set[str]:
        return await self._store.stored_ids(rows)
