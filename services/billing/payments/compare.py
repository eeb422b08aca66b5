"""Holds the payment gateway's movements of money against the journal, in both directions.

Every movement must be in our rows, and of every payment that moved there or was booked here the
journal's entries must come to what the gateway says is left of it. What differs is looked at again
at once; what differs still is a finding for a person. Beyond the days that are compared, all of the
journal must come to all of the payments, so that no entry can move the gateway's money beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from services.billing import metrics
from services.billing.domain.payment_book import PaymentBook
from services.billing.domain.payment_seen import CASH, DISPUTES, PaymentSeen
from services.billing.payment_ports import Movement
from services.billing.payments.observe import Observer
from services.common.errors import AppError, NotFound
from services.common.ids import AccountId
from services.common.telemetry import get_logger

log = get_logger(__name__)


@dataclass(slots=True)
class Compared:
    """What a comparison came to; amounts are nano-dollars. `foreign` movements are not of ours."""

    movements: int = 0
    foreign: int = 0
    moved_nanousd: int = 0
    fees_nanousd: int = 0
    repaired: int = 0
    findings: list[str] = field(default_factory=list)


class Comparison:
    """One comparison, in which each payment is fetched once."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._compared = Compared()

    async def run(self, from_ms: int, to_ms: int) -> Compared:
        """Compares what moved there, or was booked here, within this time. Raises Unavailable."""
        compared = self._compared
        moved: dict[str, list[Movement]] = {}
        for movement in await self._observer.gateway.movements(from_ms, to_ms):
            compared.movements += 1
            if movement.kind == "other" or not movement.payment_id:
                compared.foreign += 1
            else:
                moved.setdefault(movement.payment_id, []).append(movement)
        booked = dict(await self._observer.store.payments_booked(from_ms, to_ms))
        for payment_id in sorted({*moved, *booked}):
            await self._payment(payment_id, moved.get(payment_id, []), booked.get(payment_id))
        by_rows, by_journal = await self._observer.store.money_at_gateway()
        if by_rows != by_journal:
            compared.findings.append(
                f"of all payments the journal has {by_journal} nano-dollars at the gateway and"
                f" the payments come to {by_rows}"
            )
        metrics.PAYMENT_FINDINGS.set(len(compared.findings))
        if compared.findings:
            metrics.ALARMS.labels("payment").inc(len(compared.findings))
            log.error("payments_differ", findings=compared.findings[:20])
        return compared

    async def _payment(
        self, payment_id: str, movements: Sequence[Movement], account_id: AccountId | None
    ) -> None:
        seen = await self._fetched(payment_id, movements, account_id)
        if seen is None:
            return
        self._compared.moved_nanousd += sum(one.amount_nanousd for one in movements)
        self._compared.fees_nanousd += sum(one.fee_nanousd for one in movements)
        if not await self._differences(seen, movements):
            return
        try:
            self._compared.repaired += await self._observer.see(seen)
        except AppError as error:
            if error.retryable:
                raise
            self._compared.findings.append(f"payment {payment_id}: {error.message}")
            return
        # Fetched anew: it may have changed, and been booked, since it was fetched.
        seen = await self._observer.gateway.payment(payment_id)
        self._compared.findings += await self._differences(seen, movements)

    async def _fetched(
        self, payment_id: str, movements: Sequence[Movement], account_id: AccountId | None
    ) -> PaymentSeen | None:
        try:
            return await self._observer.gateway.payment(payment_id)
        except NotFound:
            self._compared.foreign += len(movements)
            if account_id is not None:
                self._compared.findings.append(
                    f"payment {payment_id} is booked and the gateway does not know it"
                )
        return None

    async def _differences(self, seen: PaymentSeen, movements: Sequence[Movement]) -> list[str]:
        book = await self._observer.store.payments_of(seen.account_id)
        found = [
            f"{one.movement_id}: {what}"
            for one in movements
            for what in [missing(book, one)]
            if what
        ]
        ours, theirs = await self._journal(book, seen), left_there(seen)
        if ours != theirs:
            found.append(
                f"payment {seen.payment_id}: the journal has {ours} nano-dollars of it and the"
                f" gateway {theirs}"
            )
        return found

    async def _journal(self, book: PaymentBook, seen: PaymentSeen) -> int:
        """What of a payment is at the gateway by the journal: what it took, less what went back."""
        total = 0
        async with self._observer.store.unit() as unit:
            for key in causes(book, seen.payment_id):
                posted = await unit.transaction(seen.account_id, key)
                if posted is not None:
                    total -= sum(
                        entry.amount_nanousd
                        for entry in posted.entries
                        if entry.ledger_account in (CASH, DISPUTES)
                    )
        return total


def left_there(seen: PaymentSeen) -> int:
    """What the gateway still has of a payment, in nano-dollars, before its fees."""
    if seen.status != "succeeded":
        return 0
    refunded = sum(one.amount_nanousd for one in seen.refunds if one.status == "made")
    disputed = sum(one.amount_nanousd for one in seen.disputes if one.status != "won")
    return seen.received_nanousd - refunded - disputed


def causes(book: PaymentBook, payment_id: str) -> Iterator[str]:
    """The keys of every transaction by which a payment's money came to the gateway or left it."""
    yield f"payment:{payment_id}"
    for refund in book.refund.values():
        if refund.payment_id == payment_id and refund.gateway_refund_id:
            yield f"refund:{refund.gateway_refund_id}"
            yield f"refund_failed:{refund.gateway_refund_id}"
    for dispute in book.dispute.values():
        if dispute.payment_id == payment_id:
            yield f"dispute:{dispute.dispute_id}"
            yield f"dispute_won:{dispute.dispute_id}"
            yield f"dispute_lost:{dispute.dispute_id}"


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
