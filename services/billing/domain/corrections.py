"""Corrections: a wrong entry is never changed; a new one that names it reverses or re-rates it.

Corrections of one usage transaction lie on top of one another, and only the uppermost that stands
may be taken away. So what stands for a request is always the sum of the entries that stand, under
the price of the last of them. A correction bears the moment of what it corrects: key spend gets the
money back in the cap windows of the original admission.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.billing.domain.events import Entry, TransactionPosted
from services.billing.domain.ledger import REVENUE, Draft, transfer, wallet_account, wallet_change
from services.billing.domain.usage import COST_MAX_NANOUSD
from services.common.errors import Conflict, InvalidArgument
from services.common.ids import TransactionId
from services.common.money import Price, cost_nanousd

USAGE, REVERSAL, RERATE = "usage", "reversal", "rerate"
CORRECTIONS = frozenset({REVERSAL, RERATE})


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands for a usage transaction: its cost in nano-dollars, and the price of that."""

    cost_nanousd: int
    price_version_id: str


@dataclass(frozen=True, slots=True)
class Rerating:
    """One usage transaction at the correct price: the entry booked before, or the one to book.

    `problem` says why it cannot be rated again; the figures, in nano-dollars, are then 0.
    """

    usage: TransactionPosted
    booked_nanousd: int = 0
    correct_nanousd: int = 0
    posted: TransactionPosted | None = None
    draft: Draft | None = None
    problem: str = ""


def reversal_key(transaction_id: TransactionId) -> str:
    """The idempotency key of the reversal of a transaction."""
    return f"reversal:{transaction_id}"


def rerate_key(usage_id: TransactionId, price_version_id: str) -> str:
    """The idempotency key of a usage transaction's re-rating to a price version."""
    return f"rerate:{usage_id}:{price_version_id}"


def stands(transaction_id: TransactionId, corrections: Iterable[TransactionPosted]) -> bool:
    """True unless it was reversed; reversing the reversal makes it stand again."""
    reversals = {
        one.corrects_transaction_id: one.transaction_id
        for one in corrections
        if one.kind == REVERSAL
    }
    upright = True
    while transaction_id in reversals:
        upright = not upright
        transaction_id = reversals[transaction_id]
    return upright


def decide_reversal(
    target: TransactionPosted,
    corrections: Sequence[TransactionPosted],
    *,
    transaction_id: TransactionId,
    reason: str,
    booked_at_ms: int,
) -> Draft:
    """The transaction that takes another back. `corrections` are all those below the same root.

    Raises Conflict where a re-rating stands on top of it, and for the reversal of a re-rating.
    """
    names = {one.transaction_id: one for one in corrections}
    base = target
    while base.kind == REVERSAL and base.corrects_transaction_id in names:
        base = names[base.corrects_transaction_id]
    if base.kind == RERATE and base is not target:
        raise Conflict("a re-rating that was taken back is not put in force again: rate again")
    above = [
        one.transaction_id
        for one in corrections
        if one.kind == RERATE
        and one.sequence > base.sequence
        and stands(one.transaction_id, corrections)
    ]
    if above:
        raise Conflict(f"transaction {above[-1]} corrects it and stands: reverse that one first")
    return Draft(
        transaction_id,
        target.account_id,
        reversal_key(target.transaction_id),
        REVERSAL,
        tuple(Entry(one.ledger_account, -one.amount_nanousd) for one in target.entries),
        target.occurred_at_ms,
        booked_at_ms,
        reason,
        key_id=target.key_id,
        request_id=target.request_id,
        model_id=target.model_id,
        price_version_id=target.price_version_id,
        corrects_transaction_id=target.transaction_id,
        scopes=target.scopes,
        provider_id=target.provider_id,
    )


def decide_rerate(
    usage: TransactionPosted,
    corrections: Sequence[TransactionPosted],
    *,
    wrong_price_version_id: str,
    price: Price,
    transaction_id: TransactionId,
    booked_at_ms: int,
) -> Rerating | None:
    """The usage at the correct price; None where it does not stand under the wrong one.

    A difference of nothing is booked too: the journal then says by which price the request stands.
    Raises Conflict where the correct price version's id was used for other rates before, and
    InvalidArgument for a price at which a request would cost the impossible.
    """
    key = rerate_key(usage.transaction_id, price.price_version_id)
    posted = next((one for one in corrections if one.idempotency_key == key), None)
    below = [one for one in corrections if posted is None or one.sequence < posted.sequence]
    before = standing(usage, below)
    if before.price_version_id != wrong_price_version_id:
        return None
    if not stands(usage.transaction_id, corrections):
        return Rerating(usage, problem="it was reversed")
    if posted is not None and not stands(posted.transaction_id, corrections):
        return Rerating(usage, problem="its re-rating to this price version was reversed")
    if not usage.quantities:
        return Rerating(usage, problem="its entry has no quantities")
    correct = cost_nanousd(dict(usage.quantities), price)
    if correct > COST_MAX_NANOUSD:
        raise InvalidArgument.of("correct_price", f"one request would cost {correct} nano-dollars")
    entries = transfer(
        correct - before.cost_nanousd, source=wallet_account(usage.account_id), target=REVENUE
    )
    if posted is not None:
        if posted.entries != entries:
            raise Conflict("the price version id was used for other rates: give it a new one")
        return Rerating(usage, before.cost_nanousd, correct, posted)
    draft = Draft(
        transaction_id,
        usage.account_id,
        key,
        RERATE,
        entries,
        usage.occurred_at_ms,
        booked_at_ms,
        f"rated by {price.price_version_id} instead of {wrong_price_version_id}",
        key_id=usage.key_id,
        request_id=usage.request_id,
        model_id=usage.model_id,
        price_version_id=price.price_version_id,
        quantities=usage.quantities,
        corrects_transaction_id=usage.transaction_id,
        scopes=usage.scopes,
        provider_id=usage.provider_id,
    )
    return Rerating(usage, before.cost_nanousd, correct, draft=draft)


def standing(usage: TransactionPosted, corrections: Sequence[TransactionPosted]) -> Standing:
    """What stands for a usage transaction, were it not reversed, under these corrections of it."""
    layers = [
        usage,
        *(
            one
            for one in sorted(corrections, key=lambda one: one.sequence)
            if one.kind == RERATE and stands(one.transaction_id, corrections)
        ),
    ]
    cost = -sum(wallet_change(usage.account_id, one.entries) for one in layers)
    return Standing(cost, layers[-1].price_version_id)
