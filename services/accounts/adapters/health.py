"""What the readiness page tells of the database and of the event log."""

from __future__ import annotations

import asyncio
import contextlib

import asyncpg

from services.common.clock import Clock
from services.common.errors import Unavailable
from services.common.kafka import LogProducer
from services.common.postgres import OutboxRelay, translated
from services.common.retry import Backoff
from services.common.telemetry import get_logger

PROBE_INTERVAL_S = 2.0
PROBE_TIMEOUT_S = 5.0
DRAIN_S = 2.0

_log = get_logger(__name__)


class DatabaseProbe:
    """Asks the database every two seconds whether it answers."""

    def __init__(self, pool: asyncpg.Pool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self.answers = False

    async def run(self) -> None:
        """Probes until cancelled."""
        while True:
            try:
                with translated():
                    await self._pool.fetchval("SELECT 1", timeout=PROBE_TIMEOUT_S)
                self.answers = True
            except Unavailable as error:
                if self.answers:
                    _log.warning("the database does not answer", error=error.message)
                self.answers = False
            await self._clock.sleep(PROBE_INTERVAL_S)


class Publisher:
    """Connects to the event log, however long that takes, and runs the outbox relay.

    Commands do not wait for it: what they publish stays in the outbox until the log is there.
    """

    def __init__(self, producer: LogProducer, relay: OutboxRelay) -> None:
        self._producer = producer
        self._relay = relay
        self.connected_once = False

    async def run(self) -> None:
        """Publishes until cancelled, then sends what is queued and disconnects."""
        backoff = Backoff(first_s=0.2, max_s=5.0)
        while not self.connected_once:
            try:
                await self._producer.start()
                self.connected_once = True
            except Unavailable as error:
                pause_s = backoff.next_s()
                _log.warning("the event log is away", error=error.message, pause_s=pause_s)
                await asyncio.sleep(pause_s)
        try:
            await self._relay.run()
        finally:
            await self._producer.stop()

    async def drain(self) -> None:
        """Waits a moment for the outbox to be empty; what stays in it is published at the next
        start.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await self._relay.drain()
