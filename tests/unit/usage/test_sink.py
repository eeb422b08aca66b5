"""The sink stores each message once, wherever it is cut off and however the log is cut into
batches.
"""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.errors import Unavailable
from services.common.kafka import Batch, GapDetected, LogMessage, StaleEpoch
from services.common.topics import USAGE
from services.usage.adapters.sink_store_memory import MemorySinkStore
from services.usage.adapters.usage_event import row_from_message
from services.usage.domain.row import RequestRow
from services.usage.ports import REQUESTS, Bounds
from services.usage.sink.target import RowSink
from tests.unit.usage.builders import envelope, message, usage


class Cut(Unavailable):
    """The store went away, or the process died, in the middle of a write."""


class CuttableStore(MemorySinkStore[RequestRow]):
    """Raises Cut at the write with the number `cut_at`; each write is one that may reach the
    disk alone.
    """

    def __init__(self) -> None:
        super().__init__(REQUESTS)
        self.writes = 0
        self.cut_at = -1

    def _write(self) -> None:
        self.writes += 1
        if self.writes == self.cut_at:
            raise Cut("cut off")

    async def record(self, bounds: Bounds, epoch: int) -> None:
        self._write()
        await super().record(bounds, epoch)
        self._write()

    def note_token(self, token: str, month: str) -> None:
        self._write()
        super().note_token(token, month)

    def write_part(self, rows: list[RequestRow]) -> None:
        self._write()
        super().write_part(rows)
        self._write()


class Letters:
    """Dead letters in a list."""

    def __init__(self) -> None:
        self.put_aside: list[int] = []

    async def put(self, message: LogMessage, reason: str) -> None:
        self.put_aside.append(message.offset)


class Reader:
    """Reads one partition into a sink as the pump does, in batches of the given sizes, one after
    the other.
    """

    def __init__(self, messages: list[LogMessage], store: MemorySinkStore[RequestRow]) -> None:
        self.messages = messages
        self.store = store
        self.letters = Letters()
        self.told: list[RequestRow] = []
        self.restart()

    def restart(self) -> None:
        """A new process: nothing but the store is left."""
        self.sink = RowSink(
            self.store,
            decode=row_from_message,
            dead_letters=self.letters,
            log_bounds=self.bounds,
            on_rows=self.told.extend,
        )

    async def bounds(self, partition: int) -> tuple[int, int]:
        return self.messages[0].offset, self.messages[-1].offset + 1

    async def read(self, sizes: list[int]) -> None:
        """Claims and reads to the end; the last size goes on."""
        claim = (await self.sink.claim(USAGE.name, [0]))[0]
        todo = [m for m in self.messages if m.offset >= claim.next_offset]
        sizes = list(sizes)
        while todo:
            size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
            await self.sink.apply(Batch(USAGE.name, 0, claim.epoch, tuple(todo[:size])))
            todo = todo[size:]

    def stored_offsets(self) -> list[int]:
        return sorted(row.log_offset for row in self.store.rows)

    def written(self) -> int:
        return sum(len(part) for part in self.store.parts)


MESSAGES = [message(offset) for offset in range(5, 35)]
OFFSETS = list(range(5, 35))


async def test_every_message_becomes_a_row_and_is_told_once_it_is_durable() -> None:
    reader = Reader(MESSAGES, MemorySinkStore(REQUESTS))
    await reader.read([10])
    assert reader.stored_offsets() == OFFSETS
    assert [row.log_offset for row in reader.told] == OFFSETS


async def test_a_process_that_dies_at_any_write_loses_and_doubles_nothing() -> None:
    whole = CuttableStore()
    await Reader(MESSAGES, whole).read([10])
    assert whole.writes == 24
    for cut_at in range(1, whole.writes + 1):
        store = CuttableStore()
        store.cut_at = cut_at
        reader = Reader(MESSAGES, store)
        with pytest.raises(Cut):
            await reader.read([10])
        reader.restart()
        await reader.read([7])
        assert reader.stored_offsets() == OFFSETS, cut_at
        assert reader.written() == len(OFFSETS), cut_at


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(1, 40), max_size=6),
    st.lists(st.lists(st.integers(1, 31), min_size=1, max_size=4), min_size=7, max_size=7),
)
async def test_any_number_of_deaths_and_any_batches_store_each_message_once(
    cuts: list[int], sizes: list[list[int]]
) -> None:
    store = CuttableStore()
    reader = Reader(MESSAGES, store)
    for cut, batch_sizes in zip(cuts, sizes, strict=False):
        store.writes, store.cut_at = 0, cut
        try:
            await reader.read(batch_sizes)
        except Cut:
            reader.restart()
    store.cut_at = -1
    await reader.read(sizes[-1])
    assert reader.stored_offsets() == OFFSETS
    assert reader.written() == len(OFFSETS)


