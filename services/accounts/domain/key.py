"""An API key: stream `key:<id>`.

The plain key is made outside and never comes in here: the state knows hashes and a masked form.
After a rotation the older hashes go on working until their grace ends; a rotation without grace
ends all of them at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import assert_never

from services.accounts.domain.key_settings import KeySettings, checked, merged
from services.common.errors import Conflict, InvalidArgument, NotFound
from services.common.ids import AccountId, KeyId

GRACE_S_MAX = 7 * 86_400
RETIRING_MAX = 4
# Suspending an account publishes all its keys again in one transaction, so that their number is
# bounded.
KEYS_PER_ACCOUNT_MAX = 1_000


@dataclass(frozen=True, slots=True)
class RetiringSecret:
    """The hash of an older secret, and when it stops working (Unix milliseconds)."""

    key_hash: str
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class Key:
    """The state of one key; `version` is that of its stream."""

    key_id: KeyId
    account_id: AccountId
    created_by: str
    key_hash: str
    masked_key: str
    settings: KeySettings
    created_at_ms: int
    updated_at_ms: int
    version: int
    suspended: bool = False
    retiring: tuple[RetiringSecret, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyIssued:
    key_id: KeyId
    account_id: AccountId
    created_by: str
    key_hash: str
    masked_key: str
    settings: KeySettings
    at_ms: int
    # The admin key that it was done through; empty: the person did it.
    admin_key_id: str = ""


@dataclass(frozen=True, slots=True)
class KeyChanged:
    key_id: KeyId
    account_id: AccountId
    settings: KeySettings
    changed_by: str
    at_ms: int
    admin_key_id: str = ""


@dataclass(frozen=True, slots=True)
class KeySuspended:
    key_id: KeyId
    account_id: AccountId
    suspended_by: str
    at_ms: int
    admin_key_id: str = ""


@dataclass(frozen=True, slots=True)
class KeyResumed:
    key_id: KeyId
    account_id: AccountId
    resumed_by: str
    at_ms: int
    admin_key_id: str = ""


@dataclass(frozen=True, slots=True)
class KeyRotated:
    key_id: KeyId
    account_id: AccountId
    key_hash: str
    masked_key: str
    old_key_hash: str
    old_expires_at_ms: int
    rotated_by: str
    at_ms: int
    admin_key_id: str = ""


KeyEvent = KeyIssued | KeyChanged | KeySuspended | KeyResumed | KeyRotated


@dataclass(frozen=True, slots=True)
class IssueKey:
    key_id: KeyId
    account_id: AccountId
    key_hash: str
    masked_key: str
    settings: KeySettings
    # How many keys the account has before this one.
    keys_before: int
    by: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class ChangeKey:
    change: KeySettings
    mask: tuple[str, ...]
    by: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class SuspendKey:
    by: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class ResumeKey:
    by: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class RotateKey:
    key_hash: str
    masked_key: str
    grace_s: int
    by: str
    at_ms: int


KeyCommand = IssueKey | ChangeKey | SuspendKey | ResumeKey | RotateKey


def decide(key: Key | None, command: KeyCommand) -> list[KeyEvent]:
    """The events that a command leads to; none where it changes nothing."""
    if isinstance(command, IssueKey):
        return _issue(key, command)
    if key is None:
        raise NotFound("There is no such key.")
    match command:
        case ChangeKey(change, mask, by, at_ms):
            wanted = merged(key.settings, change, mask)
            settings = checked(wanted, before=key.settings, now_ms=at_ms)
            if settings == key.settings:
                return []
            return [KeyChanged(key.key_id, key.account_id, settings, by, at_ms)]
        case SuspendKey(by, at_ms):
            return [] if key.suspended else [KeySuspended(key.key_id, key.account_id, by, at_ms)]
        case ResumeKey(by, at_ms):
            return [KeyResumed(key.key_id, key.account_id, by, at_ms)] if key.suspended else []
        case RotateKey():
            return _rotate(key, command)
        case _:
            assert_never(command)


def _issue(key: Key | None, command: IssueKey) -> list[KeyEvent]:
    if key is not None:
        raise Conflict("The key exists already.")
    if command.keys_before >= KEYS_PER_ACCOUNT_MAX:
        raise Conflict(f"An account has at most {KEYS_PER_ACCOUNT_MAX:,} keys.")
    return [
        KeyIssued(
            command.key_id,
            command.account_id,
            command.by,
            command.key_hash,
            command.masked_key,
            checked(command.settings, before=None, now_ms=command.at_ms),
            command.at_ms,
        )
    ]


def through(events: list[KeyEvent], admin_key_id: str) -> list[KeyEvent]:
    """The events as done through an admin key, or by the person where it is empty."""
    return [replace(event, admin_key_id=admin_key_id) for event in events]


def _rotate(key: Key, command: RotateKey) -> list[KeyEvent]:
    if not 0 <= command.grace_s <= GRACE_S_MAX:
        raise InvalidArgument.of("grace_s", f"must be 0 to {GRACE_S_MAX:,}")
    in_grace = _still_working(key.retiring, command.at_ms)
    if command.grace_s and len(in_grace) >= RETIRING_MAX:
        raise Conflict(
            f"{RETIRING_MAX} older secrets of this key are in their grace already; "
            "rotate without grace to end them.",
            extra={"rule": "secrets_in_grace"},
        )
    return [
        KeyRotated(
            key.key_id,
            key.account_id,
            command.key_hash,
            command.masked_key,
            key.key_hash,
            command.at_ms + command.grace_s * 1_000,
            command.by,
            command.at_ms,
        )
    ]


def _still_working(retiring: tuple[RetiringSecret, ...], now_ms: int) -> tuple[RetiringSecret, ...]:
    return tuple(secret for secret in retiring if secret.expires_at_ms > now_ms)


def evolve(key: Key | None, event: KeyEvent) -> Key:
    """The state after an event."""
    if isinstance(event, KeyIssued):
        assert key is None, "a key is issued once"
        return Key(
            key_id=event.key_id,
            account_id=event.account_id,
            created_by=event.created_by,
            key_hash=event.key_hash,
            masked_key=event.masked_key,
            settings=event.settings,
            created_at_ms=event.at_ms,
            updated_at_ms=event.at_ms,
            version=1,
        )
    assert key is not None, "the first event of a key issues it"
    key = replace(
        key,
        version=key.version + 1,
        updated_at_ms=event.at_ms,
        retiring=_still_working(key.retiring, event.at_ms),
    )
    match event:
        case KeyChanged():
            return replace(key, settings=event.settings)
        case KeySuspended():
            return replace(key, suspended=True)
        case KeyResumed():
            return replace(key, suspended=False)
        case KeyRotated():
            return replace(
                key,
                key_hash=event.key_hash,
                masked_key=event.masked_key,
                retiring=_after_rotation(key, event),
            )
        case _:
            assert_never(event)


def _after_rotation(key: Key, event: KeyRotated) -> tuple[RetiringSecret, ...]:
    if event.old_expires_at_ms <= event.at_ms:
        return ()
    return (*key.retiring, RetiringSecret(event.old_key_hash, event.old_expires_at_ms))
