"""The newest messages of a topic, read once and by no consumer group: for people, not for pumps."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from services.common.errors import Unavailable
from services.common.kafka.ports import LogMessage
from services.common.kafka.source import FETCH_WAIT_MS, message_from_record

_POLL_MS = 500
_READ_TIMEOUT_S = 8.0


class KafkaArchive:
    """A `LogArchive` at Apache Kafka; each call connects anew, as people ask seldom."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap

    async def newest(self, topic: str, limit: int) -> list[LogMessage]:
        """See `LogArchive.newest`."""
        return await self._read(topic, limit=limit, before=None)

    async def at(self, topic: str, offset: int) -> LogMessage | None:
        """See `LogArchive.at`."""
        found = await self._read(topic, limit=1, before=offset + 1)
        return next((message for message in found if message.offset == offset), None)

    async def _read(self, topic: str, *, limit: int, before: int | None) -> list[LogMessage]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            client_id="mesh-archive",
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=FETCH_WAIT_MS,
        )
        try:
            async with asyncio.timeout(_READ_TIMEOUT_S):
                await consumer.start()
                return await _newest(consumer, topic, limit=limit, before=before)
        except (TimeoutError, KafkaError, OSError) as error:
            raise Unavailable(f"Kafka cannot be read: {type(error).__name__}") from error
        finally:
            with contextlib.suppress(KafkaError, OSError):
                await consumer.stop()


async def _newest(
    consumer: Any,  # Any: aiokafka has no type information
    topic: str,
    *,
    limit: int,
    before: int | None,
) -> list[LogMessage]:
    place = TopicPartition(topic, 0)
    consumer.assign([place])
    start = (await consumer.beginning_offsets([place]))[place]
    end = (await consumer.end_offsets([place]))[place]
    end = end if before is None else min(end, before)
    first = max(start, end - limit)
    if first >= end:
        return []
    consumer.seek(place, first)
    found: list[LogMessage] = []
    while await consumer.position(place) < end:
        records = await consumer.getmany(place, timeout_ms=_POLL_MS)
        found += [message_from_record(record) for record in records.get(place, ())]
    return [message for message in reversed(found) if message.offset < end]
