"""The in-memory log: the twin of Kafka for tests and the simulator, with the same promises.

Partitions are chosen by key, offsets are contiguous, groups rebalance eagerly, compacted topics can
be compacted and old messages removed. Faults are switched on by attributes: `MemoryLog.available`.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import zlib
from collections.abc import Mapping, Sequence

from services.common.clock import Clock, SystemClock
from services.common.errors import Unavailable
from services.common.events import UndecodableEvent
from services.common.kafka.ports import (
    AssignmentListener,
    Group,
    Headers,
    LogMessage,
    OffsetOutOfRange,
    Place,
    Position,
)
from services.common.kafka.table_reader import OnMessage
from services.common.topics import TOPICS, Topic


class MemoryPartition:
    """The messages of one partition, ascending by offset; `end` never goes back."""

    def __init__(self) -> None:
        self.messages: list[LogMessage] = []
        self.start = 0
        self.end = 0

    def read(self, offset: int, messages_max: int) -> list[LogMessage]:
        """Up to so many messages from `offset` on."""
        first = bisect.bisect_left(self.messages, offset, key=lambda message: message.offset)
        return self.messages[first : first + messages_max]


class MemoryLog:
    """Topics by name: those of the table from the start, more by `create`."""

    def __init__(self, topics: Sequence[Topic] = TOPICS, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._topics: dict[str, list[MemoryPartition]] = {}
        self._groups: dict[tuple[str, str], list[MemorySource]] = {}
        # What each group committed, by topic and partition; it stays when its members leave.
        self.committed: dict[str, dict[Place, int]] = {}
        self._changed = asyncio.Event()
        self._available = True
        for topic in topics:
            self.create(topic.name, topic.partitions)

    @property
    def available(self) -> bool:
        """False where every call is to fail as if no broker could be reached."""
        return self._available

    @available.setter
    def available(self, value: bool) -> None:
        self._available = value
        self._wake()

    def create(self, topic: str, partitions: int) -> None:
        """Makes a topic where there is none."""
        self._topics.setdefault(topic, [MemoryPartition() for _ in range(partitions)])

    def partitions(self, topic: str) -> list[MemoryPartition]:
        """The partitions of a topic. Raises Unavailable where it or the log is not there."""
        if not self._available:
            raise Unavailable("the log is not available")
        if topic not in self._topics:
            raise Unavailable(f"there is no topic {topic}")
        return self._topics[topic]

    def append(self, topic: str, key: bytes, value: bytes | None) -> Position:
        """Writes one message to the partition of its key."""
        partitions = self.partitions(topic)
        number = zlib.crc32(key) % len(partitions)
        partition = partitions[number]
        position = Position(topic, number, partition.end)
        partition.messages.append(
            LogMessage(topic, number, partition.end, self._clock.now_ms(), key, value)
        )
        partition.end += 1
        self._wake()
        return position

    def messages(self, topic: str) -> list[LogMessage]:
        """Everything a topic holds, partition by partition."""
        return [message for part in self.partitions(topic) for message in part.messages]

    def compact(self, topic: str) -> None:
        """Keeps only the newest message of each key; offsets stay."""
        for partition in self.partitions(topic):
            newest = {message.key: message.offset for message in partition.messages}
            partition.messages = [m for m in partition.messages if newest[m.key] == m.offset]

    def remove_before(self, topic: str, partition: int, offset: int) -> None:
        """Removes old messages, as retention does."""
        part = self.partitions(topic)[partition]
        part.messages = [message for message in part.messages if message.offset >= offset]
        part.start = max(part.start, min(offset, part.end))

    async def changed(self, timeout_s: float) -> None:
        """Waits until something is written or becomes available, or for this long."""
        event = self._changed
        try:
            async with asyncio.timeout(timeout_s):
                await event.wait()
        except TimeoutError:
            return

    def _wake(self) -> None:
        event, self._changed = self._changed, asyncio.Event()
        event.set()

    async def join(self, member: MemorySource) -> None:
        """Adds a member to its group and deals the partitions out anew."""
        members = self._groups.setdefault((member.topic, member.group), [])
        await self._revoke(members)
        members.append(member)
        await self._assign(members)

    async def leave(self, member: MemorySource) -> None:
        """Takes a member out of its group and deals the partitions out anew."""
        members = self._groups.setdefault((member.topic, member.group), [])
        if member in members:
            members.remove(member)
            await self._revoke(members)
            await self._assign(members)

    def topics(self) -> list[str]:
        """The names of all topics. Raises Unavailable."""
        if not self._available:
            raise Unavailable("the log is not available")
        return sorted(self._topics)

    def members_of(self, group: str) -> int:
        """How many are in a group."""
        return sum(len(found) for (_, name), found in self._groups.items() if name == group)

    async def expel(self, member: MemorySource) -> None:
        """Takes a member out that was taken for dead; it does not hear of it."""
        await self.leave(member)

    async def _revoke(self, members: Sequence[MemorySource]) -> None:
        for member in members:
            if member.listener is not None and member.assignment:
                taken, member.assignment = member.assignment, frozenset()
                await member.listener.revoked(taken)

    async def _assign(self, members: Sequence[MemorySource]) -> None:
        for number, member in enumerate(members):
            count = len(self._topics[member.topic])
            member.assignment = frozenset(range(number, count, len(members)))
            if member.listener is not None:
                await member.listener.assigned(member.assignment)


class MemoryProducer:
    """A `LogProducer` that writes to a `MemoryLog`."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._started = False

    @property
    def connected(self) -> bool:
        return self._started and self._log.available

    async def start(self) -> None:
        if not self._log.available:
            raise Unavailable("the log is not available")
        self._started = True

    async def stop(self) -> None:
        self._started = False

    async def send(
        self, topic: str, key: bytes, value: bytes | None, *, headers: Headers = ()
    ) -> Position:
        return await (await self.enqueue(topic, key, value, headers=headers))

    async def enqueue(
        self, topic: str, key: bytes, value: bytes | None, *, headers: Headers = ()
    ) -> asyncio.Future[Position]:
        del headers  # Nothing of ours reads them back from a log.
        if not self._started:
            raise Unavailable("the producer is not started")
        future: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        future.set_result(self._log.append(topic, key, value))
        return future


