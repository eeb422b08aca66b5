"""Tells billing what was used of closed leases: a few at a time, as often as it takes.

What it does not manage to tell stays counted as used: a window is never lent out twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from services.common.clock import Clock
from services.common.errors import AppError, NotFound
from services.common.telemetry import get_logger
from services.gateway.budget.closer import answer_is_uncertain
from services.gateway.quota.limits import QuotaLimits
from services.gateway.quota.line import QuotaLine
from services.gateway.quota.ports import Draw, LeaseId, QuotaSource, Return
from services.gateway.quota.purse import HeldLease, QuotaPurse

_log = get_logger(__name__)
# A lease that may have been drawn without our hearing of it is of use to others within its minute.
_UNKNOWN_FOR_S = 60.0


class QuotaReturner:
    """Returns what `run` finds in the purses, whenever it is woken."""

    def __init__(self, billing: QuotaSource, clock: Clock, limits: QuotaLimits) -> None:
        self._billing = billing
        self._clock = clock
        self._limits = limits
        # Returned unused, with the moment until which that is tried.
        self._unknown: dict[LeaseId, tuple[Return, float]] = {}
        self._busy: set[LeaseId] = set()
        self._work = asyncio.Event()
        self._corrections = False
        self._progress = asyncio.Event()

    def wake(self, *, corrections: bool = False) -> None:
        """There may be something to tell; corrections of what was told can be told together."""
        self._corrections = self._corrections or corrections
        self._work.set()

    def add_unknown(self, draw: Draw) -> None:
        """Takes over a draw whose answer never came: if there is a lease, it was not used."""
        unused = Return(draw.lease_id, draw.account_id, draw.key_id, 0, 0, 1)
        self._unknown[draw.lease_id] = (unused, self._clock.monotonic_s() + _UNKNOWN_FOR_S)
        self.wake()

    @property
    def pending(self) -> bool:
        """True while there are draws of which it is not known whether they gave a lease."""
        return bool(self._unknown)

    async def progress(self) -> None:
        """Returns after the next round."""
        await self._progress.wait()

    async def run(self, lines: Callable[[], Iterable[QuotaLine]]) -> None:
        """Works until cancelled; billing being away costs only time."""
        backoff_s = self._limits.backoff_first_s
        while True:
            await self._work.wait()
            self._work.clear()
            corrections, self._corrections = self._corrections, False
            done = await self._round(lines(), corrections=corrections)
            self._progress.set()
            self._progress = asyncio.Event()
            if done:
                backoff_s = self._limits.backoff_first_s
            else:
                await self._clock.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, self._limits.backoff_max_s)
                self.wake(corrections=corrections)

    async def return_all(self, line: QuotaLine) -> None:
        """Tells at once what there is to tell of one key, once; `run` goes on where it fails."""
        due = line.purse.due(self._clock.monotonic_s())
        done = await asyncio.gather(*(self._return(line.purse, held) for held in due))
        if not all(done):
            self.wake(corrections=True)

    async def _round(self, lines: Iterable[QuotaLine], *, corrections: bool) -> bool:
        """Everything once, `returns_at_once` at a time, until billing fails."""
        now_s = self._clock.monotonic_s()
        due = [
            (line.purse, held)
            for line in lines
            for held in line.purse.due(now_s, corrections=corrections)
        ]
        step = self._limits.returns_at_once
        for start in range(0, len(due), step):
            batch = due[start : start + step]
            if not all(await asyncio.gather(*(self._return(*one) for one in batch))):
                return False
        for unused, until_s in list(self._unknown.values()):
            if now_s < until_s and not await self._tell(unused):
                return False
            del self._unknown[unused.lease_id]
        return True

    async def _return(self, purse: QuotaPurse, held: HeldLease) -> bool:
        # One call a lease at a time: its figures would overtake themselves.
        if held.lease_id in self._busy:
            return True
        self._busy.add(held.lease_id)
        figures = held.figures
        try:
            told = await self._tell(purse.next_return(held))
        finally:
            self._busy.discard(held.lease_id)
        if told:
            held.reported = figures
        return told

    async def _tell(self, request: Return) -> bool:
        """False where billing may not have heard it; what it does not want to hear is done with."""
        try:
            await self._billing.give_back(request, timeout_s=self._limits.rpc_timeout_s)
        except NotFound:
            pass
        except AppError as error:
            if answer_is_uncertain(error):
                return False
            _log.error("quota_return_refused", lease_id=request.lease_id, error=error.message)
        return True
