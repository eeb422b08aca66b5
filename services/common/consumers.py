"""How far the consumer groups of a service are: positions as they stand with its data, over the
whole log, whichever process works on a partition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.common.errors import Unavailable
from services.common.kafka import Lag, LogGroups, Place


class Positions(Protocol):
    """Where the positions of a service's consumers stand."""

    async def positions(self, topic: str) -> Mapping[int, int]:
        """The next offset of each partition that was ever worked on. Raises Unavailable."""


class Lagging(Protocol):
    """A consumer of this process that knows how far it is."""

    def lags(self) -> list[Lag]: ...


@dataclass(frozen=True, slots=True)
class Reading:
    """One group that reads one topic, and where its positions stand."""

    group: str
    topic: str
    positions: Positions


@dataclass(frozen=True, slots=True)
class Lags:
    """How far all groups are. `log_away` says why ends are only as they were last seen; empty where
    the broker told them.
    """

    parts: list[Lag]
    log_away: str = ""


class ConsumerWatch:
    """Asks the data for positions and the broker for ends; the pumps of this process fill in."""

    def __init__(
        self,
        groups: LogGroups,
        readings: Sequence[Reading] = (),
        *,
        pumps: Sequence[Lagging] = (),
    ) -> None:
        self._groups = groups
        self._readings = readings
        self._pumps = pumps

    async def lags(self) -> Lags:
        """Raises Unavailable where the positions cannot be read."""
        mine = [one for pump in self._pumps for one in pump.lags()]
        ours = {(one.group, one.topic, one.partition): one for one in mine}
        topics = sorted({one.topic for one in self._readings} | {one.topic for one in mine})
        bounds: Mapping[Place, tuple[int, int]] = {}
        away = ""
        try:
            bounds = await self._groups.bounds(topics) if topics else {}
        except Unavailable as error:
            away = error.message
        found = dict(ours)
        for reading in self._readings:
            stored = await reading.positions.positions(reading.topic)
            known = {partition for topic, partition in bounds if topic == reading.topic}
            for partition in sorted(known | set(stored)):
                at = (reading.group, reading.topic, partition)
                own = ours.get(at)
                start, _ = bounds.get((reading.topic, partition), (0, 0))
                # Applied a moment ago by us, or by another process, or never by anybody.
                following = max(stored.get(partition, start), own.next_offset if own else 0)
                end = own.end if own else following
                found[at] = Lag(reading.group, reading.topic, partition, following, end)
        return Lags([_with_end(one, bounds) for _, one in sorted(found.items())], away)


def _with_end(lag: Lag, bounds: Mapping[Place, tuple[int, int]]) -> Lag:
    """The lag against the end that the broker told, where it told one."""
    _, end = bounds.get((lag.topic, lag.partition), (0, lag.end))
    return Lag(lag.group, lag.topic, lag.partition, lag.next_offset, end)
