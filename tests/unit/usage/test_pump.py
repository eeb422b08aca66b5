"""The sink under a pump: batches, restarts of the group, a store that goes away and comes back."""

from __future__ import annotations

import asyncio

import pytest

from services.common.errors import Unavailable
from services.common.kafka import DeadLetters, Pump
from services.common.kafka.dead_letters import TooManyDeadLetters
from services.common.kafka.memory import MemoryLog, MemoryProducer, MemorySource
from services.common.topics import USAGE, USAGE_DEAD
from services.usage.adapters.sink_store_memory import MemorySinkStore
from services.usage.adapters.usage_event import row_from_message
from services.usage.domain.row import RequestRow
from services.usage.ports import REQUESTS, Bounds
from services.usage.sink.target import RowSink
from tests.fixtures.waiting import eventually, running
from tests.unit.usage.builders import message
from tests.unit.usage.test_sink import Letters


class AwayStore(MemorySinkStore[RequestRow]):
    """Fails every insert while `is_away`, and counts how often it did."""

    def __init__(self) -> None:
        super().__init__(REQUESTS)
        self.is_away = False
        self.failures = 0

    async def insert(self, bounds: Bounds, rows: list[RequestRow]) -> None:  # type: ignore[override]  # a list is what the sink passes
        if self.is_away:
            self.failures += 1
            raise Unavailable("away")
        await super().insert(bounds, rows)


def pump_into(store: MemorySinkStore[RequestRow], log: MemoryLog, *, batch_max: int = 7) -> Pump:
    source = MemorySource(log, topic=USAGE, group="log")
    sink = RowSink(
        store,
        decode=row_from_message,
        dead_letters=Letters(),
        log_bounds=source.bounds,
        on_rows=lambda rows: None,
    )
    return Pump(
        topic=USAGE, group="log", target=sink, source=source, batch_max=batch_max, linger_s=0.001
    )


def write(log: MemoryLog, count: int, *, start: int = 0) -> set[str]:
    """Writes so many events over all partitions; returns their usage ids."""
    ids = set()
    for number in range(start, start + count):
        value = message(number).value
        log.append(USAGE.name, f"acc_{number % 11}".encode(), value)
        ids.add(f"use_0_{number:08d}")
    return ids


def stored(store: MemorySinkStore[RequestRow]) -> set[str]:
    return {row.usage_id for row in store.rows}


async def test_everything_in_the_log_is_stored_once() -> None:
    log, store = MemoryLog(), MemorySinkStore(REQUESTS)
    ids = write(log, 200)
    pump = pump_into(store, log)
    async with running(pump.run):
        await eventually(lambda: stored(store) == ids)
        ids |= write(log, 20, start=200)
        await eventually(lambda: stored(store) == ids)
    assert sum(len(part) for part in store.parts) == 220
    assert pump.lag() == 0


async def test_a_store_that_is_away_holds_the_pump_up_and_loses_nothing() -> None:
    log, store = MemoryLog(), AwayStore()
    store.is_away = True
    ids = write(log, 50)
    async with running(pump_into(store, log).run) as task:
        await eventually(lambda: store.failures >= 6)
        assert stored(store) == set()
        assert not task.done()
        store.is_away = False
        await eventually(lambda: stored(store) == ids)
    assert sum(len(part) for part in store.parts) == 50


async def test_two_processes_share_the_partitions_and_take_over_from_each_other() -> None:
    log, store = MemoryLog(), MemorySinkStore(REQUESTS)
    ids = write(log, 100)
    async with running(pump_into(store, log, batch_max=3).run):
        await eventually(lambda: len(stored(store)) > 10)
        async with running(pump_into(store, log, batch_max=5).run):
            ids |= write(log, 100, start=100)
            await eventually(lambda: stored(store) == ids)
        ids |= write(log, 50, start=200)
        await eventually(lambda: stored(store) == ids)
    assert sum(len(part) for part in store.parts) == 250


@pytest.mark.parametrize("removed", [1, 5])
async def test_a_new_store_begins_with_what_the_log_still_has(removed: int) -> None:
    log, store = MemoryLog([]), MemorySinkStore(REQUESTS)
    log.create(USAGE.name, 1)
    ids = write(log, 10)
    log.remove_before(USAGE.name, 0, removed)
    async with running(pump_into(store, log).run):
        await eventually(lambda: len(stored(store)) == 10 - removed)
    assert stored(store) < ids


async def test_what_comes_alone_is_applied_at_once_and_what_follows_goes_together() -> None:
    log, store = MemoryLog([]), MemorySinkStore(REQUESTS)
    log.create(USAGE.name, 1)
    source = MemorySource(log, topic=USAGE, group="log")
    sink = RowSink[RequestRow](
        store,
        decode=row_from_message,
        dead_letters=Letters(),
        log_bounds=source.bounds,
        on_rows=lambda rows: None,
    )
    # Rounds that never come within this test, but for what had no batch lately.
    pump = Pump(
        topic=USAGE, group="log", target=sink, source=source, batch_max=7, linger_s=0, apart_s=1e9
    )
    async with running(pump.run):
        write(log, 1)
        await eventually(lambda: pump.ready.is_set() and not pump.lag())
        assert len(stored(store)) == 1
        write(log, 6, start=1)
        await asyncio.sleep(0)
        assert len(stored(store)) == 1
        # A full batch waits for no round.
        write(log, 1, start=7)
        await eventually(lambda: len(stored(store)) == 8)


async def test_more_dead_letters_than_the_limit_stop_the_pump_and_cost_no_request() -> None:
    log, store = MemoryLog(), MemorySinkStore(REQUESTS)
    producer = MemoryProducer(log)
    await producer.start()

    def pump(limit: int) -> Pump:
        source = MemorySource(log, topic=USAGE, group="log")
        sink = RowSink[RequestRow](
            store,
            decode=row_from_message,
            dead_letters=DeadLetters(producer, consumer="usage", topic=USAGE_DEAD, limit=limit),
            log_bounds=source.bounds,
            on_rows=lambda rows: None,
        )
        return Pump(topic=USAGE, group="log", target=sink, source=source)

    ids = write(log, 30)
    for number in range(6):
        log.append(USAGE.name, f"acc_{number}".encode(), b"not an event")
    with pytest.raises(TooManyDeadLetters):
        await pump(limit=5).run()
    assert len(log.messages(USAGE_DEAD.name)) == 5
    async with running(pump(limit=20).run):
        await eventually(lambda: stored(store) == ids)
    assert sum(len(part) for part in store.parts) == 30
