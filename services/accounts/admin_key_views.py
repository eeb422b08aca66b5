"""Reads about admin keys, straight from the read tables."""

from __future__ import annotations

from dataclasses import dataclass

from services.accounts.domain.admin_key import AdminKey
from services.accounts.domain.roles import Role
from services.accounts.rows import admin_key_from_row, teams_from_row
from services.accounts.views import AccountsViews
from services.common.errors import NotFound, Unauthorized
from services.common.ids import AccountId, AdminKeyId, TeamId, UserId
from services.common.postgres import translated

KEYS_SHOWN_MAX = 500
USE_NOTED_EVERY_MS = 60_000

_KEYS = """
SELECT k.*, coalesce(u.last_used_at_ms, 0) AS last_used_at_ms
FROM admin_keys k LEFT JOIN admin_key_uses u USING (admin_key_id)
WHERE k.account_id = $1 AND ($2 = '' OR k.admin_key_id = $2)
ORDER BY k.admin_key_id DESC LIMIT $3
"""
# An admin key is its maker's: without the membership it is nothing.
_HOLDER = """
SELECT k.admin_key_id, k.account_id, k.created_by, k.permissions, k.key_scope, m.role, a.teams
FROM admin_keys k JOIN members m ON m.account_id = k.account_id AND m.user_id = k.created_by
    JOIN accounts a ON a.account_id = k.account_id
WHERE (k.key_hash = $1 OR (k.old_key_hash = $1 AND k.old_expires_at_ms > $2))
    AND k.revoked_at_ms = 0 AND k.expires_at_ms > $2 AND $1 <> ''
"""
_NOTE_USE = """
INSERT INTO admin_key_uses AS known (admin_key_id, last_used_at_ms) VALUES ($1, $2)
ON CONFLICT (admin_key_id) DO UPDATE SET last_used_at_ms = EXCLUDED.last_used_at_ms
WHERE known.last_used_at_ms <= EXCLUDED.last_used_at_ms - $3
"""


@dataclass(frozen=True, slots=True)
class AdminKeyHolder:
    """Whom a secret stands for: its maker with the role of now, and what it was narrowed to."""

    admin_key_id: AdminKeyId
    account_id: AccountId
    user_id: UserId
    role: Role
    permissions: tuple[str, ...]
    key_scope: str
    team_ids: tuple[TeamId, ...]


class AdminKeyViews:
    """The reads of admin keys. Raises Unavailable where PostgreSQL is away."""

    def __init__(self, views: AccountsViews) -> None:
        self._views = views

    async def all(self, account_id: AccountId) -> list[tuple[AdminKey, int]]:
        """Newest first, each with when it was last used."""
        async with self._views.as_tenant(account_id) as connection:
            found = await connection.fetch(_KEYS, account_id, "", KEYS_SHOWN_MAX)
        return [(admin_key_from_row(row), row["last_used_at_ms"]) for row in found]

    async def one(self, account_id: AccountId, key_id: AdminKeyId) -> tuple[AdminKey, int]:
        """One key of the account; NotFound where it has none with this id."""
        async with self._views.as_tenant(account_id) as connection:
            row = await connection.fetchrow(_KEYS, account_id, key_id, 1) if key_id else None
        if row is None:
            raise NotFound("There is no such admin key.")
        return admin_key_from_row(row), row["last_used_at_ms"]

    async def holder(self, key_hash: str, now_ms: int) -> AdminKeyHolder:
        """Whom the secret with this SHA-256 stands for; Unauthorized where it is no usable one."""
        with translated():
            row = await self._views.pool.fetchrow(_HOLDER, key_hash, now_ms)
        if row is None:
            raise Unauthorized("The admin key is unknown, revoked or expired.")
        with translated():
            await self._views.pool.execute(
                _NOTE_USE, row["admin_key_id"], now_ms, USE_NOTED_EVERY_MS
            )
        user_id = UserId(row["created_by"])
        return AdminKeyHolder(
            admin_key_id=AdminKeyId(row["admin_key_id"]),
            account_id=AccountId(row["account_id"]),
            user_id=user_id,
            role=Role(row["role"]),
            permissions=tuple(row["permissions"]),
            key_scope=row["key_scope"],
            team_ids=tuple(team.team_id for team in teams_from_row(row) if user_id in team.members),
        )
