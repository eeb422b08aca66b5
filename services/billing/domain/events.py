"""The events of an account's ledger: the record. Wallets, grants and key spend are its folds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from services.billing.domain.payment_events import PaymentEvent
from services.common.ids import AccountId, GrantId, KeyId, TransactionId, UsageId, WorkerId
from services.common.money import TokenKind
from services.common.scopes import Scope

ZERO_HASH = bytes(32)
NO_KEY = KeyId("")
NO_GRANT = GrantId("")
NO_USAGE = UsageId("")
NO_TRANSACTION = TransactionId("")
# Token counts, ascending by kind.
Quantities = tuple[tuple[TokenKind, int], ...]


class CapWindow(IntEnum):
    """How long a cap counts; the numbers are those of `mesh.common.v1.CapWindow`."""

    LIFETIME = 1
    DAY = 2
    WEEK = 3
    MONTH = 4
    ROLLING_30_DAYS = 5


@dataclass(frozen=True, slots=True)
class Entry:
    """One leg of a transaction; positive raises the ledger account's balance."""

    ledger_account: str
    amount_nanousd: int


@dataclass(frozen=True, slots=True)
class TransactionPosted:
    """A balanced transaction at its place in the account's journal.

    `occurred_at_ms` is when the cause happened; for usage that is the moment of admission, by whose
    window caps count. `sequence` counts from 1 without gaps. `hash` covers the previous
    transaction's hash and every other field here. `quantities` are what was priced; `scopes` are
    those that it counts in beside the key; `provider_id` is who served it. A correction
    names the transaction that it corrects and bears that one's `occurred_at_ms`.
    """

    transaction_id: TransactionId
    account_id: AccountId
    idempotency_key: str
    kind: str
    entries: tuple[Entry, ...]
    occurred_at_ms: int
    booked_at_ms: int
    sequence: int
    hash: bytes
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


@dataclass(frozen=True, slots=True)
class GrantOpened:
    """Money lent to a worker: lower in what is available, not yet in what is posted. `scopes` lend
    it beside the key.
    """

    grant_id: GrantId
    account_id: AccountId
    key_id: KeyId
    worker_id: WorkerId
    amount_nanousd: int
    opened_at_ms: int
    expires_at_ms: int
    request_hash: bytes
    scopes: tuple[Scope, ...] = ()


@dataclass(frozen=True, slots=True)
class GrantRenewed:
    """The worker has it for longer; `added_nanousd`, negative where given back, is on its amount.

    `number` counts the grant's renewals from 1. One that had expired is open again.
    """

    grant_id: GrantId
    account_id: AccountId
    number: int
    added_nanousd: int
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class GrantClosed:
    """The worker said what it spent in all; what it did not is available again."""

    grant_id: GrantId
    account_id: AccountId
    spent_nanousd: int
    returned_nanousd: int


@dataclass(frozen=True, slots=True)
class GrantExpired:
    """Its time is over and nobody has said what was spent. The money stays held."""

    grant_id: GrantId
    account_id: AccountId
    unresolved_nanousd: int


@dataclass(frozen=True, slots=True)
class GrantResolved:
    """Nothing is held under it any more."""

    grant_id: GrantId
    account_id: AccountId
    settled_nanousd: int


@dataclass(frozen=True, slots=True)
class GrantWrittenOff:
    """Nobody said what was spent, for too long. What was held is available again."""

    grant_id: GrantId
    account_id: AccountId
    written_off_nanousd: int
    reason: str


@dataclass(frozen=True, slots=True)
class KeyCapSet:
    """The cap that binds a key's grants from here on; `spend_cap_nanousd` None means no cap.

    `model_ids` are the models with a cap of their own under the key, ascending.
    """

    account_id: AccountId
    key_id: KeyId
    spend_cap_nanousd: int | None
    window: CapWindow
    key_version: int
    active: bool
    member_id: str = ""
    team_id: str = ""
    model_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ScopeCapSet:
    """The cap that binds the grants of every key in a scope from here on; None means no cap."""

    account_id: AccountId
    scope: Scope
    spend_cap_nanousd: int | None
    window: CapWindow
    version: int


GrantChange = GrantRenewed | GrantClosed | GrantExpired | GrantResolved | GrantWrittenOff
LedgerEvent = TransactionPosted | GrantOpened | GrantChange | KeyCapSet | ScopeCapSet | PaymentEvent