async def test_a_store_that_is_away_is_tried_again_with_the_same_bounds() -> None:
    whole = CuttableStore()
    await Reader(MESSAGES, whole).read([30])
    for cut_at in range(1, whole.writes + 1):
        store = CuttableStore()
        store.cut_at = cut_at
        reader = Reader(MESSAGES, store)
        claim = (await reader.sink.claim(USAGE.name, [0]))[0]
        batch = Batch(USAGE.name, 0, claim.epoch, tuple(MESSAGES))
        with pytest.raises(Cut):
            await reader.sink.apply(batch)
        await reader.sink.apply(batch)
        await reader.sink.apply(batch)
        assert reader.stored_offsets() == OFFSETS
        assert reader.written() == len(OFFSETS)
        assert [row.log_offset for row in reader.told] == OFFSETS


async def test_what_cannot_be_decoded_is_put_aside_once_and_holds_nothing_up() -> None:
    messages = [*MESSAGES[:3], message(8, b"\xff"), message(9, b""), *MESSAGES[5:]]
    store = CuttableStore()
    store.cut_at = 3
    reader = Reader(messages, store)
    claim = (await reader.sink.claim(USAGE.name, [0]))[0]
    batch = Batch(USAGE.name, 0, claim.epoch, tuple(messages))
    with pytest.raises(Cut):
        await reader.sink.apply(batch)
    await reader.sink.apply(batch)
    assert reader.letters.put_aside == [8, 9]
    assert reader.stored_offsets() == [offset for offset in OFFSETS if offset not in (8, 9)]


async def test_a_batch_of_nothing_but_dead_letters_is_not_read_for_ever() -> None:
    messages = [message(offset, b"\xff") for offset in range(3)]
    reader = Reader(messages, MemorySinkStore(REQUESTS))
    await reader.read([3])
    reader.restart()
    claim = (await reader.sink.claim(USAGE.name, [0]))[0]
    assert claim.next_offset == 3


async def test_an_event_that_was_produced_twice_stays_the_first() -> None:
    value = envelope(usage(usage_id="use_same"))
    reader = Reader([message(0, value), message(1), message(2, value)], MemorySinkStore(REQUESTS))
    await reader.read([2])
    assert reader.stored_offsets() == [0, 1]


async def test_queries_get_their_turn_while_a_large_batch_is_decoded() -> None:
    reader = Reader([message(offset) for offset in range(2_000)], MemorySinkStore(REQUESTS))
    reading = asyncio.create_task(reader.read([2_000]))
    turns = 0
    while not reading.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns >= 2_000 // 250


async def test_a_gap_stops_the_sink_before_it_writes() -> None:
    reader = Reader([*MESSAGES[:4], *MESSAGES[5:]], MemorySinkStore(REQUESTS))
    with pytest.raises(GapDetected):
        await reader.read([10])
    assert reader.written() == 0


async def test_an_owner_from_before_the_last_claim_is_refused() -> None:
    reader = Reader(MESSAGES, MemorySinkStore(REQUESTS))
    zombie = reader.sink
    old = (await zombie.claim(USAGE.name, [0]))[0]
    reader.restart()
    new = (await reader.sink.claim(USAGE.name, [0]))[0]
    assert new.epoch > old.epoch
    with pytest.raises(StaleEpoch):
        await zombie.apply(Batch(USAGE.name, 0, old.epoch, tuple(MESSAGES)))
    with pytest.raises(StaleEpoch):
        await reader.sink.apply(Batch(USAGE.name, 0, old.epoch, tuple(MESSAGES)))
    assert reader.written() == 0


async def test_two_owners_at_once_still_make_one_row_of_each_message() -> None:
    store = MemorySinkStore(REQUESTS)
    zombie, owner = Reader(MESSAGES, store), Reader(MESSAGES, store)
    old = (await zombie.sink.claim(USAGE.name, [0]))[0]
    late = Bounds(USAGE.name, 0, 5, 18, 14)
    new = (await owner.sink.claim(USAGE.name, [0]))[0]
    # The zombie had passed its check before the claim: both record and insert.
    await store.record(late, old.epoch)
    await owner.sink.apply(Batch(USAGE.name, 0, new.epoch, tuple(MESSAGES[:10])))
    await store.insert(late, [row_from_message(m) for m in MESSAGES[:14]])
    owner.restart()
    await owner.read([8])
    assert owner.stored_offsets() == OFFSETS


async def test_of_a_batch_that_went_with_others_only_what_is_missing_is_written_again() -> None:
    store = MemorySinkStore(REQUESTS)
    reader = Reader(MESSAGES, store)
    await store.record(Bounds(USAGE.name, 0, 5, 34, 30), 1)
    # One of its months came through, under the token of the insert that it shared.
    rows = [row_from_message(one) for one in MESSAGES]
    store.write_part([one for one in rows if one.log_offset % 3 == 0])
    await reader.read([30])
    assert reader.stored_offsets() == OFFSETS
    assert reader.written() == len(OFFSETS)
