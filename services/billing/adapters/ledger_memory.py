"""The ledger in memory: the twin of the PostgreSQL store, for tests and the simulator.

One unit of work runs at a time, on copies; what it wrote is taken over at its end or not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from services.billing.adapters.events_pb import balance_record, record_from_recorded, stream_of
from services.billing.adapters.payments_memory import MemoryPayments, MemoryPaymentUnit
from services.billing.adapters.seals_pb import SEALS_STREAM, chain_after, record_from_seal
from services.billing.domain.book import (
    Book,
    DayRef,
    KeyRef,
    Recorded,
    ScopeDayRef,
    ScopeRef,
    TotalRef,
)
from services.billing.domain.events import TransactionPosted
from services.billing.domain.payment_book import PaymentBook
from services.billing.domain.seals import HourFigures, LedgerSealed, SealChain, hour_of
from services.billing.domain.state import Grant, GrantStatus, KeyAccount, ScopeAccount, Wallet
from services.billing.ports import LedgerUnit
from services.common.errors import ConcurrencyConflict, Unavailable
from services.common.events import EventRecord
from services.common.ids import AccountId, GrantId, TransactionId, UsageId
from services.common.kafka import Batch, Claim, GapDetected, LogMessage, StaleEpoch
from services.common.topics import BALANCES, KEYS, LEDGER, Topic

OutboxRow = tuple[Topic, str, bytes]


@dataclass(slots=True)
class LedgerTables:
    """Everything the store keeps; `events` are in the order of their commits."""

    wallets: dict[AccountId, Wallet] = field(default_factory=dict)
    grants: dict[GrantId, Grant] = field(default_factory=dict)
    keys: dict[KeyRef, KeyAccount] = field(default_factory=dict)
    days: dict[DayRef, int] = field(default_factory=dict)
    totals: dict[TotalRef, int] = field(default_factory=dict)
    recalls: dict[KeyRef, int] = field(default_factory=dict)
    given_up: dict[GrantId, int] = field(default_factory=dict)
    scopes: dict[ScopeRef, ScopeAccount] = field(default_factory=dict)
    scope_days: dict[ScopeDayRef, int] = field(default_factory=dict)
    marks: dict[UsageId, bytes] = field(default_factory=dict)
    cursors: dict[tuple[str, int], Claim] = field(default_factory=dict)
    events: list[Recorded] = field(default_factory=list)
    outbox: list[OutboxRow] = field(default_factory=list)
    seals: list[LedgerSealed] = field(default_factory=list)
    seal_chain: SealChain = field(default_factory=SealChain)
    payments: PaymentBook = field(default_factory=PaymentBook)

    def copy(self) -> LedgerTables:
        """A copy that can be changed without changing this one; the values in it are immutable."""
        return LedgerTables(
            dict(self.wallets),
            dict(self.grants),
            dict(self.keys),
            dict(self.days),
            dict(self.totals),
            dict(self.recalls),
            dict(self.given_up),
            dict(self.scopes),
            dict(self.scope_days),
            dict(self.marks),
            dict(self.cursors),
            list(self.events),
            list(self.outbox),
            list(self.seals),
            self.seal_chain,
            self.payments.copy(),
        )


class MemoryLedger(MemoryPayments):
    """`LedgerStore` in memory. `available` False makes it answer as a store that is away."""

    def __init__(self) -> None:
        self.tables = LedgerTables()
        self.available = True
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def unit(self) -> AsyncIterator[LedgerUnit]:
        """One unit of work. Raises Unavailable, ConcurrencyConflict."""
        self._check()
        async with self._lock:
            tables = self.tables.copy()
            yield _MemoryUnit(tables)
            self._check()
            self.tables = tables

    async def claim(self, topic: str, partitions: Sequence[int]) -> Mapping[int, Claim]:
        """Takes over partitions with a new epoch each. Raises Unavailable."""
        self._check()
        async with self._lock:
            claims = {}
            for partition in partitions:
                before = self.tables.cursors.get((topic, partition), Claim(0, 0))
                claims[partition] = Claim(before.next_offset, before.epoch + 1)
                self.tables.cursors[topic, partition] = claims[partition]
            return claims

    async def lapsed_grants(self, expired_before_ms: int, limit: int) -> list[Grant]:
        """Open grants that expired before this moment. Raises Unavailable."""
        return self._expired("open", expired_before_ms, limit)

    async def unresolved_grants(self, expired_before_ms: int, limit: int) -> list[Grant]:
        """Unresolved grants that expired before this moment. Raises Unavailable."""
        return self._expired("unresolved", expired_before_ms, limit)

    async def recalls(self, accounts: Collection[AccountId], now_ms: int) -> list[KeyRef]:
        """Where idle money of these accounts is asked back now. Raises Unavailable."""
        self._check()
        found = self.tables.recalls
        return sorted(ref for ref, until in found.items() if ref[0] in accounts and until > now_ms)

    async def forget_recalls(self, before_ms: int) -> None:
        """Deletes recalls that were over before this moment. Raises Unavailable."""
        self._check()
        found = self.tables.recalls
        self.tables.recalls = {ref: until for ref, until in found.items() if until > before_ms}

    async def forget_given_up(self, before_ms: int) -> None:
        """Forgets grants that were given up before this moment. Raises Unavailable."""
        self._check()
        found = self.tables.given_up
        self.tables.given_up = {one: at_ms for one, at_ms in found.items() if at_ms >= before_ms}

    async def find_transaction(self, transaction_id: TransactionId) -> TransactionPosted | None:
        """A transaction of any account. Raises Unavailable."""
        self._check()
        found = (one for one in _transactions(self.tables) if one.transaction_id == transaction_id)
        return next(found, None)

    async def journal_of_model(
        self, model_id: str, account_id: AccountId
    ) -> AsyncGenerator[TransactionPosted, None]:
        """Every transaction of a model's use, by account and in order. Raises Unavailable."""
        self._check()
        found = [
            one
            for one in _transactions(self.tables)
            if one.model_id == model_id and account_id in ("", one.account_id)
        ]
        for one in sorted(found, key=lambda one: (one.account_id, one.sequence)):
            yield one

    async def first_event_ms(self) -> int | None:
        """When the first event of all was recorded. Raises Unavailable."""
        self._check()
        return min((one.occurred_at_ms for one in self.tables.events), default=None)

    async def hour_figures(self, hour_start_ms: int) -> HourFigures:
        """What the events recorded within an hour come to. Raises Unavailable."""
        self._check()
        figures = HourFigures()
        for recorded in self.tables.events:
            if hour_of(recorded.occurred_at_ms) == hour_start_ms:
                figures.count(recorded.event)
        return figures

    def _expired(self, status: GrantStatus, expired_before_ms: int, limit: int) -> list[Grant]:
        self._check()
        found = [
            grant
            for grant in self.tables.grants.values()
            if grant.status == status and grant.expires_at_ms <= expired_before_ms
        ]
        return sorted(found, key=lambda grant: grant.expires_at_ms)[:limit]

    def _check(self) -> None:
        if not self.available:
            raise Unavailable("the ledger's store is away")


