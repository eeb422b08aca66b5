"""Gives grants back to billing: for as long as it takes, a few at a time, with the absolute spent.

A grant that was handed over here is in no purse any more, so what was spent under it is final.

Billing may know nothing of a grant whose opening nobody heard the answer of. That is believed only
when it says so again after `late_open_s`: the question may have been under way when it first said
so, and then opens a grant that nobody else would close.
"""

from __future__ import annotations

import asyncio
import math

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
        # Grants that billing did not know, and from which monotonic second on that is believed.
        self._unknown: dict[GrantId, float] = {}
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
            pause_s = self._pause_s()
            if pause_s > 0:
                self._work.clear()
                await self._wait(pause_s)
            elif await self._close_all():
                backoff_s = self._limits.backoff_first_s
            else:
                await self._clock.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, self._limits.backoff_max_s)

    def _due(self) -> list[GrantTotal]:
        now_s = self._clock.monotonic_s()
        return [
            total
            for grant_id, total in self._pending.items()
            if self._unknown.get(grant_id, now_s) <= now_s
        ]

    def _pause_s(self) -> float:
        """How long until something can be closed; infinity where nothing is pending."""
        if self._due():
            return 0.0
        now_s = self._clock.monotonic_s()
        return min((self._unknown[one] for one in self._pending), default=math.inf) - now_s

    async def _wait(self, pause_s: float) -> None:
        """Waits this long, or until there is new work."""
        waits: set[asyncio.Future[object]] = {asyncio.ensure_future(self._work.wait())}
        if pause_s < math.inf:
            waits.add(asyncio.ensure_future(self._clock.sleep(pause_s)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _close_all(self) -> bool:
        """One round over what is due, `closes_at_once` at a time, until billing fails."""
        while batch := self._due()[: self._limits.closes_at_once]:
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
            now_s = self._clock.monotonic_s()
            if now_s < self._unknown.setdefault(total.grant_id, now_s + self._limits.late_open_s):
                return True
            _log.info("grant_never_opened", grant_id=total.grant_id)
        except AppError as error:
            if answer_is_uncertain(error):
                return False
            # Billing will not take it, now or later: its own expiry has to resolve it.
            _log.error("grant_close_refused", grant_id=total.grant_id, error=error.message)
        self._log.grant_closed(total.grant_id)
        self._pending.pop(total.grant_id, None)
        self._unknown.pop(total.grant_id, None)
        return True
