"""Topics in a real Kafka: made from the table, compared with it, emptied by retention."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from services.common.errors import Unavailable
from services.common.ids import ulid
from services.common.kafka import (
    KafkaProducer,
    LogError,
    OffsetOutOfRange,
    Pump,
    check_topics,
    create_topics,
)
from services.common.topics import TOPICS
from tests.contract.common.logs import MemoryTarget
from tests.fixtures.engines import MakeTopic, new_topic, unused_port
from tests.fixtures.waiting import eventually, running


async def test_the_table_of_topics_is_created_and_found_again(kafka_bootstrap: str) -> None:
    await create_topics(kafka_bootstrap)
    await create_topics(kafka_bootstrap)
    assert await check_topics(kafka_bootstrap) == []
    assert len(TOPICS) > 5


async def test_what_differs_from_the_table_is_told(
    kafka_bootstrap: str, make_topic: MakeTopic
) -> None:
    topic, missing = make_topic(partitions=2), new_topic()
    wanted = replace(topic, partitions=3, cleanup="compact", retention_ms=1000)
    assert await check_topics(kafka_bootstrap, [wanted, missing]) == [
        f"{missing.name} does not exist",
        f"{topic.name} has 2 partitions, not 3",
        f"{topic.name} has cleanup.policy delete, not compact",
        f"{topic.name} has retention.ms -1, not 1000",
    ]


async def test_topics_of_a_broker_that_is_away_are_unavailable() -> None:
    address = f"127.0.0.1:{unused_port()}"
    with pytest.raises(Unavailable):
        await create_topics(address)
    with pytest.raises(Unavailable):
        await check_topics(address)


async def test_a_position_that_retention_removed_ends_the_pump(
    kafka_bootstrap: str, make_topic: MakeTopic
) -> None:
    topic, producer = make_topic(), KafkaProducer(kafka_bootstrap)
    await producer.start()
    for number in range(5):
        await producer.send(topic.name, b"k", b"%d" % number)
    await producer.stop()
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await admin.start()
    await admin.delete_records({TopicPartition(topic.name, 0): RecordsToDelete(before_offset=3)})
    await admin.close()
    pump = Pump(bootstrap=kafka_bootstrap, topic=topic, group=ulid(), target=MemoryTarget())
    with pytest.raises(OffsetOutOfRange) as caught:
        await asyncio.wait_for(pump.run(), 60)
    assert (caught.value.stored, caught.value.start, caught.value.end) == (0, 3, 5)


async def test_a_message_that_is_too_large_is_refused_for_good(
    kafka_bootstrap: str, make_topic: MakeTopic
) -> None:
    topic, producer = make_topic(), KafkaProducer(kafka_bootstrap)
    await producer.start()
    with pytest.raises(LogError, match="larger"):
        await producer.send(topic.name, b"k", b"x" * 2_000_000)
    await producer.send(topic.name, b"k", b"x" * 900_000)
    await producer.stop()


async def test_a_pump_of_a_topic_that_appears_later_begins_then(kafka_bootstrap: str) -> None:
    topic, target, producer = new_topic(), MemoryTarget(), KafkaProducer(kafka_bootstrap)
    await producer.start()
    pump = Pump(bootstrap=kafka_bootstrap, topic=topic, group=ulid(), target=target)
    async with running(pump.run):
        # Unavailable until it exists: by then the pump has asked for it, too.
        with pytest.raises(Unavailable):
            await producer.send(topic.name, b"k", b"early")
        await create_topics(kafka_bootstrap, [topic])
        await producer.send(topic.name, b"k", b"v")
        await eventually(lambda: b"v" in target.values)
    await producer.stop()
