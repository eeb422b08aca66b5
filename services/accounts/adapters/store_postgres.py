"""The store in PostgreSQL: streams in the floor's event store, read tables and outbox in the same
transaction.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar, cast

import asyncpg

from services.accounts import rows
from services.accounts.adapters.recording import AuditRow, Recorded, StateT, recorded
from services.accounts.adapters.wire import event_from_record, key_state_value
from services.accounts.domain import account as accounts
from services.accounts.domain import admin_key as admin_keys
from services.accounts.domain import invitation as invitations
from services.accounts.domain import key as keys
from services.accounts.domain import session as sessions
from services.accounts.domain import user as users
from services.accounts.domain.account import Account, AccountEvent
from services.accounts.domain.admin_key import AdminKey, AdminKeyEvent
from services.accounts.domain.audit import Event
from services.accounts.domain.credential import Credential
from services.accounts.domain.invitation import Invitation, InvitationEvent
from services.accounts.domain.key import Key, KeyEvent
from services.accounts.domain.session import Session, SessionEvent
from services.accounts.domain.user import User, UserEvent
from services.common.clock import Clock
from services.common.errors import Conflict
from services.common.ids import AccountId, AdminKeyId, InvitationId, KeyId, SessionId, UserId
from services.common.postgres import EventStore, Transaction
from services.common.topics import ACCOUNTS, KEYS

EventT = TypeVar("EventT", bound=Event)

_USER = rows.upsert("users", rows.USER_COLUMNS)
_ACCOUNT = rows.upsert("accounts", rows.ACCOUNT_COLUMNS)
_SESSION = rows.upsert("sessions", rows.SESSION_COLUMNS)
_KEY = rows.upsert("api_keys", rows.KEY_COLUMNS)
_ADMIN_KEY = rows.upsert("admin_keys", rows.ADMIN_KEY_COLUMNS)
_INVITATION = rows.upsert("invitations", rows.INVITATION_COLUMNS)
_AUDIT = """
INSERT INTO audit_events
    (event_id, position, account_id, type, actor, subject, occurred_at_ms, details)
