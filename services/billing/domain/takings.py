"""What is taken back of a payment: refunds and disputes, each by the gateway's own id.

A payment's tax is no money of the wallet, so what is taken is split in that proportion, by running
totals: a full refund takes exactly what was credited.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from services.billing.domain.events import Entry
from services.billing.domain.ledger import transfer, wallet_account
from services.billing.domain.payment_book import PaymentBook
from services.billing.domain.payment_events import DisputeChanged, RefundChanged, RefundRequested
from services.billing.domain.payment_seen import (
    CASH,
    DISPUTES,
    REFUNDS,
    TAX,
    DisputeSeen,
    PaymentSeen,
    Posting,
    RefundSeen,
    Step,
)
from services.billing.domain.payment_state import Payment
from services.common.errors import Conflict, NotFound


def taken_back(book: PaymentBook, payment: Payment, seen: PaymentSeen) -> Iterator[Step]:
    """Refunds and disputes, one after the other: each split depends on what was taken before."""
    total = _Taken(payment)
    for refund in seen.refunds:
        yield from _refund_after(book, total, refund)
    for dispute in seen.disputes:
        yield from _dispute_after(book, total, dispute)


class _Taken:
    """What was taken back of a payment so far, while several things are decided together."""

    def __init__(self, payment: Payment) -> None:
        self.payment = payment
        self._taken = payment.taken_nanousd
        self._wallet = payment.wallet_taken_nanousd

    def take(self, amount_nanousd: int) -> int:
        """The wallet's part of an amount that is taken back now."""
        self._taken += amount_nanousd
        part = wallet_part(self.payment, self._taken) - self._wallet
        self._wallet += part
        return part

    def give(self, amount_nanousd: int, wallet_nanousd: int) -> None:
        """A taking that did not come about after all."""
        self._taken -= amount_nanousd
        self._wallet -= wallet_nanousd


def wallet_part(payment: Payment, taken_nanousd: int) -> int:
    """What of a running total that was taken back is the wallet's, rounded half up."""
    received, credited = payment.received_nanousd, payment.credited_nanousd
    return (2 * taken_nanousd * credited + received) // (2 * received)


def split(payment: Payment, amount_nanousd: int, wallet_nanousd: int) -> tuple[Entry, Entry]:
    """The entries that take an amount back: out of the wallet, the rest out of the tax."""
    return (
        Entry(wallet_account(payment.account_id), -wallet_nanousd),
        Entry(TAX, wallet_nanousd - amount_nanousd),
    )


def _move(
    payment: Payment, amount_nanousd: int, wallet_nanousd: int, *, target: str, back: bool = False
) -> tuple[Entry, ...]:
    sign = -1 if back else 1
    entries = [
        *split(payment, sign * amount_nanousd, sign * wallet_nanousd),
        Entry(target, sign * amount_nanousd),
    ]
    return tuple(entry for entry in entries if entry.amount_nanousd)


def decide_refund(
    book: PaymentBook, request: RefundRequested, *, available_nanousd: int
) -> list[Step]:
    """Reserves a refund; the wallet's part of it is computed here.

    Raises NotFound for a payment the account has not, Conflict where less is left of it or in the
    wallet.
    """
    payment = book.payment.get(request.payment_id)
    if payment is None or payment.account_id != request.account_id:
        raise NotFound("the account has no such payment")
    left = payment.received_nanousd - payment.taken_nanousd
    if request.amount_nanousd > left:
        raise Conflict(f"of this payment only {left} nano-dollars are left to refund")
    wallet = _Taken(payment).take(request.amount_nanousd)
    if wallet > available_nanousd:
        raise Conflict(f"the wallet has only {available_nanousd} nano-dollars available")
    reserved = RefundRequested(
        request.refund_id,
        request.account_id,
        request.payment_id,
        request.amount_nanousd,
        wallet,
        request.reason,
        request.requested_by,
    )
    entries = _move(payment, request.amount_nanousd, wallet, target=REFUNDS)
    return [
        reserved,
        Posting(
            request.account_id,
            f"refund_reserved:{request.refund_id}",
            "refund_reserved",
            entries,
            request.reason,
        ),
    ]


