"""Quotas in PostgreSQL: locks, reads and set-based writes. Decides nothing.

Every writer locks the rows of its keys in `quota_key`, in the order of their ids, before it reads
anything else, and then those of their scopes in `quota_scope`, in the order of their names.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

import asyncpg

from services.billing.adapters.ledger_sql import Connection
from services.billing.domain.quotas import (
    KEPT_MS,
    LEASE_KEPT_MS,
    KeyLimits,
    Lease,
    LeaseId,
    ScopeLimits,
    Window,
    window_end,
)
from services.billing.quota_ports import (
    KeyRef,
    QuotaChanges,
    QuotaUnit,
    ScopeRef,
    WindowRef,
)
from services.common.errors import InternalError, Unavailable
from services.common.ids import AccountId
from services.common.postgres import columns_of, translated
from services.common.scopes import Scope
from services.common.telemetry import get_logger

log = get_logger(__name__)

_LOCK_KEYS = """
SELECT k.* FROM quota_key AS k
JOIN unnest($1::text[], $2::text[]) AS r(account_id, key_id) USING (account_id, key_id)
ORDER BY k.account_id, k.key_id FOR NO KEY UPDATE OF k
"""
_KEY = "SELECT * FROM quota_key WHERE account_id = $1 AND key_id = $2"
_PUT_KEYS = """
INSERT INTO quota_key (account_id, key_id, version, active, rpm_limit, rpd_limit, tpm_limit,
    member_id, team_id, model_ids)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::boolean[], $5::bigint[],
    $6::bigint[], $7::bigint[], $8::text[], $9::text[], $10::text[])
ON CONFLICT (account_id, key_id) DO UPDATE SET version = excluded.version,
    active = excluded.active, rpm_limit = excluded.rpm_limit, rpd_limit = excluded.rpd_limit,
    tpm_limit = excluded.tpm_limit, member_id = excluded.member_id, team_id = excluded.team_id,
    model_ids = excluded.model_ids
WHERE quota_key.version <= excluded.version
"""
_SCOPES = """
SELECT s.* FROM quota_scope AS s
JOIN unnest($1::text[], $2::text[]) AS r(account_id, scope) USING (account_id, scope)
"""
_LOCK_SCOPES = _SCOPES + "ORDER BY s.account_id, s.scope FOR NO KEY UPDATE OF s"
_PUT_SCOPES = """
INSERT INTO quota_scope (account_id, scope, version, rpm_limit, rpd_limit, tpm_limit)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[],
    $6::bigint[])
ON CONFLICT (account_id, scope) DO UPDATE SET version = excluded.version,
    rpm_limit = excluded.rpm_limit, rpd_limit = excluded.rpd_limit, tpm_limit = excluded.tpm_limit
WHERE quota_scope.version < excluded.version
"""
_LEASES = "SELECT * FROM quota_lease WHERE lease_id = ANY($1::text[])"
_OPEN_LEASES = """
SELECT * FROM quota_lease
WHERE revision = 0 AND account_id = ANY($3::text[]) AND usable_until_ms > $4
UNION
SELECT l.* FROM quota_lease AS l
JOIN unnest($1::text[], $2::text[]) AS r(account_id, key_id) USING (account_id, key_id)
WHERE l.revision = 0 AND l.usable_until_ms > $4
"""
_WINDOWS = """
SELECT w.* FROM quota_window AS w
JOIN unnest($1::text[], $2::text[], $3::text[], $4::bigint[])
    AS r(account_id, scope, kind, starts_at_ms) USING (account_id, scope, kind, starts_at_ms)
"""
_PUT_WINDOWS = """
INSERT INTO quota_window (account_id, scope, kind, starts_at_ms, ends_at_ms, requests, tokens)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[],
    $6::bigint[], $7::bigint[])
ON CONFLICT (account_id, scope, kind, starts_at_ms) DO UPDATE SET requests = excluded.requests,
    tokens = excluded.tokens
"""
_PUT_LEASES = """
INSERT INTO quota_lease (lease_id, account_id, key_id, worker_id, requests, tokens, drawn_at_ms,
    usable_until_ms, content_hash, used_requests, used_tokens, revision, scopes)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[],
    $7::bigint[], $8::bigint[], $9::bytea[], $10::bigint[], $11::bigint[], $12::bigint[],
    $13::text[])
