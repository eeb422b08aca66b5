"""The loops of payments: the inbox, refills and refunds, the expiry of promotional credit.

Each may run in any number of replicas: what they do twice, they do to the same effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from services.billing import metrics
from services.billing.payment_ports import InboxRow, InboxStore
from services.billing.payments.handlers import expire_promos
from services.billing.payments.observe import Observer, failed
from services.billing.payments.work import start_refills, working_on
from services.common.clock import Clock
from services.common.errors import AppError
from services.common.ids import AccountId
from services.common.telemetry import get_logger

log = get_logger(__name__)

BATCH = 100
PAUSE_MAX_S = 300.0


class Inbox:
    """Takes notices in, and works on them."""

    def __init__(
        self, box: InboxStore, observer: Observer, clock: Clock, *, every_s: float
    ) -> None:
        self.box = box
        self._observer = observer
        self._clock = clock
        self._every_s = every_s
        self._came = asyncio.Event()

    async def take(self, row: InboxRow) -> bool:
        """Keeps a notice and wakes the worker; True where it is new. Raises Unavailable."""
        is_new = await self.box.put(row)
        self._came.set()
        return is_new

    async def replay(self, event_id: str) -> InboxRow | None:
        """Works on one row again, whatever became of it before."""
        row = await self.box.get(event_id)
        if row is None:
            return None
        await self._work_on(replace(row, attempts=0))
        return await self.box.get(event_id)

    async def run(self) -> None:
        """For ever; at once where a notice came."""
        while True:
            self._came.clear()
            await guarded("inbox", self.turn)
            await self._wait()

    async def _wait(self) -> None:
        came = asyncio.ensure_future(self._came.wait())
        due = asyncio.ensure_future(self._clock.sleep(self._every_s))
        try:
            await asyncio.wait({came, due}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            came.cancel()
            due.cancel()

    async def turn(self) -> int:
        """Works on what is due; how many rows. Raises Unavailable."""
        rows = await self.box.due(self._clock.now_ms(), BATCH)
        for row in rows:
            await self._work_on(row)
        return len(rows)

    async def _work_on(self, row: InboxRow) -> None:
        try:
            await self._observer.look_at_notice(row)
        except AppError as error:
            after = failed(row, error, now_ms=self._clock.now_ms())
            if after.status == "failed":
                metrics.ALARMS.labels("payment").inc()
                log.error("notice_failed", event_id=row.notice.event_id, error=error.message)
            await self.box.save(after)
            return
        await self.box.save(replace(row, status="done", attempts=row.attempts + 1, error=""))


class Charger:
    """Decides the refills that no transaction decided, and performs refills and refunds.

    The rows under way are the commands: they were written by the transactions that decided them, so
    a crash at any step leaves them to whoever comes next.
    """

    def __init__(self, observer: Observer, clock: Clock, *, every_s: float) -> None:
        self._observer = observer
        self._clock = clock
        self._every_s = every_s
        # When to try again what had no clear answer, by id. Forgotten at a start: harmless.
        self._later: dict[str, tuple[float, int]] = {}

    async def run(self) -> None:
        """For ever."""
        while True:
            await guarded("charger", self.turn)
            await self._clock.sleep(self._every_s)

    async def turn(self) -> None:
        """One look at everything. Raises Unavailable."""
        store = self._observer.store
        for account_id in await store.due_refills(self._clock.now_ms(), BATCH):
            await self.start_refill(account_id)
        for refill in await store.open_refills(BATCH):
            await self._try(refill.refill_id, partial(self._observer.charge, refill))
        for refund in await store.open_refunds(BATCH):
            await self._try(
                refund.refund_id,
                partial(self._observer.refund, refund.refund_id, refund.account_id),
            )
        await expire_promos(store, self._clock, limit=BATCH)

    async def start_refill(self, account_id: AccountId) -> None:
        """Commands a refill where it is still due: a pause may have ended with nobody spending."""
        async with working_on(self._observer.store, self._clock, account_id) as work:
            work.book.wallets_touched.add(account_id)
            await start_refills(work.unit, work.book, now_ms=work.now_ms)

    async def _try(self, key: str, attempt: Callable[[], Awaitable[bool]]) -> None:
        at_s, failures = self._later.get(key, (0.0, 0))
        if self._clock.monotonic_s() < at_s:
            return
        try:
            done = await attempt()
        except AppError as error:
            done = False
            log.warning("charge_failed", key=key, error=error.message)
        if done:
            self._later.pop(key, None)
            return
        pause_s = min(PAUSE_MAX_S, self._every_s * 2 ** min(failures, 10))
        self._later[key] = (self._clock.monotonic_s() + pause_s, failures + 1)


async def guarded(name: str, turn: Callable[[], Awaitable[object]]) -> None:
    """One turn of a loop that goes on whatever of ours goes wrong in it."""
    try:
        await turn()
    except AppError as error:
        log.warning("payments_turn_failed", loop=name, error=error.message)
