"""What becomes of a sink whose position the event log no longer has.

Nothing is skipped: the sink stands still, says which offsets are missing, raises an alarm, and
looks again now and then, so that it goes on by itself once an operator has rebuilt the log or
accepted the loss (`accept`). Queries are answered meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from services.common.kafka import OffsetOutOfRange
from services.common.telemetry import get_logger
from services.common.topics import Topic
from services.usage.metrics import SINK_LOST
from services.usage.ports import Bounds, Row, SinkStore
from services.usage.sink.position import LogBounds, newest_batch, next_offset

_LOOK_AGAIN_S = 30.0
# A pump that has run for so long has found its positions in the log.
_SETTLED_S = 10.0

_log = get_logger(__name__)


class Standstill:
    """Runs a pump, and stands still where its position is not in the log."""

    def __init__(
        self, pump: Callable[[], Awaitable[None]], *, look_again_s: float = _LOOK_AGAIN_S
    ) -> None:
        self._pump = pump
        self._look_again_s = look_again_s
        # The topic and partition for which it stands still.
        self._at: tuple[str, str] | None = None

    @property
    def stands_still(self) -> bool:
        """True while messages are missing that were not read."""
        return self._at is not None

    async def run(self) -> None:
        """Runs the pump until cancelled. Raises what it raises, but for OffsetOutOfRange."""
        while True:
            try:
                await self._attempt()
            except OffsetOutOfRange as error:
                self._alarm(error)
                await asyncio.sleep(self._look_again_s)
            else:
                return

    async def _attempt(self) -> None:
        pumping = asyncio.ensure_future(self._pump())
        try:
            await asyncio.wait([pumping], timeout=_SETTLED_S)
            if not pumping.done():
                self._clear()
            await pumping
        finally:
            pumping.cancel()
            await asyncio.gather(pumping, return_exceptions=True)

    def _alarm(self, error: OffsetOutOfRange) -> None:
        at = (error.topic, str(error.partition))
        if self._at != at:
            self._clear()
        self._at = at
        lost = max(error.start - error.stored, error.stored - error.end)
        SINK_LOST.labels(*at).set(lost)
        _log.error(
            "the sink stands still: messages are gone that were not read",
            topic=error.topic,
            partition=error.partition,
            position=error.stored,
            log_start=error.start,
            log_end=error.end,
            way_out="mesh usage rebuild, or mesh usage accept-loss",
        )

    def _clear(self) -> None:
        if self._at is not None:
            SINK_LOST.labels(*self._at).set(0)
            self._at = None


@dataclass(frozen=True, slots=True)
class Loss:
    """Offsets of a partition, both inclusive, that the event log let go before they were seen to be
    stored.
    """

    topic: str
    partition: int
    first_offset: int
    last_offset: int


async def accept(
    store: SinkStore[Row], topic: Topic, log_bounds: LogBounds, *, dry_run: bool = False
) -> list[Loss]:
    """Moves the sink's position to where the log begins, in the partitions where it is before that;
    returns what is given up. Partitions whose position is in the log stay as they are.
    """
    losses = []
    for partition in range(topic.partitions):
        bounds = await newest_batch(store, topic.name, partition)
        if bounds is None:
            continue
        start, _ = await log_bounds(partition)
        position = next_offset(bounds)
        if position >= start:
            continue
        losses.append(Loss(topic.name, partition, position, start - 1))
        if not dry_run:
            epoch = await store.epoch(topic.name, partition)
            await store.record(_after_loss(bounds, position, start), epoch)
    return losses


def _after_loss(bounds: Bounds, position: int, start: int) -> Bounds:
    """The bounds with which the next claim goes on at `start`."""
    if start <= bounds.last_offset:
        # The log still has the batch's end: a number of rows that can never be counted makes the
        # sink read it again.
        return replace(bounds, first_offset=start, row_count=-1, is_complete=False)
    return replace(
        bounds, first_offset=position, last_offset=start - 1, row_count=0, is_complete=True
    )
