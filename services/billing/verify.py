"""Checks the ledger against itself: chains, balances, grants, seals and every read table.

It reads one snapshot, so it can run beside live writers. Each finding is one sentence; an account
with a finding is not trusted further, the others still are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import asyncpg

from services.billing.adapters import ledger_sql as sql
from services.billing.adapters.event_log_postgres import (
    BadRow,
    StoredEvent,
    stored_events,
    stored_seals,
)
from services.billing.adapters.ledger_postgres import log_hash
from services.billing.adapters.payments_postgres import PAYMENT_TABLES, read_payments
from services.billing.adapters.seals_pb import chain_after
from services.billing.domain.book import Book
from services.billing.domain.events import ZERO_HASH, TransactionPosted
from services.billing.domain.ledger import follows
from services.billing.domain.seals import (
    FIGURES,
    HOUR_MS,
    HourFigures,
    LedgerSealed,
    SealChain,
    broken,
    hour_of,
)
from services.billing.domain.state import Wallet
from services.common.errors import InternalError
from services.common.ids import AccountId
from services.common.postgres import translated

_WALLETS = "SELECT * FROM wallet WHERE $1 = '' OR account_id = $1"
_GRANTS = "SELECT * FROM grants WHERE account_id = $1"
_KEYS = "SELECT * FROM key_account WHERE account_id = $1"
_DAYS = "SELECT account_id, key_id, day, spent_nanousd FROM key_day WHERE account_id = $1"
_SCOPES = "SELECT * FROM scope_account WHERE account_id = $1"
_SCOPE_DAYS = "SELECT account_id, scope, day, spent_nanousd FROM scope_day WHERE account_id = $1"
_TOTALS = """
SELECT account_id, ledger_account, balance_nanousd FROM ledger_total WHERE account_id = $1
"""
_CAUSES = "SELECT idempotency_key, stream_version FROM journal_key WHERE account_id = $1"
_UNMARKED = """
SELECT u FROM unnest($1::text[]) AS u
WHERE NOT EXISTS (SELECT FROM usage_mark WHERE usage_id = u) LIMIT 1
"""
_SEAL_CHAIN = "SELECT sequence, hour_start_ms, hash, log_hash FROM seal_chain"
_MARKS_PART = 10_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and whose; of no account where it is about the seals."""

    account_id: AccountId
    what: str


@dataclass(slots=True)
class Verified:
    """What was looked at, and what was found."""

    accounts: int = 0
    events: int = 0
    transactions: int = 0
    seals: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """True where nothing was found."""
        return not self.findings


class _Account:
    """One account's stream while it is read."""

    def __init__(self, account_id: AccountId) -> None:
        self.account_id = account_id
        self.book = Book()
        self.log_hash = ZERO_HASH
        self.usage_ids: list[str] = []
        self.usage_seen: set[str] = set()
        # Where the transactions stand that are not of usage, by idempotency key.
        self.causes: dict[str, int] = {}
        self.finding = ""

    def take(self, stored: StoredEvent) -> None:
        """Checks one event against all before it and folds it."""
        event = stored.event
        wallet = self.book.wallets.get(self.account_id) or Wallet(self.account_id)
        if stored.version != wallet.version + 1:
            self.finding = f"version {stored.version} follows version {wallet.version}"
            return
        if isinstance(event, TransactionPosted):
            if not follows(wallet, event):
                self.finding = f"transaction {event.sequence} breaks the chain of hashes"
                return
            if event.usage_id in self.usage_seen:
                self.finding = f"usage id {event.usage_id} was booked twice"
                return
            if event.usage_id:
                self.usage_seen.add(event.usage_id)
                self.usage_ids.append(event.usage_id)
            else:
                self.causes[event.idempotency_key] = stored.version
        try:
            self.book.record(event, occurred_at_ms=stored.occurred_at_ms)
        except InternalError as error:
            self.finding = f"version {stored.version}: {error.message}"
            return
        self.book.recorded.clear()
        self.log_hash = log_hash(self.log_hash, stored.raw)


async def verify(pool: asyncpg.Pool, account_id: str = "") -> Verified:
    """Verifies one account, or all and the seals where none is named. Raises Unavailable."""
    verified = Verified()
    with translated():
        async with pool.acquire() as connection:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                await _verify(connection, verified, account_id)
    return verified


async def _verify(connection: sql.Connection, verified: Verified, account_id: str) -> None:
    rows = await connection.fetch(_WALLETS, account_id)
    wallets = {row["account_id"]: row for row in rows}
    current: _Account | None = None
    hours: defaultdict[int, HourFigures] = defaultdict(HourFigures)
    async for stored in stored_events(connection, account_id):
        if current is None or stored.account_id != current.account_id:
            await _finish(connection, verified, current, wallets=wallets)
            current = _Account(stored.account_id)
        verified.events += 1
        if isinstance(stored, StoredEvent):
            hours[hour_of(stored.occurred_at_ms)].count(stored.event)
        if current.finding:
            continue
        if isinstance(stored, BadRow):
            current.finding = str(stored)
            continue
        verified.transactions += isinstance(stored.event, TransactionPosted)
        current.take(stored)
    await _finish(connection, verified, current, wallets=wallets)
    verified.findings += [Finding(one, "it has a wallet and no events") for one in wallets]
    if not account_id:
        found = await _findings_in_seals(connection, verified, hours)
        verified.findings += [Finding(AccountId(""), what) for what in found]


