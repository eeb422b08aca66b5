"""The SQL of the ledger's tables, and their rows as values of the domain and back."""

from __future__ import annotations

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from services.billing.domain.events import CapWindow
from services.billing.domain.state import Grant, KeyAccount, ScopeAccount, Wallet
from services.common.scopes import Scope

Connection = asyncpg.Connection | PoolConnectionProxy

LOCK_WALLETS = """
SELECT account_id, posted_nanousd, granted_nanousd, closing_nanousd, version, sequence, hash,
       log_hash, updated_at_ms
FROM wallet WHERE account_id = ANY($1::text[]) ORDER BY account_id FOR UPDATE
"""
ENSURE_WALLETS = """
INSERT INTO wallet (account_id) SELECT a FROM unnest($1::text[]) AS a ORDER BY a
ON CONFLICT DO NOTHING
"""
UPDATE_WALLETS = """
UPDATE wallet SET posted_nanousd = r.posted, granted_nanousd = r.granted,
    closing_nanousd = r.closing, version = r.version, sequence = r.sequence, hash = r.hash,
    log_hash = r.log_hash, updated_at_ms = r.updated_at_ms
FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
            $7::bytea[], $8::bytea[], $9::bigint[])
    AS r(account_id, posted, granted, closing, version, sequence, hash, log_hash, updated_at_ms)
WHERE wallet.account_id = r.account_id
"""
GRANTS = "SELECT * FROM grants WHERE grant_id = ANY($1::text[])"
LAPSED_GRANTS = """
SELECT * FROM grants WHERE status = 'open' AND expires_at_ms <= $1 ORDER BY expires_at_ms LIMIT $2
"""
UNRESOLVED_GRANTS = """
SELECT * FROM grants WHERE status = 'unresolved' AND expires_at_ms <= $1
ORDER BY expires_at_ms LIMIT $2
"""
UPSERT_GRANTS = """
INSERT INTO grants (grant_id, account_id, key_id, worker_id, amount_nanousd, opened_at_ms,
    expires_at_ms, request_hash, settled_nanousd, spent_nanousd, returned_nanousd, status, renewals,
    scopes)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[],
    $7::bigint[], $8::bytea[], $9::bigint[], $10::bigint[], $11::bigint[], $12::text[],
    $13::bigint[], $14::text[])
ON CONFLICT (grant_id) DO UPDATE SET amount_nanousd = excluded.amount_nanousd,
    expires_at_ms = excluded.expires_at_ms, settled_nanousd = excluded.settled_nanousd,
    spent_nanousd = excluded.spent_nanousd, returned_nanousd = excluded.returned_nanousd,
    status = excluded.status, renewals = excluded.renewals
WHERE grants.account_id = excluded.account_id
"""
KEYS = """
SELECT k.* FROM key_account AS k
JOIN unnest($1::text[], $2::text[]) AS r(account_id, key_id) USING (account_id, key_id)
"""
UPSERT_KEYS = """
INSERT INTO key_account (account_id, key_id, spend_cap_nanousd, cap_window, version, active,
    spent_nanousd, granted_nanousd, closing_nanousd, member_id, team_id, model_ids)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::integer[], $5::bigint[],
    $6::boolean[], $7::bigint[], $8::bigint[], $9::bigint[], $10::text[], $11::text[], $12::text[])
ON CONFLICT (account_id, key_id) DO UPDATE SET spend_cap_nanousd = excluded.spend_cap_nanousd,
    cap_window = excluded.cap_window, version = excluded.version, active = excluded.active,
    spent_nanousd = excluded.spent_nanousd, granted_nanousd = excluded.granted_nanousd,
    closing_nanousd = excluded.closing_nanousd, member_id = excluded.member_id,
    team_id = excluded.team_id, model_ids = excluded.model_ids
"""
SCOPES = """
SELECT s.* FROM scope_account AS s
JOIN unnest($1::text[], $2::text[]) AS r(account_id, scope) USING (account_id, scope)
"""
UPSERT_SCOPES = """
INSERT INTO scope_account (account_id, scope, spend_cap_nanousd, cap_window, version,
    granted_nanousd, closing_nanousd)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::integer[], $5::bigint[],
    $6::bigint[], $7::bigint[])
ON CONFLICT (account_id, scope) DO UPDATE SET spend_cap_nanousd = excluded.spend_cap_nanousd,
    cap_window = excluded.cap_window, version = excluded.version,
    granted_nanousd = excluded.granted_nanousd, closing_nanousd = excluded.closing_nanousd
"""
SCOPE_SPEND = """
SELECT r.account_id, r.scope, coalesce(sum(d.spent_nanousd), 0) AS spent
FROM unnest($1::text[], $2::text[], $3::bigint[]) AS r(account_id, scope, first_day)
LEFT JOIN scope_day AS d
    ON d.account_id = r.account_id AND d.scope = r.scope AND d.day >= r.first_day
GROUP BY 1, 2
"""
ADD_SCOPE_DAYS = """
INSERT INTO scope_day (account_id, scope, day, spent_nanousd)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])
ON CONFLICT (account_id, scope, day)
DO UPDATE SET spent_nanousd = scope_day.spent_nanousd + excluded.spent_nanousd
"""
WINDOW_SPEND = """
SELECT r.account_id, r.key_id, coalesce(sum(d.spent_nanousd), 0) AS spent
FROM unnest($1::text[], $2::text[], $3::bigint[]) AS r(account_id, key_id, first_day)
LEFT JOIN key_day AS d
    ON d.account_id = r.account_id AND d.key_id = r.key_id AND d.day >= r.first_day
GROUP BY 1, 2
"""
ADD_DAYS = """
INSERT INTO key_day (account_id, key_id, day, spent_nanousd)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])
ON CONFLICT (account_id, key_id, day)
DO UPDATE SET spent_nanousd = key_day.spent_nanousd + excluded.spent_nanousd
"""
ADD_TOTALS = """
INSERT INTO ledger_total (account_id, ledger_account, balance_nanousd)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])
ON CONFLICT (account_id, ledger_account)
DO UPDATE SET balance_nanousd = ledger_total.balance_nanousd + excluded.balance_nanousd
"""
INSERT_KEYS_OF_JOURNAL = """
INSERT INTO journal_key (account_id, idempotency_key, stream_version)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])
"""
TRANSACTION_BY_KEY = """
SELECT e.payload FROM journal_key AS k
JOIN events AS e ON e.stream_id = $3 AND e.stream_version = k.stream_version
WHERE k.account_id = $1 AND k.idempotency_key = $2
"""
# The second part of such a key is the id of the transaction that is corrected.
CORRECTIONS = """
SELECT e.payload FROM journal_key AS k
JOIN events AS e ON e.stream_id = $2 AND e.stream_version = k.stream_version
WHERE k.account_id = $1 AND split_part(k.idempotency_key, ':', 1) IN ('reversal', 'rerate')
    AND split_part(k.idempotency_key, ':', 2) = ANY($3::text[])
ORDER BY k.stream_version
"""
MARK_USAGE = """
INSERT INTO usage_mark (usage_id, content_hash) SELECT * FROM unnest($1::text[], $2::bytea[])
ON CONFLICT DO NOTHING RETURNING usage_id
"""
USAGE_MARKS = "SELECT usage_id, content_hash FROM usage_mark WHERE usage_id = ANY($1::text[])"
ASK_BACK = """
INSERT INTO grant_recall (account_id, key_id, until_ms)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])
ON CONFLICT (account_id, key_id) DO UPDATE SET until_ms = excluded.until_ms
WHERE grant_recall.until_ms < excluded.until_ms
"""
RECALLS = """
SELECT account_id, key_id FROM grant_recall
WHERE account_id = ANY($1::text[]) AND until_ms > $2 ORDER BY 1, 2
"""
FORGET_RECALLS = "DELETE FROM grant_recall WHERE until_ms <= $1"
# An id that was given up never becomes a grant's.
GRANTS_OR_GIVEN_UP = """
SELECT n.grant_id AS given_up_id, g.*
FROM unnest($1::text[]) AS r(id)
LEFT JOIN grants AS g ON g.grant_id = r.id
LEFT JOIN grant_given_up AS n ON n.grant_id = r.id
WHERE g.grant_id IS NOT NULL OR n.grant_id IS NOT NULL
"""
GIVE_UP = """
INSERT INTO grant_given_up (grant_id, at_ms) SELECT g, $2 FROM unnest($1::text[]) AS g
ON CONFLICT DO NOTHING
"""
FORGET_GIVEN_UP = "DELETE FROM grant_given_up WHERE at_ms < $1"
LOCK_SEAL_CHAIN = "SELECT sequence, hour_start_ms, hash, log_hash FROM seal_chain FOR UPDATE"
UPDATE_SEAL_CHAIN = """
UPDATE seal_chain SET sequence = $1, hour_start_ms = $2, hash = $3, log_hash = $4
"""


