"""The sweeper: marks grants unresolved that nobody closed in time, and much later writes them off.

The first returns no money, ever. The second does, and says so in an event of its own. Recalls that
are over go too, and after a day what is known of grants that were never opened.
"""

from __future__ import annotations

from services.billing import metrics
from services.billing.domain.grants import GrantRules
from services.billing.handlers import expire_grants, write_off_overdue
from services.billing.ports import LedgerStore
from services.common.clock import Clock
from services.common.errors import AppError
from services.common.telemetry import get_logger

log = get_logger(__name__)
# Longer than a question can be under way.
GIVEN_UP_MS = 86_400_000


class ExpirySweeper:
    """Runs until cancelled, with pauses of `every_s`; takes `batch_max` grants at once."""

    def __init__(
        self,
        store: LedgerStore,
        clock: Clock,
        rules: GrantRules,
        *,
        every_s: float,
        batch_max: int,
    ) -> None:
        self._store = store
        self._clock = clock
        self._rules = rules
        self._every_s = every_s
        self._batch_max = batch_max

    async def run(self) -> None:
        """Sweeps for ever; where the store is away it tries again at the next turn."""
        while True:
            try:
                while await self.sweep() >= self._batch_max:
                    pass
            except AppError as error:
                log.warning("expiry_sweep_failed", error=error.message)
            await self._clock.sleep(self._every_s)

    async def sweep(self) -> int:
        """One batch; returns how many lapsed or overdue grants it saw. Raises Unavailable."""
        seen = await expire_grants(
            self._store, self._clock, rules=self._rules, limit=self._batch_max
        )
        if seen:
            metrics.GRANTS_EXPIRED.inc(seen)
            log.warning("grants_unresolved", count=seen)
        overdue = await write_off_overdue(
            self._store, self._clock, rules=self._rules, limit=self._batch_max
        )
        if overdue:
            metrics.GRANTS_WRITTEN_OFF.inc(overdue)
            log.error("grants_written_off", count=overdue)
        now_ms = self._clock.now_ms()
        await self._store.forget_recalls(now_ms)
        await self._store.forget_given_up(now_ms - GIVEN_UP_MS)
        return max(seen, overdue)
