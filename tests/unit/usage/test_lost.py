"""A sink whose batch was taken by retention goes on; one that has not read what is gone stands
still and says so, until the loss is accepted.
"""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY

from services.common.kafka import GapDetected, OffsetOutOfRange, Position, Pump
from services.common.kafka.memory import MemoryLog, MemorySource
from services.common.topics import USAGE
from services.usage.adapters.sink_store_memory import MemorySinkStore
from services.usage.adapters.usage_event import row_from_message
from services.usage.domain.row import RequestRow
from services.usage.ports import REQUESTS, Bounds
from services.usage.sink.lost import Loss, Standstill, accept
from services.usage.sink.target import RowSink
from tests.fixtures.waiting import eventually, running
from tests.unit.usage.builders import message
from tests.unit.usage.test_sink import Letters

KEY = b"acc_1"


class Town:
    """A log with so many events in one partition, a store, and sinks that read the one into the
    other.
    """

    def __init__(self, events: int) -> None:
        self.log = MemoryLog()
        self.store: MemorySinkStore[RequestRow] = MemorySinkStore(REQUESTS)
        (self.partition,) = {self.write(number).partition for number in range(events)}
        self.start_again()

    def write(self, number: int) -> Position:
        return self.log.append(USAGE.name, KEY, message(number).value)

    def start_again(self) -> None:
        """A new process: nothing but log and store are left."""
        self.source = MemorySource(self.log, topic=USAGE, group="log")
        self.sink = RowSink[RequestRow](
            self.store,
            decode=row_from_message,
            dead_letters=Letters(),
            log_bounds=self.source.bounds,
            on_rows=lambda _rows: None,
        )
        self.pump = Pump(topic=USAGE, group="log", target=self.sink, source=self.source)
        self.standstill = Standstill(self.pump.run, look_again_s=0.01)

    async def store_until(self, offset: int) -> None:
        """Runs a sink until everything before the offset is stored."""
        async with running(self.standstill.run):
            await eventually(lambda: self.next_offset() == offset)

    def next_offset(self) -> int | None:
        lags = {lag.partition: lag.next_offset for lag in self.pump.lags()}
        return lags.get(self.partition)

    def drop_rows(self) -> None:
        """As retention does in the store."""
        self.store.parts.clear()

    def forget_before(self, offset: int) -> None:
        """As retention does in the log."""
        self.log.remove_before(USAGE.name, self.partition, offset)

    def lost(self) -> float:
        labels = {"topic": USAGE.name, "partition": str(self.partition)}
        return REGISTRY.get_sample_value("mesh_usage_sink_lost_messages", labels) or 0.0

    def stored_offsets(self) -> list[int]:
        return sorted(row.log_offset for row in self.store.rows)

    async def record(self, bounds: Bounds) -> None:
        await self.store.record(bounds, await self.store.claim(USAGE.name, self.partition))


async def test_a_batch_that_retention_took_of_the_store_and_of_the_log_is_not_asked_for() -> None:
    town = Town(events=8)
    await town.store_until(8)
    for _ in range(2):
        await town.sink.note_complete()
    town.drop_rows()
    town.forget_before(8)
    town.start_again()
    town.write(8)
    await town.store_until(9)
    assert town.stored_offsets() == [8]
    assert town.lost() == 0


async def test_a_batch_is_noted_only_once_its_partition_is_idle() -> None:
    town = Town(events=8)
    await town.store_until(8)
    await town.sink.note_complete()
    newest = await town.store.last_batch(USAGE.name, town.partition)
    assert newest is not None
    assert not newest.is_complete
    await town.sink.note_complete()
    newest = await town.store.last_batch(USAGE.name, town.partition)
    assert newest is not None
    assert newest.is_complete


async def test_a_batch_that_was_seen_whole_at_a_start_is_not_asked_for_at_the_next() -> None:
    town = Town(events=8)
    await town.store_until(8)
    town.start_again()
    await town.store_until(8)
    for _ in range(2):
        await town.sink.note_complete()
    town.drop_rows()
    town.forget_before(8)
    town.start_again()
    await town.store_until(8)


async def test_a_cut_off_batch_is_not_noted_and_is_read_again() -> None:
    town = Town(events=8)
    await town.record(Bounds(USAGE.name, town.partition, 0, 5, 6))
    await town.sink.claim(USAGE.name, [town.partition])
    for _ in range(3):
        await town.sink.note_complete()
    await town.store_until(8)
    assert town.stored_offsets() == list(range(8))


async def test_the_sink_stands_still_where_the_log_let_go_of_what_was_not_read() -> None:
    town = Town(events=8)
    await town.store_until(8)
    for number in range(8, 20):
        town.write(number)
    town.forget_before(15)
    town.start_again()
    async with running(town.standstill.run):
        await eventually(lambda: town.standstill.stands_still)
        assert town.lost() == 7
        assert town.stored_offsets() == list(range(8))
        given_up = [Loss(USAGE.name, town.partition, 8, 14)]
        assert await accept(town.store, USAGE, town.source.bounds, dry_run=True) == given_up
        assert await accept(town.store, USAGE, town.source.bounds) == given_up
        # It looks again by itself.
        await eventually(lambda: town.next_offset() == 20)
    assert town.stored_offsets() == [*range(8), *range(15, 20)]
    assert await accept(town.store, USAGE, town.source.bounds) == []


async def test_of_a_cut_off_batch_what_the_log_still_has_is_read_although_its_start_is_gone() -> (
    None
):
    town = Town(events=12)
    await town.record(Bounds(USAGE.name, town.partition, 0, 9, 10))
    town.forget_before(4)
    with pytest.raises(OffsetOutOfRange):
        await town.pump.run()
    lost = await accept(town.store, USAGE, town.source.bounds)
    assert lost == [Loss(USAGE.name, town.partition, 0, 3)]
    town.start_again()
    await town.store_until(12)
    assert town.stored_offsets() == list(range(4, 12))


async def test_the_alarm_ends_once_the_pump_runs_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.usage.sink.lost._SETTLED_S", 0.01)
    town = Town(events=8)
    await town.record(Bounds(USAGE.name, town.partition, 0, 3, 4))
    town.forget_before(5)
    async with running(town.standstill.run):
        await eventually(lambda: town.lost() == 5)
        await accept(town.store, USAGE, town.source.bounds)
        await eventually(lambda: town.lost() == 0)
        assert not town.standstill.stands_still


async def test_any_other_error_of_the_pump_ends_it() -> None:
    async def pump() -> None:
        raise GapDetected("t", 0, 1, found=3)

    with pytest.raises(GapDetected):
        await Standstill(pump).run()
