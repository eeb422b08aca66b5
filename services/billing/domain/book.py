"""The working set of one unit of work: the states it read, and each event it adds, folded at once.

The same fold serves the live path, a rebuild and the verifier, so they cannot disagree about what
an event means. `Book` is mutable and belongs to one unit of work; what it holds are values.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import assert_never

from services.billing.domain import grants
from services.billing.domain.caps import day_of
from services.billing.domain.events import (
    CapWindow,
    GrantClosed,
    GrantExpired,
    GrantOpened,
    GrantRenewed,
    GrantResolved,
    GrantWrittenOff,
    KeyCapSet,
    LedgerEvent,
    ScopeCapSet,
    TransactionPosted,
)
from services.billing.domain.ledger import assert_zero_sum, wallet_change
from services.billing.domain.payment_book import PaymentBook
from services.billing.domain.payment_events import PAYMENT_EVENTS
from services.billing.domain.state import Grant, KeyAccount, ScopeAccount, Wallet
from services.common.errors import InternalError
from services.common.ids import AccountId, GrantId, KeyId
from services.common.scopes import Scope

KeyRef = tuple[AccountId, KeyId]
ScopeRef = tuple[AccountId, Scope]
ScopeDayRef = tuple[AccountId, Scope, int]
DayRef = tuple[AccountId, KeyId, int]
TotalRef = tuple[AccountId, str]


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event at its place in its account's stream: `version` counts from 1."""

    event: LedgerEvent
    version: int
    occurred_at_ms: int
    traceparent: str


