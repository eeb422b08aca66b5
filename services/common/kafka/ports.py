"""What the event log is to us: messages, batches, producers, sources, and what a consumer must
implement.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

Headers = Sequence[tuple[str, bytes]]


class LogError(Exception):
    """Something about the log that trying again does not mend."""


class StaleEpoch(LogError):
    """Another owner has claimed the partition since: this one is a zombie and must let go."""

    def __init__(self, topic: str, partition: int, epoch: int) -> None:
        super().__init__(f"epoch {epoch} of {topic}/{partition} is no longer the newest")
        self.topic, self.partition, self.epoch = topic, partition, epoch


class GapDetected(LogError):
    """Messages are missing before the next one: loss, so the consumer stops and says so."""

    def __init__(self, topic: str, partition: int, expected: int, *, found: int) -> None:
        super().__init__(f"{topic}/{partition}: expected offset {expected}, found {found}")
        self.topic, self.partition, self.expected, self.found = topic, partition, expected, found


class OffsetOutOfRange(LogError):
    """The stored position is not in the log: removed by retention, or the log was cut off or
    replaced.
    """

    def __init__(self, topic: str, partition: int, *, stored: int, start: int, end: int) -> None:
        super().__init__(
            f"{topic}/{partition}: position {stored} is outside the log ({start} to {end})"
        )
        self.topic, self.partition = topic, partition
        self.stored, self.start, self.end = stored, start, end


@dataclass(frozen=True, slots=True)
class Position:
    """Where the log put a message."""

    topic: str
    partition: int
    offset: int


def noticed(future: asyncio.Future[Position]) -> None:
    """Takes note of a failure that nobody waits for any more, because another came first."""
    if not future.cancelled():
        future.exception()


@dataclass(frozen=True, slots=True)
class LogMessage:
    """One message of the log; no value is a tombstone."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a consumer is in one partition: the first offset that is not applied, the log's end
    as far as it is known.
    """

    group: str
    topic: str
    partition: int
    next_offset: int
    end: int

    @property
    def messages(self) -> int:
        """How many are not applied yet."""
        return max(0, self.end - self.next_offset)


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive messages of one partition, read by the owner with this epoch. Never empty."""

    topic: str
    partition: int
    epoch: int
    messages: tuple[LogMessage, ...]

    @property
    def first_offset(self) -> int:
        return self.messages[0].offset

    @property
    def last_offset(self) -> int:
        return self.messages[-1].offset


@dataclass(frozen=True, slots=True)
class Claim:
    """A taken partition: the first offset that is not applied yet, and the epoch to apply with."""

    next_offset: int
    epoch: int


class PumpTarget(Protocol):
    """What a consumer implements; its position is stored with its data."""

    async def claim(self, topic: str, partitions: Sequence[int]) -> Mapping[int, Claim]:
        """Takes partitions over, each with a new epoch. Unavailable is tried again."""

    async def apply(self, batch: Batch) -> None:
        """Applies a batch and moves the position in one transaction; what was applied before is
        skipped.

        Raises StaleEpoch, GapDetected; Unavailable and other retryable errors are tried again.
        """


class LogProducer(Protocol):
    """Writes to the log, in the order of the calls for each key, at least once."""

    @property
    def connected(self) -> bool:
        """False where the log could not be reached lately."""

    async def start(self) -> None:
        """Connects. Raises Unavailable."""

    async def stop(self) -> None:
        """Sends what is queued, within a bounded time, and disconnects."""

    async def send(
        self, topic: str, key: bytes, value: bytes | None, *, headers: Headers = ()
    ) -> Position:
        """Writes one message and waits until all replicas have it. Raises Unavailable; it may then
        still arrive.
        """

    async def enqueue(
        self, topic: str, key: bytes, value: bytes | None, *, headers: Headers = ()
    ) -> asyncio.Future[Position]:
        """Takes one message into its place in the order; the future tells its position or
        Unavailable.
        """


class LogArchive(Protocol):
    """Reads topics of one partition as they stand, for people."""

    async def newest(self, topic: str, limit: int) -> list[LogMessage]:
        """Up to so many of the newest messages, newest first. Raises Unavailable."""

    async def at(self, topic: str, offset: int) -> LogMessage | None:
        """The message at an offset; None where there is none (any more). Raises Unavailable."""


# A topic and one of its partitions.
Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Group:
    """A consumer group as the broker knows it: how many are in it, and the offsets that it
    committed, by topic and partition.
    """

    name: str
    members: int
    committed: Mapping[Place, int]


class LogGroups(Protocol):
    """What the broker knows of consumer groups and of the ends of topics, for people."""

    async def groups(self, topics: Sequence[str]) -> list[Group]:
        """The groups that committed offsets for these topics, by name. Raises Unavailable."""

    async def bounds(self, topics: Sequence[str]) -> Mapping[Place, tuple[int, int]]:
        """The first offset that is there and the one after the last, of every partition of those
        topics that exist. Raises Unavailable.
        """


class AssignmentListener(Protocol):
    """Told which partitions are ours; `revoked` returns when nothing works on them any more."""

    async def revoked(self, partitions: frozenset[int]) -> None: ...

    async def assigned(self, partitions: frozenset[int]) -> None: ...


class LogSource(Protocol):
    """One member of a consumer group that reads one topic."""

    async def start(self, listener: AssignmentListener) -> None:
        """Joins the group. Raises Unavailable."""

    async def stop(self) -> None:
        """Leaves the group; `revoked` is not called any more."""

    async def bounds(self, partition: int) -> tuple[int, int]:
        """The first offset the log still has, the one after its last. Raises Unavailable."""

    async def seek(self, partition: int, offset: int) -> None:
        """Sets from where `fetch` reads on."""

    async def fetch(
        self, partition: int, *, messages_max: int, timeout_s: float
    ) -> list[LogMessage]:
        """Up to so many messages; empty after the timeout. Raises OffsetOutOfRange, Unavailable."""

    def end(self, partition: int) -> int | None:
        """The offset after the last message, as far as it is known."""

    async def commit(self, next_offsets: Mapping[int, int]) -> None:
        """Tells the group's coordinator how far we are: a hint for tools, never read by us."""
