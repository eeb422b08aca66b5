"""A Kafka broker that is killed and comes back, as producer, pump and table reader see it."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.local.kafka import KafkaNode
from services.common.errors import Unavailable
from services.common.ids import ulid
from services.common.kafka import (
    KafkaProducer,
    OffsetOutOfRange,
    Pump,
    TableReader,
    create_topics,
)
from services.common.topics import Topic
from tests.contract.common.logs import MemoryTarget
from tests.fixtures.engines import new_topic, unused_port
from tests.fixtures.kafka_reading import read_all
from tests.fixtures.waiting import eventually, running


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[KafkaNode]:
    """A broker of this test alone."""
    broker = KafkaNode(tmp_path, unused_port(), unused_port())
    await asyncio.to_thread(broker.start)
    yield broker
    broker.kill()


async def created(node: KafkaNode, topic: Topic) -> Topic:
    await create_topics(node.bootstrap, [topic])
    return topic


async def test_a_killed_broker_costs_no_message_and_no_order(node: KafkaNode) -> None:
    topic = await created(node, new_topic())
    producer = KafkaProducer(node.bootstrap, send_timeout_s=2.0)
    await producer.start()
    target = MemoryTarget()
    pump = Pump(bootstrap=node.bootstrap, topic=topic, group=ulid(), target=target)
    async with running(pump.run):
        sends = [await producer.enqueue(topic.name, b"k", b"%d" % n) for n in range(50)]
        await asyncio.gather(*sends)
        await eventually(lambda: len(target.applied) == 50)
        node.kill()
        sends = [await producer.enqueue(topic.name, b"k", b"%d" % n) for n in range(50, 100)]
        started_s = time.monotonic()
        with pytest.raises(Unavailable):
            await producer.send(topic.name, b"k", b"100")
        assert time.monotonic() - started_s < 10
        assert not producer.connected
        await asyncio.to_thread(node.start)
        await asyncio.wait_for(asyncio.gather(*sends), 60)
        await eventually(lambda: producer.connected)
        await producer.send(topic.name, b"k", b"101")
        await eventually(lambda: len(target.applied) == 102)
    await producer.stop()
    messages = await read_all(node.bootstrap, topic)
    # The message whose send timed out arrives all the same: a timeout says "not known" alone.
    assert [m.value for m in messages] == [b"%d" % n for n in range(102)]
    assert [m.offset for m in messages] == list(range(102))
    assert target.values == [m.value for m in messages]


async def test_a_table_grows_stale_in_an_outage_and_fresh_again_after_it(node: KafkaNode) -> None:
    topic = await created(node, new_topic(cleanup="compact"))
    producer = KafkaProducer(node.bootstrap)
    await producer.start()
    await producer.send(topic.name, b"a", b"1")
    table: dict[str, bytes | None] = {}
    reader = TableReader(bootstrap=node.bootstrap, topic=topic, on_message=table.__setitem__)
    async with running(reader.run):
        await asyncio.wait_for(reader.ready.wait(), 60)
        node.kill()
        # What was under way at the kill may still end; two checks later nothing does.
        await eventually(lambda: time.monotonic() - reader.caught_up_at > 3)
        await asyncio.to_thread(node.start)
        await producer.send(topic.name, b"a", b"2")
        await eventually(lambda: table["a"] == b"2")
        await eventually(lambda: time.monotonic() - reader.caught_up_at < 2)
    await producer.stop()


async def test_a_broker_that_is_away_at_the_start_is_waited_for_so_long(tmp_path: Path) -> None:
    producer = KafkaProducer(f"127.0.0.1:{unused_port()}", start_timeout_s=0.5)
    with pytest.raises(Unavailable, match="cannot be reached"):
        await producer.start()
    assert not producer.connected
    await producer.stop()


async def test_a_reader_and_a_pump_that_are_there_first_wait_for_the_broker(
    tmp_path: Path,
) -> None:
    broker = KafkaNode(tmp_path, unused_port(), unused_port())
    topic, target = new_topic(), MemoryTarget()
    table: dict[str, bytes | None] = {}
    reader = TableReader(bootstrap=broker.bootstrap, topic=topic, on_message=table.__setitem__)
    pump = Pump(bootstrap=broker.bootstrap, topic=topic, group=ulid(), target=target)
    try:
        async with running(reader.run), running(pump.run):
            await asyncio.to_thread(broker.start)
            await create_topics(broker.bootstrap, [topic])
            producer = KafkaProducer(broker.bootstrap)
            await producer.start()
            await producer.send(topic.name, b"a", b"1")
            await eventually(lambda: table == {"a": b"1"} and target.values == [b"1"])
            await producer.stop()
    finally:
        broker.kill()


async def test_a_broker_with_an_empty_disk_is_written_to_and_its_tables_are_read_anew(
    node: KafkaNode, tmp_path: Path
) -> None:
    topic = await created(node, new_topic(cleanup="compact"))
    producer = KafkaProducer(node.bootstrap)
    await producer.start()
    for number in range(5):
        await producer.send(topic.name, b"old", b"%d" % number)
    table: dict[str, bytes | None] = {}
    reader = TableReader(bootstrap=node.bootstrap, topic=topic, on_message=table.__setitem__)
    target = MemoryTarget()
    pump = Pump(bootstrap=node.bootstrap, topic=topic, group=ulid(), target=target)
    pumping = asyncio.create_task(pump.run())
    async with running(reader.run):
        await eventually(lambda: table == {"old": b"4"} and len(target.applied) == 5)
        node.kill()
        await asyncio.to_thread(shutil.rmtree, tmp_path / "data")
        await asyncio.to_thread(node.start)
        await created(node, topic)
        await written(producer, topic)
        await eventually(lambda: table.get("new") == b"1")
    await producer.stop()
    # For money it is no small matter that the log is another one.
    with pytest.raises(OffsetOutOfRange):
        await asyncio.wait_for(pumping, 60)


async def written(producer: KafkaProducer, topic: Topic) -> None:
    """Writes one message, as often as it takes."""
    async with asyncio.timeout(60):
        while True:
            try:
                await producer.send(topic.name, b"new", b"1")
                return
            except Unavailable:
                await asyncio.sleep(0.1)