def decide_refused_refund(book: PaymentBook, refund_id: str, reason: str) -> list[Step]:
    """The gateway will not make a refund that we asked for: its money goes back."""
    refund = book.refund.get(refund_id)
    if refund is None or refund.status != "requested":
        return []
    payment = book.payment[refund.payment_id]
    return [
        RefundChanged(
            refund_id,
            refund.account_id,
            refund.payment_id,
            "",
            refund.amount_nanousd,
            refund.wallet_nanousd,
            "refused",
            reason,
        ),
        Posting(
            refund.account_id,
            f"refund_released:{refund_id}",
            "refund_released",
            _move(payment, refund.amount_nanousd, refund.wallet_nanousd, target=REFUNDS, back=True),
            reason,
        ),
    ]


def _refund_after(book: PaymentBook, total: _Taken, seen: RefundSeen) -> Iterator[Step]:
    """Made: the money left. Failed: it came back. Failed is the end, whatever is seen later.

    A refund that nobody here asked for, or that we gave up on, is a fact all the same.
    """
    payment, key = total.payment, seen.gateway_refund_id
    known = book.refund.get(seen.refund_id) or book.refund.get(key)
    before = known.status if known is not None else ""
    if known is not None and known.amount_nanousd != seen.amount_nanousd:
        raise Conflict(f"refund {key} is of another amount than was asked for")
    if before == "failed":
        return
    reserved = known is not None and before in ("requested", "made")
    wallet = known.wallet_nanousd if known and reserved else total.take(seen.amount_nanousd)
    refund_id = known.refund_id if known is not None else key
    amount, account_id = seen.amount_nanousd, payment.account_id
    reason = f"refund {key} of payment {payment.payment_id}"

    def changed(status: Literal["made", "failed"]) -> RefundChanged:
        return RefundChanged(refund_id, account_id, payment.payment_id, key, amount, wallet, status)

    if before != "made":
        entries: tuple[Entry, ...] = transfer(amount, source=REFUNDS, target=CASH)
        if not reserved:
            entries = _move(payment, amount, wallet, target=CASH)
        yield changed("made")
        yield Posting(account_id, f"refund:{key}", "refund", entries, reason)
    if seen.status == "failed":
        total.give(amount, wallet)
        entries = _move(payment, amount, wallet, target=CASH, back=True)
        yield changed("failed")
        yield Posting(account_id, f"refund_failed:{key}", "refund_failed", entries, reason)


def _dispute_after(book: PaymentBook, total: _Taken, seen: DisputeSeen) -> Iterator[Step]:
    """The money is held first, then it is gone or comes back; that is the end of it."""
    payment, key, amount = total.payment, seen.dispute_id, seen.amount_nanousd
    known = book.dispute.get(key)
    if known is not None and known.status != "open":
        return
    wallet = known.wallet_nanousd if known is not None else total.take(amount)
    account_id = payment.account_id
    reason = f"dispute {key} of payment {payment.payment_id}"

    def changed(status: Literal["open", "won", "lost"]) -> DisputeChanged:
        return DisputeChanged(
            key, account_id, payment.payment_id, amount, wallet, status, seen.reason
        )

    if known is None:
        entries = _move(payment, amount, wallet, target=DISPUTES)
        yield changed("open")
        yield Posting(account_id, f"dispute:{key}", "dispute", entries, reason)
    if seen.status == "lost":
        lost = transfer(amount, source=DISPUTES, target=CASH)
        yield changed("lost")
        yield Posting(account_id, f"dispute_lost:{key}", "dispute_lost", lost, reason)
    elif seen.status == "won":
        total.give(amount, wallet)
        entries = _move(payment, amount, wallet, target=DISPUTES, back=True)
        yield changed("won")
        yield Posting(account_id, f"dispute_won:{key}", "dispute_won", entries, reason)
