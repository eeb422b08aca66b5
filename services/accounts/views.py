"""Reads, straight from the read tables. Every query of a tenant takes the account id as its first
argument.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from services.accounts.domain.invitation import Invitation
from services.accounts.domain.key import Key
from services.accounts.domain.limits import NO_LIMITS, ScopeLimits
from services.accounts.domain.roles import Role
from services.accounts.domain.session import Session
from services.accounts.domain.team import Team
from services.accounts.rows import (
    Connection,
    invitation_from_row,
    key_from_row,
    limits_from_row,
    session_from_row,
    teams_from_row,
)
from services.common.errors import InvalidArgument, NotFound, Unauthorized
from services.common.ids import AccountId, KeyId, SessionId, UserId
from services.common.postgres import translated

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 200
SEARCH_LENGTH_MAX = 200


@dataclass(frozen=True, slots=True)
class Page:
    """What part of a list is asked for; a size of 0 is the default size."""

    size: int = 0
    token: str = ""

    @property
    def limit(self) -> int:
        """How many rows; InvalidArgument above the maximum."""
        if self.size > PAGE_SIZE_MAX:
            raise InvalidArgument.of("page.page_size", f"is above {PAGE_SIZE_MAX}")
        return self.size or PAGE_SIZE_DEFAULT

    @property
    def after(self) -> str:
        """The key after which the page begins; InvalidArgument for a token that we did not make."""
        try:
            return base64.urlsafe_b64decode(self.token.encode()).decode()
        except (binascii.Error, UnicodeError) as error:
            raise InvalidArgument.of("page.page_token", "is not from an earlier answer") from error


def page_token(key: str) -> str:
    """The opaque token of the page after the row with this key."""
    return base64.urlsafe_b64encode(key.encode()).decode()


@dataclass(frozen=True, slots=True)
class SessionHolder:
    """Who holds a session."""

    session_id: SessionId
    user_id: UserId
    account_id: AccountId
    role: Role
    email: str
    name: str
    account_name: str
    expires_at_ms: int
    without_password: bool


@dataclass(frozen=True, slots=True)
class AccountRow:
    """An account as people see it; `owner_email` is that of its longest-standing owner."""

    account_id: AccountId
    name: str
    suspended: bool
    created_at_ms: int
    owner_email: str


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A member together with the person."""

    user_id: UserId
    email: str
    name: str
    role: Role
    added_at_ms: int


@dataclass(frozen=True, slots=True)
class Membership:
    """An account that a person belongs to."""

    account_id: AccountId
    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One line of the audit trail."""

    event_id: str
    type: str
    actor: str
    subject: str
    occurred_at_ms: int
    details_json: str


_SESSION = """
SELECT s.session_id, s.user_id, s.account_id, m.role, u.email, u.name, s.expires_at_ms,
    a.name AS account_name,
    NOT EXISTS (SELECT FROM user_passwords p WHERE p.user_id = s.user_id) AS without_password
FROM session_tokens t JOIN sessions s USING (session_id) JOIN users u ON u.user_id = s.user_id
    JOIN members m ON m.user_id = s.user_id AND m.account_id = s.account_id
    JOIN accounts a ON a.account_id = s.account_id
WHERE t.token_hash = $1 AND s.ended_at_ms = 0 AND s.expires_at_ms > $2
"""
_OWNER_EMAIL = """
coalesce((
    SELECT u.email FROM members m JOIN users u USING (user_id)
    WHERE m.account_id = a.account_id AND m.role = 4 ORDER BY m.added_at_ms, m.user_id LIMIT 1
), '')
"""
_ACCOUNT = f"SELECT a.*, {_OWNER_EMAIL} AS owner_email FROM accounts a"  # noqa: S608 - constants
_ACCOUNTS = f"""
SELECT * FROM ({_ACCOUNT}) AS a
WHERE ($1 = '' OR account_id < $1)
    AND (strpos(lower(name), $2) > 0 OR strpos(owner_email, $2) > 0)
