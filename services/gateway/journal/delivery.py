"""From the file to Kafka: in order, as often as it takes, from disk so that memory stays bounded.

Only what is durable is sent. What is acknowledged is trimmed; what a crash leaves in doubt is sent
again, under the same ids, and consumers drop it.
"""

from __future__ import annotations

import asyncio

from services.common.clock import Clock
from services.common.errors import AppError, Unavailable
from services.common.events import EventRecord
from services.common.kafka.ports import LogProducer, Position, noticed
from services.common.retry import Backoff
from services.common.telemetry import get_logger
from services.common.topics import USAGE
from services.gateway.journal.flusher import Flusher
from services.gateway.journal.limits import JournalLimits
from services.gateway.journal.wal import WriteAheadFile
from services.gateway.money_metrics import EVENTS_DELIVERED, EVENTS_RETRIED

_log = get_logger(__name__)


class UsageDelivery:
    """The one task that sends usage events."""

    def __init__(
        self, wal: WriteAheadFile, producer: LogProducer, *, clock: Clock, limits: JournalLimits
    ) -> None:
        self._wal = wal
        self._producer = producer
        self._clock = clock
        self._acknowledge_s = limits.acknowledge_s
        self._backoff = Backoff(first_s=limits.backoff_first_s, max_s=limits.backoff_max_s)
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._at = wal.delivered
        self.delivered_events = 0

    def wake(self) -> None:
        """Something became durable."""
        self._work.set()
        self._idle.clear()

    async def wait_idle(self) -> None:
        """Returns when everything that is durable is in Kafka."""
        await self._idle.wait()

    async def run(self, flusher: Flusher) -> None:
        """Delivers until cancelled. Raises JournalDamaged where the file cannot be read back."""
        while True:
            self._work.clear()
            while self._at < flusher.synced:
                await self._step(flusher)
            if not self._work.is_set():
                self._idle.set()
                await self._work.wait()

    async def _step(self, flusher: Flusher) -> None:
        chunk = self._wal.read(self._at, flusher.synced)
        if chunk.envelopes:
            try:
                await self._send(chunk.envelopes)
            except AppError as error:
                EVENTS_RETRIED.inc()
                pause_s = self._backoff.next_s()
                _log.warning("usage_not_delivered", error=error.message, retry_in_s=pause_s)
                await self._clock.sleep(pause_s)
                return
            self._backoff.reset()
            self.delivered_events += len(chunk.envelopes)
            EVENTS_DELIVERED.inc(len(chunk.envelopes))
        if chunk.envelopes or chunk.end.segment > self._wal.delivered.segment:
            self._wal.mark_delivered(chunk.end)
        self._at = chunk.end

    async def _send(self, envelopes: list[bytes]) -> None:
        """Sends all, in order, and waits for all. Raises Unavailable; some may have arrived."""
        sent: set[asyncio.Future[Position]] = set()
        for envelope in envelopes:
            key = EventRecord.from_bytes(envelope).account_id.encode()
            future = await self._producer.enqueue(USAGE.name, key, envelope)
            future.add_done_callback(noticed)
            sent.add(future)
        done, waiting = await asyncio.wait(sent, timeout=self._acknowledge_s)
        if waiting or any(future.cancelled() for future in done):
            raise Unavailable(f"Kafka acknowledged {len(done)} of {len(sent)} events")
        for future in done:
            error = future.exception()
            if error is not None:
                raise error
