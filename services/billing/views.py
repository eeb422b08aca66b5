"""What billing is asked for, straight from the read tables and the events.

What is read for an account is read in a role whose row policies show that account's rows alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from services.billing.domain.caps import first_day
from services.billing.domain.events import CapWindow
from services.billing.domain.payment_events import PAYMENT_EVENTS
from services.billing.domain.state import Wallet
from services.billing.payments.history import UNTOLD
from services.common.events import EventRecord
from services.common.ids import AccountId, GrantId, KeyId
from services.common.postgres import translated

_BALANCE = """
SELECT posted_nanousd, granted_nanousd, closing_nanousd, version, updated_at_ms
FROM wallet WHERE account_id = $1
"""
_TRANSACTIONS = """
SELECT payload FROM events
WHERE stream_id = 'wallet:' || $1::text AND type = 'billing.TransactionPosted'
    AND stream_version < $2
ORDER BY stream_version DESC LIMIT $3
"""
_PAYMENT_EVENTS = """
SELECT payload FROM events
WHERE stream_id = 'wallet:' || $1::text AND type = ANY($2::text[]) AND stream_version < $3
ORDER BY stream_version DESC LIMIT $4
"""
_JOURNAL = """
SELECT stream_version, payload FROM events
WHERE stream_id = 'wallet:' || $1::text AND type = 'billing.TransactionPosted'
    AND stream_version > $2 AND stream_version <= $3 AND occurred_at_ms >= $5
ORDER BY stream_version LIMIT $4
"""
_KEYS = """
SELECT key_id, spend_cap_nanousd, cap_window, spent_nanousd, granted_nanousd FROM key_account
WHERE account_id = $1 AND (cardinality($2::text[]) = 0 OR key_id = ANY($2)) ORDER BY key_id
"""
_DAYS = """
SELECT r.key_id, coalesce(sum(d.spent_nanousd), 0)::bigint AS spent
FROM unnest($2::text[], $3::bigint[]) AS r(key_id, first_day)
LEFT JOIN key_day AS d ON d.account_id = $1 AND d.key_id = r.key_id AND d.day >= r.first_day
GROUP BY 1
"""
_SCOPES = """
SELECT scope, spend_cap_nanousd, cap_window, granted_nanousd FROM scope_account
WHERE account_id = $1 AND (cardinality($2::text[]) = 0 OR scope = ANY($2)) ORDER BY scope
"""
_SCOPE_DAYS = """
SELECT r.scope, coalesce(sum(d.spent_nanousd), 0)::bigint AS spent
FROM unnest($2::text[], $3::bigint[]) AS r(scope, first_day)
LEFT JOIN scope_day AS d ON d.account_id = $1 AND d.scope = r.scope AND d.day >= r.first_day
GROUP BY 1
"""
_GRANTS = """
SELECT grant_id, account_id, key_id, worker_id, amount_nanousd, settled_nanousd, returned_nanousd,
       status, expires_at_ms
FROM grants
WHERE status = ANY($1::text[]) AND ($2 = '' OR account_id = $2) AND grant_id > $3
ORDER BY grant_id LIMIT $4
"""
_AS_TENANT = """
SELECT set_config('role', 'mesh_billing_tenant', true), set_config('mesh.account_id', $1, true)
"""
_TOLD_TYPES = [f"billing.{one.__name__}" for one in PAYMENT_EVENTS if one not in UNTOLD]
VERSION_MAX = 2**63 - 1
_PAGE = 500


@dataclass(frozen=True, slots=True)
class KeySpend:
    """What a key spent in its cap's window and holds, in nano-dollars."""

    key_id: KeyId
    spent_nanousd: int
    granted_nanousd: int
    spend_cap_nanousd: int | None
    window: CapWindow


@dataclass(frozen=True, slots=True)
class ScopeSpend:
    """What was spent in a scope in its cap's window and what it holds, in nano-dollars."""

    scope: str
    spent_nanousd: int
    granted_nanousd: int
    spend_cap_nanousd: int | None
    window: CapWindow


@dataclass(frozen=True, slots=True)
class GrantRow:
    """A grant that still holds money or may."""

    grant_id: GrantId
    account_id: AccountId
    key_id: KeyId
    worker_id: str
    amount_nanousd: int
    settled_nanousd: int
    returned_nanousd: int
    status: str
    expires_at_ms: int


async def balance(pool: asyncpg.Pool, account_id: AccountId) -> Wallet:
    """The wallet; an empty one for an account that never had money. Raises Unavailable."""
    async with _as_tenant(pool, account_id) as connection:
        row = await connection.fetchrow(_BALANCE, account_id)
    return Wallet(account_id) if row is None else Wallet(account_id, **dict(row))