ORDER BY account_id DESC LIMIT $3
"""  # noqa: S608 - constants
_MEMBERS = """
SELECT m.user_id, u.email, u.name, m.role, m.added_at_ms FROM members m JOIN users u USING (user_id)
WHERE m.account_id = $1 ORDER BY m.added_at_ms, m.user_id
"""
_MEMBERSHIPS = """
SELECT m.account_id, a.name, m.role FROM members m JOIN accounts a USING (account_id)
WHERE m.user_id = $1 ORDER BY m.added_at_ms, m.account_id
"""
_SESSIONS = """
SELECT * FROM sessions
WHERE account_id = $1 AND user_id = $2 AND ended_at_ms = 0 AND expires_at_ms > $3
ORDER BY session_id DESC
"""
_AUDIT = """
SELECT position, event_id, type, actor, subject, occurred_at_ms, details::text AS details_json
FROM audit_events WHERE account_id = $1 AND position < $2 ORDER BY position DESC LIMIT $3
"""
_END = 2**63 - 1


class AccountsViews:
    """The reads of the service. Raises Unavailable where PostgreSQL is away."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.pool = pool

    async def session_holder(self, token_hash: str, now_ms: int) -> SessionHolder:
        """Who holds the session with this token; Unauthorized where it ended, expired or never
        was.
        """
        with translated():
            row = await self.pool.fetchrow(_SESSION, token_hash, now_ms)
        if row is None:
            raise Unauthorized("The session has ended; log in again.")
        return SessionHolder(**{**dict(row), "role": Role(row["role"])})

    async def accounts(self, page: Page, search: str) -> tuple[list[AccountRow], str]:
        """All accounts whose name or owner's address holds `search`, newest first; for the operator
        alone.
        """
        if len(search) > SEARCH_LENGTH_MAX:
            raise InvalidArgument.of("search", f"has more than {SEARCH_LENGTH_MAX} characters")
        with translated():
            found = await self.pool.fetch(
                _ACCOUNTS, page.after, search.strip().lower(), page.limit + 1
            )
        accounts = [_account_from_row(row) for row in found[: page.limit]]
        more = len(found) > page.limit
        return accounts, page_token(accounts[-1].account_id) if more else ""

    async def account(self, account_id: AccountId) -> AccountRow:
        """The account; NotFound where there is none."""
        async with self.as_tenant(account_id) as connection:
            row = await connection.fetchrow(f"{_ACCOUNT} WHERE a.account_id = $1", account_id)
        if row is None:
            raise NotFound("There is no such account.")
        return _account_from_row(row)

    async def teams_and_limits(
        self, account_id: AccountId
    ) -> tuple[list[Team], dict[str, ScopeLimits]]:
        """The teams by id, and the limits of every scope that has any; NotFound where there is no
        such account.
        """
        async with self.as_tenant(account_id) as connection:
            row = await connection.fetchrow(
                "SELECT teams, limits FROM accounts WHERE account_id = $1", account_id
            )
        if row is None:
            raise NotFound("There is no such account.")
        limits = [one for one in limits_from_row(row) if one.limits != NO_LIMITS]
        return teams_from_row(row), {one.scope: one for one in limits}

    async def members(self, account_id: AccountId) -> list[MemberRow]:
        """The members, longest membership first."""
        async with self.as_tenant(account_id) as connection:
            found = await connection.fetch(_MEMBERS, account_id)
        return [MemberRow(**{**dict(row), "role": Role(row["role"])}) for row in found]

    async def invitations(self, account_id: AccountId) -> list[Invitation]:
        """Those that were neither accepted nor revoked, newest first; some may have expired."""
        async with self.as_tenant(account_id) as connection:
            found = await connection.fetch(
                "SELECT * FROM invitations WHERE account_id = $1 AND ended = ''"
                " ORDER BY invited_at_ms DESC, invitation_id",
                account_id,
            )
        return [invitation_from_row(row) for row in found]

    async def memberships(self, user_id: UserId) -> list[Membership]:
        """Where the person is a member, longest membership first."""
        with translated():
            found = await self.pool.fetch(_MEMBERSHIPS, user_id)
        return [Membership(**{**dict(row), "role": Role(row["role"])}) for row in found]

    async def sessions(self, account_id: AccountId, user_id: UserId, now_ms: int) -> list[Session]:
        """The person's open sessions in the account, newest first."""
        async with self.as_tenant(account_id) as connection:
            found = await connection.fetch(_SESSIONS, account_id, user_id, now_ms)
        return [session_from_row(row) for row in found]

    async def key(self, account_id: AccountId, key_id: KeyId) -> Key:
        """One key of the account; NotFound where it has none with this id."""
        async with self.as_tenant(account_id) as connection:
            row = await connection.fetchrow(
                "SELECT * FROM api_keys WHERE account_id = $1 AND key_id = $2", account_id, key_id
            )
        if row is None:
            raise NotFound("There is no such key.")
        return key_from_row(row)

    async def keys(self, account_id: AccountId, page: Page) -> tuple[list[Key], str]:
        """The account's keys, oldest first, and the token of the next page."""
        async with self.as_tenant(account_id) as connection:
            found = await connection.fetch(
                "SELECT * FROM api_keys WHERE account_id = $1 AND key_id > $2"
                " ORDER BY key_id LIMIT $3",
                account_id,
                page.after,
                page.limit + 1,
            )
        keys = [key_from_row(row) for row in found[: page.limit]]
        return keys, page_token(keys[-1].key_id) if len(found) > page.limit else ""

    async def audit(self, account_id: AccountId, page: Page) -> tuple[list[AuditLine], str]:
        """The account's trail, newest first, and the token of the next page."""
        before = page.after or str(_END)
        if not before.isdecimal() or int(before) > _END:
            raise InvalidArgument.of("page.page_token", "is not from an earlier answer")
        async with self.as_tenant(account_id) as connection:
            found = await connection.fetch(_AUDIT, account_id, int(before), page.limit + 1)
        shown = found[: page.limit]
        lines = [AuditLine(**{name: row[name] for name in AuditLine.__slots__}) for row in shown]
        more = len(found) > page.limit
        return lines, page_token(str(shown[-1]["position"])) if more else ""

    @asynccontextmanager
    async def as_tenant(self, account_id: AccountId) -> AsyncIterator[Connection]:
        """A read-only transaction in the role whose row policies let it see this account alone."""
        with translated():
            async with self.pool.acquire() as connection, connection.transaction(readonly=True):
                await connection.execute(
                    "SELECT set_config('role', 'mesh_accounts_tenant', true),"
                    " set_config('mesh.account_id', $1, true)",
                    account_id,
                )
                yield connection


def _account_from_row(row: asyncpg.Record) -> AccountRow:
    return AccountRow(
        account_id=AccountId(row["account_id"]),
        name=row["name"],
        suspended=row["suspended"],
        created_at_ms=row["created_at_ms"],
        owner_email=row["owner_email"],
    )
