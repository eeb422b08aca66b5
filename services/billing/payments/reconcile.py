"""Finds what the notices did not bring, and has the gateway's movements compared with the journal.

Notices can be lost; so undelivered ones are fetched, checkouts of which nothing was heard are
looked at, and once a day `compare.py` holds the gateway's movements of money against the journal.
"""

from __future__ import annotations

from services.billing.payment_ports import InboxRow
from services.billing.payments.compare import Compared, Comparison
from services.billing.payments.observe import Observer
from services.billing.payments.workers import BATCH, Inbox, guarded
from services.common.clock import Clock
from services.common.errors import AppError
from services.common.telemetry import get_logger

log = get_logger(__name__)

DAY_MS = 86_400_000
# Notices are retried for three days; what is older was either delivered or is fetched here.
LOOK_BACK_MS = 4 * DAY_MS


class Reconciler:
    """Runs until cancelled; every part of it may be repeated at will."""

    def __init__(
        self,
        inbox: Inbox,
        observer: Observer,
        clock: Clock,
        *,
        every_s: float,
        compare_every_s: float,
        quiet_s: float,
    ) -> None:
        self._inbox = inbox
        self._observer = observer
        self._clock = clock
        self._every_s = every_s
        self._compare_every_ms = round(compare_every_s * 1000)
        self._quiet_ms = round(quiet_s * 1000)
        self._compared_at_ms = 0

    async def run(self) -> None:
        """For ever."""
        while True:
            await guarded("reconciler", self.turn)
            await self._clock.sleep(self._every_s)

    async def turn(self) -> None:
        """One round. Raises Unavailable."""
        await self.fetch_undelivered()
        await self.look_at_quiet_top_ups()
        now_ms = self._clock.now_ms()
        if now_ms - self._compared_at_ms >= self._compare_every_ms:
            await self.compare(now_ms - LOOK_BACK_MS, now_ms)
            self._compared_at_ms = now_ms

    async def fetch_undelivered(self) -> int:
        """Puts notices into the box that did not reach us; how many were new."""
        now_ms = self._clock.now_ms()
        new = 0
        for notice in await self._observer.gateway.undelivered(now_ms - LOOK_BACK_MS):
            # One that is known is only waiting to be delivered again: looked up, not written.
            if await self._inbox.box.get(notice.event_id) is None:
                new += await self._inbox.take(InboxRow(notice, now_ms, "reconciler"))
        return new

    async def look_at_quiet_top_ups(self) -> None:
        """Looks at checkouts of which nothing was heard for a while."""
        before_ms = self._clock.now_ms() - self._quiet_ms
        for top_up in await self._observer.store.open_top_ups(before_ms, BATCH):
            try:
                await self._observer.look_at_top_up(top_up)
            except AppError as error:
                log.warning("top_up_not_seen", top_up_id=top_up.top_up_id, error=error.message)

    async def compare(self, from_ms: int, to_ms: int) -> Compared:
        """Holds what moved within this time against the journal, and heals what it can.

        Raises Unavailable.
        """
        return await Comparison(self._observer).run(from_ms, to_ms)