ON CONFLICT (lease_id) DO UPDATE SET used_requests = excluded.used_requests,
    used_tokens = excluded.used_tokens, revision = excluded.revision
"""
_PRUNE_WINDOWS = """
DELETE FROM quota_window WHERE (account_id, scope, kind, starts_at_ms) IN (
    SELECT account_id, scope, kind, starts_at_ms FROM quota_window
    WHERE ends_at_ms <= $1 ORDER BY ends_at_ms LIMIT $2 FOR UPDATE SKIP LOCKED)
"""
_PRUNE_LEASES = """
DELETE FROM quota_lease WHERE lease_id IN (
    SELECT lease_id FROM quota_lease
    WHERE drawn_at_ms <= $1 AND (revision > 0 OR drawn_at_ms <= $2)
    LIMIT $3 FOR UPDATE SKIP LOCKED)
"""


class PostgresQuotas:
    """`QuotaStore` over a pool; no unit of work may last longer than `unit_timeout_s`."""

    def __init__(self, pool: asyncpg.Pool, *, unit_timeout_s: float) -> None:
        self._pool = pool
        self._unit_timeout_s = unit_timeout_s

    @asynccontextmanager
    async def unit(self) -> AsyncIterator[QuotaUnit]:
        """One transaction. Raises Unavailable, InternalError."""
        async with self._connection() as connection:
            yield _PostgresUnit(connection)

    async def put_limits(
        self, limits: Sequence[KeyLimits], scopes: Sequence[ScopeLimits] = ()
    ) -> None:
        """See the port; one row a key or scope, the newest version wins."""
        newest: dict[KeyRef, KeyLimits] = {}
        for one in sorted(limits, key=lambda one: one.version):
            newest[one.account_id, one.key_id] = one
        rows = [_row_from_limits(newest[ref]) for ref in sorted(newest)]
        newest_of_scopes: dict[ScopeRef, ScopeLimits] = {}
        for scope in sorted(scopes, key=lambda one: one.version):
            newest_of_scopes[scope.account_id, scope.scope] = scope
        scope_rows = [_row_from_scope(newest_of_scopes[ref]) for ref in sorted(newest_of_scopes)]
        async with self._connection() as connection:
            await _write(connection, _PUT_KEYS, rows)
            await _write(connection, _PUT_SCOPES, scope_rows)

    async def limits(self, ref: KeyRef) -> KeyLimits | None:
        async with self._connection() as connection:
            row = await connection.fetchrow(_KEY, *ref)
        return _limits_from_row(row) if row is not None else None

    async def scope_limits(self, refs: Collection[ScopeRef]) -> dict[ScopeRef, ScopeLimits]:
        if not refs:
            return {}
        async with self._connection() as connection:
            return _scopes_from_rows(await connection.fetch(_SCOPES, *columns_of(list(refs))))

    async def counted(self, refs: Sequence[WindowRef]) -> dict[WindowRef, Window]:
        async with self._connection() as connection:
            return await _PostgresUnit(connection).windows(refs)

    async def prune(self, now_ms: int, limit: int) -> int:
        async with self._connection() as connection:
            pruned = [
                await connection.execute(_PRUNE_WINDOWS, now_ms - KEPT_MS, limit),
                await connection.execute(
                    _PRUNE_LEASES, now_ms - KEPT_MS, now_ms - LEASE_KEPT_MS, limit
                ),
            ]
        return sum(int(status.removeprefix("DELETE ")) for status in pruned)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            async with asyncio.timeout(self._unit_timeout_s):
                with translated():
                    async with self._pool.acquire() as connection, connection.transaction():
                        yield connection
        except TimeoutError as error:
            raise Unavailable("the store of quotas did not answer in time") from error
        except asyncpg.PostgresError as error:
            log.exception("quota_store_refused")
            raise InternalError("the store of quotas refused a write") from error


class _PostgresUnit:
    """`QuotaUnit` over one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def keys(self, refs: Collection[KeyRef]) -> dict[KeyRef, KeyLimits]:
        rows = await self._connection.fetch(_LOCK_KEYS, *columns_of(list(refs)))
        return {(row["account_id"], row["key_id"]): _limits_from_row(row) for row in rows}

    async def leases(self, ids: Collection[LeaseId]) -> dict[LeaseId, Lease]:
        rows = await self._connection.fetch(_LEASES, list(ids))
        return {row["lease_id"]: _lease_from_row(row) for row in rows}

    async def scopes(self, refs: Collection[ScopeRef]) -> dict[ScopeRef, ScopeLimits]:
        if not refs:
            return {}
        rows = await self._connection.fetch(_LOCK_SCOPES, *columns_of(list(refs)))
        return _scopes_from_rows(rows)

    async def open_leases(
        self, keys: Collection[KeyRef], accounts: Collection[AccountId], now_ms: int
    ) -> dict[LeaseId, Lease]:
        rows = await self._connection.fetch(
            _OPEN_LEASES, *columns_of(list(keys)), list(accounts), now_ms
        )
        return {row["lease_id"]: _lease_from_row(row) for row in rows}

    async def windows(self, refs: Collection[WindowRef]) -> dict[WindowRef, Window]:
        if not refs:
            return {}
        rows = await self._connection.fetch(_WINDOWS, *columns_of(list(refs)))
        return {
            (row["account_id"], row["scope"], row["kind"], row["starts_at_ms"]): Window(
                row["requests"], row["tokens"]
            )
            for row in rows
        }

    async def save(self, changes: QuotaChanges) -> None:
        windows = [
            (*ref, window_end(ref[2], ref[3]), window.requests, window.tokens)
            for ref, window in sorted(changes.windows.items())
        ]
        await _write(self._connection, _PUT_WINDOWS, windows)
        leases = [_row_from_lease(changes.leases[one]) for one in sorted(changes.leases)]
        await _write(self._connection, _PUT_LEASES, leases)