async def transactions(
    pool: asyncpg.Pool, account_id: AccountId, *, before_version: int, limit: int
) -> list[EventRecord]:
    """Transactions before this version of the stream, newest first. Raises Unavailable."""
    async with _as_tenant(pool, account_id) as connection:
        rows = await connection.fetch(_TRANSACTIONS, account_id, before_version, limit)
    return [EventRecord.from_bytes(row["payload"]) for row in rows]


async def payment_events(
    pool: asyncpg.Pool, account_id: AccountId, *, before_version: int, limit: int
) -> list[EventRecord]:
    """What happened about paying before this version of the stream, newest first, without what is
    bookkeeping alone. Raises Unavailable.
    """
    async with _as_tenant(pool, account_id) as connection:
        rows = await connection.fetch(
            _PAYMENT_EVENTS, account_id, _TOLD_TYPES, before_version, limit
        )
    return [EventRecord.from_bytes(row["payload"]) for row in rows]


async def journal(
    pool: asyncpg.Pool, account_id: AccountId, *, booked_from_ms: int = 0
) -> AsyncIterator[EventRecord]:
    """The transactions of an account that were booked from a moment on, in the order of its
    journal, up to those of this moment.

    No connection is held between two pages. Raises Unavailable.
    """
    last_version = (await balance(pool, account_id)).version
    version = 0
    while True:
        async with _as_tenant(pool, account_id) as connection:
            rows = await connection.fetch(
                _JOURNAL, account_id, version, last_version, _PAGE, booked_from_ms
            )
        for row in rows:
            yield EventRecord.from_bytes(row["payload"])
        if len(rows) < _PAGE:
            return
        version = rows[-1]["stream_version"]


async def key_spend(
    pool: asyncpg.Pool, account_id: AccountId, key_ids: Sequence[KeyId], *, now_ms: int
) -> list[KeySpend]:
    """What keys spent in their windows; all keys where none is named. Raises Unavailable."""
    async with _as_tenant(pool, account_id) as connection:
        keys = await connection.fetch(_KEYS, account_id, list(key_ids))
        windowed = {
            row["key_id"]: first_day(CapWindow(row["cap_window"]), now_ms)
            for row in keys
            if row["cap_window"] != CapWindow.LIFETIME
        }
        days = await connection.fetch(_DAYS, account_id, list(windowed), list(windowed.values()))
    in_window = {row["key_id"]: row["spent"] for row in days}
    return [
        KeySpend(
            row["key_id"],
            in_window.get(row["key_id"], row["spent_nanousd"]),
            row["granted_nanousd"],
            row["spend_cap_nanousd"],
            CapWindow(row["cap_window"]),
        )
        for row in keys
    ]


async def scope_spend(
    pool: asyncpg.Pool, account_id: AccountId, scopes: Sequence[str], *, now_ms: int
) -> list[ScopeSpend]:
    """What was spent in scopes; in all that have a cap or have lent where none is named. A scope
    that is named and of which nothing is known has spent nothing. Raises Unavailable.
    """
    async with _as_tenant(pool, account_id) as connection:
        rows = await connection.fetch(_SCOPES, account_id, list(scopes))
        known = {row["scope"]: row for row in rows}
        windows = {
            scope: CapWindow(known[scope]["cap_window"]) if scope in known else CapWindow.LIFETIME
            for scope in (scopes or known)
        }
        first_days = [first_day(window, now_ms) for window in windows.values()]
        days = await connection.fetch(_SCOPE_DAYS, account_id, list(windows), first_days)
    spent = {row["scope"]: row["spent"] for row in days}
    return [
        ScopeSpend(
            scope,
            spent[scope],
            known[scope]["granted_nanousd"] if scope in known else 0,
            known[scope]["spend_cap_nanousd"] if scope in known else None,
            window,
        )
        for scope, window in windows.items()
    ]


async def held_grants(
    pool: asyncpg.Pool, account_id: AccountId, *, unresolved_only: bool, after: str, limit: int
) -> list[GrantRow]:
    """Open and unresolved grants by id, of all accounts where none is named. Raises Unavailable."""
    statuses = ["unresolved"] if unresolved_only else ["open", "unresolved"]
    with translated():
        rows = await pool.fetch(_GRANTS, statuses, account_id, after, limit)
    return [GrantRow(**dict(row)) for row in rows]


async def unresolved_count(pool: asyncpg.Pool) -> int:
    """How many grants nobody has accounted for. Raises Unavailable."""
    with translated():
        count: int = await pool.fetchval("SELECT count(*) FROM grants WHERE status = 'unresolved'")
    return count


@asynccontextmanager
async def _as_tenant(
    pool: asyncpg.Pool, account_id: AccountId
) -> AsyncIterator[PoolConnectionProxy]:
    """A read-only transaction that sees the rows of this account alone, as of one moment."""
    with translated():
        async with (
            pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            await connection.execute(_AS_TENANT, account_id)
            yield connection
