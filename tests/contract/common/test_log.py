"""What the log promises: the same for Apache Kafka and for the twin in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from services.common.errors import Unavailable
from services.common.events import UndecodableEvent
from services.common.ids import ulid
from services.common.kafka import GapDetected, OffsetOutOfRange, StaleEpoch
from services.common.kafka.ports import Claim
from tests.contract.common.logs import (
    Harness,
    KafkaHarness,
    MemoryHarness,
    MemoryTarget,
    started,
)
from tests.fixtures.waiting import eventually, running


@pytest.fixture(params=["memory", "kafka"])
async def log(request: pytest.FixtureRequest) -> AsyncIterator[Harness]:
    made: Harness = MemoryHarness()
    if request.param == "kafka":
        make_topic = request.getfixturevalue("make_topic")
        made = KafkaHarness(request.getfixturevalue("kafka_bootstrap"), make_topic)
    async for harness in started(made):
        yield harness


def keys(count: int) -> list[bytes]:
    return [b"key-%d" % number for number in range(count)]


async def test_offsets_of_a_partition_are_contiguous(log: Harness) -> None:
    topic = log.topic()
    positions = [await log.producer.send(topic.name, b"k", b"%d" % n) for n in range(5)]
    assert [(p.topic, p.partition, p.offset) for p in positions] == [
        (topic.name, 0, n) for n in range(5)
    ]


async def test_enqueued_messages_keep_the_order_of_the_calls(log: Harness) -> None:
    topic = log.topic()
    sends = [await log.producer.enqueue(topic.name, b"k", b"%d" % n) for n in range(200)]
    assert [position.offset for position in await asyncio.gather(*sends)] == list(range(200))


async def test_a_key_always_goes_to_the_same_partition(log: Harness) -> None:
    topic = log.topic(partitions=4)
    first = {key: (await log.producer.send(topic.name, key, b"1")).partition for key in keys(20)}
    second = {key: (await log.producer.send(topic.name, key, b"2")).partition for key in keys(20)}
    assert first == second
    assert len(set(first.values())) > 1


async def test_a_topic_that_does_not_exist_is_unavailable(log: Harness) -> None:
    with pytest.raises(Unavailable):
        await log.producer.send(f"missing.{ulid().lower()}", b"k", b"v")


async def test_a_pump_applies_everything_in_order_from_the_start(log: Harness) -> None:
    topic, target = log.topic(), MemoryTarget()
    for number in range(10):
        await log.producer.send(topic.name, b"k", b"%d" % number)
    pump = log.pump(topic, target, ulid())
    async with running(pump.run):
        await eventually(lambda: len(target.applied) == 10)
        await log.producer.send(topic.name, b"k", b"10")
        await eventually(lambda: len(target.applied) == 11)
        assert pump.ready.is_set()
        await eventually(lambda: pump.lag() == 0)
    assert target.values == [b"%d" % number for number in range(11)]


async def test_a_pump_goes_on_from_the_position_of_its_target(log: Harness) -> None:
    topic, target, group = log.topic(), MemoryTarget(), ulid()
    for number in range(6):
        await log.producer.send(topic.name, b"k", b"%d" % number)
    target.cursors[0] = Claim(4, 7)
    async with running(log.pump(topic, target, group).run):
        await eventually(lambda: len(target.applied) == 2)
    assert target.values == [b"4", b"5"]
    # The group has stored a later offset by now; only the target's own position counts.
    target.cursors[0] = Claim(2, 9)
    async with running(log.pump(topic, target, group).run):
        await eventually(lambda: len(target.applied) == 6)
    assert target.values[2:] == [b"2", b"3", b"4", b"5"]


async def test_a_batch_that_fails_for_a_while_is_tried_again_whole(log: Harness) -> None:
    topic, target = log.topic(), MemoryTarget()
    for number in range(3):
        await log.producer.send(topic.name, b"k", b"%d" % number)
    target.failures = [Unavailable("away"), Unavailable("still away")]
    async with running(log.pump(topic, target, ulid()).run):
        await eventually(lambda: len(target.applied) == 3)
    assert target.values == [b"0", b"1", b"2"]
    assert target.failures == []


async def test_two_pumps_share_the_partitions_and_apply_each_message_once(log: Harness) -> None:
    topic, target, group = log.topic(partitions=4), MemoryTarget(), ulid()
    one, two = log.pump(topic, target, group), log.pump(topic, target, group)
    async with running(one.run):
        for key in keys(20):
            await log.producer.send(topic.name, key, b"before")
        await eventually(lambda: len(target.applied) == 20)
        async with running(two.run):
            await asyncio.wait_for(two.ready.wait(), 30)
            for key in keys(20):
                await log.producer.send(topic.name, key, b"both")
            await eventually(lambda: len(target.applied) == 40)
        for key in keys(20):
            await log.producer.send(topic.name, key, b"after")
        await eventually(lambda: len(target.applied) == 60)
    places = [(message.partition, message.offset) for message in target.applied]
    assert len(set(places)) == 60


async def test_a_zombie_is_refused_and_takes_part_again(log: Harness) -> None:
    topic, target = log.topic(), MemoryTarget()
    pump = log.pump(topic, target, ulid())
    async with running(pump.run):
        await log.producer.send(topic.name, b"k", b"0")
        await eventually(lambda: len(target.applied) == 1)
        # Somebody else claims the partition behind our back.
        stolen = await target.claim(topic.name, [0])
        await log.producer.send(topic.name, b"k", b"1")
        await eventually(lambda: target.cursors[0].epoch > stolen[0].epoch)
        await eventually(lambda: len(target.applied) == 2)
    assert target.values == [b"0", b"1"]


async def test_a_gap_ends_the_pump(log: Harness) -> None:
    topic, target = log.topic(), MemoryTarget()
    await log.producer.send(topic.name, b"k", b"0")
    target.failures = [GapDetected(topic.name, 0, 0, found=5)]
    with pytest.raises(GapDetected):
        await asyncio.wait_for(log.pump(topic, target, ulid()).run(), 30)


async def test_an_unexpected_error_of_the_target_ends_the_pump(log: Harness) -> None:
    topic, target = log.topic(), MemoryTarget()
    await log.producer.send(topic.name, b"k", b"0")
    target.failures = [ZeroDivisionError()]
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(log.pump(topic, target, ulid()).run(), 30)


async def test_a_position_past_the_end_of_the_log_ends_the_pump(log: Harness) -> None:
    topic, target = log.topic(), MemoryTarget()
    await log.producer.send(topic.name, b"k", b"0")
    target.cursors[0] = Claim(2, 1)
    with pytest.raises(OffsetOutOfRange) as caught:
        await asyncio.wait_for(log.pump(topic, target, ulid()).run(), 30)
    assert (caught.value.stored, caught.value.start, caught.value.end) == (2, 0, 1)


async def test_a_stale_epoch_alone_does_not_end_the_pump(log: Harness) -> None:
    topic, target = log.topic(), MemoryTarget()
    await log.producer.send(topic.name, b"k", b"0")
    target.failures = [StaleEpoch(topic.name, 0, 1), StaleEpoch(topic.name, 0, 2)]
    async with running(log.pump(topic, target, ulid()).run):
        await eventually(lambda: target.values == [b"0"])


async def test_a_table_is_read_to_its_end_and_then_followed(log: Harness) -> None:
    topic = log.topic(partitions=3, cleanup="compact")
    table: dict[str, bytes | None] = {}
    for key in keys(20):
        await log.producer.send(topic.name, key, b"old")
        await log.producer.send(topic.name, key, b"new")
    reader = log.reader(topic, table.__setitem__)
    assert reader.caught_up_at == float("-inf")
    async with running(reader.run):
        await asyncio.wait_for(reader.ready.wait(), 30)
        assert table == {key.decode(): b"new" for key in keys(20)}
        assert time.monotonic() - reader.caught_up_at < 30
        caught_up_at = reader.caught_up_at
        await log.producer.send(topic.name, b"key-1", None)
        await eventually(lambda: table["key-1"] is None)
        await eventually(lambda: reader.caught_up_at > caught_up_at)


async def test_an_empty_table_is_ready(log: Harness) -> None:
    reader = log.reader(log.topic(cleanup="compact"), lambda _key, _value: None)
    async with running(reader.run):
        await asyncio.wait_for(reader.ready.wait(), 30)


async def test_an_undecodable_message_does_not_stop_a_table(log: Harness) -> None:
    topic = log.topic(cleanup="compact")
    table: dict[str, bytes | None] = {}

    def take(key: str, value: bytes | None) -> None:
        if value == b"poison":
            raise UndecodableEvent(key)
        table[key] = value

    for key, value in ((b"a", b"1"), (b"b", b"poison"), (b"c", b"3")):
        await log.producer.send(topic.name, key, value)
    reader = log.reader(topic, take)
    async with running(reader.run):
        await asyncio.wait_for(reader.ready.wait(), 30)
    assert table == {"a": b"1", "c": b"3"}


async def test_an_archive_shows_the_newest_messages_first_and_one_at_its_offset(
    log: Harness,
) -> None:
    topic, archive = log.topic(), log.archive()
    assert await archive.newest(topic.name, 10) == []
    assert await archive.at(topic.name, 0) is None
    for number in range(5):
        await log.producer.send(topic.name, b"k", b"%d" % number)
    assert [one.value for one in await archive.newest(topic.name, 3)] == [b"4", b"3", b"2"]
    assert [one.offset for one in await archive.newest(topic.name, 10)] == [4, 3, 2, 1, 0]
    found = await archive.at(topic.name, 1)
    assert found is not None
    assert (found.offset, found.value) == (1, b"1")
    assert await archive.at(topic.name, 5) is None


async def test_a_pump_knows_how_far_it_is_in_each_partition(log: Harness) -> None:
    topic, target = log.topic(partitions=2), MemoryTarget()
    for key in keys(6):
        await log.producer.send(topic.name, key, b"v")
    pump = log.pump(topic, target, "lags")
    assert pump.lags() == []
    async with running(pump.run):
        await eventually(lambda: sum(one.next_offset for one in pump.lags()) == 6)
        lags = pump.lags()
        assert [(one.topic, one.group, one.partition) for one in lags] == [
            (topic.name, "lags", 0), (topic.name, "lags", 1),
        ]  # fmt: skip
        assert [one.messages for one in lags] == [0, 0]
        assert pump.lag() == 0
