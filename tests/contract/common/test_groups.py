"""What the log tells of consumer groups: the same for Apache Kafka and for the twin in memory."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from services.common.errors import Unavailable
from services.common.ids import ulid
from services.common.kafka import KafkaGroups
from services.common.kafka.memory import MemoryGroups, MemoryLog
from tests.contract.common.logs import (
    Harness,
    KafkaHarness,
    MemoryHarness,
    MemoryTarget,
    started,
)
from tests.fixtures.engines import unused_port
from tests.fixtures.waiting import eventually, eventually_async, running


@pytest.fixture(params=["memory", "kafka"])
async def log(request: pytest.FixtureRequest) -> AsyncIterator[Harness]:
    made: Harness = MemoryHarness()
    if request.param == "kafka":
        make_topic = request.getfixturevalue("make_topic")
        made = KafkaHarness(request.getfixturevalue("kafka_bootstrap"), make_topic)
    async for harness in started(made):
        yield harness


async def test_a_group_is_known_with_its_members_and_what_it_committed(log: Harness) -> None:
    topic, group, groups = log.topic(partitions=2), f"group-{ulid()}", log.groups()
    for number in range(6):
        await log.producer.send(topic.name, b"key-%d" % number, b"v")
    assert await groups.groups([topic.name]) == []
    pump = log.pump(topic, MemoryTarget(), group)

    async def committed() -> bool:
        found = await groups.groups([topic.name])
        return sum(sum(one.committed.values()) for one in found) == 6

    async with running(pump.run):
        await eventually_async(committed)
        [found] = await groups.groups([topic.name, "no-such-topic"])
        assert (found.name, found.members) == (group, 1)
        assert {name for name, _ in found.committed} == {topic.name}
    [left] = await groups.groups([topic.name])
    assert (left.members, sum(left.committed.values())) == (0, 6)


async def test_several_groups_of_one_topic_are_told_apart(log: Harness) -> None:
    topic, groups = log.topic(), log.groups()
    await log.producer.send(topic.name, b"k", b"v")
    names = sorted(f"group-{number}-{ulid()}" for number in range(3))
    first, second, third = (log.pump(topic, MemoryTarget(), name) for name in names)

    async def all_committed() -> bool:
        return len(await groups.groups([topic.name])) == len(names)

    async with running(first.run), running(second.run), running(third.run):
        await eventually_async(all_committed)
        found = await groups.groups([topic.name])
    assert [(one.name, one.members) for one in found] == [(name, 1) for name in names]


async def test_other_topics_of_a_group_are_left_out(log: Harness) -> None:
    topic, other, groups = log.topic(), log.topic(), log.groups()
    await log.producer.send(topic.name, b"k", b"v")
    pump = log.pump(topic, MemoryTarget(), f"group-{ulid()}")
    async with running(pump.run):
        await eventually(lambda: pump.ready.is_set())
    assert await groups.groups([other.name]) == []


async def test_bounds_are_told_of_every_partition_that_there_is(log: Harness) -> None:
    topic, groups = log.topic(partitions=3), log.groups()
    sent = [await log.producer.send(topic.name, b"k", b"%d" % number) for number in range(4)]
    bounds = await groups.bounds([topic.name, "no-such-topic"])
    assert set(bounds) == {(topic.name, partition) for partition in range(3)}
    assert bounds[topic.name, sent[0].partition] == (0, 4)
    assert sum(end for _, end in bounds.values()) == 4


async def test_a_broker_that_is_away_is_a_sentence_within_a_bound() -> None:
    away = MemoryLog(())
    away.available = False
    begun_s = time.monotonic()
    for groups in (MemoryGroups(away), KafkaGroups(f"127.0.0.1:{unused_port()}", timeout_s=0.5)):
        with pytest.raises(Unavailable):
            await groups.groups(["any"])
        with pytest.raises(Unavailable):
            await groups.bounds(["any"])
    assert time.monotonic() - begun_s < 30