def wallet_from_row(row: asyncpg.Record) -> Wallet:
    """A wallet of a row of `wallet`."""
    return Wallet(
        row["account_id"],
        row["posted_nanousd"],
        row["granted_nanousd"],
        row["closing_nanousd"],
        row["version"],
        row["sequence"],
        row["hash"],
        row["updated_at_ms"],
    )


def row_from_wallet(wallet: Wallet, log_hash: bytes) -> tuple[object, ...]:
    """The parameters of UPDATE_WALLETS."""
    return (
        wallet.account_id,
        wallet.posted_nanousd,
        wallet.granted_nanousd,
        wallet.closing_nanousd,
        wallet.version,
        wallet.sequence,
        wallet.hash,
        log_hash,
        wallet.updated_at_ms,
    )


def grant_from_row(row: asyncpg.Record) -> Grant:
    """A grant of a row of `grants`."""
    return Grant(
        row["grant_id"],
        row["account_id"],
        row["key_id"],
        row["worker_id"],
        row["amount_nanousd"],
        row["opened_at_ms"],
        row["expires_at_ms"],
        row["request_hash"],
        row["settled_nanousd"],
        row["spent_nanousd"],
        row["returned_nanousd"],
        row["status"],
        row["renewals"],
        tuple(Scope(scope) for scope in row["scopes"].splitlines()),
    )


