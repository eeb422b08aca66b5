"""Promotional credit: used before paid credit, the first to expire first; what is left goes back.

No entry says which money it spent: money is alike. What was used of each credit is counted from the
account's sum of spending whenever the credits change - one is granted, one expires -, since in
between their order is one and the same. Spending that was corrected downwards is not counted again.
"""

from __future__ import annotations

from services.billing.domain.ledger import PROMO, transfer, wallet_account
from services.billing.domain.payment_book import PaymentBook
from services.billing.domain.payment_events import (
    PromoCounted,
    PromoExpired,
    PromoGranted,
    PromoUsed,
)
from services.billing.domain.payment_seen import Posting, Step
from services.billing.domain.payment_state import Promo
from services.common.errors import Conflict, InvalidArgument
from services.common.ids import AccountId


def decide_grant(
    book: PaymentBook, granted: PromoGranted, *, spent_nanousd: int, now_ms: int
) -> list[Step]:
    """Books a credit; the same once more changes nothing.

    Raises Conflict where its id stands for another one, InvalidArgument for a moment that is past.
    """
    known = book.promo.get(granted.promo_id)
    if known is not None:
        if _content(known) != (granted.amount_nanousd, granted.expires_at_ms, granted.reason):
            raise Conflict("the idempotency key was used for another credit")
        return []
    if granted.expires_at_ms and granted.expires_at_ms <= now_ms:
        raise InvalidArgument.of("expires_at_ms", "is past")
    entries = transfer(
        granted.amount_nanousd, source=PROMO, target=wallet_account(granted.account_id)
    )
    counted, _ = count_used(book, granted.account_id, spent_nanousd)
    return [
        *counted,
        granted,
        Posting(
            granted.account_id,
            f"promo:{granted.promo_id}",
            "promo",
            entries,
            granted.reason,
        ),
    ]


def decide_expiry(
    book: PaymentBook,
    account_id: AccountId,
    *,
    spent_nanousd: int,
    available_nanousd: int,
    now_ms: int,
) -> list[Step]:
    """Takes back what is left of credits whose time is over; what is lent out is left for later."""
    lapsed = [
        one
        for one in _in_order(book, account_id)
        if one.expires_at_ms and one.expires_at_ms <= now_ms and one.remaining_nanousd
    ]
    if not lapsed:
        return []
    steps, remaining = count_used(book, account_id, spent_nanousd)
    available = max(0, available_nanousd)
    for promo in lapsed:
        left = min(remaining[promo.promo_id], available)
        if left:
            available -= left
            steps.append(PromoExpired(promo.promo_id, account_id, left))
            # Taken back in parts, each part is a cause of its own: what was left before it.
            key = f"promo_expired:{promo.promo_id}:{remaining[promo.promo_id]}"
            entries = transfer(left, source=wallet_account(account_id), target=PROMO)
            steps.append(Posting(account_id, key, "promo_expired", entries, promo.reason))
    return steps


def count_used(
    book: PaymentBook, account_id: AccountId, spent_nanousd: int
) -> tuple[list[Step], dict[str, int]]:
    """What was used since the last count, as events, and what is then left of each credit."""
    promos = _in_order(book, account_id)
    remaining = {one.promo_id: one.remaining_nanousd for one in promos}
    before = book.account(account_id).promo_spent_nanousd
    to_count = spent_nanousd - before
    if to_count <= 0:
        return [], remaining
    steps: list[Step] = []
    for promo in promos:
        used = min(to_count, promo.remaining_nanousd)
        if used:
            to_count -= used
            remaining[promo.promo_id] -= used
            steps.append(PromoUsed(promo.promo_id, account_id, used))
    steps.append(PromoCounted(account_id, spent_nanousd))
    return steps, remaining


def _in_order(book: PaymentBook, account_id: AccountId) -> list[Promo]:
    """First to expire first, those without an end last; the older before the younger."""
    mine = [one for one in book.promo.values() if one.account_id == account_id]
    return sorted(
        mine,
        key=lambda one: (not one.expires_at_ms, one.expires_at_ms, one.granted_at_ms, one.promo_id),
    )


def _content(promo: Promo) -> tuple[int, int, str]:
    return promo.amount_nanousd, promo.expires_at_ms, promo.reason
