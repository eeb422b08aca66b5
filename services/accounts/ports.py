"""What the handlers need from outside: a store with transactions, passwords, attempts and
secrets.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from services.accounts.domain.account import Account, AccountEvent
from services.accounts.domain.admin_key import AdminKey, AdminKeyEvent
from services.accounts.domain.credential import Credential
from services.accounts.domain.invitation import Invitation, InvitationEvent
from services.accounts.domain.key import Key, KeyEvent
from services.accounts.domain.session import Session, SessionEvent
from services.accounts.domain.user import User, UserEvent
from services.common.ids import AccountId, AdminKeyId, InvitationId, KeyId, SessionId, UserId


class AccountsTransaction(Protocol):
    """One unit of work: everything or nothing. What it appends, it also writes to the read tables
    and the outbox.
    """

    async def lock(self, account_id: AccountId) -> None:
        """Waits until no other transaction holds this account, and holds it until the end.

        With it the commands on one account and its keys run one after the other, so that neither a
        key's published state nor the order of the account's messages can be older than the last
        commit.
        """

    async def account(self, account_id: AccountId) -> Account | None: ...

    async def user(self, user_id: UserId) -> User | None: ...

    async def key(self, key_id: KeyId) -> Key | None: ...

    async def session(self, session_id: SessionId) -> Session | None: ...

    async def append_account(
        self, before: Account | None, events: Sequence[AccountEvent]
    ) -> Account:
        """Appends to the account's stream and returns the new state. ConcurrencyConflict where
        `before` is old.
        """

    async def append_user(
        self, before: User | None, events: Sequence[UserEvent], account_id: AccountId
    ) -> User:
        """As above; `account_id` is whose audit trail shows it. Conflict where the address or
        the identity has a user already.
        """

    async def append_session(
        self, before: Session | None, events: Sequence[SessionEvent]
    ) -> Session: ...

    async def append_invitation(
        self, before: Invitation | None, events: Sequence[InvitationEvent]
    ) -> Invitation: ...

    async def append_admin_key(
        self, before: AdminKey | None, events: Sequence[AdminKeyEvent]
    ) -> AdminKey: ...

    async def append_key(self, before: Key | None, events: Sequence[KeyEvent]) -> Key: ...

    async def admin_key(self, admin_key_id: AdminKeyId) -> AdminKey | None: ...

    async def admin_keys_of_account(self, account_id: AccountId) -> list[AdminKey]:
        """All of them, also those that were revoked or have expired."""

    async def invitation(self, invitation_id: InvitationId) -> Invitation | None: ...

    async def invitation_of_token(self, token_hash: str) -> Invitation | None:
        """The invitation whose newest link has this SHA-256, also where it has ended."""

    async def standing_invitations(self, account_id: AccountId) -> list[Invitation]:
        """Those that were neither accepted nor revoked; some may have expired."""

    async def user_id_of_email(self, email: str) -> UserId | None: ...

    async def user_id_of_identity(self, issuer: str, subject: str) -> UserId | None: ...

    async def accounts_of_user(self, user_id: UserId) -> list[AccountId]:
        """Where the person is a member, longest membership first."""

    async def keys_of_account(self, account_id: AccountId) -> list[Key]:
        """All keys of the account, oldest first."""

    async def count_keys(self, account_id: AccountId) -> int: ...

    async def sessions_of_user(self, user_id: UserId) -> list[Session]:
        """The person's sessions that were not ended, in all accounts; some may have expired."""

    async def session_of_token(self, token_hash: str) -> Session | None:
        """The session whose token has this SHA-256."""

    async def set_session_token(self, session_id: SessionId, token_hash: str) -> None: ...

    async def forget_expired_tokens(self, user_id: UserId, now_ms: int) -> None:
        """Deletes the token hashes of the person's sessions that ended or expired."""

    async def password_hash(self, user_id: UserId) -> str | None: ...

    async def set_password_hash(self, user_id: UserId, password_hash: str) -> None: ...

    async def publish_keys(self, keys: Sequence[Credential], gone: Sequence[str]) -> None:
        """Tells gateways the newest state of these credentials, and to forget the hashes in
        `gone`.
        """


class AccountsStore(Protocol):
    """Where accounts are kept."""

    def transaction(self) -> AbstractAsyncContextManager[AccountsTransaction]:
        """A unit of work: commits at the exit, or nothing of it happened."""


class Passwords(Protocol):
    """Slow hashing, off the event loop. Unavailable where too many callers wait already."""

    async def hash(self, password: str) -> str: ...

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Takes as long for None (an unknown person) as for a wrong password."""

    def is_outdated(self, password_hash: str) -> bool:
        """True where the hash was made with other parameters than those of today."""


class Attempts(Protocol):
    """How often someone may guess. Does not know whether the subject exists."""

    def begin(self, subject: str) -> None:
        """Counts an attempt. RateLimitExceeded, with the wait, where there were too many."""

    def succeeded(self, subject: str) -> None:
        """Forgets the attempts of the subject."""


class Secrets(Protocol):
    """Fresh randomness."""

    def new_id(self, prefix: str) -> str: ...

    def plain_key(self) -> str:
        """`rsk_` and a ULID whose 80 random bits are all fresh."""

    def session_token(self) -> str: ...

    def invitation_token(self) -> str: ...

    def admin_key(self) -> str:
        """`mak_` and 256 random bits."""
