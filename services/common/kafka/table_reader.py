"""The reader of compacted topics: the newest message of each key, from the start to the end and
then on for ever.

It belongs to no consumer group: every process reads every partition. It says when it has read to
the end, and when it last knew that it had, so that its user can tell fresh from stale where the log
is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError, OffsetOutOfRangeError

from services.common.errors import Unavailable
from services.common.events import UndecodableEvent
from services.common.kafka.source import FETCH_WAIT_MS
from services.common.retry import Backoff
from services.common.telemetry import get_logger, metrics
from services.common.topics import Topic

_POLL_MS = 200
_CHECK_EVERY_S = 1.0
_CHECK_TIMEOUT_S = 5.0

_log = get_logger(__name__)

OnMessage = Callable[[str, bytes | None], None]


class TableReader:
    """Runs until cancelled. A message whose decoding raises UndecodableEvent is counted, logged and
    skipped.

    Delivery is at least once and starts over from the beginning where the log was replaced, so that
    `on_message` must take a message that it has seen before; (key, None) says that the key is gone.
    """

    def __init__(self, *, bootstrap: str, topic: Topic | str, on_message: OnMessage) -> None:
        self._bootstrap = bootstrap
        self._topic = topic.name if isinstance(topic, Topic) else topic
        self._on_message = on_message
        self.ready = asyncio.Event()
        self.caught_up_at: float = float("-inf")

    async def run(self) -> None:
        """Reads until cancelled; a log that is away costs freshness, never the process."""
        backoff = Backoff(first_s=0.1, max_s=5.0)
        while True:
            try:
                await self._read(backoff)
            except (Unavailable, KafkaError, IllegalStateError, OSError) as error:
                pause_s = backoff.next_s()
                _log.warning(
                    "table reader starts over", topic=self._topic, error=str(error),
                    pause_s=round(pause_s, 3),
                )  # fmt: skip
                await asyncio.sleep(pause_s)

    async def _read(self, backoff: Backoff) -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            client_id="mesh-table",
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=FETCH_WAIT_MS,
        )
        try:
            await consumer.start()
            places = await self._places(consumer)
            consumer.assign(places)
            await consumer.seek_to_beginning(*places)
            await self._follow(consumer, places, backoff)
        finally:
            with contextlib.suppress(KafkaError, OSError):
                await consumer.stop()

    async def _places(self, consumer: Any) -> list[TopicPartition]:  # Any: aiokafka is untyped
        # The consumer itself tells the partitions of a topic only after subscribing to it.
        cluster = await consumer._client.fetch_all_metadata()
        partitions = cluster.partitions_for_topic(self._topic)
        if not partitions:
            raise Unavailable(f"there is no topic {self._topic} yet")
        return [TopicPartition(self._topic, partition) for partition in sorted(partitions)]

    async def _follow(
        self,
        consumer: Any,  # Any: aiokafka is untyped
        places: list[TopicPartition],
        backoff: Backoff,
    ) -> None:
        checked_s = float("-inf")
        while True:
            for records in (await consumer.getmany(timeout_ms=_POLL_MS)).values():
                for record in records:
                    self._take(record)
            now_s = time.monotonic()
            if now_s - checked_s < _CHECK_EVERY_S and self.ready.is_set():
                continue
            checked_s = now_s
            if await self._caught_up(consumer, places):
                # The moment before the question: what was written since is not known.
                self.caught_up_at = now_s
                self.ready.set()
                backoff.reset()

    async def _caught_up(
        self, consumer: Any, places: list[TopicPartition]
    ) -> bool:  # Any: as above
        try:
            async with asyncio.timeout(_CHECK_TIMEOUT_S):
                ends = await consumer.end_offsets(places)
        except (TimeoutError, KafkaError):
            return False
        read = True
        for place in places:
            position = await consumer.position(place)
            if position > ends[place]:
                raise OffsetOutOfRangeError({place: position})
            read = read and position >= ends[place]
        return read

    def _take(self, record: Any) -> None:  # Any: aiokafka is untyped
        if record.key is None:
            return
        try:
            self._on_message(record.key.decode(), record.value)
            metrics.TABLE_MESSAGES.labels(self._topic).inc()
        except (UndecodableEvent, UnicodeDecodeError) as error:
            metrics.TABLE_SKIPPED.labels(self._topic).inc()
            _log.error(
                "undecodable message in a table", topic=self._topic, partition=record.partition,
                offset=record.offset, error=str(error),
            )  # fmt: skip
