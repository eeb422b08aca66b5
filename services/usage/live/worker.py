"""The Faust worker that feeds the windows: it reads the usage topic, from the horizon on, in a
group of its own that is new at each start.

The position is set before Faust starts, by committing the offsets of the horizon for the group
while nobody is in it. Faust creates no topic, elects no leader, serves no web page and keeps no
table: what it would do about a failure in an agent (acknowledge and go on) must never be needed, so
no exception leaves the agent, and one that is not an undecodable event ends the process.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from prometheus_client import Counter, Gauge

from services.common.clock import Clock
from services.common.errors import Unavailable
from services.common.events import UndecodableEvent
from services.common.ids import ulid
from services.common.kafka import Lag, LogMessage
from services.common.retry import Backoff
from services.common.telemetry import get_logger
from services.common.topics import Topic
from services.usage.adapters.usage_event import row_from_message
from services.usage.domain.live import HORIZON_S, NO_FAILURE, LiveEvent, LiveSet
from services.usage.domain.row import RequestRow

_COUNTED = Counter("mesh_usage_live_events_total", "Events that the live windows counted.")
_SKIPPED = Counter("mesh_usage_live_skipped_total", "Events that no live window counted.")
_SERIES = Gauge("mesh_usage_live_series", "Series of live windows in memory.")

_SWEEP_S = 5.0
_PROBE_S = 0.5
_RETRY_MAX_S = 5.0

_log = get_logger(__name__)


class LiveWorker:
    """Feeds `windows` until it is stopped; `ready` once it has read what was there at its start."""

    def __init__(
        self, windows: LiveSet, *, bootstrap: str, topic: Topic, group: str, clock: Clock
    ) -> None:
        self._windows = windows
        self._bootstrap = bootstrap
        self._topic = topic
        # A killed process stays a member for a while, and until then nobody can set the position of
        # its group. Kafka forgets groups that are no longer used.
        self._group = f"{group}-{ulid()}"
        self._clock = clock
        self.ready = asyncio.Event()
        self._failed: asyncio.Future[None] | None = None
        # Any: Faust has no types that mypy reads.
        self._app: Any = None
        self._missing: dict[int, int] = {}
        self._next: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._newest_ms = 0

    @property
    def lag_ms(self) -> int:
        """How old the newest counted event is where there are others behind it; 0: there are
        none. Before the first is counted, how far back the windows reach.
        """
        if all(self._next.get(partition, 0) >= end for partition, end in self._ends.items()):
            return 0
        return max(0, self._clock.now_ms() - self._newest_ms)

    def lags(self) -> list[Lag]:
        """How far the windows are in each partition: their positions stand nowhere else."""
        return [
            Lag(self._group, self._topic.name, partition, following, self._ends.get(partition, 0))
            for partition, following in sorted(self._next.items())
        ]

    async def run(self) -> None:
        """Reads until it is cancelled. Raises what made it stop."""
        self._failed = asyncio.get_running_loop().create_future()
        backoff = Backoff(first_s=0.2, max_s=_RETRY_MAX_S)
        while True:
            try:
                await self._seed()
                break
            except (KafkaError, OSError, Unavailable) as error:
                pause_s = backoff.next_s()
                _log.warning("the log is away", error=repr(error), pause_s=round(pause_s, 3))
                await asyncio.sleep(pause_s)
        # Faust makes itself a folder, though its tables are in memory.
        with TemporaryDirectory(prefix="mesh-usage-live-") as folder:
            self._app = self._make_app(folder)
            try:
                await self._app.start()
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._sweep())
                    tasks.create_task(self._probe())
                    tasks.create_task(self._watch(self._failed))
            finally:
                with contextlib.suppress(Exception):  # it goes down whatever its parts say
                    await self._app.stop()

    def take(self, message: LogMessage) -> None:
        """Counts one message of the log."""
        try:
            row = row_from_message(message)
        except UndecodableEvent:
            # The request log puts it aside; here it is only left out.
            _SKIPPED.inc()
        else:
            counted = self._windows.add(event_of(row), self._clock.now_ms())
            (_COUNTED if counted else _SKIPPED).inc()
        self._next[message.partition] = message.offset + 1
        self._newest_ms = max(self._newest_ms, message.timestamp_ms)
        if self._missing:
            self._arrived(message.partition)

    def _arrived(self, partition: int) -> None:
        if self._next[partition] >= self._missing.get(partition, 0):
            self._missing.pop(partition, None)
            if not self._missing:
                self.ready.set()

    async def _seed(self) -> None:
        """Puts the group where the horizon begins, and notes where the log ends."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap, group_id=self._group, enable_auto_commit=False
        )
        await consumer.start()
        try:
            partitions = [
                TopicPartition(self._topic.name, n) for n in range(self._topic.partitions)
            ]
            consumer.assign(partitions)
            since_ms = self._newest_ms = self._clock.now_ms() - HORIZON_S * 1000
            found = await consumer.offsets_for_times(dict.fromkeys(partitions, since_ms))
            ends = await consumer.end_offsets(partitions)
            starts = {tp: found[tp].offset if found[tp] else ends[tp] for tp in partitions}
            await consumer.commit(starts)
        finally:
            await consumer.stop()
        self._next = {tp.partition: start for tp, start in starts.items()}
        self._missing = {tp.partition: ends[tp] for tp in partitions if ends[tp] > starts[tp]}
        if not self._missing:
            self.ready.set()
        count = sum(ends[tp] - start for tp, start in starts.items())
        _log.info("reading the live windows' past", events=count)

    def _make_app(self, folder: str) -> Any:  # Any: Faust has no types
        import faust

        app = faust.App(
            self._group,
            broker=f"kafka://{self._bootstrap}",
            store="memory://",
            datadir=folder,
            autodiscover=False,
            web_enabled=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            topic_partitions=self._topic.partitions,
            agent_supervisor="mode.CrashingSupervisor",
            key_serializer="raw",
            value_serializer="raw",
            consumer_auto_offset_reset="earliest",
            broker_commit_interval=30.0,
            stream_wait_empty=False,
        )
        topic = app.topic(self._topic.name, key_serializer="raw", value_serializer="raw")
        app.agent(topic, name="live")(self._agent())
        return app

    def _agent(self) -> Callable[[Any], Any]:  # Any: Faust's streams have no types
        failed = self._failed
        assert failed is not None

        async def live(stream: Any) -> None:
            async for event in stream.events():
                message = event.message
                try:
                    self.take(
                        LogMessage(
                            message.topic,
                            message.partition,
                            message.offset,
                            round(message.timestamp * 1000),
                            message.key,
                            message.value,
                        )
                    )
                except Exception as error:  # noqa: BLE001 - Faust would acknowledge and go on
                    if not failed.done():
                        failed.set_exception(error)
                    return

        return live

    async def _watch(self, failed: asyncio.Future[None]) -> None:
        stopped = asyncio.ensure_future(self._app.wait_until_stopped())
        done, _ = await asyncio.wait({failed, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if failed in done:
            failed.result()
        raise Unavailable("Faust has stopped by itself")

    async def _sweep(self) -> None:
        while True:
            self._windows.forget(self._clock.now_ms())
            _SERIES.set(self._windows.series_count)
            await asyncio.sleep(_SWEEP_S)

    async def _probe(self) -> None:
        """Notes where the log ends."""
        while True:
            consumer = self._app.consumer
            for tp in consumer.assignment():
                self._ends[tp.partition] = consumer.highwater(tp) or 0
            await asyncio.sleep(_PROBE_S)


def event_of(row: RequestRow) -> LiveEvent:
    """What the windows need of a row of the request log."""
    return LiveEvent(
        usage_id=row.usage_id,
        account_id=row.account_id,
        key_id=row.key_id,
        model_id=row.model_id,
        ended_at_ms=row.received_at + row.latency_ms,
        latency_ms=row.latency_ms,
        failed=row.outcome not in NO_FAILURE,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        cost_nanousd=row.cost_nanousd,
    )