async def _finish(
    connection: sql.Connection,
    verified: Verified,
    account: _Account | None,
    *,
    wallets: dict[AccountId, asyncpg.Record],
) -> None:
    if account is None:
        return
    verified.accounts += 1
    row = wallets.pop(account.account_id, None)
    if account.finding:
        verified.findings.append(Finding(account.account_id, account.finding))
        return
    found = [*_findings_in_fold(account, row), *await _findings_in_tables(connection, account)]
    verified.findings += [Finding(account.account_id, what) for what in found]


def _findings_in_fold(account: _Account, row: asyncpg.Record | None) -> Iterator[str]:
    wallet = account.book.wallets[account.account_id]
    if row is None or sql.wallet_from_row(row) != wallet:
        yield "its wallet is not the fold of its entries"
    if row is None or row["log_hash"] != account.log_hash:
        yield "its events are not those that were written"
    if sum(account.book.totals.values()) != 0:
        yield "its entries do not sum to zero"
    held = sum(grant.held_nanousd for grant in account.book.grants.values())
    if held != wallet.granted_nanousd:
        yield "what is granted is not the sum of its grants"
    by_scope: defaultdict[str, int] = defaultdict(int)
    for grant in account.book.grants.values():
        for scope in grant.scopes:
            by_scope[scope] += grant.held_nanousd
    for scope_account in account.book.scopes.values():
        if scope_account.granted_nanousd != by_scope[scope_account.scope]:
            yield f"what {scope_account.scope} has granted is not the sum of its grants"


async def _findings_in_tables(connection: sql.Connection, account: _Account) -> list[str]:
    one, book, found = account.account_id, account.book, []
    grants = {r["grant_id"]: sql.grant_from_row(r) for r in await connection.fetch(_GRANTS, one)}
    keys = {
        (r["account_id"], r["key_id"]): sql.key_from_row(r)
        for r in await connection.fetch(_KEYS, one)
    }
    days = {(r[0], r[1], r[2]): r[3] for r in await connection.fetch(_DAYS, one)}
    totals = {(r[0], r[1]): r[2] for r in await connection.fetch(_TOTALS, one)}
    causes = {r[0]: r[1] for r in await connection.fetch(_CAUSES, one)}
    if causes != account.causes:
        found.append("its idempotency keys are not those of its journal")
    if grants != book.grants:
        found.append("its grants are not the fold of its events")
    if keys != book.keys:
        found.append("its keys are not the fold of its events")
    if days != book.day_spend:
        found.append("its spend by day is not the fold of its entries")
    scopes = {
        (r["account_id"], r["scope"]): sql.scope_from_row(r)
        for r in await connection.fetch(_SCOPES, one)
    }
    spent = {(r[0], r[1], r[2]): r[3] for r in await connection.fetch(_SCOPE_DAYS, one)}
    if scopes != book.scopes:
        found.append("its scopes are not the fold of its events")
    if spent != book.scope_spend:
        found.append("its spend by scope and day is not the fold of its entries")
    if totals != book.totals:
        found.append("its totals are not the fold of its entries")
    stored = await read_payments(connection, one)
    found += [
        f"its table {table} is not the fold of its events"
        for table, _ in PAYMENT_TABLES
        if stored.rows(table) != book.payments.rows(table)
    ]
    for start in range(0, len(account.usage_ids), _MARKS_PART):
        part = account.usage_ids[start : start + _MARKS_PART]
        unmarked = await connection.fetchval(_UNMARKED, part)
        if unmarked is not None:
            found.append(f"usage id {unmarked} was booked and is not marked")
            break
    return found


async def _findings_in_seals(
    connection: sql.Connection, verified: Verified, hours: dict[int, HourFigures]
) -> list[str]:
    """Computes every sealed hour again; a chain that is broken is not followed further."""
    chain = SealChain()
    found: list[str] = []
    async for stored in stored_seals(connection):
        wrong = str(stored) if isinstance(stored, BadRow) else broken(chain, stored.seal)
        if wrong or isinstance(stored, BadRow):
            return [*found, f"seal {chain.sequence + 1}: {wrong}"]
        verified.seals += 1
        found += _findings_in_hour(stored.seal, hours.pop(stored.seal.hour_start_ms, None))
        chain = chain_after(chain, stored.seal, stored.raw)
    row = await connection.fetchrow(_SEAL_CHAIN)
    if row is None or SealChain(**dict(row)) != chain:
        found.append("the seals are not those that were written")
    if chain.sequence and any(hour < chain.hour_start_ms + HOUR_MS for hour in hours):
        found.append("there are events from before the first seal")
    return found


def _findings_in_hour(seal: LedgerSealed, counted: HourFigures | None) -> Iterator[str]:
    counted = counted or HourFigures()
    for name in FIGURES:
        was, is_now = getattr(seal.figures, name), getattr(counted, name)
        if was != is_now:
            yield (
                f"the hour from {seal.hour_start_ms} ms is not as it was sealed:"
                f" {name} was {was} and is {is_now}"
            )
            return
