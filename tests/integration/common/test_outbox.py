"""The outbox relay between a real PostgreSQL and a real Kafka."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest

from services.common.errors import Unavailable
from services.common.kafka import KafkaProducer, Position
from services.common.kafka.memory import MemoryLog, MemoryProducer
from services.common.kafka.ports import Headers
from services.common.postgres import EventStore, OutboxRelay, migrate, open_pool
from services.common.topics import Topic
from tests.fixtures.engines import MakeTopic, PostgresServer, new_topic
from tests.fixtures.kafka_reading import read_all
from tests.fixtures.waiting import eventually, running

FLOOR = "services.common.postgres"


@pytest.fixture
async def pool(postgres_dsn: PostgresServer) -> AsyncIterator[asyncpg.Pool]:
    opened = await open_pool(postgres_dsn("outbox"))
    await migrate(opened, FLOOR)
    yield opened
    await opened.close()


async def publish(pool: asyncpg.Pool, topic: Topic, *values: bytes | None) -> None:
    async with EventStore(pool).transaction() as transaction:
        await transaction.publish_many([(topic, "key", value) for value in values])


class FlakyProducer(MemoryProducer):
    """A producer whose acknowledgements fail for values in `refused`, once each."""

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(log)
        self.refused: set[bytes] = set()

    async def enqueue(
        self, topic: str, key: bytes, value: bytes | None, headers: Headers = ()
    ) -> asyncio.Future[Position]:
        if value in self.refused:
            self.refused.discard(value)
            future: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
            future.set_exception(Unavailable("the log went away"))
            return future
        return await super().enqueue(topic, key, value, headers=headers)


class SlowProducer(MemoryProducer):
    """A producer that acknowledges only when told to."""

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(log)
        self.waiting: list[asyncio.Future[Position]] = []

    async def enqueue(
        self, topic: str, key: bytes, value: bytes | None, headers: Headers = ()
    ) -> asyncio.Future[Position]:
        self.waiting.append(asyncio.get_running_loop().create_future())
        return self.waiting[-1]

    def acknowledge(self) -> None:
        for offset, future in enumerate(self.waiting):
            future.set_result(Position("t", 0, offset))


async def test_what_was_committed_reaches_kafka_in_order_and_leaves_the_outbox(
    pool: asyncpg.Pool, kafka_bootstrap: str, make_topic: MakeTopic
) -> None:
    topic, producer = make_topic(), KafkaProducer(kafka_bootstrap)
    await producer.start()
    relay = OutboxRelay(pool, producer, batch_max=7)
    await publish(pool, topic, *(b"%d" % n for n in range(10)))
    async with running(relay.run):
        for number in range(10, 20):
            await publish(pool, topic, b"%d" % number)
        await publish(pool, topic, None)
        await asyncio.wait_for(relay.drain(), 30)
    await producer.stop()
    messages = await read_all(kafka_bootstrap, topic)
    assert [m.value for m in messages] == [*(b"%d" % n for n in range(20)), None]
    assert {m.key for m in messages} == {b"key"}


async def test_a_commit_wakes_the_relay_at_once(pool: asyncpg.Pool) -> None:
    log, topic = MemoryLog(()), new_topic()
    log.create(topic.name, 1)
    producer = MemoryProducer(log)
    await producer.start()
    relay = OutboxRelay(pool, producer, poll_s=60)
    async with running(relay.run):
        await asyncio.wait_for(relay.active.wait(), 10)
        taken_s = []
        for number in range(1, 21):
            await publish(pool, topic, b"x")
            started_s = time.perf_counter()
            await eventually(lambda at=number: len(log.messages(topic.name)) == at)  # type: ignore[misc]  # bound now
            taken_s.append(time.perf_counter() - started_s)
    # The poll alone would take a minute: what is measured is the wake-up.
    assert sorted(taken_s)[10] < 0.1


async def test_a_failed_acknowledgement_costs_a_repetition_and_nothing_else(
    pool: asyncpg.Pool,
) -> None:
    log, topic = MemoryLog(()), new_topic()
    log.create(topic.name, 1)
    producer = FlakyProducer(log)
    await producer.start()
    producer.refused = {b"2", b"4"}
    await publish(pool, topic, *(b"%d" % n for n in range(6)))
    relay = OutboxRelay(pool, producer)
    async with running(relay.run):
        await asyncio.wait_for(relay.drain(), 30)
    values = [m.value for m in log.messages(topic.name)]
    # At least once; the last repetition of all is in order.
    assert set(values) == {b"%d" % n for n in range(6)}
    assert values[-2:] == [b"4", b"5"]
    firsts = [values.index(b"%d" % n) for n in (0, 1)]
    assert firsts == [0, 1]


async def test_only_one_of_two_relays_is_active_and_the_other_takes_over(
    pool: asyncpg.Pool, postgres_dsn: PostgresServer
) -> None:
    log, topic = MemoryLog(()), new_topic()
    log.create(topic.name, 1)
    producer = MemoryProducer(log)
    await producer.start()
    one = OutboxRelay(pool, producer, standby_poll_s=0.01)
    two = OutboxRelay(pool, producer, standby_poll_s=0.01)
    async with running(two.run):
        async with running(one.run):
            await eventually(lambda: one.active.is_set() or two.active.is_set())
            for _ in range(5):
                await publish(pool, topic, b"x")
            await asyncio.wait_for(one.drain(), 10)
            assert one.active.is_set() != two.active.is_set()
        await eventually(two.active.is_set)
        await publish(pool, topic, b"y")
        await asyncio.wait_for(two.drain(), 10)
    assert [m.value for m in log.messages(topic.name)] == [b"x"] * 5 + [b"y"]


async def test_a_lost_database_connection_heals(pool: asyncpg.Pool) -> None:
    log, topic = MemoryLog(()), new_topic()
    log.create(topic.name, 1)
    producer = MemoryProducer(log)
    await producer.start()
    relay = OutboxRelay(pool, producer, standby_poll_s=0.01)
    async with running(relay.run):
        await asyncio.wait_for(relay.active.wait(), 10)
        await pool.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks"
            " WHERE locktype = 'advisory' AND pid <> pg_backend_pid() AND database ="
            " (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        await eventually(lambda: not relay.active.is_set())
        await publish(pool, topic, b"after")
        await asyncio.wait_for(relay.drain(), 10)
    assert [m.value for m in log.messages(topic.name)] == [b"after"]


async def test_a_log_that_is_away_keeps_messages_in_the_outbox(pool: asyncpg.Pool) -> None:
    log, topic = MemoryLog(()), new_topic()
    log.create(topic.name, 1)
    producer = MemoryProducer(log)
    await producer.start()
    log.available = False
    relay = OutboxRelay(pool, producer)
    async with running(relay.run):
        await publish(pool, topic, b"1", b"2")
        await eventually(lambda: not relay.active.is_set())
        assert await pool.fetchval("SELECT count(*) FROM outbox") == 2
        log.available = True
        await asyncio.wait_for(relay.drain(), 30)
    assert [m.value for m in log.messages(topic.name)] == [b"1", b"2"]


async def test_a_stop_waits_for_what_is_on_its_way(pool: asyncpg.Pool) -> None:
    log, topic = MemoryLog(()), new_topic()
    log.create(topic.name, 1)
    producer = SlowProducer(log)
    await producer.start()
    await publish(pool, topic, b"1", b"2")
    relay = asyncio.create_task(OutboxRelay(pool, producer).run())
    await eventually(lambda: len(producer.waiting) == 2)
    relay.cancel()
    await asyncio.sleep(0)
    producer.acknowledge()
    with pytest.raises(asyncio.CancelledError):
        await relay
    assert await pool.fetchval("SELECT count(*) FROM outbox") == 0
