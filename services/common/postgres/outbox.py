"""The outbox relay: publishes what transactions put into the outbox, in order, at least once.

One relay is active at a time: it holds a session lock of PostgreSQL on the connection it reads and
deletes with, so that a relay that lost its connection has lost the lock with it. Rows are deleted
after the log acknowledged them; a crash in between publishes them again, so consumers deduplicate
by event id or version.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import asyncpg

from services.common.errors import Unavailable
from services.common.kafka.ports import LogError, LogProducer, Position
from services.common.postgres.pool import acquired
from services.common.retry import Backoff
from services.common.telemetry import get_logger, metrics

NOTIFY_CHANNEL = "mesh_outbox"
STOP_GRACE_S = 5.0
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
            self.active.clear()
            metrics.OUTBOX_ACTIVE.set(0)
            # A connection that was lost is no longer the pool's: it takes no calls and needs none.
            with contextlib.suppress(asyncpg.InterfaceError):
                connection.remove_termination_listener(self._woken)
                await connection.remove_listener(NOTIFY_CHANNEL, self._woken)

    async def _publish(
        self, connection: asyncpg.Connection, rows: Sequence[asyncpg.Record]
    ) -> None:
        sends: list[asyncio.Future[Position]] = []
        failure: Exception | None = None
        for row in rows:
            try:
                sends.append(await self._enqueue(row))
            except (Unavailable, LogError) as error:
                failure = error
                break
        try:
            await _settled(sends)
        finally:
            done = _acknowledged(rows, sends)
            if done:
                await connection.execute("DELETE FROM outbox WHERE position = ANY($1)", done)
        for row in rows[: len(done)]:
            metrics.OUTBOX_PUBLISHED.labels(row["topic"]).inc()
        if failure is not None:
            raise failure
        if len(done) < len(rows):
            await sends[len(done)]

    async def _enqueue(self, row: asyncpg.Record) -> asyncio.Future[Position]:
        headers = [("traceparent", row["traceparent"].encode())] if row["traceparent"] else []
        return await self._producer.enqueue(
            row["topic"], row["key"].encode(), row["value"], headers=headers
        )

    async def _idle(self) -> None:
        try:
            async with asyncio.timeout(self._poll_s):
                await self._wake.wait()
        except TimeoutError:
            return

    def _woken(self, *_: object) -> None:
        self._wake.set()


async def _settled(sends: Sequence[asyncio.Future[Position]]) -> None:
    """Waits for every acknowledgement or refusal.

    There is no time limit: the producer itself tries until the log takes the messages, and sending
    them once more beside that could bring an older one after a newer. Only a stop does not wait
    longer than its grace.
    """
    if not sends:
        return
    try:
        await asyncio.wait(sends)
    except asyncio.CancelledError:
        await asyncio.wait(sends, timeout=STOP_GRACE_S)
        raise
    finally:
        for sent in sends:
            if not sent.done():
                sent.cancel()


def _acknowledged(
    rows: Sequence[asyncpg.Record], sends: Sequence[asyncio.Future[Position]]
) -> list[int]:
    """The positions up to the first that failed: it and the rest are sent again, in order."""
    done: list[int] = []
    for row, sent in zip(rows, sends, strict=False):
        if not sent.done() or sent.cancelled() or sent.exception() is not None:
            break
        done.append(row["position"])
    for sent in sends[len(done) :]:
        # Asked for, so that nobody is told of an exception that was never looked at.
        if sent.done() and not sent.cancelled():
            sent.exception()
    return done
