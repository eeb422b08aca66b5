"""What billing needs from outside: the ledger's store. Its twins are in `adapters/`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from services.billing.domain.book import Book, KeyRef, ScopeRef
from services.billing.domain.events import TransactionPosted
from services.billing.domain.payment_book import PaymentBook
from services.billing.domain.payment_state import Refill, Refund, TopUp
from services.billing.domain.seals import HourFigures, LedgerSealed, SealChain
from services.billing.domain.state import Grant, KeyAccount, ScopeAccount, Wallet
from services.common.ids import AccountId, GrantId, TransactionId, UsageId
from services.common.kafka import Batch, Claim, LogMessage


class LedgerUnit(Protocol):
    """One unit of work: everything read under its locks, everything saved by it, or nothing."""

    async def advance(self, batch: Batch) -> Sequence[LogMessage]:
        """Moves the batch's cursor and returns the messages not applied before.

        Raises StaleEpoch for an owner that lost the partition and GapDetected for missing offsets.
        """

    async def wallets(self, accounts: Collection[AccountId]) -> dict[AccountId, Wallet]:
        """Locks, in account order, the wallets that exist; the lock lasts to the end of the unit.

        To be called once and before anything else is read.
        """

    async def ensure_wallets(self, accounts: Collection[AccountId]) -> None:
        """Makes an empty wallet for each account that has none; to be called before `wallets`."""

    async def grants(self, ids: Collection[GrantId]) -> dict[GrantId, Grant]:
        """The grants that exist of those named."""

    async def keys(self, refs: Collection[KeyRef]) -> dict[KeyRef, KeyAccount]:
        """The keys that are known of those named."""

    async def grants_or_given_up(
        self, ids: Collection[GrantId]
    ) -> tuple[dict[GrantId, Grant], set[GrantId]]:
        """The grants that exist of those named, and which were closed when there was none."""

    async def give_up(self, ids: Collection[GrantId], now_ms: int) -> None:
        """Remembers that these were closed when there was no such grant."""

    async def window_spend(self, first_days: Mapping[KeyRef, int]) -> dict[KeyRef, int]:
        """What each key spent from its day on, in nano-dollars; 0 where nothing."""

    async def ask_back(self, refs: Collection[KeyRef], until_ms: int) -> None:
        """Has workers asked for idle money under these keys until then; an empty key id: under any
        of the account."""

    async def scopes(self, refs: Collection[ScopeRef]) -> dict[ScopeRef, ScopeAccount]:
        """The scopes that are known of those named."""

    async def scope_spend(self, first_days: Mapping[ScopeRef, int]) -> dict[ScopeRef, int]:
        """What was spent in each scope from its day on, in nano-dollars; 0 where nothing."""

    async def mark_usage(self, hashes: Mapping[UsageId, bytes]) -> dict[UsageId, bytes]:
        """Marks usage ids as taken; returns the content hashes of those that were before."""

    async def transaction(
        self, account_id: AccountId, idempotency_key: str
    ) -> TransactionPosted | None:
        """The transaction under an idempotency key, other than of usage."""

    async def corrections(
        self, account_id: AccountId, of: Collection[TransactionId]
    ) -> list[TransactionPosted]:
        """The transactions that correct one of these directly, in the order of the journal."""

    async def payments(self, account_id: AccountId) -> PaymentBook:
        """Every payment row of an account."""

    async def spent(self, account_id: AccountId) -> int:
        """What the account ever spent on usage, in nano-dollars: its sum at `revenue`."""

    async def short_of_money(
        self, available: Mapping[AccountId, int], now_ms: int
    ) -> list[AccountId]:
        """Those of these accounts, by what each has available, whose refill may be due."""

    async def seal_chain(self) -> SealChain:
        """Where the chain of seals stands, locked to the end of the unit."""

    async def save_seal(self, chain: SealChain, seal: LedgerSealed) -> None:
        """Appends a seal after the last one and hands it to the topic."""

    async def save(self, book: Book) -> None:
        """Appends the recorded events to the accounts' streams, folds them into the read tables and
        hands them, with one balance per account, to the topics."""


class LedgerStore(Protocol):
    """Opens units of work. Raises Unavailable, within a bound, where the store is away."""

    def unit(self) -> AbstractAsyncContextManager[LedgerUnit]:
        """A unit of work that commits at its end and leaves nothing behind where it fails."""

    async def claim(self, topic: str, partitions: Sequence[int]) -> Mapping[int, Claim]:
        """Takes over partitions: where to go on, and a new epoch that ends any earlier owner's."""

    async def lapsed_grants(self, expired_before_ms: int, limit: int) -> list[Grant]:
        """Open grants that expired before this moment, longest ago first, not locked."""

    async def unresolved_grants(self, expired_before_ms: int, limit: int) -> list[Grant]:
        """Unresolved grants that expired before this moment, longest ago first, not locked."""

    async def recalls(self, accounts: Collection[AccountId], now_ms: int) -> list[KeyRef]:
        """Where idle money of these accounts is asked back now; see `LedgerUnit.ask_back`."""

    async def forget_recalls(self, before_ms: int) -> None:
        """Deletes recalls that were over before this moment."""

    async def forget_given_up(self, before_ms: int) -> None:
        """Forgets grants that were given up before this moment."""

    async def find_transaction(self, transaction_id: TransactionId) -> TransactionPosted | None:
        """A transaction of any account."""

    def journal_of_model(
        self, model_id: str, account_id: AccountId
    ) -> AsyncGenerator[TransactionPosted, None]:
        """Every transaction of a model's use, by account and in the order of its journal; of one
        account where one is named.
        """

    async def due_refills(self, now_ms: int, limit: int) -> list[AccountId]:
        """Accounts whose refill may be due, not locked."""

    async def open_refills(self, limit: int) -> list[Refill]:
        """Charges under way, longest ago first, not locked."""

    async def open_refunds(self, limit: int) -> list[Refund]:
        """Refunds that were asked for and not made, longest ago first, not locked."""

    async def open_top_ups(self, started_before_ms: int, limit: int) -> list[TopUp]:
        """Checkouts that have not ended, longest ago first, not locked."""

    async def lapsed_promos(self, now_ms: int, limit: int) -> list[AccountId]:
        """Accounts with promotional credit left whose time is over, not locked."""

    async def payments_of(self, account_id: AccountId) -> PaymentBook:
        """Every payment row of an account, not locked."""

    async def payments_booked(self, from_ms: int, to_ms: int) -> list[tuple[str, AccountId]]:
        """Payments that were booked within this time, or of which something was taken back, with
        their accounts; not locked.
        """

    async def money_at_gateway(self) -> tuple[int, int]:
        """What of all payments is at the gateway, in nano-dollars, as of one moment: by the payment
        rows, and by the journal.
        """

    async def gateway_total(self, account_id: str = "") -> Mapping[str, int]:
        """What all transactions, or one account's, add up to by ledger account, in nano-dollars."""

    async def first_event_ms(self) -> int | None:
        """When the first event of all was recorded; None where there is none."""

    async def hour_figures(self, hour_start_ms: int) -> HourFigures:
        """What the events recorded within an hour come to. Raises InternalError where one cannot be
        read.
        """