def row_from_grant(grant: Grant) -> tuple[object, ...]:
    """The parameters of UPSERT_GRANTS."""
    return (
        grant.grant_id,
        grant.account_id,
        grant.key_id,
        grant.worker_id,
        grant.amount_nanousd,
        grant.opened_at_ms,
        grant.expires_at_ms,
        grant.request_hash,
        grant.settled_nanousd,
        grant.spent_nanousd,
        grant.returned_nanousd,
        grant.status,
        grant.renewals,
        "\n".join(grant.scopes),
    )


def key_from_row(row: asyncpg.Record) -> KeyAccount:
    """A key of a row of `key_account`."""
    return KeyAccount(
        row["account_id"],
        row["key_id"],
        row["spend_cap_nanousd"],
        CapWindow(row["cap_window"]),
        row["version"],
        row["active"],
        row["spent_nanousd"],
        row["granted_nanousd"],
        row["closing_nanousd"],
        row["member_id"],
        row["team_id"],
        tuple(row["model_ids"].splitlines()),
    )


def row_from_key(key: KeyAccount) -> tuple[object, ...]:
    """The parameters of UPSERT_KEYS."""
    return (
        key.account_id,
        key.key_id,
        key.spend_cap_nanousd,
        int(key.window),
        key.version,
        key.active,
        key.spent_nanousd,
        key.granted_nanousd,
        key.closing_nanousd,
        key.member_id,
        key.team_id,
        "\n".join(key.model_ids),
    )


def scope_from_row(row: asyncpg.Record) -> ScopeAccount:
    """A scope of a row of `scope_account`."""
    return ScopeAccount(
        row["account_id"],
        Scope(row["scope"]),
        row["spend_cap_nanousd"],
        CapWindow(row["cap_window"]),
        row["version"],
        row["granted_nanousd"],
        row["closing_nanousd"],
    )


def row_from_scope(scope: ScopeAccount) -> tuple[object, ...]:
    """The parameters of UPSERT_SCOPES."""
    return (
        scope.account_id,
        scope.scope,
        scope.spend_cap_nanousd,
        int(scope.window),
        scope.version,
        scope.granted_nanousd,
        scope.closing_nanousd,
    )
