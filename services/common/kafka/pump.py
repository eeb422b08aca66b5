"""The pump: carries a topic into a target whose position is stored with its data.

For each assigned partition: claim it (a new epoch shuts out the owner before), seek to the target's
own position, then fetch and apply one batch after the other. Partitions are worked at the same
time, each strictly in order; a batch that is not applied yet holds up the fetching of its
partition, so that memory stays bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass

from services.common.errors import AppError, Unavailable
from services.common.kafka.ports import (
    Batch,
    Claim,
    Lag,
    LogMessage,
    LogSource,
    OffsetOutOfRange,
    PumpTarget,
    StaleEpoch,
)
from services.common.kafka.source import KafkaSource
from services.common.kafka.traces import consumer_spans
from services.common.retry import Backoff
from services.common.telemetry import get_logger, metrics
from services.common.topics import Topic

_FETCH_TIMEOUT_S = 1.0
_COMMIT_EVERY_S = 1.0
_RETRY_FIRST_S = 0.1
_RETRY_MAX_S = 5.0

_log = get_logger(__name__)


@dataclass(slots=True)
class _Owned:
    """One partition that is ours: its worker, and how far it was applied."""

    worker: asyncio.Task[None] | None = None
    next_offset: int | None = None
    end: int = 0
    committed: int | None = None
    # When its last batch was applied, on the monotonic clock.
    applied_s: float = float("-inf")


class Pump:
    """Runs until cancelled. `ready` is set once its first assignment is claimed."""

    def __init__(
        self,
        *,
        topic: Topic | str,
        group: str,
        target: PumpTarget,
        bootstrap: str = "",
        batch_max: int = 500,
        linger_s: float = 0.02,
        apart_s: float = 0.0,
        source: LogSource | None = None,
    ) -> None:
        """`source` takes the place of Kafka at `bootstrap`; a batch is applied when full or
        `linger_s` old.

        With `apart_s`, a partition that had a batch so lately waits for the next round. Rounds
        come every `apart_s` and are the same for all partitions; after a longer pause none waits.
        """
        self.topic = topic.name if isinstance(topic, Topic) else topic
        self.group = group
        self._target = target
        self._batch_max = batch_max
        self._linger_s = linger_s
        self._apart_s = apart_s
        self._source = source or KafkaSource(bootstrap=bootstrap, topic=self.topic, group=group)
        self._owned: dict[int, _Owned] = {}
        self._failure: asyncio.Future[None] | None = None
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Pumps until cancelled. Raises GapDetected, OffsetOutOfRange and whatever else the target
        does not take.

        A stale epoch and a log that is away are no reasons to end: the group is joined again after
        a pause.
        """
        backoff = Backoff(first_s=_RETRY_FIRST_S, max_s=_RETRY_MAX_S)
        while True:
            started_s = time.monotonic()
            try:
                await self._member()
            except (StaleEpoch, Unavailable) as error:
                if time.monotonic() - started_s > 2 * _RETRY_MAX_S:
                    backoff.reset()
                pause_s = backoff.next_s()
                metrics.PUMP_REJOINS.labels(self.topic, self.group).inc()
                _log.warning(
                    "pump joins again",
                    topic=self.topic,
                    error=str(error),
                    pause_s=round(pause_s, 3),
                )
                await asyncio.sleep(pause_s)

    def lag(self) -> int:
        """Messages of our partitions that are not applied yet, as far as is known."""
        return sum(one.messages for one in self.lags())

    def lags(self) -> list[Lag]:
        """How far each of our claimed partitions is."""
        return [
            Lag(
                self.group,
                self.topic,
                partition,
                owned.next_offset,
                self._end_of(partition, owned),
            )
            for partition, owned in sorted(self._owned.items())
            if owned.next_offset is not None
        ]

    async def revoked(self, partitions: frozenset[int]) -> None:
        """Called by the source: stops the workers of these partitions and waits for them."""
        await self._drop(partitions)

    async def assigned(self, partitions: frozenset[int]) -> None:
        """Called by the source: starts a worker for each partition."""
        await self._drop(frozenset(self._owned))
        for partition in sorted(partitions):
            owned = self._owned[partition] = _Owned()
            owned.worker = asyncio.create_task(
                self._work(partition, owned), name=f"pump-{self.topic}-{partition}"
            )
        if not partitions:
            self.ready.set()

    async def _member(self) -> None:
        """One membership of the group, until something ends it."""
        self._failure = asyncio.get_running_loop().create_future()
        try:
            await self._source.start(self)
            while not self._failure.done():
                await asyncio.wait([self._failure], timeout=_COMMIT_EVERY_S)
                await self._commit()
            self._failure.result()
        finally:
            await self._drop(frozenset(self._owned))
            await self._commit()
            if not self._failure.done():
                self._failure.cancel()
            elif not self._failure.cancelled():
                self._failure.exception()
            await self._source.stop()

    async def _drop(self, partitions: frozenset[int]) -> None:
        dropped = [(p, self._owned.pop(p)) for p in sorted(partitions) if p in self._owned]
        for _, owned in dropped:
            if owned.worker is not None:
                owned.worker.cancel()
        for partition, owned in dropped:
            if owned.worker is not None and owned.worker is not asyncio.current_task():
                with contextlib.suppress(asyncio.CancelledError):
                    await owned.worker
            with contextlib.suppress(KeyError):
                metrics.PUMP_LAG.remove(self.topic, self.group, str(partition))

    async def _work(self, partition: int, owned: _Owned) -> None:
        try:
            await self._carry(partition, owned)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - it ends the whole pump
            if self._failure is not None and not self._failure.done():
                self._failure.set_exception(error)

    async def _carry(self, partition: int, owned: _Owned) -> None:
        claim, owned.end = await self._claim(partition)
        owned.next_offset = claim.next_offset
        await self._source.seek(partition, claim.next_offset)
        if all(other.next_offset is not None for other in self._owned.values()):
            self.ready.set()
        while True:
            messages = await self._fetch(partition, owned)
            self._measure(partition, owned)
            if not messages:
                continue
            if messages[0].offset < owned.next_offset:
                start, end = await self._source.bounds(partition)
                raise OffsetOutOfRange(
                    self.topic, partition, stored=owned.next_offset, start=start, end=end
                )
            batch = Batch(self.topic, partition, claim.epoch, tuple(messages))
            with consumer_spans(batch, self.group):
                await self._apply(batch)
            owned.next_offset = batch.last_offset + 1
            owned.applied_s = time.monotonic()
            self._measure(partition, owned)
            metrics.PUMP_APPLIED.labels(self.topic, self.group).inc(len(messages))

    async def _claim(self, partition: int) -> tuple[Claim, int]:
        """The partition's claim, and the end of the log when it was made."""
        backoff = Backoff(first_s=_RETRY_FIRST_S, max_s=_RETRY_MAX_S)
        while True:
            try:
                claim = (await self._target.claim(self.topic, [partition]))[partition]
                start, end = await self._source.bounds(partition)
            except AppError as error:
                await self._pause(error, backoff, partition)
                continue
            if not start <= claim.next_offset <= end:
                raise OffsetOutOfRange(
                    self.topic, partition, stored=claim.next_offset, start=start, end=end
                )
            return claim, end

    async def _fetch(self, partition: int, owned: _Owned) -> list[LogMessage]:
        """One batch: what is there, and what comes until it is due."""
        messages = await self._source.fetch(
            partition, messages_max=self._batch_max, timeout_s=_FETCH_TIMEOUT_S
        )
        due_s = self._due_s(time.monotonic(), owned.applied_s)
        while messages and len(messages) < self._batch_max:
            left_s = due_s - time.monotonic()
            if left_s <= 0:
                break
            messages += await self._source.fetch(
                partition, messages_max=self._batch_max - len(messages), timeout_s=left_s
            )
        return messages

    def _due_s(self, now_s: float, applied_s: float) -> float:
        """When a batch that begins now is to be applied."""
        due_s = now_s + self._linger_s
        if now_s - applied_s >= self._apart_s:
            return due_s
        # Rounds are reckoned from the clock's zero, so that all partitions have the same.
        return max(due_s, (now_s // self._apart_s + 1) * self._apart_s)

    async def _apply(self, batch: Batch) -> None:
        backoff = Backoff(first_s=_RETRY_FIRST_S, max_s=_RETRY_MAX_S)
        while True:
            try:
                await self._target.apply(batch)
            except AppError as error:
                await self._pause(error, backoff, batch.partition)
            else:
                return

    async def _pause(self, error: AppError, backoff: Backoff, partition: int) -> None:
        """Waits before the next try; raises the error where trying again does not help."""
        if not error.retryable:
            raise error
        pause_s = backoff.next_s()
        metrics.PUMP_RETRIES.labels(self.topic, self.group).inc()
        _log.warning(
            "pump tries again",
            topic=self.topic, partition=partition, error=str(error), pause_s=round(pause_s, 3),
        )  # fmt: skip
        await asyncio.sleep(pause_s)

    async def _commit(self) -> None:
        moved = {
            partition: owned.next_offset
            for partition, owned in self._owned.items()
            if owned.next_offset is not None and owned.next_offset != owned.committed
        }
        if moved:
            await self._source.commit(moved)
            for partition, offset in moved.items():
                if partition in self._owned:
                    self._owned[partition].committed = offset

    def _measure(self, partition: int, owned: _Owned) -> None:
        gauge = metrics.PUMP_LAG.labels(self.topic, self.group, str(partition))
        gauge.set(max(0, self._end_of(partition, owned) - (owned.next_offset or 0)))

    def _end_of(self, partition: int, owned: _Owned) -> int:
        """The end of the log as far as it is known."""
        end = self._source.end(partition)
        if end is not None:
            owned.end = max(owned.end, end)
        return owned.end
