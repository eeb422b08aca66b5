"""Names and short forms for the tests of the accounts domain."""

from __future__ import annotations

from collections.abc import Sequence

from services.accounts.domain import account as accounts
from services.accounts.domain import key as keys
from services.accounts.domain.account import Account, AccountEvent, Member
from services.accounts.domain.key import Key, KeyEvent, KeyIssued
from services.accounts.domain.key_settings import KeySettings
from services.accounts.domain.roles import Actor, Role
from services.common.ids import AccountId, KeyId, UserId

NOW_MS = 1_700_000_000_000
ACCOUNT = AccountId("acc_1")
KEY = KeyId("key_1")
OWNER, ADMIN, DEVELOPER, VIEWER, STRANGER = (
    UserId(f"usr_{name}") for name in ("owner", "admin", "developer", "viewer", "stranger")
)
OPERATOR = Actor(UserId(""), is_operator=True)
ROLES = {
    OWNER: Role.OWNER,
    ADMIN: Role.ADMIN,
    DEVELOPER: Role.DEVELOPER,
    VIEWER: Role.VIEWER,
}

OPENED: list[AccountEvent] = [
    accounts.AccountOpened(ACCOUNT, "Acme", OWNER, NOW_MS),
    accounts.MemberAdded(ACCOUNT, OWNER, Role.OWNER, OWNER, NOW_MS),
]
# An account with one member of each role.
STAFFED: list[AccountEvent] = [
    *OPENED,
    *(
        accounts.MemberAdded(ACCOUNT, user_id, role, OWNER, NOW_MS)
        for user_id, role in ROLES.items()
        if user_id != OWNER
    ),
]
ISSUED: list[KeyEvent] = [
    KeyIssued(KEY, ACCOUNT, OWNER, "hash-1", "rsk_01...AAAA", KeySettings(label="web"), NOW_MS)
]


def actor(user_id: UserId) -> Actor:
    return Actor(user_id)


def member(user_id: UserId, role: Role) -> Member:
    return Member(user_id, role, NOW_MS)


def account_of(events: Sequence[AccountEvent]) -> Account:
    state: Account | None = None
    for event in events:
        state = accounts.evolve(state, event)
    assert state is not None
    return state


def key_of(events: Sequence[KeyEvent]) -> Key:
    state: Key | None = None
    for event in events:
        state = keys.evolve(state, event)
    assert state is not None
    return state
