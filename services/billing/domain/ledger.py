"""The journal: balanced transactions, numbered and chained by hash.

Ledger accounts are `wallet:<account>`, `revenue`, `cash:stripe`, `promo`, `refunds`, `disputes`,
`writeoff`. Entries sum to zero, nothing is ever changed, and the idempotency key comes from the
cause, not from the delivery.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

from services.billing.domain.events import (
    NO_GRANT,
    NO_KEY,
    NO_TRANSACTION,
    NO_USAGE,
    Entry,
    Quantities,
    TransactionPosted,
)
from services.billing.domain.state import Wallet
from services.common.errors import InternalError, InvalidArgument
from services.common.ids import AccountId, GrantId, KeyId, TransactionId, UsageId
from services.common.money import INT64_MAX
from services.common.scopes import Scope

REVENUE = "revenue"
PROMO = "promo"
_CANONICAL = json.JSONEncoder(separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Draft:
    """A transaction before it has a place in a journal. Ids and times were made by the caller."""

    transaction_id: TransactionId
    account_id: AccountId
    idempotency_key: str
    kind: str
    entries: tuple[Entry, ...]
    occurred_at_ms: int
    booked_at_ms: int
    reason: str = ""
    key_id: KeyId = NO_KEY
    grant_id: GrantId = NO_GRANT
    usage_id: UsageId = NO_USAGE
    request_id: str = ""
    model_id: str = ""
    price_version_id: str = ""
    overrun: bool = False
    quantities: Quantities = ()
    corrects_transaction_id: TransactionId = NO_TRANSACTION
    scopes: tuple[Scope, ...] = ()
    provider_id: str = ""


def wallet_account(account_id: AccountId) -> str:
    """The ledger account that holds this account's money."""
    return f"wallet:{account_id}"


def transfer(amount_nanousd: int, *, source: str, target: str) -> tuple[Entry, Entry]:
    """The two entries that move an amount from one ledger account to another."""
    return Entry(source, -amount_nanousd), Entry(target, amount_nanousd)


def post(wallet: Wallet, draft: Draft) -> TransactionPosted:
    """The draft at the next place of the wallet's journal.

    Raises InternalError where the entries do not sum to zero or the wallet is another account's,
    and InvalidArgument where the balance would not fit 64 bits.
    """
    assert_zero_sum(draft.entries)
    if draft.account_id != wallet.account_id:
        raise InternalError("a transaction was about to be posted to another account's journal")
    if abs(wallet.posted_nanousd + wallet_change(draft.account_id, draft.entries)) > INT64_MAX:
        raise InvalidArgument.of("amount_nanousd", "the balance would not fit 64 bits")
    sequence = wallet.sequence + 1
    return TransactionPosted(
        draft.transaction_id,
        draft.account_id,
        draft.idempotency_key,
        draft.kind,
        draft.entries,
        draft.occurred_at_ms,
        draft.booked_at_ms,
        sequence,
        chained_hash(wallet.hash, draft, sequence),
        draft.reason,
        draft.key_id,
        draft.grant_id,
        draft.usage_id,
        draft.request_id,
        draft.model_id,
        draft.price_version_id,
        draft.overrun,
        draft.quantities,
        draft.corrects_transaction_id,
        draft.scopes,
        draft.provider_id,
    )


def wallet_change(account_id: AccountId, entries: Iterable[Entry]) -> int:
    """By how much the entries change the wallet, in nano-dollars."""
    mine = wallet_account(account_id)
    return sum(entry.amount_nanousd for entry in entries if entry.ledger_account == mine)


def assert_zero_sum(entries: tuple[Entry, ...]) -> None:
    """Raises InternalError unless there are at least two entries and they sum to zero."""
    if len(entries) < 2 or sum(entry.amount_nanousd for entry in entries) != 0:
        raise InternalError("the entries of a transaction do not sum to zero")


def chained_hash(previous: bytes, content: Draft | TransactionPosted, sequence: int) -> bytes:
    """SHA-256 over the previous hash and the canonical form: a JSON array of every field in order.

    The form is plain on purpose: anyone can compute it again with nothing but a JSON library. Two
    fields came later; they follow, both, where one of them is set, so that older hashes stay right.
    A third, the scopes, came later still and follows them where there are any; a fourth, the
    provider, follows all three where it is known.
    """
    later: list[object] = []
    fourth = bool(content.provider_id)
    if content.quantities or content.corrects_transaction_id or content.scopes or fourth:
        quantities = [[int(kind), tokens] for kind, tokens in content.quantities]
        later = [quantities, content.corrects_transaction_id]
    if content.scopes or fourth:
        later.append(content.scopes)
    if fourth:
        later.append(content.provider_id)
    canonical = _CANONICAL.encode(
        [
            content.transaction_id,
            content.account_id,
            content.idempotency_key,
            content.kind,
            [[entry.ledger_account, entry.amount_nanousd] for entry in content.entries],
            content.occurred_at_ms,
            content.booked_at_ms,
            sequence,
            content.reason,
            content.key_id,
            content.grant_id,
            content.usage_id,
            content.request_id,
            content.model_id,
            content.price_version_id,
            content.overrun,
            *later,
        ]
    )
    return hashlib.sha256(previous + canonical.encode()).digest()


def follows(wallet: Wallet, posted: TransactionPosted) -> bool:
    """True where a transaction is the next of the wallet's journal and its hash is right."""
    return posted.sequence == wallet.sequence + 1 and posted.hash == chained_hash(
        wallet.hash, posted, posted.sequence
    )


def same_cause(posted: TransactionPosted, draft: Draft) -> bool:
    """True where a transaction under the same idempotency key says the same."""
    return (
        posted.account_id == draft.account_id
        and posted.kind == draft.kind
        and posted.entries == draft.entries
        and posted.reason == draft.reason
    )
