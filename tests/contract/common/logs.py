"""The log as the contract suites see it: a harness for Apache Kafka, one for its twin."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Literal, Protocol

from services.common.kafka import (
    Batch,
    Claim,
    GapDetected,
    KafkaArchive,
    KafkaGroups,
    KafkaProducer,
    LogArchive,
    LogGroups,
    LogMessage,
    LogProducer,
    Pump,
    PumpTarget,
    StaleEpoch,
    TableReader,
)
from services.common.kafka.memory import (
    MemoryArchive,
    MemoryGroups,
    MemoryLog,
    MemoryProducer,
    MemorySource,
    MemoryTableReader,
)
from services.common.topics import Topic
from tests.fixtures.engines import MakeTopic, new_topic

Cleanup = Literal["delete", "compact"]
OnMessage = Callable[[str, bytes | None], None]


class Harness(Protocol):
    """Makes what the suites need against one kind of log."""

    producer: LogProducer

    def topic(self, partitions: int = 1, cleanup: Cleanup = "delete") -> Topic: ...

    def pump(self, topic: Topic, target: PumpTarget, group: str) -> Pump: ...

    def reader(self, topic: Topic, on_message: OnMessage) -> TableReader | MemoryTableReader: ...

    def archive(self) -> LogArchive: ...

    def groups(self) -> LogGroups: ...


class KafkaHarness:
    """The suites against a real broker."""

    def __init__(self, bootstrap: str, make_topic: MakeTopic) -> None:
        self._bootstrap = bootstrap
        self._make_topic = make_topic
        self.producer: LogProducer = KafkaProducer(bootstrap)

    def topic(self, partitions: int = 1, cleanup: Cleanup = "delete") -> Topic:
        return self._make_topic(partitions, cleanup)

    def pump(self, topic: Topic, target: PumpTarget, group: str) -> Pump:
        return Pump(bootstrap=self._bootstrap, topic=topic, group=group, target=target)

    def reader(self, topic: Topic, on_message: OnMessage) -> TableReader:
        return TableReader(bootstrap=self._bootstrap, topic=topic, on_message=on_message)

    def archive(self) -> LogArchive:
        return KafkaArchive(self._bootstrap)

    def groups(self) -> LogGroups:
        return KafkaGroups(self._bootstrap)


class MemoryHarness:
    """The suites against the twin."""

    def __init__(self) -> None:
        self.log = MemoryLog(())
        self.producer: LogProducer = MemoryProducer(self.log)

    def topic(self, partitions: int = 1, cleanup: Cleanup = "delete") -> Topic:
        topic = new_topic(partitions, cleanup)
        self.log.create(topic.name, topic.partitions)
        return topic

    def pump(self, topic: Topic, target: PumpTarget, group: str) -> Pump:
        source = MemorySource(self.log, topic=topic, group=group)
        return Pump(topic=topic, group=group, target=target, source=source)

    def reader(self, topic: Topic, on_message: OnMessage) -> MemoryTableReader:
        return MemoryTableReader(self.log, topic=topic, on_message=on_message)

    def archive(self) -> LogArchive:
        return MemoryArchive(self.log)

    def groups(self) -> LogGroups:
        return MemoryGroups(self.log)


class MemoryTarget:
    """A target that keeps what was applied, with the same rules as a cursor in a database.

    `failures` are raised, first to last, by the next calls of `apply`.
    """

    def __init__(self) -> None:
        self.applied: list[LogMessage] = []
        self.cursors: dict[int, Claim] = {}
        self.failures: list[Exception] = []
        self.batches: list[Batch] = []

    async def claim(self, topic: str, partitions: Sequence[int]) -> Mapping[int, Claim]:
        del topic
        for partition in partitions:
            before = self.cursors.get(partition, Claim(0, 0))
            self.cursors[partition] = Claim(before.next_offset, before.epoch + 1)
        return {partition: self.cursors[partition] for partition in partitions}

    async def apply(self, batch: Batch) -> None:
        if self.failures:
            raise self.failures.pop(0)
        cursor = self.cursors[batch.partition]
        if cursor.epoch != batch.epoch:
            raise StaleEpoch(batch.topic, batch.partition, batch.epoch)
        if batch.first_offset > cursor.next_offset:
            raise GapDetected(
                batch.topic, batch.partition, cursor.next_offset, found=batch.first_offset
            )
        self.batches.append(batch)
        self.applied += [m for m in batch.messages if m.offset >= cursor.next_offset]
        self.cursors[batch.partition] = Claim(batch.last_offset + 1, batch.epoch)

    @property
    def values(self) -> list[bytes | None]:
        return [message.value for message in self.applied]


async def started(harness: Harness) -> AsyncIterator[Harness]:
    """The harness with its producer connected."""
    await harness.producer.start()
    yield harness
    await harness.producer.stop()
