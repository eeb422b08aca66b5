"""Gives grants back to billing: for as long as it takes, a few at a time, with the absolute spent.

A grant that was handed over here is in no purse any more, so what was spent under it is final.

Billing may know nothing of a grant whose opening nobody heard the answer of. It remembers then that
the grant was given up, so that a question still under way opens nothing: what it says is final.
"""

from __future__ import annotations

import asyncio

from services.common.clock import Clock
from services.common.errors import AppError, NotFound
from services.common.ids import GrantId
from services.common.telemetry import get_logger
from services.gateway.budget.limits import BudgetLimits
from services.gateway.budget.ports import GrantLog, Grants, GrantTotal

_log = get_logger(__name__)


def answer_is_uncertain(error: AppError) -> bool:
    """True where the error does not say that nothing was done."""
    return error.retryable or error.http_status >= 500


class GrantCloser:
    """Grants on their way back. `run` works until cancelled; what is left, a restart closes."""

    def __init__(
        self, billing: Grants, log: GrantLog, *, clock: Clock, limits: BudgetLimits
    ) -> None:
        self._billing = billing
        self._log = log
        self._clock = clock
        self._limits = limits
        self._pending: dict[GrantId, GrantTotal] = {}
        self._work = asyncio.Event()
        self._progress = asyncio.Event()

    @property
    def pending(self) -> int:
        """How many grants billing has not taken back yet."""
        return len(self._pending)

    def add(self, total: GrantTotal) -> None:
        """Takes a grant over. What it spent must be what the log says, to the nano-dollar."""
        logged = self._log.spent_nanousd(total.grant_id)
        assert logged == total.spent_nanousd, (
            f"{total.grant_id}: {total.spent_nanousd} spent, {logged} in the log"
        )
        self._pending[total.grant_id] = total
        self._work.set()

    async def wait_empty(self) -> None:
        """Returns when billing has taken everything back."""
        while self._pending:
            await self._progress.wait()

    async def run(self) -> None:
        """Closes what is pending, and goes on for ever; billing being away costs only time."""
        backoff_s = self._limits.backoff_first_s
        while True:
            await self._work.wait()
            self._work.clear()
            if await self._close_all():
                backoff_s = self._limits.backoff_first_s
            else:
                self._work.set()
                await self._clock.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, self._limits.backoff_max_s)

    async def _close_all(self) -> bool:
        """One round over what is pending, `closes_at_once` at a time, until billing fails."""
        while batch := list(self._pending.values())[: self._limits.closes_at_once]:
            # Billing believes what a close says was spent, so the events that say it too must
            # outlive a loss of power.
            await self._log.sync()
            closed = await asyncio.gather(*(self._close(total) for total in batch))
            self._progress.set()
            self._progress = asyncio.Event()
            if not all(closed):
                return False
        return True

    async def _close(self, total: GrantTotal) -> bool:
        """False where billing has to be asked again at once."""
        try:
            await self._billing.close(total, timeout_s=self._limits.rpc_timeout_s)
        except NotFound:
            _log.info("grant_never_opened", grant_id=total.grant_id)
        except AppError as error:
            if answer_is_uncertain(error):
                return False
            # Billing will not take it, now or later: its own expiry has to resolve it.
            _log.error("grant_close_refused", grant_id=total.grant_id, error=error.message)
        self._log.grant_closed(total.grant_id)
        self._pending.pop(total.grant_id, None)
        return True
