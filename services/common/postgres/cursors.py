"""Consumer cursors: how far a log was applied, kept beside the data and moved in the same
transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import asyncpg

from services.common.kafka.ports import Batch, Claim, GapDetected, LogMessage, StaleEpoch
from services.common.postgres.pool import translated
from services.common.topics import TOPICS

# Compaction removes messages, so that gaps between offsets of these topics mean nothing.
COMPACTED = frozenset(topic.name for topic in TOPICS if topic.cleanup == "compact")

_CLAIM = """
INSERT INTO consumer_cursor (topic, partition, epoch) SELECT $1, p, 1 FROM unnest($2::integer[]) AS
p ORDER BY p ON CONFLICT (topic, partition) DO UPDATE SET epoch = consumer_cursor.epoch + 1
RETURNING partition, next_offset, epoch
"""


class PostgresCursors:
    """The cursors of one service. Each topic has one reader per database."""

    def __init__(self, pool: asyncpg.Pool, *, gaps_allowed_in: frozenset[str] = COMPACTED) -> None:
        self._pool = pool
        self._gaps_allowed_in = gaps_allowed_in

    async def claim(self, topic: str, partitions: Sequence[int]) -> Mapping[int, Claim]:
        """Takes partitions over with a new epoch each, which shuts out every earlier owner. Raises
        Unavailable.
        """
        with translated():
            rows = await self._pool.fetch(_CLAIM, topic, list(partitions))
        return {row["partition"]: Claim(row["next_offset"], row["epoch"]) for row in rows}

    async def advance(self, connection: asyncpg.Connection, batch: Batch) -> list[LogMessage]:
        """Moves the cursor past the batch and gives the messages that are not applied yet.

        Call it first in the transaction that applies them: it locks the cursor. Raises StaleEpoch
        where another owner claimed the partition since, GapDetected where messages before or within
        the batch are missing.
        """
        row = await connection.fetchrow(
            "SELECT next_offset, epoch FROM consumer_cursor WHERE topic = $1 AND partition = $2"
            " FOR UPDATE",
            batch.topic,
            batch.partition,
        )
        if row is None or row["epoch"] != batch.epoch:
            raise StaleEpoch(batch.topic, batch.partition, batch.epoch)
        next_offset: int = row["next_offset"]
        todo = [message for message in batch.messages if message.offset >= next_offset]
        if not todo:
            return []
        if batch.topic not in self._gaps_allowed_in:
            _check_contiguous(batch, todo, next_offset)
        await connection.execute(
            "UPDATE consumer_cursor SET next_offset = $3 WHERE topic = $1 AND partition = $2",
            batch.topic,
            batch.partition,
            todo[-1].offset + 1,
        )
        return todo

    async def positions(self, topic: str) -> Mapping[int, int]:
        """The next offset of each partition that was ever claimed."""
        with translated():
            rows = await self._pool.fetch(
                "SELECT partition, next_offset FROM consumer_cursor WHERE topic = $1", topic
            )
        return {row["partition"]: row["next_offset"] for row in rows}

    async def move(self, topic: str, partition: int, next_offset: int) -> None:
        """Sets a cursor by an operator's decision, for instance past messages that retention
        removed.
        """
        with translated():
            await self._pool.execute(
                "INSERT INTO consumer_cursor (topic, partition, next_offset, epoch)"
                " VALUES ($1, $2, $3, 1) ON CONFLICT (topic, partition)"
                " DO UPDATE SET next_offset = $3, epoch = consumer_cursor.epoch + 1",
                topic,
                partition,
                next_offset,
            )


def _check_contiguous(batch: Batch, todo: Sequence[LogMessage], next_offset: int) -> None:
    for expected, message in enumerate(todo, next_offset):
        if message.offset != expected:
            raise GapDetected(batch.topic, batch.partition, expected, found=message.offset)