class MemorySource:
    """A `LogSource` that reads a `MemoryLog`."""

    def __init__(self, log: MemoryLog, *, topic: Topic | str, group: str) -> None:
        self._log = log
        self.topic = topic.name if isinstance(topic, Topic) else topic
        self.group = group
        self.listener: AssignmentListener | None = None
        self.assignment: frozenset[int] = frozenset()
        self.committed: dict[int, int] = {}
        self._positions: dict[int, int] = {}

    async def start(self, listener: AssignmentListener) -> None:
        self._log.partitions(self.topic)
        self.listener = listener
        await self._log.join(self)

    async def stop(self) -> None:
        self.listener = None
        await self._log.leave(self)

    async def bounds(self, partition: int) -> tuple[int, int]:
        part = self._log.partitions(self.topic)[partition]
        return part.start, part.end

    async def seek(self, partition: int, offset: int) -> None:
        self._positions[partition] = offset

    async def fetch(
        self, partition: int, *, messages_max: int, timeout_s: float
    ) -> list[LogMessage]:
        for last in (False, True):
            part = self._log.partitions(self.topic)[partition]
            position = self._positions[partition]
            if not part.start <= position <= part.end:
                raise OffsetOutOfRange(
                    self.topic, partition, stored=position, start=part.start, end=part.end
                )
            found = part.read(position, messages_max)
            if found or last:
                break
            await self._log.changed(timeout_s)
        if found:
            self._positions[partition] = found[-1].offset + 1
        return found

    def end(self, partition: int) -> int | None:
        return self._log.partitions(self.topic)[partition].end if self._log.available else None

    async def commit(self, next_offsets: Mapping[int, int]) -> None:
        self.committed.update(next_offsets)
        known = self._log.committed.setdefault(self.group, {})
        known.update({(self.topic, number): offset for number, offset in next_offsets.items()})


class MemoryTableReader:
    """The twin of `TableReader` for a `MemoryLog`."""

    def __init__(
        self,
        log: MemoryLog,
        *,
        topic: Topic | str,
        on_message: OnMessage,
        clock: Clock | None = None,
    ) -> None:
        self._log = log
        self._topic = topic.name if isinstance(topic, Topic) else topic
        self._on_message = on_message
        self._clock = clock or SystemClock()
        self._positions: dict[int, int] = {}
        self.ready = asyncio.Event()
        self.caught_up_at: float = float("-inf")

    async def run(self) -> None:
        """Reads until cancelled."""
        while True:
            if self._log.available:
                self.poll()
            await self._log.changed(1.0)

    def poll(self) -> None:
        """Takes everything that is new. Raises Unavailable."""
        for number, partition in enumerate(self._log.partitions(self._topic)):
            position = self._positions.get(number, 0)
            for message in partition.read(position, len(partition.messages)):
                self._take(message)
            self._positions[number] = partition.end
        self.caught_up_at = self._clock.monotonic_s()
        self.ready.set()

    def _take(self, message: LogMessage) -> None:
        if message.key is not None:
            with contextlib.suppress(UndecodableEvent, UnicodeDecodeError):
                self._on_message(message.key.decode(), message.value)


class MemoryArchive:
    """A `LogArchive` of a `MemoryLog`."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    async def newest(self, topic: str, limit: int) -> list[LogMessage]:
        messages = self._log.partitions(topic)[0].messages
        return messages[: -limit - 1 : -1]

    async def at(self, topic: str, offset: int) -> LogMessage | None:
        found = self._log.partitions(topic)[0].read(offset, 1)
        return found[0] if found and found[0].offset == offset else None


class MemoryGroups:
    """The `LogGroups` of a `MemoryLog`."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    async def groups(self, topics: Sequence[str]) -> list[Group]:
        self._log.topics()
        found: list[Group] = []
        for name, committed in sorted(self._log.committed.items()):
            ours = {at: offset for at, offset in committed.items() if at[0] in topics}
            if ours:
                found.append(Group(name, self._log.members_of(name), ours))
        return found

    async def bounds(self, topics: Sequence[str]) -> Mapping[Place, tuple[int, int]]:
        known = self._log.topics()
        return {
            (topic, number): (part.start, part.end)
            for topic in topics
            if topic in known
            for number, part in enumerate(self._log.partitions(topic))
        }