async def _write(
    connection: Connection, statement: str, rows: Sequence[tuple[object, ...]]
) -> None:
    if rows:
        await connection.execute(statement, *columns_of(rows))


def _limits_from_row(row: asyncpg.Record) -> KeyLimits:
    return KeyLimits(
        row["account_id"],
        row["key_id"],
        row["version"],
        row["active"],
        row["rpm_limit"],
        row["rpd_limit"],
        row["tpm_limit"],
        row["member_id"],
        row["team_id"],
        tuple(row["model_ids"].splitlines()),
    )


def _scopes_from_rows(rows: Sequence[asyncpg.Record]) -> dict[ScopeRef, ScopeLimits]:
    return {
        (row["account_id"], row["scope"]): ScopeLimits(
            row["account_id"],
            Scope(row["scope"]),
            row["version"],
            row["rpm_limit"],
            row["rpd_limit"],
            row["tpm_limit"],
        )
        for row in rows
    }


def _row_from_scope(scope: ScopeLimits) -> tuple[object, ...]:
    return (
        scope.account_id,
        scope.scope,
        scope.version,
        scope.rpm,
        scope.rpd,
        scope.tpm,
    )


def _row_from_limits(key: KeyLimits) -> tuple[object, ...]:
    return (
        key.account_id,
        key.key_id,
        key.version,
        key.active,
        key.rpm,
        key.rpd,
        key.tpm,
        key.member_id,
        key.team_id,
        "\n".join(key.model_ids),
    )


def _lease_from_row(row: asyncpg.Record) -> Lease:
    return Lease(
        row["lease_id"],
        row["account_id"],
        row["key_id"],
        row["worker_id"],
        row["requests"],
        row["tokens"],
        row["drawn_at_ms"],
        row["usable_until_ms"],
        row["content_hash"],
        row["used_requests"],
        row["used_tokens"],
        row["revision"],
        tuple(Scope(scope) for scope in row["scopes"].splitlines()),
    )


def _row_from_lease(lease: Lease) -> tuple[object, ...]:
    return (
        lease.lease_id,
        lease.account_id,
        lease.key_id,
        lease.worker_id,
        lease.requests,
        lease.tokens,
        lease.drawn_at_ms,
        lease.usable_until_ms,
        lease.content_hash,
        lease.used_requests,
        lease.used_tokens,
        lease.revision,
        "\n".join(lease.scopes),
    )
