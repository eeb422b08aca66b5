"""The sink: batches of messages become rows of a table, each message once.

What makes it so, in the order of the work:

1. The bounds of a batch (first and last offset) are recorded before its rows are inserted.
2. The insert carries a token made of the bounds of all batches in it; the store drops what an
   insert with that token already wrote, part by part (one part is one month).
3. Whoever claims a partition looks at the newest bounds. Where their rows are not all there, it
   reads the same offsets again, forms the same batch, looks the rows up by their key and inserts
   what is missing; where nothing is there, all of it as in 2. A token alone proves nothing: the
   store notes it before it commits the part, and other batches may have been in the insert.
4. Behind all that, the table's sorting key is what a repeated delivery cannot change, so a row that
   was written twice after all (two owners at once, an event produced twice) collapses to one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol

from services.common.errors import Unavailable
from services.common.events import UndecodableEvent
from services.common.kafka import Batch, Claim, GapDetected, LogMessage, StaleEpoch
from services.common.telemetry import get_logger
from services.usage.ports import Bounds, Row, SinkStore
from services.usage.sink.position import LogBounds, newest_batch, next_offset

# So many messages are decoded before queries get a turn: a few milliseconds of work.
_DECODED_AT_ONCE = 250

# A batch's completeness matters where retention takes its rows, which is long after.
_NOTE_EVERY_S = 10.0

_log = get_logger(__name__)


class DeadLetterQueue(Protocol):
    """Where undecodable messages go; raises past its limit."""

    async def put(self, message: LogMessage, reason: str) -> None:
        """Writes the message and why it could not be taken."""


@dataclass(slots=True)
class _Owned(Generic[Row]):
    """A partition of ours: what comes next and, while a recorded batch is not complete, that
    batch so far.
    """

    epoch: int
    next_offset: int
    unfinished: Bounds | None = None
    messages: list[LogMessage] = field(default_factory=list)
    # Made once per batch, so that a repetition does not write its dead letters again.
    rows: list[Row] | None = None
    # The newest batch whose rows are stored, as long as that is not noted in the store.
    unnoted: Bounds | None = None
    is_idle: bool = False


class RowSink(Generic[Row]):
    """A pump's target. `decode` gives None for a message that makes no row; `on_rows` is told of
    rows once they are durable.
    """

    def __init__(
        self,
        store: SinkStore[Row],
        *,
        decode: Callable[[LogMessage], Row | None],
        dead_letters: DeadLetterQueue,
        log_bounds: LogBounds,
        on_rows: Callable[[Sequence[Row]], None],
    ) -> None:
        self._store = store
        self._id_of = store.table.id_of
        self._decode = decode
        self._dead_letters = dead_letters
        self._log_bounds = log_bounds
        self._on_rows = on_rows
        self._owned: dict[tuple[str, int], _Owned[Row]] = {}

    async def claim(self, topic: str, partitions: Sequence[int]) -> Mapping[int, Claim]:
        """Takes partitions over and says where to read each from: behind the newest batch, or
        again from its start.
        """
        claims = {}
        for partition in partitions:
            owned = await self._take_over(topic, partition)
            self._owned[topic, partition] = owned
            claims[partition] = Claim(next_offset=owned.next_offset, epoch=owned.epoch)
        return claims

    async def _take_over(self, topic: str, partition: int) -> _Owned[Row]:
        epoch = await self._store.claim(topic, partition)
        bounds = await newest_batch(self._store, topic, partition)
        if bounds is None:
            # Never read before: from the first message that the log still has.
            return _Owned(epoch, (await self._log_bounds(partition))[0])
        if bounds.is_complete:
            return _Owned(epoch, next_offset(bounds), unnoted=bounds)
        return _Owned(epoch, next_offset(bounds), unfinished=bounds)

    async def keep_noting(self) -> None:
        """Notes now and then, until cancelled, of partitions that are idle that their newest batch
        is complete. Where batches follow on one another, the next one's bounds say as much.
        """
        while True:
            await asyncio.sleep(_NOTE_EVERY_S)
            try:
                await self.note_complete()
            except Unavailable as error:
                _log.warning("what is stored is not noted", error=error.message)

    async def note_complete(self) -> None:
        """Notes it of each partition that has stored nothing since the last call. Raises
        Unavailable.
        """
        for owned in list(self._owned.values()):
            noted = owned.unnoted
            if noted is None or owned.unfinished is not None:
                continue
            if owned.is_idle:
                await self._store.record(replace(noted, is_complete=True), owned.epoch)
                if owned.unnoted is noted:
                    owned.unnoted = None
            owned.is_idle = True

    async def apply(self, batch: Batch) -> None:
        """Makes the batch's messages durable rows, those that are not yet. May be called again
        after any failure.

        Raises StaleEpoch where another owner has claimed the partition, GapDetected where offsets
        are missing.
        """
        owned = self._owned.get((batch.topic, batch.partition))
        if owned is None or owned.epoch != batch.epoch:
            raise StaleEpoch(batch.topic, batch.partition, batch.epoch)
        if await self._store.epoch(batch.topic, batch.partition) > batch.epoch:
            raise StaleEpoch(batch.topic, batch.partition, batch.epoch)
        messages = _following(batch, owned.next_offset)
        if owned.unfinished is not None:
            messages = await self._finish(owned, owned.unfinished, messages)
        if messages:
            await self._store_batch(owned, messages)

    async def _store_batch(self, owned: _Owned[Row], messages: list[LogMessage]) -> None:
        rows = await self._rows(messages)
        bounds = _bounds(messages, len(rows))
        await self._store.record(bounds, owned.epoch)
        # From here on the bounds are fixed: a repetition after a failure must form this very batch.
        owned.unfinished, owned.messages, owned.rows = bounds, messages, rows
        owned.next_offset = bounds.last_offset + 1
        await self._store.insert(bounds, rows)
        self._done(owned, rows)

    async def _finish(
        self, owned: _Owned[Row], bounds: Bounds, messages: list[LogMessage]
    ) -> list[LogMessage]:
        """Completes a recorded batch once all its messages are there; returns the messages
        behind it.
        """
        within = [message for message in messages if message.offset <= bounds.last_offset]
        owned.messages += within
        if within:
            owned.next_offset = within[-1].offset + 1
        if not owned.messages or owned.messages[-1].offset < bounds.last_offset:
            return []
        if owned.rows is None:
            owned.rows = await self._rows(owned.messages)
        rows = owned.rows
        missing = await self._missing(rows)
        if len(missing) == len(rows):
            await self._store.insert(bounds, rows)
            missing = await self._missing(rows)
        await self._store.insert_missing(missing)
        self._done(owned, rows)
        return messages[len(within) :]

    async def _missing(self, rows: Sequence[Row]) -> list[Row]:
        stored = await self._store.stored_ids(rows)
        return [row for row in rows if self._id_of(row) not in stored]

    def _done(self, owned: _Owned[Row], rows: Sequence[Row]) -> None:
        owned.unnoted, owned.is_idle = owned.unfinished, False
        owned.unfinished, owned.messages, owned.rows = None, [], None
        self._on_rows(rows)

    async def _rows(self, messages: Sequence[LogMessage]) -> list[Row]:
        """The rows of the messages, of two with one id the first; what cannot be decoded goes to
        the dead letters instead.
        """
        rows: dict[str, Row] = {}
        for number, message in enumerate(messages, 1):
            if number % _DECODED_AT_ONCE == 0:
                await asyncio.sleep(0)
            try:
                row = self._decode(message)
            except UndecodableEvent as error:
                await self._dead_letters.put(message, str(error))
            else:
                if row is not None:
                    rows.setdefault(self._id_of(row), row)
        return list(rows.values())


def _following(batch: Batch, next_offset: int) -> list[LogMessage]:
    """The messages of the batch that are not applied yet. Raises GapDetected where they do not
    follow on.
    """
    messages = [message for message in batch.messages if message.offset >= next_offset]
    for expected, message in enumerate(messages, next_offset):
        if message.offset != expected:
            raise GapDetected(batch.topic, batch.partition, expected, found=message.offset)
    return messages


def _bounds(messages: Sequence[LogMessage], row_count: int) -> Bounds:
    first, last = messages[0], messages[-1]
    return Bounds(first.topic, first.partition, first.offset, last.offset, row_count)
