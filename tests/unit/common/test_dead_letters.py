"""Messages that are put aside, and the limit of it."""

from __future__ import annotations

import pytest

from services.common.clock import FakeClock
from services.common.errors import Unavailable
from services.common.events import EventRecord
from services.common.kafka import DeadLetters, LogMessage, TooManyDeadLetters
from services.common.kafka.memory import MemoryLog, MemoryProducer
from services.common.pb.mesh.events.v1 import dead_letter_pb2
from services.common.topics import BILLING_DEAD, USAGE


def message(offset: int) -> LogMessage:
    return LogMessage(USAGE.name, 2, offset, 0, b"acc_1", b"poison")


async def letters(log: MemoryLog, clock: FakeClock, limit: int = 3) -> DeadLetters:
    producer = MemoryProducer(log)
    await producer.start()
    return DeadLetters(
        producer, consumer="billing", topic=BILLING_DEAD, limit=limit, window_s=60, clock=clock
    )


async def test_a_dead_letter_holds_the_message_where_it_was_and_why() -> None:
    log, clock = MemoryLog(), FakeClock()
    await (await letters(log, clock)).put(message(7), "not an envelope")
    (found,) = log.messages(BILLING_DEAD.name)
    record = EventRecord.from_bytes(found.value)
    assert (record.type, record.occurred_at_ms) == ("billing.DeadLetter", clock.now_ms())
    assert found.key == b"acc_1"
    assert record.message() == dead_letter_pb2.DeadLetter(
        consumer="billing", topic=USAGE.name, partition=2, offset=7, key=b"acc_1", value=b"poison",
        reason="not an envelope",
    )  # fmt: skip


async def test_a_message_that_comes_again_is_put_aside_once() -> None:
    log = MemoryLog()
    dead = await letters(log, FakeClock())
    for _ in range(10):
        await dead.put(message(7), "bad")
    assert len(log.messages(BILLING_DEAD.name)) == 1


async def test_more_than_the_limit_within_the_window_stops_the_consumer() -> None:
    log, clock = MemoryLog(), FakeClock()
    dead = await letters(log, clock)
    for offset in range(3):
        await dead.put(message(offset), "bad")
        await clock.advance(10)
    with pytest.raises(TooManyDeadLetters):
        await dead.put(message(3), "bad")
    assert len(log.messages(BILLING_DEAD.name)) == 3
    await clock.advance(31)
    await dead.put(message(3), "bad")
    with pytest.raises(TooManyDeadLetters):
        await dead.put(message(4), "bad")


async def test_what_could_not_be_written_counts_for_nothing() -> None:
    log = MemoryLog()
    dead = await letters(log, FakeClock(), limit=1)
    log.available = False
    with pytest.raises(Unavailable):
        await dead.put(message(1), "bad")
    log.available = True
    await dead.put(message(1), "bad")
    assert len(log.messages(BILLING_DEAD.name)) == 1
