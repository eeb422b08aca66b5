"""The worker's money put together: purse, journal, delivery, and what a crash left open.

money = Money.open(...)        locks and replays the journal
await money.recover()          before serving: crashed requests recorded, grants to be closed
await money.run()              until cancelled: delivers events, gives grants back
await money.drain()            after the last request: everything delivered, nothing held
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from services.common.clock import Clock
from services.common.ids import WorkerId
from services.common.kafka.ports import LogProducer
from services.common.telemetry import get_logger
from services.gateway import money_metrics
from services.gateway.budget.limits import BudgetLimits
from services.gateway.budget.ports import Grants
from services.gateway.budget.service import PurseBudget
from services.gateway.journal.delivery import UsageDelivery
from services.gateway.journal.flusher import Flusher
from services.gateway.journal.journal import FileJournal, JournalGrantLog
from services.gateway.journal.limits import JournalLimits
from services.gateway.journal.wal import WriteAheadFile

_log = get_logger(__name__)


class Money:
    """One worker's budget and journal. `open` it inside a running loop."""

    def __init__(
        self,
        wal: WriteAheadFile,
        *,
        billing: Grants,
        producer: LogProducer,
        worker_id: WorkerId,
        clock: Clock,
        budget_limits: BudgetLimits | None = None,
        journal_limits: JournalLimits | None = None,
    ) -> None:
        self.wal = wal
        self._clock = clock
        limits = journal_limits or JournalLimits()
        self.delivery = UsageDelivery(wal, producer, clock=clock, limits=limits)
        self.flusher = Flusher(wal, on_synced=self.delivery.wake)
        self.budget = PurseBudget(
            billing,
            JournalGrantLog(wal, self.flusher),
            worker_id=worker_id,
            clock=clock,
            limits=budget_limits,
        )
        self.journal = FileJournal(
            wal, self.flusher, settle=self.budget.settle, worker_id=worker_id, clock=clock
        )
        self._watch()

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        billing: Grants,
        producer: LogProducer,
        worker_id: WorkerId,
        clock: Clock,
        budget_limits: BudgetLimits | None = None,
        journal_limits: JournalLimits | None = None,
    ) -> Money:
        """Opens the journal there. Raises JournalLocked, JournalDamaged, OSError."""
        return cls(
            WriteAheadFile(directory, journal_limits or JournalLimits()),
            billing=billing,
            producer=producer,
            worker_id=worker_id,
            clock=clock,
            budget_limits=budget_limits,
            journal_limits=journal_limits,
        )

    async def recover(self) -> None:
        """Records the requests that crashed and hands their grants to the closer.

        Needs the disk alone: billing and Kafka may be away, `run` reaches them when they are back.
        Raises Unavailable where the disk refuses.
        """
        crashed = await self.journal.record_crashed()
        grants = list(self.wal.state.grants.values())
        for total in grants:
            self.budget.closer.add(total)
        if crashed or grants:
            _log.warning("journal_recovered", crashed=crashed, grants=len(grants))

    async def run(self) -> None:
        """Works in the background until cancelled. A failure of any part ends it, loudly."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.budget.run())
            tasks.create_task(self.delivery.run(self.flusher))

    async def drain(self, *, timeout_s: float) -> bool:
        """After the last request, while `run` still works: delivers and gives back everything.

        False where that took longer; the next start of this worker does the rest.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self.budget.drain()
                await self.flusher.durable()
                await self.delivery.wait_idle()
        except TimeoutError:
            _log.warning(
                "money_not_drained", grants=len(self.wal.state.grants), holds=self.budget.holds
            )
            return False
        return True

    async def close(self, *, drained: bool) -> None:
        """Lets the journal go, after `run` has ended; removes it where nothing is open."""
        await self.flusher.close()
        self.wal.close(remove=drained)

    def _watch(self) -> None:
        money_metrics.JOURNAL_BYTES.set_function(lambda: self.wal.bytes_total)
        money_metrics.JOURNAL_OPEN.set_function(lambda: len(self.wal.state.admitted))
        money_metrics.JOURNAL_OLDEST_SECONDS.set_function(self._oldest_s)
        money_metrics.GRANTS_OPEN.set_function(lambda: len(self.budget.grants))
        money_metrics.GRANTS_RETURNING.set_function(lambda: self.budget.closer.pending)
        money_metrics.HOLDS.set_function(lambda: self.budget.holds)

    def _oldest_s(self) -> float:
        oldest_ms = self.wal.state.oldest_admitted_ms()
        return 0.0 if oldest_ms is None else max(0, self._clock.now_ms() - oldest_ms) / 1000

    def checks(self) -> Mapping[str, Callable[[], bool]]:
        """For /readyz."""
        return {"journal": self.wal.admits}
