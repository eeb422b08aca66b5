"""Positions that are stored with the data, on a real PostgreSQL, fed by a pump."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

import asyncpg
import pytest

from services.common.errors import Unavailable
from services.common.ids import ulid
from services.common.kafka import (
    Batch,
    Claim,
    GapDetected,
    KafkaProducer,
    LogMessage,
    Pump,
    StaleEpoch,
)
from services.common.postgres import EventStore, PostgresCursors, migrate, open_pool
from tests.fixtures.engines import MakeTopic, PostgresServer
from tests.fixtures.waiting import eventually_async, running


@pytest.fixture
async def pool(postgres_dsn: PostgresServer) -> AsyncIterator[asyncpg.Pool]:
    opened = await open_pool(postgres_dsn("cursors"))
    await migrate(opened, "services.common.postgres")
    await opened.execute("CREATE TABLE applied (place bigint, value text)")
    yield opened
    await opened.close()


def batch(first: int, last: int, *, epoch: int, topic: str = "t", step: int = 1) -> Batch:
    offsets = range(first, last + 1, step)
    messages = tuple(LogMessage(topic, 0, n, 0, b"k", b"%d" % n) for n in offsets)
    return Batch(topic, 0, epoch, messages)


class CountingTarget:
    """Writes each message to a table, in the transaction that moves the cursor."""

    def __init__(self, pool: asyncpg.Pool, topic: str = "t") -> None:
        self._store = EventStore(pool)
        self.cursors = PostgresCursors(pool)
        self.topic = topic
        self.broken_after_commit = 0

    async def claim(self, topic: str, partitions: Sequence[int]) -> Mapping[int, Claim]:
        return await self.cursors.claim(topic, partitions)

    async def apply(self, batch: Batch) -> None:
        async with self._store.transaction() as transaction:
            for message in await self.cursors.advance(transaction.connection, batch):
                await transaction.connection.execute(
                    "INSERT INTO applied VALUES ($1, $2)",
                    message.partition * 1_000_000 + message.offset,
                    (message.value or b"").decode(),
                )
        if self.broken_after_commit:
            self.broken_after_commit -= 1
            raise Unavailable("the answer to the commit was lost")


async def places(pool: asyncpg.Pool) -> list[int]:
    return [row["place"] for row in await pool.fetch("SELECT place FROM applied ORDER BY place")]


async def test_a_new_partition_begins_at_zero_and_each_claim_has_a_new_epoch(
    pool: asyncpg.Pool,
) -> None:
    cursors = PostgresCursors(pool)
    assert await cursors.claim("t", [0, 1]) == {0: Claim(0, 1), 1: Claim(0, 1)}
    assert await cursors.claim("t", [1]) == {1: Claim(0, 2)}
    assert await cursors.claim("t", []) == {}


async def test_a_batch_is_applied_once_however_often_it_comes(pool: asyncpg.Pool) -> None:
    target = CountingTarget(pool)
    await target.claim("t", [0])
    for given in (batch(0, 2, epoch=1), batch(0, 2, epoch=1), batch(1, 4, epoch=1)):
        await target.apply(given)
    assert await places(pool) == [0, 1, 2, 3, 4]
    assert await target.cursors.positions("t") == {0: 5}


async def test_a_gap_before_or_within_a_batch_is_detected_and_changes_nothing(
    pool: asyncpg.Pool,
) -> None:
    target = CountingTarget(pool)
    await target.claim("t", [0])
    await target.apply(batch(0, 1, epoch=1))
    with pytest.raises(GapDetected) as caught:
        await target.apply(batch(3, 5, epoch=1))
    assert (caught.value.expected, caught.value.found) == (2, 3)
    with pytest.raises(GapDetected):
        await target.apply(batch(2, 6, epoch=1, step=2))
    assert await places(pool) == [0, 1]
    assert await target.cursors.positions("t") == {0: 2}


async def test_gaps_of_a_compacted_topic_mean_nothing(pool: asyncpg.Pool) -> None:
    topic = "mesh.keys.v1"
    target = CountingTarget(pool, topic)
    await target.claim(topic, [0])
    await target.apply(batch(4, 10, epoch=1, topic=topic, step=3))
    assert await places(pool) == [4, 7, 10]
    assert await target.cursors.positions(topic) == {0: 11}


async def test_the_owner_before_is_refused(pool: asyncpg.Pool) -> None:
    target = CountingTarget(pool)
    await target.claim("t", [0])
    await target.claim("t", [0])
    with pytest.raises(StaleEpoch):
        await target.apply(batch(0, 1, epoch=1))
    await target.apply(batch(0, 1, epoch=2))
    with pytest.raises(StaleEpoch):
        await target.apply(Batch("t", 9, 1, batch(0, 0, epoch=1).messages))


async def test_two_owners_at_once_apply_each_message_once(pool: asyncpg.Pool) -> None:
    target = CountingTarget(pool)
    await target.claim("t", [0])
    given = [batch(0, 3, epoch=1) for _ in range(8)]
    await asyncio.gather(*(target.apply(one) for one in given))
    assert await places(pool) == [0, 1, 2, 3]


async def test_an_operator_can_move_a_cursor(pool: asyncpg.Pool) -> None:
    cursors = PostgresCursors(pool)
    await cursors.move("t", 0, 40)
    assert await cursors.claim("t", [0]) == {0: Claim(40, 2)}


async def test_a_pump_applies_every_message_once_through_lost_answers_and_connections(
    pool: asyncpg.Pool, kafka_bootstrap: str, make_topic: MakeTopic
) -> None:
    topic, producer = make_topic(partitions=2), KafkaProducer(kafka_bootstrap)
    await producer.start()
    target = CountingTarget(pool, topic.name)
    target.broken_after_commit = 3
    pump = Pump(bootstrap=kafka_bootstrap, topic=topic, group=ulid(), target=target, batch_max=10)

    async def applied(count: int) -> bool:
        return len(await places(pool)) >= count

    async with running(pump.run):
        for number in range(60):
            await producer.send(topic.name, b"%d" % number, b"first")
        await eventually_async(lambda: applied(60))
        await pool.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        for number in range(60):
            await producer.send(topic.name, b"%d" % number, b"second")
        await eventually_async(lambda: applied(120))
    await producer.stop()
    found = await places(pool)
    assert len(found) == len(set(found)) == 120
    assert sum((await target.cursors.positions(topic.name)).values()) == 120
