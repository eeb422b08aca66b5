"""What happens to money at the payment gateway, as events and postings of the account's ledger.

The gateway's newest state of a payment is looked at as a whole (`PaymentSeen`): its notices say
only that there is something to look at, so their order, number and delay cannot matter. Every
posting's key comes from the cause - payment, refund, dispute - and every change goes forward only.

A payment's tax is no money of the wallet: `received` = `credited` + tax.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from services.billing.domain.events import Entry
from services.billing.domain.ledger import wallet_account
from services.billing.domain.payment_book import PaymentBook
from services.billing.domain.payment_events import (
    CardSaved,
    PaymentReceived,
    TopUpChanged,
    TopUpStarted,
)
from services.billing.domain.payment_seen import CASH, CENT, TAX, PaymentSeen, Posting, Step
from services.billing.domain.payment_state import OPEN_TOP_UP, Payment, TopUp
from services.billing.domain.takings import taken_back
from services.common.errors import Conflict, InvalidArgument, NotFound

OPEN_TOP_UPS_MAX = 50


@dataclass(frozen=True, slots=True)
class TopUpRules:
    """What a person may pay at once, in nano-dollars."""

    least_nanousd: int = 5_000_000_000
    most_nanousd: int = 10_000_000_000_000


def checked_charge(field: str, amount_nanousd: int, rules: TopUpRules) -> int:
    """An amount that can be charged. Raises InvalidArgument: whole cents, within the rules."""
    if amount_nanousd < rules.least_nanousd or amount_nanousd > rules.most_nanousd:
        raise InvalidArgument.of(
            field,
            f"must be from ${rules.least_nanousd // 10**9} to ${rules.most_nanousd // 10**9}",
        )
    if amount_nanousd % CENT:
        raise InvalidArgument.of(field, "must be whole cents")
    return amount_nanousd


def decide_top_up(book: PaymentBook, started: TopUpStarted) -> list[Step]:
    """Begins a top-up. Raises Conflict where the account has too many that nobody paid yet."""
    mine = [one for one in book.top_up.values() if one.account_id == started.account_id]
    if sum(one.status in OPEN_TOP_UP for one in mine) >= OPEN_TOP_UPS_MAX:
        raise Conflict("too many top-ups wait to be paid: pay or close one of them")
    return [started]


def decide_checkout(
    book: PaymentBook,
    top_up_id: str,
    *,
    status: Literal["open", "expired", "failed"],
    session_id: str,
) -> list[Step]:
    """The checkout opened, or can no longer be paid, or was ended by a payment that failed.

    What was paid stays paid.
    """
    top_up = book.top_up.get(top_up_id)
    if top_up is None:
        raise NotFound("there is no such top-up")
    if top_up.status == "started" and status == "open":
        return [TopUpChanged(top_up_id, top_up.account_id, "open", session_id)]
    if top_up.status in ("started", "open") and status == "expired":
        return [TopUpChanged(top_up_id, top_up.account_id, "expired", session_id)]
    if top_up.status in OPEN_TOP_UP and status == "failed":
        return [TopUpChanged(top_up_id, top_up.account_id, "failed", session_id)]
    return []


def decide_seen(book: PaymentBook, seen: PaymentSeen, *, now_ms: int) -> list[Step]:
    """What the state of a payment at the gateway changes here: often nothing.

    Raises NotFound for a payment that no row of ours asked for, and Conflict for one in another
    currency than US dollars.
    """
    top_up = book.top_up.get(seen.top_up_id)
    refill = book.refill.get(seen.refill_id)
    asked = top_up or refill
    if asked is None or asked.account_id != seen.account_id:
        raise NotFound("nothing of ours asked for this payment")
    if seen.currency != "usd":
        raise Conflict(f"payment {seen.payment_id} is in {seen.currency}, not in US dollars")
    steps: list[Step] = []
    payment = book.payment.get(seen.payment_id)
    if payment is None and seen.status == "succeeded" and seen.received_nanousd > 0:
        credited = min(seen.received_nanousd, asked.amount_nanousd)
        payment = Payment(
            seen.payment_id,
            seen.account_id,
            seen.received_nanousd,
            credited,
            seen.top_up_id,
            seen.refill_id,
            now_ms,
        )
        steps += _received(payment, "top_up" if top_up is not None else "refill", seen)
    if top_up is not None:
        steps += _top_up_after(top_up, seen)
    if payment is not None:
        steps += taken_back(book, payment, seen)
    return steps


def _received(payment: Payment, kind: str, seen: PaymentSeen) -> Iterator[Step]:
    yield PaymentReceived(
        payment.payment_id,
        payment.account_id,
        payment.received_nanousd,
        payment.credited_nanousd,
        payment.top_up_id,
        payment.refill_id,
    )
    entries = [
        Entry(CASH, -payment.received_nanousd),
        Entry(wallet_account(payment.account_id), payment.credited_nanousd),
    ]
    tax = payment.received_nanousd - payment.credited_nanousd
    if tax:
        entries.append(Entry(TAX, tax))
    yield Posting(
        payment.account_id,
        f"payment:{payment.payment_id}",
        kind,
        tuple(entries),
        f"payment {payment.payment_id}",
        seen.created_at_ms,
    )


def _top_up_after(top_up: TopUp, seen: PaymentSeen) -> Iterator[Step]:
    """Where the checkout stands; one that was paid stays so."""
    if top_up.status == "paid":
        return
    status: Literal["paid", "processing", "failed"]
    if seen.status == "succeeded":
        status = "paid"
    elif seen.status == "processing":
        status = "processing"
    elif seen.status in ("failed", "canceled") and top_up.status == "processing":
        status = "failed"
    else:
        # A card that was declined at the checkout: the person may try another one.
        return
    if (status, seen.payment_id) != (top_up.status, top_up.payment_id):
        yield TopUpChanged(
            top_up.top_up_id,
            top_up.account_id,
            status,
            payment_id=seen.payment_id,
            reason=seen.failure_code,
        )
    if status == "paid" and top_up.save_card and seen.payment_method_id:
        yield CardSaved(top_up.account_id, seen.payment_method_id, seen.card_label)