class _MemoryUnit(MemoryPaymentUnit):
    """`LedgerUnit` over one copy of the tables."""

    def __init__(self, tables: LedgerTables) -> None:
        self._tables = tables

    async def advance(self, batch: Batch) -> Sequence[LogMessage]:
        place = (batch.topic, batch.partition)
        claim = self._tables.cursors.get(place, Claim(0, 0))
        if claim.epoch != batch.epoch or not claim.epoch:
            raise StaleEpoch(batch.topic, batch.partition, batch.epoch)
        todo = [message for message in batch.messages if message.offset >= claim.next_offset]
        if not todo:
            return []
        if batch.topic != KEYS.name:
            for expected, message in enumerate(todo, claim.next_offset):
                if message.offset != expected:
                    raise GapDetected(batch.topic, batch.partition, expected, found=message.offset)
        self._tables.cursors[place] = Claim(todo[-1].offset + 1, claim.epoch)
        return todo

    async def wallets(self, accounts: Collection[AccountId]) -> dict[AccountId, Wallet]:
        found = self._tables.wallets
        return {account: found[account] for account in sorted(accounts) if account in found}

    async def ensure_wallets(self, accounts: Collection[AccountId]) -> None:
        for account in accounts:
            self._tables.wallets.setdefault(account, Wallet(account))

    async def grants(self, ids: Collection[GrantId]) -> dict[GrantId, Grant]:
        found = self._tables.grants
        return {one: found[one] for one in ids if one in found}

    async def keys(self, refs: Collection[KeyRef]) -> dict[KeyRef, KeyAccount]:
        return {ref: self._tables.keys[ref] for ref in refs if ref in self._tables.keys}

    async def grants_or_given_up(
        self, ids: Collection[GrantId]
    ) -> tuple[dict[GrantId, Grant], set[GrantId]]:
        return await self.grants(ids), {one for one in ids if one in self._tables.given_up}

    async def give_up(self, ids: Collection[GrantId], now_ms: int) -> None:
        for one in ids:
            self._tables.given_up.setdefault(one, now_ms)

    async def window_spend(self, first_days: Mapping[KeyRef, int]) -> dict[KeyRef, int]:
        spent = dict.fromkeys(first_days, 0)
        for (account, key, day), amount in self._tables.days.items():
            if day >= first_days.get((account, key), day + 1):
                spent[account, key] += amount
        return spent

    async def ask_back(self, refs: Collection[KeyRef], until_ms: int) -> None:
        found = self._tables.recalls
        found |= {ref: max(until_ms, found.get(ref, 0)) for ref in refs}

    async def scopes(self, refs: Collection[ScopeRef]) -> dict[ScopeRef, ScopeAccount]:
        return {ref: self._tables.scopes[ref] for ref in refs if ref in self._tables.scopes}

    async def scope_spend(self, first_days: Mapping[ScopeRef, int]) -> dict[ScopeRef, int]:
        spent = dict.fromkeys(first_days, 0)
        for (account, scope, day), amount in self._tables.scope_days.items():
            if day >= first_days.get((account, scope), day + 1):
                spent[account, scope] += amount
        return spent

    async def mark_usage(self, hashes: Mapping[UsageId, bytes]) -> dict[UsageId, bytes]:
        marks = self._tables.marks
        before = {usage_id: marks[usage_id] for usage_id in hashes if usage_id in marks}
        marks |= {usage_id: one for usage_id, one in hashes.items() if usage_id not in before}
        return before

    async def transaction(
        self, account_id: AccountId, idempotency_key: str
    ) -> TransactionPosted | None:
        for event in _transactions(self._tables):
            if event.account_id == account_id and event.idempotency_key == idempotency_key:
                return event
        return None

    async def corrections(
        self, account_id: AccountId, of: Collection[TransactionId]
    ) -> list[TransactionPosted]:
        return [
            event
            for event in _transactions(self._tables)
            if event.account_id == account_id and event.corrects_transaction_id in of
        ]

    async def seal_chain(self) -> SealChain:
        return self._tables.seal_chain

    async def save_seal(self, chain: SealChain, seal: LedgerSealed) -> None:
        value = record_from_seal(seal).to_bytes()
        self._tables.seals.append(seal)
        self._tables.seal_chain = chain_after(chain, seal, value)
        self._tables.outbox.append((LEDGER, SEALS_STREAM, value))

    async def save(self, book: Book) -> None:
        tables = self._tables
        for grant_id in book.grants_touched:
            before = tables.grants.get(grant_id)
            if before is not None and before.account_id != book.grants[grant_id].account_id:
                raise ConcurrencyConflict("another transaction was first")
            tables.grants[grant_id] = book.grants[grant_id]
        tables.wallets |= {one: book.wallets[one] for one in book.wallets_touched}
        tables.keys |= {ref: book.keys[ref] for ref in book.keys_touched}
        tables.scopes |= {ref: book.scopes[ref] for ref in book.scopes_touched}
        for one, amount in book.scope_spend.items():
            tables.scope_days[one] = tables.scope_days.get(one, 0) + amount
        for day, amount in book.day_spend.items():
            tables.days[day] = tables.days.get(day, 0) + amount
        for total, amount in book.totals.items():
            tables.totals[total] = tables.totals.get(total, 0) + amount
        tables.payments.take_touched(book.payments)
        ordered = sorted(book.recorded, key=lambda recorded: recorded.event.account_id)
        tables.events += ordered
        for recorded in ordered:
            record = record_from_recorded(recorded)
            tables.outbox.append((LEDGER, record.account_id, record.to_bytes()))
        for account in sorted(book.wallets_touched):
            value = balance_record(book.wallets[account]).to_bytes()
            tables.outbox.append((BALANCES, account, value))


def _transactions(tables: LedgerTables) -> Iterator[TransactionPosted]:
    events = (recorded.event for recorded in tables.events)
    return (event for event in events if isinstance(event, TransactionPosted))


def records_of(tables: LedgerTables, account_id: AccountId) -> list[EventRecord]:
    """The records of one account's stream."""
    return [
        record
        for record in map(record_from_recorded, tables.events)
        if record.stream_id == stream_of(account_id)
    ]
