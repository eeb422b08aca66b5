"""How far groups are: positions of the data, ends of the broker, and what is known without it."""

from __future__ import annotations

from collections.abc import Mapping

from services.common.consumers import ConsumerWatch, Reading
from services.common.kafka import Lag
from services.common.kafka.memory import MemoryGroups, MemoryLog
from services.common.topics import USAGE


class Stored:
    """Positions that stand with the data."""

    def __init__(self, positions: Mapping[int, int]) -> None:
        self._positions = positions

    async def positions(self, topic: str) -> Mapping[int, int]:
        assert topic == USAGE.name
        return self._positions


class Pumping:
    """A consumer of this process."""

    def __init__(self, *lags: Lag) -> None:
        self._lags = list(lags)

    def lags(self) -> list[Lag]:
        return self._lags


def filled(count: int) -> tuple[MemoryLog, int]:
    """A log with so many messages, and the partition in which they are."""
    log = MemoryLog((USAGE,))
    places = [log.append(USAGE.name, b"k", b"v") for _ in range(count)]
    return log, places[0].partition


async def test_every_partition_is_seen_whoever_works_on_it() -> None:
    log, partition = filled(5)
    reading = Reading("g", USAGE.name, Stored({partition: 2}))
    found = await ConsumerWatch(MemoryGroups(log), [reading]).lags()
    assert [one.partition for one in found.parts] == list(range(USAGE.partitions))
    assert {one.partition: one.messages for one in found.parts if one.messages} == {partition: 3}
    assert found.log_away == ""


async def test_a_partition_that_nobody_ever_took_begins_where_the_log_does() -> None:
    log, partition = filled(5)
    log.remove_before(USAGE.name, partition, 4)
    reading = Reading("g", USAGE.name, Stored({}))
    found = await ConsumerWatch(MemoryGroups(log), [reading]).lags()
    assert sum(one.messages for one in found.parts) == 1


async def test_what_this_process_applied_a_moment_ago_counts() -> None:
    log, partition = filled(5)
    pump = Pumping(Lag("g", USAGE.name, partition, 4, 4))
    reading = Reading("g", USAGE.name, Stored({partition: 2}))
    found = await ConsumerWatch(MemoryGroups(log), [reading], pumps=[pump]).lags()
    assert sum(one.messages for one in found.parts) == 1


async def test_a_consumer_that_keeps_no_position_is_seen_by_its_own_word() -> None:
    log, partition = filled(5)
    pump = Pumping(Lag("live", USAGE.name, partition, 3, 3))
    found = await ConsumerWatch(MemoryGroups(log), pumps=[pump]).lags()
    assert [(one.group, one.messages) for one in found.parts] == [("live", 2)]


async def test_without_the_broker_positions_are_told_with_the_ends_last_seen_and_why() -> None:
    log, partition = filled(5)
    pump = Pumping(Lag("g", USAGE.name, partition, 2, 4))
    reading = Reading("g", USAGE.name, Stored({partition: 2}))
    log.available = False
    found = await ConsumerWatch(MemoryGroups(log), [reading], pumps=[pump]).lags()
    assert [(one.next_offset, one.end) for one in found.parts] == [(2, 4)]
    assert found.log_away == "the log is not available"
