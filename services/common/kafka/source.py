"""The source of a pump for Apache Kafka: one member of a consumer group that reads one topic."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError, OffsetOutOfRangeError

from services.common.errors import Unavailable
from services.common.kafka.ports import AssignmentListener, LogMessage, OffsetOutOfRange

REQUEST_TIMEOUT_S = 10.0
# A fetch that is under way leaves out the partitions that were busy when it was sent: they wait
# this long for the next one, so that it bounds the latency of a message.
FETCH_WAIT_MS = 100
# A member hears of a rebalance by its heartbeat.
HEARTBEAT_MS = 1000


class KafkaSource:
    """A `LogSource`; positions are set by `seek` alone, the offsets that the group stored are
    never read.
    """

    def __init__(
        self, *, bootstrap: str, topic: str, group: str, session_timeout_s: float = 10.0
    ) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._group = group
        self._session_timeout_s = session_timeout_s
        # Any: aiokafka has no type information.
        self._consumer: Any = None

    async def start(self, listener: AssignmentListener) -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            client_id=self._group,
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=FETCH_WAIT_MS,
            session_timeout_ms=round(self._session_timeout_s * 1000),
            heartbeat_interval_ms=HEARTBEAT_MS,
            rebalance_timeout_ms=30_000,
            # Progress is bounded by our own retries; a slow database must not cost us the
            # partitions.
            max_poll_interval_ms=24 * 3600 * 1000,
        )
        consumer.subscribe([self._topic], listener=_Rebalance(consumer, listener))
        try:
            await consumer.start()
        except (KafkaError, OSError) as error:
            await consumer.stop()
            raise Unavailable(f"Kafka cannot be reached: {type(error).__name__}") from error
        except BaseException:
            await consumer.stop()
            raise
        self._consumer = consumer

    async def stop(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with contextlib.suppress(TimeoutError, KafkaError, OSError):
                async with asyncio.timeout(REQUEST_TIMEOUT_S):
                    await consumer.stop()

    async def bounds(self, partition: int) -> tuple[int, int]:
        at = self._at(partition)
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                start = await self._running.beginning_offsets([at])
                end = await self._running.end_offsets([at])
        except (TimeoutError, KafkaError, OSError) as error:
            raise Unavailable(f"Kafka gives no offsets: {type(error).__name__}") from error
        return start[at], end[at]

    async def seek(self, partition: int, offset: int) -> None:
        at = self._at(partition)
        try:
            self._running.seek(at, offset)
            self._running.resume(at)
        except IllegalStateError as error:
            raise Unavailable(f"{self._topic}/{partition} is no longer assigned") from error

    async def fetch(
        self, partition: int, *, messages_max: int, timeout_s: float
    ) -> list[LogMessage]:
        at = self._at(partition)
        try:
            found = await self._running.getmany(
                at, timeout_ms=round(timeout_s * 1000), max_records=messages_max
            )
        except OffsetOutOfRangeError as error:
            start, end = await self.bounds(partition)
            stored = next(iter(error.args[0].values()))
            raise OffsetOutOfRange(
                self._topic, partition, stored=stored, start=start, end=end
            ) from error
        except (KafkaError, IllegalStateError, OSError) as error:
            raise Unavailable(f"Kafka gives no messages: {type(error).__name__}") from error
        return [message_from_record(record) for record in found.get(at, ())]

    def end(self, partition: int) -> int | None:
        if self._consumer is None:
            return None
        try:
            end: int | None = self._consumer.highwater(self._at(partition))
        except IllegalStateError:
            return None
        return end

    async def commit(self, next_offsets: Mapping[int, int]) -> None:
        # Only a hint: nothing is lost where it does not arrive.
        with contextlib.suppress(TimeoutError, KafkaError, IllegalStateError, OSError):
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                await self._running.commit(
                    {self._at(partition): offset for partition, offset in next_offsets.items()}
                )

    def _at(self, partition: int) -> TopicPartition:
        return TopicPartition(self._topic, partition)

    @property
    def _running(self) -> Any:  # Any: aiokafka has no type information.
        if self._consumer is None:
            raise Unavailable("the Kafka consumer is not started")
        return self._consumer


class _Rebalance(ConsumerRebalanceListener):  # type: ignore[misc]  # untyped
    """Pauses what is newly ours until its owner seeks, and passes the news on."""

    def __init__(self, consumer: Any, listener: AssignmentListener) -> None:  # Any: as above
        self._consumer = consumer
        self._listener = listener

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._listener.revoked(frozenset(at.partition for at in revoked))

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        partitions = list(assigned)
        for at in partitions:
            # With a position of its own the consumer need not ask for the group's stored offset.
            self._consumer.seek(at, 0)
        if partitions:
            self._consumer.pause(*partitions)
        await self._listener.assigned(frozenset(at.partition for at in partitions))


def message_from_record(record: Any) -> LogMessage:  # Any: aiokafka has no type information.
    """Ours for a record of aiokafka."""
    return LogMessage(
        record.topic, record.partition, record.offset, record.timestamp, record.key, record.value
    )