@dataclass(slots=True)
class Book:
    """States by id, the events recorded since, and what they added to days and ledger accounts."""

    wallets: dict[AccountId, Wallet] = field(default_factory=dict)
    grants: dict[GrantId, Grant] = field(default_factory=dict)
    keys: dict[KeyRef, KeyAccount] = field(default_factory=dict)
    scopes: dict[ScopeRef, ScopeAccount] = field(default_factory=dict)
    recorded: list[Recorded] = field(default_factory=list)
    day_spend: dict[DayRef, int] = field(default_factory=dict)
    scope_spend: dict[ScopeDayRef, int] = field(default_factory=dict)
    totals: dict[TotalRef, int] = field(default_factory=dict)
    grants_touched: set[GrantId] = field(default_factory=set)
    keys_touched: set[KeyRef] = field(default_factory=set)
    scopes_touched: set[ScopeRef] = field(default_factory=set)
    wallets_touched: set[AccountId] = field(default_factory=set)
    payments: PaymentBook = field(default_factory=PaymentBook)

    def record(self, event: LedgerEvent, *, occurred_at_ms: int, traceparent: str = "") -> None:
        """Adds one event and folds it. Raises InternalError where it does not follow."""
        wallet = self.wallets.get(event.account_id) or Wallet(event.account_id)
        match event:
            case TransactionPosted():
                wallet = self._posted(wallet, event)
            case GrantOpened():
                wallet = self._opened(wallet, event)
            case (
                GrantRenewed()
                | GrantClosed()
                | GrantExpired()
                | GrantResolved()
                | GrantWrittenOff()
            ):
                before = self._grant(event.grant_id, event.account_id)
                wallet = self._held_changed(wallet, before, grants.evolve(before, event))
            case KeyCapSet():
                self._cap_set(event)
            case ScopeCapSet():
                self._scope_cap_set(event)
            case _ if isinstance(event, PAYMENT_EVENTS):
                self.payments.apply(event, occurred_at_ms)
            case _:
                assert_never(event)
        version = wallet.version + 1
        self.wallets[event.account_id] = _at(wallet, version, occurred_at_ms)
        self.wallets_touched.add(event.account_id)
        self.recorded.append(Recorded(event, version, occurred_at_ms, traceparent))

    def record_all(
        self, events: Iterable[LedgerEvent], *, occurred_at_ms: int, traceparent: str = ""
    ) -> None:
        """Adds several events that happened together."""
        for event in events:
            self.record(event, occurred_at_ms=occurred_at_ms, traceparent=traceparent)

    def key(self, account_id: AccountId, key_id: KeyId) -> KeyAccount:
        """The key, or one of which nothing is known yet."""
        return self.keys.get((account_id, key_id)) or KeyAccount(account_id, key_id)

    def scope(self, account_id: AccountId, scope: Scope) -> ScopeAccount:
        """The scope, or one of which nothing is known yet."""
        return self.scopes.get((account_id, scope)) or ScopeAccount(account_id, scope)

    def forget_recorded(self) -> None:
        """Keeps the states and drops what was added since: for folds that are written in parts."""
        self.recorded.clear()
        self.day_spend.clear()
        self.scope_spend.clear()
        self.totals.clear()
        self.grants_touched.clear()
        self.keys_touched.clear()
        self.scopes_touched.clear()
        self.wallets_touched.clear()
        self.payments.touched.clear()

    def _posted(self, wallet: Wallet, event: TransactionPosted) -> Wallet:
        assert_zero_sum(event.entries)
        if event.sequence != wallet.sequence + 1:
            raise InternalError("a transaction does not follow the last one of its journal")
        for entry in event.entries:
            total = (event.account_id, entry.ledger_account)
            self.totals[total] = self.totals.get(total, 0) + entry.amount_nanousd
        change = wallet_change(event.account_id, event.entries)
        posted = Wallet(
            wallet.account_id,
            wallet.posted_nanousd + change,
            wallet.granted_nanousd,
            wallet.closing_nanousd,
            wallet.version,
            event.sequence,
            event.hash,
        )
        if event.key_id:
            self._key_spent(event, -change)
        today = day_of(event.occurred_at_ms)
        for scope in event.scopes:
            day = (event.account_id, scope, today)
            self.scope_spend[day] = self.scope_spend.get(day, 0) - change
        if event.grant_id:
            before = self._grant(event.grant_id, event.account_id)
            posted = self._held_changed(posted, before, grants.settle(before, -change))
        return posted

    def _opened(self, wallet: Wallet, event: GrantOpened) -> Wallet:
        if event.grant_id in self.grants:
            raise InternalError("a grant was about to be opened twice")
        grant = grants.opened(event)
        return self._held_changed(wallet, None, grant)

    def _key_spent(self, event: TransactionPosted, spent_nanousd: int) -> None:
        ref = (event.account_id, event.key_id)
        key = self.key(*ref)
        self._set_key(
            key,
            spent_nanousd=key.spent_nanousd + spent_nanousd,
            granted_nanousd=key.granted_nanousd,
            closing_nanousd=key.closing_nanousd,
        )
        day = (*ref, day_of(event.occurred_at_ms))
        self.day_spend[day] = self.day_spend.get(day, 0) + spent_nanousd

    def _cap_set(self, event: KeyCapSet) -> None:
        ref = (event.account_id, event.key_id)
        self.keys[ref] = replace(
            self.key(*ref),
            spend_cap_nanousd=event.spend_cap_nanousd,
            window=CapWindow(event.window),
            version=event.key_version,
            active=event.active,
            member_id=event.member_id,
            team_id=event.team_id,
            model_ids=event.model_ids,
        )
        self.keys_touched.add(ref)

    def _scope_cap_set(self, event: ScopeCapSet) -> None:
        ref = (event.account_id, event.scope)
        self.scopes[ref] = replace(
            self.scope(*ref),
            spend_cap_nanousd=event.spend_cap_nanousd,
            window=CapWindow(event.window),
            version=event.version,
        )
        self.scopes_touched.add(ref)

    def _grant(self, grant_id: GrantId, account_id: AccountId) -> Grant:
        grant = self.grants.get(grant_id)
        if grant is None or grant.account_id != account_id:
            raise InternalError("an event names a grant that its account has not")
        return grant

    def _held_changed(self, wallet: Wallet, before: Grant | None, after: Grant) -> Wallet:
        """Carries a grant's change over to what its wallet, its key and its scopes hold."""
        held = after.held_nanousd - (before.held_nanousd if before is not None else 0)
        closing = after.closing_nanousd - (before.closing_nanousd if before is not None else 0)
        self.grants[after.grant_id] = after
        self.grants_touched.add(after.grant_id)
        if not held and not closing:
            return wallet
        key = self.key(after.account_id, after.key_id)
        self._set_key(
            key,
            spent_nanousd=key.spent_nanousd,
            granted_nanousd=key.granted_nanousd + held,
            closing_nanousd=key.closing_nanousd + closing,
        )
        for scope in after.scopes:
            self._scope_held_changed(after.account_id, scope, held=held, closing=closing)
        return Wallet(
            wallet.account_id,
            wallet.posted_nanousd,
            wallet.granted_nanousd + held,
            wallet.closing_nanousd + closing,
            wallet.version,
            wallet.sequence,
            wallet.hash,
        )

    def _scope_held_changed(
        self, account_id: AccountId, scope: Scope, *, held: int, closing: int
    ) -> None:
        found = self.scope(account_id, scope)
        granted, ended = found.granted_nanousd + held, found.closing_nanousd + closing
        if not granted >= ended >= 0:
            raise InternalError("a scope would hold less than its closed grants do")
        self.scopes[account_id, scope] = ScopeAccount(
            account_id,
            scope,
            found.spend_cap_nanousd,
            found.window,
            found.version,
            granted,
            ended,
        )
        self.scopes_touched.add((account_id, scope))

    def _set_key(
        self, key: KeyAccount, *, spent_nanousd: int, granted_nanousd: int, closing_nanousd: int
    ) -> None:
        if not granted_nanousd >= closing_nanousd >= 0:
            raise InternalError("a key would hold less than its closed grants do")
        ref = (key.account_id, key.key_id)
        self.keys[ref] = KeyAccount(
            key.account_id,
            key.key_id,
            key.spend_cap_nanousd,
            key.window,
            key.version,
            key.active,
            spent_nanousd,
            granted_nanousd,
            closing_nanousd,
            key.member_id,
            key.team_id,
            key.model_ids,
        )
        self.keys_touched.add(ref)


def _at(wallet: Wallet, version: int, updated_at_ms: int) -> Wallet:
    if not wallet.granted_nanousd >= wallet.closing_nanousd >= 0:
        raise InternalError("a wallet would hold less than its closed grants do")
    return Wallet(
        wallet.account_id,
        wallet.posted_nanousd,
        wallet.granted_nanousd,
        wallet.closing_nanousd,
        version,
        wallet.sequence,
        wallet.hash,
        updated_at_ms,
    )