SELECT event_id, global_position, $2, $3, $4, $5, $6, $7 FROM events WHERE event_id = $1
"""
_MEMBER = """
INSERT INTO members (account_id, user_id, role, added_at_ms) VALUES ($1, $2, $3, $4)
ON CONFLICT (account_id, user_id) DO UPDATE
SET role = EXCLUDED.role, added_at_ms = EXCLUDED.added_at_ms
"""
_TAKEN = {"users_email_unique": "e-mail address", "users_identity_unique": "identity"}
# Two spaces of advisory locks: the first number says that it is an account of this service.
_LOCK = "SELECT pg_advisory_xact_lock(1633837924, hashtext($1))"


class ReadTables:
    """Writes states to the read tables; also used by the rebuild."""

    def __init__(self, connection: rows.Connection) -> None:
        self._connection = connection

    async def save_user(self, user: User) -> None:
        try:
            await self._connection.execute(_USER, *rows.user_row(user))
        except asyncpg.UniqueViolationError as error:
            taken = _TAKEN.get(error.constraint_name or "")
            if taken is None:
                raise
            raise Conflict(f"The {taken} has a user already.") from error

    async def save_account(self, before: Account | None, after: Account) -> None:
        """`before` is what the tables hold: only members that differ are written."""
        await self._connection.execute(_ACCOUNT, *rows.account_row(after))
        old = before.members if before else {}
        for member in after.members.values():
            if old.get(member.user_id) != member:
                await self._connection.execute(
                    _MEMBER, after.account_id, member.user_id, int(member.role), member.added_at_ms
                )
        gone = [user_id for user_id in old if user_id not in after.members]
        if gone:
            await self._connection.execute(
                "DELETE FROM members WHERE account_id = $1 AND user_id = ANY($2)",
                after.account_id,
                gone,
            )

    async def save_session(self, session: Session) -> None:
        await self._connection.execute(_SESSION, *rows.session_row(session))

    async def save_invitation(self, invitation: Invitation) -> None:
        await self._connection.execute(_INVITATION, *rows.invitation_row(invitation))

    async def save_admin_key(self, key: AdminKey) -> None:
        await self._connection.execute(_ADMIN_KEY, *rows.admin_key_row(key))

    async def save_key(self, key: Key) -> None:
        await self._connection.execute(_KEY, *rows.key_row(key))

    async def add_audit(self, lines: Sequence[AuditRow]) -> None:
        values = [
            (a.event_id, a.account_id, a.type, a.actor, a.subject, a.occurred_at_ms, a.details_json)
            for a in lines
        ]
        await self._connection.executemany(_AUDIT, values)


class PostgresTransaction:
    """Implements `AccountsTransaction`."""

    def __init__(self, transaction: Transaction, clock: Clock) -> None:
        self._tx = transaction
        self._db = transaction.connection
        self._tables = ReadTables(transaction.connection)
        self._clock = clock

    async def lock(self, account_id: AccountId) -> None:
        await self._db.execute(_LOCK, account_id)

    async def account(self, account_id: AccountId) -> Account | None:
        return await self._load(f"account:{account_id}", accounts.evolve)

    async def user(self, user_id: UserId) -> User | None:
        return await self._load(f"user:{user_id}", users.evolve)

    async def key(self, key_id: KeyId) -> Key | None:
        return await self._load(f"key:{key_id}", keys.evolve)

    async def session(self, session_id: SessionId) -> Session | None:
        return await self._load(f"session:{session_id}", sessions.evolve)

    async def _load(
        self, stream_id: str, evolve: Callable[[StateT | None, EventT], StateT]
    ) -> StateT | None:
        state: StateT | None = None
        for record in await self._tx.load(stream_id):
            # A stream holds only events of its own kind.
            state = evolve(state, cast(EventT, event_from_record(record)))
        return state

    async def admin_key(self, admin_key_id: AdminKeyId) -> AdminKey | None:
        return await self._load(f"admin_key:{admin_key_id}", admin_keys.evolve)

    async def admin_keys_of_account(self, account_id: AccountId) -> list[AdminKey]:
        found = await self._db.fetch("SELECT * FROM admin_keys WHERE account_id = $1", account_id)
        return [rows.admin_key_from_row(row) for row in found]

    async def append_admin_key(
        self, before: AdminKey | None, events: Sequence[AdminKeyEvent]
    ) -> AdminKey:
        account_id = events[0].account_id
        done = recorded(before, events, evolve=admin_keys.evolve, account_id=account_id)
        await self._write(f"admin_key:{done.after.admin_key_id}", done, account_id=account_id)
        await self._tables.save_admin_key(done.after)
        return done.after

    async def invitation(self, invitation_id: InvitationId) -> Invitation | None:
        return await self._load(f"invitation:{invitation_id}", invitations.evolve)

    async def invitation_of_token(self, token_hash: str) -> Invitation | None:
        row = await self._db.fetchrow("SELECT * FROM invitations WHERE token_hash = $1", token_hash)
        return None if row is None else rows.invitation_from_row(row)

    async def standing_invitations(self, account_id: AccountId) -> list[Invitation]:
        found = await self._db.fetch(
            "SELECT * FROM invitations WHERE account_id = $1 AND ended = ''", account_id
        )
        return [rows.invitation_from_row(row) for row in found]

    async def append_invitation(
        self, before: Invitation | None, events: Sequence[InvitationEvent]
    ) -> Invitation:
        account_id = events[0].account_id
        done = recorded(before, events, evolve=invitations.evolve, account_id=account_id)
        stream_id = f"invitation:{done.after.invitation_id}"
        await self._write(stream_id, done, account_id=account_id)
        await self._tables.save_invitation(done.after)
        return done.after

    async def append_account(
        self, before: Account | None, events: Sequence[AccountEvent]
    ) -> Account:
        account_id = before.account_id if before else events[0].account_id
        done = recorded(before, events, evolve=accounts.evolve, account_id=account_id)
        await self._write(f"account:{account_id}", done, account_id=account_id)
        await self._tables.save_account(before, done.after)
        return done.after

    async def append_user(
        self, before: User | None, events: Sequence[UserEvent], account_id: AccountId
    ) -> User:
        done = recorded(before, events, evolve=users.evolve, account_id=account_id)
        await self._write(f"user:{done.after.user_id}", done, account_id=account_id)
        await self._tables.save_user(done.after)
        return done.after

    async def append_session(
        self, before: Session | None, events: Sequence[SessionEvent]
    ) -> Session:
        account_id = _session_account(before, events)
        done = recorded(before, events, evolve=sessions.evolve, account_id=account_id)
        await self._write(f"session:{done.after.session_id}", done, account_id=account_id)
        await self._tables.save_session(done.after)
        return done.after

    async def append_key(self, before: Key | None, events: Sequence[KeyEvent]) -> Key:
        account_id = events[0].account_id
        done = recorded(before, events, evolve=keys.evolve, account_id=account_id)
        await self._write(f"key:{done.after.key_id}", done, account_id=account_id)
        await self._tables.save_key(done.after)
        return done.after

    async def _write(
        self,
        stream_id: str,
        done: Recorded[StateT],
        *,
        account_id: AccountId,
    ) -> None:
        expected_version = done.after.version - len(done.records)
        placed = await self._tx.append(stream_id, expected_version, done.records)
        await self._tx.publish_many([(ACCOUNTS, account_id, r.to_bytes()) for r in placed])
        await self._tables.add_audit(done.audit)

    async def user_id_of_email(self, email: str) -> UserId | None:
        found: str | None = await self._db.fetchval(
            "SELECT user_id FROM users WHERE email = $1", email
        )
        return None if found is None else UserId(found)

    async def user_id_of_identity(self, issuer: str, subject: str) -> UserId | None:
        found: str | None = await self._db.fetchval(
            "SELECT user_id FROM users WHERE issuer = $1 AND subject = $2 AND subject <> ''",
            issuer,
            subject,
        )
        return None if found is None else UserId(found)

    async def accounts_of_user(self, user_id: UserId) -> list[AccountId]:
        found = await self._db.fetch(
            "SELECT account_id FROM members WHERE user_id = $1 ORDER BY added_at_ms, account_id",
            user_id,
        )
        return [AccountId(row["account_id"]) for row in found]

    async def keys_of_account(self, account_id: AccountId) -> list[Key]:
        found = await self._db.fetch(
            "SELECT * FROM api_keys WHERE account_id = $1 ORDER BY key_id", account_id
        )
        return [rows.key_from_row(row) for row in found]

    async def count_keys(self, account_id: AccountId) -> int:
        return int(
            await self._db.fetchval(
                "SELECT count(*) FROM api_keys WHERE account_id = $1", account_id
            )
        )

    async def sessions_of_user(self, user_id: UserId) -> list[Session]:
        found = await self._db.fetch(
            "SELECT * FROM sessions WHERE user_id = $1 AND ended_at_ms = 0 ORDER BY session_id",
            user_id,
        )
        return [rows.session_from_row(row) for row in found]

    async def session_of_token(self, token_hash: str) -> Session | None:
        found = await self._db.fetchval(
            "SELECT session_id FROM session_tokens WHERE token_hash = $1", token_hash
        )
        return None if found is None else await self.session(SessionId(found))

    async def set_session_token(self, session_id: SessionId, token_hash: str) -> None:
        await self._db.execute(
            "INSERT INTO session_tokens (session_id, token_hash) VALUES ($1, $2)",
            session_id,
            token_hash,
        )

    async def forget_expired_tokens(self, user_id: UserId, now_ms: int) -> None:
        await self._db.execute(
            "DELETE FROM session_tokens USING sessions"
            " WHERE session_tokens.session_id = sessions.session_id AND user_id = $1"
            " AND (ended_at_ms > 0 OR expires_at_ms <= $2)",
            user_id,
            now_ms,
        )

    async def password_hash(self, user_id: UserId) -> str | None:
        found: str | None = await self._db.fetchval(
            "SELECT password_hash FROM user_passwords WHERE user_id = $1 FOR UPDATE", user_id
        )
        return found

    async def set_password_hash(self, user_id: UserId, password_hash: str) -> None:
        await self._db.execute(
            "INSERT INTO user_passwords (user_id, password_hash) VALUES ($1, $2)"
            " ON CONFLICT (user_id) DO UPDATE SET password_hash = EXCLUDED.password_hash",
            user_id,
            password_hash,
        )

    async def publish_keys(self, keys: Sequence[Credential], gone: Sequence[str]) -> None:
        now_ms = self._clock.now_ms()
        await self._tx.publish_many(
            [(KEYS, key.key_hash, key_state_value(key, now_ms)) for key in keys]
        )
        await self._tx.publish_many([(KEYS, key_hash, None) for key_hash in gone])


def _session_account(before: Session | None, events: Sequence[SessionEvent]) -> AccountId:
    if before is not None:
        return before.account_id
    first = events[0]
    assert isinstance(first, sessions.SessionStarted), "a session begins with its start"
    return first.account_id


class PostgresAccountsStore:
    """Implements `AccountsStore` on the floor's event store."""

    def __init__(self, events: EventStore, clock: Clock) -> None:
        self._events = events
        self._clock = clock

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PostgresTransaction]:
        async with self._events.transaction() as transaction:
            yield PostgresTransaction(transaction, self._clock)
