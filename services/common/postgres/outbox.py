"""The outbox relay: publishes what transactions put into the outbox, in order, at least once.

One relay is active at a time: it holds a session lock of PostgreSQL on the connection it reads and
deletes with, so that a relay that lost its connection has lost the lock with it. Rows are deleted
after the log acknowledged them; a crash in between publishes them again, so consumers deduplicate
by event id or version.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg

from services.common.errors import Unavailable
from services.common.kafka.ports import LogError, LogProducer, Position
from services.common.postgres.pool import acquired
from services.common.retry import Backoff
from services.common.telemetry import get_logger, metrics

NOTIFY_CHANNEL = "mesh_outbox"
_LOCK_ID = 0x6D657368_00000002
_SELECT = "SELECT position, topic, key, value, traceparent FROM outbox ORDER BY position LIMIT $1"

# What a pause may mend. A message that the log never takes stays here too: it holds up the outbox,
# in the logs and in the metrics, until an operator decides about it, because sending what comes
# after it would break the order.
_HEALED = (Unavailable, LogError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError)

_log = get_logger(__name__)


class OutboxRelay:
    """Runs until cancelled; heals from lost connections to PostgreSQL and to the log."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        producer: LogProducer,
        *,
        batch_max: int = 500,
        poll_s: float = 1.0,
        standby_poll_s: float = 0.5,
    ) -> None:
        self._pool = pool
        self._producer = producer
        self._batch_max = batch_max
        self._poll_s = poll_s
        self._standby_poll_s = standby_poll_s
        self._wake = asyncio.Event()
        self.active = asyncio.Event()

    async def run(self) -> None:
        """Publishes until cancelled; one lost connection costs a pause, never a row."""
        backoff = Backoff(first_s=0.1, max_s=5.0)
        while True:
            try:
                async with acquired(self._pool) as connection:
                    await self._relay(connection, backoff)
            except _HEALED as error:
                metrics.OUTBOX_FAILURES.inc()
                pause_s = backoff.next_s()
                _log.warning("outbox relay paused", error=str(error), pause_s=round(pause_s, 3))
                await asyncio.sleep(pause_s)
            finally:
                self.active.clear()
                metrics.OUTBOX_ACTIVE.set(0)

    async def drain(self) -> None:
        """Waits until the outbox is empty; for tests and for a stop that leaves nothing behind."""
        while await self._pool.fetchval("SELECT EXISTS (SELECT FROM outbox)"):  # noqa: ASYNC110 - the end is in the database
            await asyncio.sleep(0.005)

    async def _relay(self, connection: asyncpg.Connection, backoff: Backoff) -> None:
        while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK_ID):  # noqa: ASYNC110 - as above
            await asyncio.sleep(self._standby_poll_s)
        connection.add_termination_listener(self._woken)
        await connection.add_listener(NOTIFY_CHANNEL, self._woken)
        self.active.set()
        metrics.OUTBOX_ACTIVE.set(1)
        try:
            while True:
                self._wake.clear()
                rows = await connection.fetch(_SELECT, self._batch_max)
                if rows:
                    await self._publish(connection, rows)
                    backoff.reset()
                else:
                    await self._idle()
        finally:
            connection.remove_termination_listener(self._woken)
            if not connection.is_closed():
                await connection.remove_listener(NOTIFY_CHANNEL, self._woken)

    async def _publish(
        self, connection: asyncpg.Connection, rows: Sequence[asyncpg.Record]
    ) -> None:
        sends: list[asyncio.Future[Position]] = []
        done: list[int] = []
        try:
            for row in rows:
                sends.append(await self._enqueue(row))
        finally:
            # There is no time limit: the producer itself tries until the log takes the messages,
            # and sending them once more beside that could bring an older one after a newer.
            try:
                for row, sent in zip(rows, sends, strict=False):
                    await sent
                    done.append(row["position"])
            finally:
                # Only what is acknowledged up to the first failure goes: the rest is sent again in
                # order.
                _abandon(sends[len(done) :])
                if done and not connection.is_closed():
                    await connection.execute("DELETE FROM outbox WHERE position = ANY($1)", done)
        for row in rows:
            metrics.OUTBOX_PUBLISHED.labels(row["topic"]).inc()

    async def _enqueue(self, row: asyncpg.Record) -> asyncio.Future[Position]:
        headers = [("traceparent", row["traceparent"].encode())] if row["traceparent"] else []
        return await self._producer.enqueue(
            row["topic"], row["key"].encode(), row["value"], headers
        )

    async def _idle(self) -> None:
        try:
            async with asyncio.timeout(self._poll_s):
                await self._wake.wait()
        except TimeoutError:
            return

    def _woken(self, *_: object) -> None:
        self._wake.set()


def _abandon(sends: Sequence[asyncio.Future[Position]]) -> None:
    for sent in sends:
        if sent.done() and not sent.cancelled():
            sent.exception()
        sent.cancel()
