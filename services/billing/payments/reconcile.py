"""Finds what the notices did not bring, and compares the gateway's movements with the journal.

Notices can be lost; so undelivered ones are fetched, checkouts of which nothing was heard are
looked at, and once a day every movement of money at the gateway is held against our rows. What is
missing is looked at again at once; what is still missing then is a finding for a person.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from services.billing import metrics
from services.billing.domain.payment_book import PaymentBook
from services.billing.domain.payment_seen import CASH, DISPUTES, PaymentSeen
from services.billing.payment_ports import InboxRow, Movement
from services.billing.payments.observe import Observer
from services.billing.payments.workers import BATCH, Inbox, guarded
from services.common.clock import Clock
from services.common.errors import AppError, NotFound
from services.common.telemetry import get_logger

log = get_logger(__name__)

DAY_MS = 86_400_000
# Notices are retried for three days; what is older was either delivered or is fetched here.
LOOK_BACK_MS = 4 * DAY_MS


@dataclass(slots=True)
class Compared:
    """What a comparison came to; amounts are nano-dollars. `foreign` movements are not of ours."""

    movements: int = 0
    foreign: int = 0
    moved_nanousd: int = 0
    fees_nanousd: int = 0
    repaired: int = 0
    findings: list[str] = field(default_factory=list)


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
        # Within one comparison each payment is fetched once.
        self._seen: dict[str, PaymentSeen] = {}

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
        """Holds the movements of this time against our rows, and heals what it can."""
        compared = Compared()
        self._seen.clear()
        for movement in await self._observer.gateway.movements(from_ms, to_ms):
            compared.movements += 1
            try:
                await self._compare(compared, movement)
            except NotFound:
                compared.foreign += 1
        metrics.PAYMENT_FINDINGS.set(len(compared.findings))
        if compared.findings:
            metrics.ALARMS.labels("payment").inc(len(compared.findings))
            log.error("payments_differ", findings=compared.findings[:20])
        return compared

    async def _compare(self, compared: Compared, movement: Movement) -> None:
        if movement.kind == "other" or not movement.payment_id:
            compared.foreign += 1
            return
        seen = self._seen.get(movement.payment_id)
        if seen is None:
            seen = await self._observer.gateway.payment(movement.payment_id)
            self._seen[movement.payment_id] = seen
        compared.moved_nanousd += movement.amount_nanousd
        compared.fees_nanousd += movement.fee_nanousd
        store = self._observer.store
        if missing(await store.payments_of(seen.account_id), movement):
            await self._observer.see(seen)
            compared.repaired += 1
            still = missing(await store.payments_of(seen.account_id), movement)
            if still:
                compared.findings.append(f"{movement.movement_id}: {still}")


def missing(book: PaymentBook, movement: Movement) -> str:
    """What of a movement our rows do not say; empty where they say all of it."""
    amount = movement.amount_nanousd
    payment = book.payment.get(movement.payment_id)
    if payment is None:
        return f"payment {movement.payment_id} is not booked"
    if movement.kind == "payment":
        same = payment.received_nanousd == amount
        return "" if same else f"payment {movement.payment_id} is booked with another amount"
    if movement.kind in ("refund", "refund_failed"):
        refund = next(
            (r for r in book.refund.values() if r.gateway_refund_id == movement.source_id), None
        )
        if refund is None or refund.amount_nanousd != abs(amount):
            return f"refund {movement.source_id} is not booked with this amount"
        wanted = ("made", "failed") if movement.kind == "refund" else ("failed",)
        return "" if refund.status in wanted else f"refund {movement.source_id} is {refund.status}"
    dispute = book.dispute.get(movement.source_id)
    if dispute is None or dispute.amount_nanousd != abs(amount):
        return f"dispute {movement.source_id} is not booked with this amount"
    returned = movement.kind == "dispute_returned"
    if returned and dispute.status != "won":
        return f"dispute {movement.source_id} is {dispute.status}"
    return ""


def expected_total(movements: Iterable[Movement]) -> int:
    """What all of our movements at the gateway come to, in nano-dollars, before its fees."""
    return sum(one.amount_nanousd for one in movements if one.kind != "other")


def journal_total(totals: dict[str, int]) -> int:
    """The same by the journal. A dispute's money has left the gateway while it is held here."""
    return -(totals.get(CASH, 0) + totals.get(DISPUTES, 0))
