"""The store in memory: the twin of the one in PostgreSQL, for tests and simulations.

Transactions run one after the other; one that fails leaves no trace.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from services.accounts.adapters.recording import AuditRow, Recorded, StateT, recorded
from services.accounts.adapters.wire import key_state_value
from services.accounts.domain import account as accounts
from services.accounts.domain import admin_key as admin_keys
from services.accounts.domain import invitation as invitations
from services.accounts.domain import key as keys
from services.accounts.domain import session as sessions
from services.accounts.domain import user as users
from services.accounts.domain.account import Account, AccountEvent
from services.accounts.domain.admin_key import AdminKey, AdminKeyEvent
from services.accounts.domain.credential import Credential
from services.accounts.domain.invitation import Invitation, InvitationEvent
from services.accounts.domain.key import Key, KeyEvent
from services.accounts.domain.session import Session, SessionEvent
from services.accounts.domain.user import User, UserEvent
from services.common.clock import Clock
from services.common.errors import ConcurrencyConflict, Conflict
from services.common.events import EventRecord
from services.common.ids import AccountId, AdminKeyId, InvitationId, KeyId, SessionId, UserId
from services.common.topics import ACCOUNTS, KEYS, Topic


@dataclass(slots=True)
class Tables:
    """Everything that is kept; all values are immutable, so that a copy of the containers is a
    snapshot.
    """

    events: list[EventRecord] = field(default_factory=list)
    outbox: list[tuple[Topic, str, bytes | None]] = field(default_factory=list)
    audit: list[AuditRow] = field(default_factory=list)
    accounts: dict[AccountId, Account] = field(default_factory=dict)
    users: dict[UserId, User] = field(default_factory=dict)
    sessions: dict[SessionId, Session] = field(default_factory=dict)
    keys: dict[KeyId, Key] = field(default_factory=dict)
    invitations: dict[InvitationId, Invitation] = field(default_factory=dict)
    admin_keys: dict[AdminKeyId, AdminKey] = field(default_factory=dict)
    passwords: dict[UserId, str] = field(default_factory=dict)
    tokens: dict[SessionId, str] = field(default_factory=dict)

    def snapshot(self) -> Tables:
        return Tables(*(copy.copy(getattr(self, name)) for name in self.__slots__))


class MemoryTransaction:
    """Implements `AccountsTransaction` on a snapshot."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock

    async def lock(self, account_id: AccountId) -> None:
        """Nothing to wait for: the store runs one transaction at a time."""

    async def account(self, account_id: AccountId) -> Account | None:
        return self._tables.accounts.get(account_id)

    async def user(self, user_id: UserId) -> User | None:
        return self._tables.users.get(user_id)

    async def key(self, key_id: KeyId) -> Key | None:
        return self._tables.keys.get(key_id)

    async def session(self, session_id: SessionId) -> Session | None:
        return self._tables.sessions.get(session_id)

    async def admin_key(self, admin_key_id: AdminKeyId) -> AdminKey | None:
        return self._tables.admin_keys.get(admin_key_id)

    async def admin_keys_of_account(self, account_id: AccountId) -> list[AdminKey]:
        return [key for key in self._tables.admin_keys.values() if key.account_id == account_id]

    async def append_admin_key(
        self, before: AdminKey | None, events: Sequence[AdminKeyEvent]
    ) -> AdminKey:
        key_id, account_id = events[0].admin_key_id, events[0].account_id
        done = recorded(before, events, evolve=admin_keys.evolve, account_id=account_id)
        known = self._tables.admin_keys.get(key_id)
        self._write(f"admin_key:{key_id}", done, account_id=account_id, known=known)
        self._tables.admin_keys[key_id] = done.after
        return done.after

    async def invitation(self, invitation_id: InvitationId) -> Invitation | None:
        return self._tables.invitations.get(invitation_id)

    async def invitation_of_token(self, token_hash: str) -> Invitation | None:
        found = (i for i in self._tables.invitations.values() if i.token_hash == token_hash)
        return next(found, None)

    async def standing_invitations(self, account_id: AccountId) -> list[Invitation]:
        found = (i for i in self._tables.invitations.values() if i.account_id == account_id)
        return [invitation for invitation in found if not invitation.ended]

    async def append_invitation(
        self, before: Invitation | None, events: Sequence[InvitationEvent]
    ) -> Invitation:
        first = events[0]
        done = recorded(before, events, evolve=invitations.evolve, account_id=first.account_id)
        known = self._tables.invitations.get(first.invitation_id)
        stream_id = f"invitation:{first.invitation_id}"
        self._write(stream_id, done, account_id=first.account_id, known=known)
        self._tables.invitations[first.invitation_id] = done.after
        return done.after

    async def append_account(
        self, before: Account | None, events: Sequence[AccountEvent]
    ) -> Account:
        account_id = before.account_id if before else events[0].account_id
        done = recorded(before, events, evolve=accounts.evolve, account_id=account_id)
        self._write(
            f"account:{account_id}",
            done,
            account_id=account_id,
            known=self._tables.accounts.get(account_id),
        )
        self._tables.accounts[account_id] = done.after
        return done.after

    async def append_user(
        self, before: User | None, events: Sequence[UserEvent], account_id: AccountId
    ) -> User:
        done = recorded(before, events, evolve=users.evolve, account_id=account_id)
        user = done.after
        for other in self._tables.users.values():
            if other.email == user.email and other.user_id != user.user_id:
                raise Conflict("The e-mail address has a user already.")
            same = (other.issuer, other.subject) == (user.issuer, user.subject)
            if user.subject and same and other.user_id != user.user_id:
                raise Conflict("The identity has a user already.")
        known = self._tables.users.get(user.user_id)
        self._write(f"user:{user.user_id}", done, account_id=account_id, known=known)
        self._tables.users[user.user_id] = user
        return user

    async def append_session(
        self, before: Session | None, events: Sequence[SessionEvent]
    ) -> Session:
        first = before or sessions.evolve(None, events[0])
        done = recorded(before, events, evolve=sessions.evolve, account_id=first.account_id)
        known = self._tables.sessions.get(first.session_id)
        self._write(f"session:{first.session_id}", done, account_id=first.account_id, known=known)
        self._tables.sessions[first.session_id] = done.after
        return done.after

    async def append_key(self, before: Key | None, events: Sequence[KeyEvent]) -> Key:
        key_id, account_id = events[0].key_id, events[0].account_id
        done = recorded(before, events, evolve=keys.evolve, account_id=account_id)
        self._write(
            f"key:{key_id}", done, account_id=account_id, known=self._tables.keys.get(key_id)
        )
        self._tables.keys[key_id] = done.after
        return done.after

    def _write(
        self,
        stream_id: str,
        done: Recorded[StateT],
        *,
        account_id: AccountId,
        known: Account | AdminKey | Invitation | User | Session | Key | None,
    ) -> None:
        """`known` is the state in the store, which has to be the one that the events were decided
        on.
        """
        version = known.version if known else 0
        if done.after.version - len(done.records) != version:
            raise ConcurrencyConflict(f"{stream_id} is at version {version}")
        for record in done.records:
            version += 1
            placed = replace(record, stream_id=stream_id, stream_version=version)
            self._tables.events.append(placed)
            self._tables.outbox.append((ACCOUNTS, account_id, placed.to_bytes()))
        self._tables.audit += done.audit

    async def user_id_of_email(self, email: str) -> UserId | None:
        found = (user.user_id for user in self._tables.users.values() if user.email == email)
        return next(found, None)

    async def user_id_of_identity(self, issuer: str, subject: str) -> UserId | None:
        users = self._tables.users.values()
        found = (u.user_id for u in users if (u.issuer, u.subject) == (issuer, subject))
        return next(found, None)

    async def accounts_of_user(self, user_id: UserId) -> list[AccountId]:
        found = [
            (account.members[user_id].added_at_ms, account.account_id)
            for account in self._tables.accounts.values()
            if user_id in account.members
        ]
        return [account_id for _, account_id in sorted(found)]

    async def keys_of_account(self, account_id: AccountId) -> list[Key]:
        found = [key for key in self._tables.keys.values() if key.account_id == account_id]
        return sorted(found, key=lambda key: key.key_id)

    async def count_keys(self, account_id: AccountId) -> int:
        return len(await self.keys_of_account(account_id))

    async def sessions_of_user(self, user_id: UserId) -> list[Session]:
        found = [s for s in self._tables.sessions.values() if s.user_id == user_id]
        going_on = [session for session in found if session.ended_at_ms == 0]
        return sorted(going_on, key=lambda session: session.session_id)

    async def session_of_token(self, token_hash: str) -> Session | None:
        found = (s for s, kept in self._tables.tokens.items() if kept == token_hash)
        session_id = next(found, None)
        return None if session_id is None else self._tables.sessions[session_id]

    async def set_session_token(self, session_id: SessionId, token_hash: str) -> None:
        self._tables.tokens[session_id] = token_hash

    async def forget_expired_tokens(self, user_id: UserId, now_ms: int) -> None:
        for session in self._tables.sessions.values():
            if session.user_id == user_id and not session.is_open(now_ms):
                self._tables.tokens.pop(session.session_id, None)

    async def password_hash(self, user_id: UserId) -> str | None:
        return self._tables.passwords.get(user_id)

    async def set_password_hash(self, user_id: UserId, password_hash: str) -> None:
        self._tables.passwords[user_id] = password_hash

    async def publish_keys(self, keys: Sequence[Credential], gone: Sequence[str]) -> None:
        now_ms = self._clock.now_ms()
        self._tables.outbox += [(KEYS, one.key_hash, key_state_value(one, now_ms)) for one in keys]
        self._tables.outbox += [(KEYS, key_hash, None) for key_hash in gone]


class MemoryAccountsStore:
    """Implements `AccountsStore`; `tables` is what was committed."""

    def __init__(self, clock: Clock) -> None:
        self.tables = Tables()
        self._clock = clock
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[MemoryTransaction]:
        async with self._turn:
            tables = self.tables.snapshot()
            yield MemoryTransaction(tables, self._clock)
            self.tables = tables
