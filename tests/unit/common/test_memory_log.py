"""What only the log in memory can be told to do: be away, forget, compact."""

from __future__ import annotations

import asyncio

import pytest

from services.common.clock import FakeClock
from services.common.errors import Unavailable
from services.common.kafka import OffsetOutOfRange, Pump
from services.common.kafka.memory import (
    MemoryLog,
    MemoryProducer,
    MemorySource,
    MemoryTableReader,
)
from services.common.topics import BALANCES, USAGE
from tests.contract.common.logs import MemoryTarget
from tests.fixtures.engines import new_topic
from tests.fixtures.waiting import eventually, running


async def test_a_log_that_is_away_takes_and_gives_nothing() -> None:
    log = MemoryLog()
    producer = MemoryProducer(log)
    with pytest.raises(Unavailable):
        await producer.send(USAGE.name, b"k", b"v")
    await producer.start()
    connected = [producer.connected]
    log.available = False
    connected.append(producer.connected)
    assert connected == [True, False]
    with pytest.raises(Unavailable):
        await producer.send(USAGE.name, b"k", b"v")
    log.available = True
    assert (await producer.send(USAGE.name, b"k", b"v")).offset == 0


async def test_a_pump_goes_on_after_an_outage() -> None:
    log, topic, target = MemoryLog(()), new_topic(), MemoryTarget()
    log.create(topic.name, 1)
    source = MemorySource(log, topic=topic, group="g")
    async with running(Pump(topic=topic, group="g", target=target, source=source).run):
        log.append(topic.name, b"k", b"1")
        await eventually(lambda: target.values == [b"1"])
        log.available = False
        await asyncio.sleep(0)
        log.available = True
        log.append(topic.name, b"k", b"2")
        await eventually(lambda: target.values == [b"1", b"2"])


async def test_a_position_that_retention_removed_ends_the_pump() -> None:
    log, topic = MemoryLog(()), new_topic()
    log.create(topic.name, 1)
    for number in range(5):
        log.append(topic.name, b"k", b"%d" % number)
    log.remove_before(topic.name, 0, 3)
    source = MemorySource(log, topic=topic, group="g")
    with pytest.raises(OffsetOutOfRange) as caught:
        await Pump(topic=topic, group="g", target=MemoryTarget(), source=source).run()
    assert (caught.value.stored, caught.value.start, caught.value.end) == (0, 3, 5)


async def test_a_compacted_topic_keeps_the_newest_of_each_key_and_their_offsets() -> None:
    log = MemoryLog()
    places = [log.append(BALANCES.name, key, value) for key, value in (
        (b"a", b"1"), (b"a", b"2"), (b"a", b"3"),
    )]  # fmt: skip
    log.compact(BALANCES.name)
    (left,) = log.messages(BALANCES.name)
    assert (left.value, left.offset) == (b"3", places[-1].offset)


async def test_a_table_says_when_it_last_knew_that_it_was_fresh() -> None:
    clock = FakeClock()
    log = MemoryLog(clock=clock)
    table: dict[str, bytes | None] = {}
    reader = MemoryTableReader(log, topic=BALANCES, on_message=table.__setitem__, clock=clock)
    log.append(BALANCES.name, b"acc_1", b"1")
    reader.poll()
    assert (table, reader.caught_up_at) == ({"acc_1": b"1"}, 0.0)
    await clock.advance(5)
    log.available = False
    with pytest.raises(Unavailable):
        reader.poll()
    assert reader.caught_up_at == 0.0
    log.available = True
    reader.poll()
    assert reader.caught_up_at == 5.0


async def test_an_expelled_member_loses_its_partitions_to_the_others() -> None:
    log, topic, target = MemoryLog(()), new_topic(partitions=2), MemoryTarget()
    log.create(topic.name, 2)
    sources = [MemorySource(log, topic=topic, group="g") for _ in range(2)]
    pumps = [Pump(topic=topic, group="g", target=target, source=one) for one in sources]
    async with running(pumps[0].run), running(pumps[1].run):
        await eventually(lambda: all(pump.ready.is_set() for pump in pumps))
        await log.expel(sources[0])
        assert sources[1].assignment == {0, 1}
        for number in range(10):
            log.append(topic.name, b"%d" % number, b"v")
        await eventually(lambda: len(target.applied) == 10)
