"""What the broker knows of consumer groups, asked when people want to know: never on the way of a
request, and each time within a bound.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupLoadInProgressError, KafkaError

from services.common.errors import Unavailable
from services.common.kafka.ports import Group, Place

TIMEOUT_S = 4.0
_LOADING_S = 0.1
_CLOSE_TIMEOUT_S = 1.0
# On a broker that others use as well there may be very many.
GROUPS_MAX = 500


T = TypeVar("T")


class KafkaGroups:
    """A `LogGroups` at Apache Kafka; each call connects anew."""

    def __init__(self, bootstrap: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._bootstrap = bootstrap
        self._timeout_s = timeout_s

    async def groups(self, topics: Sequence[str]) -> list[Group]:
        """See `LogGroups.groups`."""
        admin = AIOKafkaAdminClient(
            bootstrap_servers=self._bootstrap,
            client_id="mesh-groups",
            request_timeout_ms=round(self._timeout_s * 1000),
        )
        return await self._within(_groups(admin, topics), admin.close)

    async def bounds(self, topics: Sequence[str]) -> Mapping[Place, tuple[int, int]]:
        """See `LogGroups.bounds`."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            client_id="mesh-groups",
            enable_auto_commit=False,
            request_timeout_ms=round(self._timeout_s * 1000),
        )
        return await self._within(_bounds(consumer, topics), consumer.stop)

    async def _within(self, work: Awaitable[T], close: Callable[[], Awaitable[None]]) -> T:
        """Gives the work its time and closes; Unavailable where the broker is away."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await work
        except (TimeoutError, KafkaError, OSError) as error:
            raise Unavailable(f"Kafka does not answer: {type(error).__name__}") from error
        finally:
            with contextlib.suppress(TimeoutError, KafkaError, OSError):
                async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                    await close()


async def _groups(admin: Any, topics: Sequence[str]) -> list[Group]:  # Any: aiokafka is untyped
    await admin.start()
    while True:
        try:
            return await _listed(admin, topics)
        except GroupLoadInProgressError:
            # The broker has just started; whoever asks bounds how long that may take.
            await asyncio.sleep(_LOADING_S)


async def _listed(admin: Any, topics: Sequence[str]) -> list[Group]:  # Any: as above
    names = sorted({name for name, *_ in await admin.list_consumer_groups()})
    known = await _committed(admin, names[:GROUPS_MAX], set(topics))
    found = {name: committed for name, committed in known if committed}
    members = await _members(admin, list(found))
    return [Group(name, members.get(name, 0), found[name]) for name in sorted(found)]


async def _bounds(
    consumer: Any,  # Any: aiokafka is untyped
    topics: Sequence[str],
) -> dict[Place, tuple[int, int]]:
    await consumer.start()
    # The consumer itself tells the partitions of a topic only after subscribing to it.
    cluster = await consumer._client.fetch_all_metadata()
    places = [
        TopicPartition(topic, partition)
        for topic in topics
        for partition in sorted(cluster.partitions_for_topic(topic) or ())
    ]
    if not places:
        return {}
    starts = await consumer.beginning_offsets(places)
    ends = await consumer.end_offsets(places)
    return {(at.topic, at.partition): (starts[at], ends[at]) for at in places}


async def _committed(
    admin: Any,  # Any: aiokafka has no type information
    names: Iterable[str],
    topics: set[str],
) -> list[tuple[str, dict[Place, int]]]:
    async def of_one(name: str) -> tuple[str, dict[Place, int]]:
        found = await admin.list_consumer_group_offsets(name)
        return name, {
            (at.topic, at.partition): known.offset
            for at, known in found.items()
            if at.topic in topics and known.offset >= 0
        }

    return list(await asyncio.gather(*map(of_one, names)))


async def _members(admin: Any, names: Sequence[str]) -> dict[str, int]:  # Any: as above
    # One by one: aiokafka reads an answer about several as an older version of it.
    asked = await asyncio.gather(*(admin.describe_consumer_groups([name]) for name in names))
    answers = [answer for found in asked for answer in found]
    # Of each group: error, name, state, kind, strategy, members.
    return {group[1]: len(group[5]) for answer in answers for group in answer.groups}
