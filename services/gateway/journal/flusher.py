"""Group commit: one fdatasync in a thread serves everybody who waits for the disk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from services.common.telemetry import get_logger
from services.gateway.journal.state import JournalPosition
from services.gateway.journal.wal import WriteAheadFile
from services.gateway.money_metrics import JOURNAL_FLUSH_SECONDS

_log = get_logger(__name__)


class Flusher:
    """Flushes while somebody waits; each flush takes along all that was written before it."""

    def __init__(self, wal: WriteAheadFile, on_synced: Callable[[], None]) -> None:
        self._wal = wal
        self._on_synced = on_synced
        self._waiting: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal-sync")
        # Everything before it is on disk. What was replayed at the start is.
        self.synced: JournalPosition = wal.end
        self.flushes = 0

    async def durable(self) -> None:
        """Returns when all that was written before the call is on disk.

        Where the disk fails, it returns too: the file admits nothing from then on.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.append(future)
        if self._task is None:
            self._task = loop.create_task(self._flush())
        await future

    async def close(self) -> None:
        """Waits for the flush under way and ends the thread."""
        if self._task is not None:
            await self._task
        self._thread.shutdown()

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                served, self._waiting = self._waiting, []
                end = self._wal.end
                started_s = time.monotonic()
                try:
                    await loop.run_in_executor(self._thread, self._wal.sync)
                except OSError as error:
                    # The file takes nothing more. What it has is settled and answered, and Kafka
                    # gets it from memory that the system still has: to refuse it now could bill
                    # what was refused.
                    _log.error("journal_flush_failed", error=str(error))
                JOURNAL_FLUSH_SECONDS.observe(time.monotonic() - started_s)
                self.flushes += 1
                self.synced = end
                for future in served:
                    if not future.done():
                        future.set_result(None)
                self._on_synced()
        finally:
            self._task = None
