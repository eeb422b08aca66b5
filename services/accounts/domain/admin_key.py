"""An admin key: stream `admin_key:<id>`. A secret with which scripts manage an account.

It acts as the person who made it and never may more than they; its permissions and its scope narrow
that down. The plain secret is made outside and never comes in here. After a rotation the one before
goes on working until its grace ends; the one before that ends at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import assert_never

from services.accounts.domain.account import Account, authorise
from services.accounts.domain.roles import Actor, Role
from services.common.errors import Conflict, InvalidArgument, NotFound
from services.common.ids import AccountId, AdminKeyId

PERMISSIONS = (
    "keys:read", "keys:write", "org:read", "limits:read", "limits:write", "alerts:read",
    "alerts:write",
)  # fmt: skip
SCOPES = ("self", "team", "org")
# What is about keys may be narrowed down to some of them; everything else is about the account.
NARROWABLE = frozenset({"keys:read", "keys:write"})
LIFETIME_MS_MAX = 90 * 86_400_000
GRACE_S_MAX = 7 * 86_400
LABEL_LENGTH_MAX = 100
REASON_LENGTH_MAX = 400
LIVE_KEYS_MAX = 100


@dataclass(frozen=True, slots=True)
class AdminKey:
    """The state of one admin key; moments in Unix milliseconds, 0 for never."""

    admin_key_id: AdminKeyId
    account_id: AccountId
    created_by: str
    key_hash: str
    masked_key: str
    label: str
    permissions: tuple[str, ...]
    key_scope: str
    expires_at_ms: int
    created_at_ms: int
    version: int
    old_key_hash: str = ""
    old_expires_at_ms: int = 0
    revoked_at_ms: int = 0
    revoke_reason: str = ""

    def is_live(self, now_ms: int) -> bool:
        """True where it was neither revoked nor has expired."""
        return not self.revoked_at_ms and now_ms < self.expires_at_ms


@dataclass(frozen=True, slots=True)
class AdminKeyIssued:
    admin_key_id: AdminKeyId
    account_id: AccountId
    created_by: str
    key_hash: str
    masked_key: str
    label: str
    permissions: tuple[str, ...]
    key_scope: str
    expires_at_ms: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class AdminKeyRotated:
    admin_key_id: AdminKeyId
    account_id: AccountId
    key_hash: str
    masked_key: str
    old_expires_at_ms: int
    expires_at_ms: int
    rotated_by: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class AdminKeyRevoked:
    admin_key_id: AdminKeyId
    account_id: AccountId
    revoked_by: str
    reason: str
    at_ms: int


AdminKeyEvent = AdminKeyIssued | AdminKeyRotated | AdminKeyRevoked


@dataclass(frozen=True, slots=True)
class IssueAdminKey:
    admin_key_id: AdminKeyId
    account: Account
    actor: Actor
    key_hash: str
    masked_key: str
    label: str
    permissions: tuple[str, ...]
    key_scope: str
    expires_at_ms: int
    # How many of the account's keys are neither revoked nor expired.
    live_before: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class RotateAdminKey:
    account: Account
    actor: Actor
    key_hash: str
    masked_key: str
    grace_s: int
    # 0 leaves it as it is.
    expires_at_ms: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class RevokeAdminKey:
    account: Account
    actor: Actor
    reason: str
    at_ms: int


AdminKeyCommand = IssueAdminKey | RotateAdminKey | RevokeAdminKey


def decide(key: AdminKey | None, command: AdminKeyCommand) -> list[AdminKeyEvent]:
    """The events that a command leads to; none where it changes nothing. Raises an AppError."""
    authorise(command.account, command.actor, Role.ADMIN)
    if isinstance(command, IssueAdminKey):
        return [_issued(key, command)]
    # Another tenant's key looks like one that never was.
    if key is None or key.account_id != command.account.account_id:
        raise NotFound("There is no such admin key.")
    match command:
        case RotateAdminKey():
            return [_rotated(key, command)]
        case RevokeAdminKey(_, actor, reason, at_ms):
            if key.revoked_at_ms:
                return []
            if len(reason) > REASON_LENGTH_MAX:
                raise InvalidArgument.of("reason", f"has more than {REASON_LENGTH_MAX} characters")
            return [AdminKeyRevoked(key.admin_key_id, key.account_id, actor.name, reason, at_ms)]
        case _:
            assert_never(command)


def _issued(key: AdminKey | None, command: IssueAdminKey) -> AdminKeyIssued:
    if key is not None:
        raise Conflict("The admin key exists already.")
    if command.actor.is_operator:
        raise InvalidArgument("An admin key acts as a person of the account; log in as one.")
    if command.live_before >= LIVE_KEYS_MAX:
        raise Conflict(f"An account has at most {LIVE_KEYS_MAX} admin keys that work.")
    label = command.label.strip()
    if not 1 <= len(label) <= LABEL_LENGTH_MAX:
        raise InvalidArgument.of("label", f"must have 1 to {LABEL_LENGTH_MAX} characters")
    return AdminKeyIssued(
        admin_key_id=command.admin_key_id,
        account_id=command.account.account_id,
        created_by=command.actor.name,
        key_hash=command.key_hash,
        masked_key=command.masked_key,
        label=label,
        permissions=_checked(command.permissions, command.key_scope),
        key_scope=command.key_scope,
        expires_at_ms=_expiry(command.expires_at_ms, command.at_ms),
        at_ms=command.at_ms,
    )


def _checked(permissions: tuple[str, ...], key_scope: str) -> tuple[str, ...]:
    """Each permission once, in the order in which they are listed above."""
    if key_scope not in SCOPES:
        raise InvalidArgument.of("scope", f"must be one of {', '.join(SCOPES)}")
    if not permissions:
        raise InvalidArgument.of("permissions", "is empty")
    for permission in permissions:
        if permission not in PERMISSIONS:
            raise InvalidArgument.of("permissions", f"must be among {', '.join(PERMISSIONS)}")
        if key_scope != "org" and permission not in NARROWABLE:
            raise InvalidArgument.of("permissions", f"{permission} is only for the scope org")
    return tuple(one for one in PERMISSIONS if one in permissions)


def _expiry(expires_at_ms: int, now_ms: int) -> int:
    if not now_ms < expires_at_ms <= now_ms + LIFETIME_MS_MAX:
        raise InvalidArgument.of("expires_at", "must be in the future, within 90 days")
    return expires_at_ms


def _rotated(key: AdminKey, command: RotateAdminKey) -> AdminKeyRotated:
    if not key.is_live(command.at_ms):
        raise Conflict("The admin key was revoked or has expired; make a new one.")
    if not 0 <= command.grace_s <= GRACE_S_MAX:
        raise InvalidArgument.of("grace_hours", "must be 0 to 168")
    expires_at_ms = key.expires_at_ms
    if command.expires_at_ms:
        expires_at_ms = _expiry(command.expires_at_ms, command.at_ms)
    return AdminKeyRotated(
        admin_key_id=key.admin_key_id,
        account_id=key.account_id,
        key_hash=command.key_hash,
        masked_key=command.masked_key,
        # A grace lengthens no secret's life.
        old_expires_at_ms=min(command.at_ms + command.grace_s * 1_000, key.expires_at_ms),
        expires_at_ms=expires_at_ms,
        rotated_by=command.actor.name,
        at_ms=command.at_ms,
    )


def evolve(key: AdminKey | None, event: AdminKeyEvent) -> AdminKey:
    """The state after an event."""
    if isinstance(event, AdminKeyIssued):
        assert key is None, "an admin key is issued once"
        return AdminKey(
            admin_key_id=event.admin_key_id,
            account_id=event.account_id,
            created_by=event.created_by,
            key_hash=event.key_hash,
            masked_key=event.masked_key,
            label=event.label,
            permissions=tuple(event.permissions),
            key_scope=event.key_scope,
            expires_at_ms=event.expires_at_ms,
            created_at_ms=event.at_ms,
            version=1,
        )
    assert key is not None, "the first event of an admin key issues it"
    key = replace(key, version=key.version + 1)
    match event:
        case AdminKeyRotated():
            in_grace = event.old_expires_at_ms > event.at_ms
            return replace(
                key,
                key_hash=event.key_hash,
                masked_key=event.masked_key,
                expires_at_ms=event.expires_at_ms,
                old_key_hash=key.key_hash if in_grace else "",
                old_expires_at_ms=event.old_expires_at_ms if in_grace else 0,
            )
        case AdminKeyRevoked():
            return replace(key, revoked_at_ms=event.at_ms, revoke_reason=event.reason)
        case _:
            assert_never(event)
