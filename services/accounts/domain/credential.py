"""What gateways and billing have to know of a key: one credential for each hash that works."""

from __future__ import annotations

from dataclasses import dataclass

from services.accounts.domain.account import Account
from services.accounts.domain.key import Key
from services.accounts.domain.key_settings import KeySettings
from services.accounts.domain.limits import ScopeLimits
from services.common import scopes
from services.common.ids import AccountId, KeyId


@dataclass(frozen=True, slots=True)
class Credential:
    """One hash of a key, as `mesh.events.v1.KeyState` carries it."""

    key_hash: str
    key_id: KeyId
    account_id: AccountId
    user_id: str
    settings: KeySettings
    suspended: bool
    account_suspended: bool
    expires_at_ms: int
    version: int
    scopes: tuple[ScopeLimits, ...] = ()


def credentials(key: Key, account: Account) -> list[Credential]:
    """One credential for each hash of the key, older ones first.

    The version is the sum of counters that only grow, so that it grows with every change of any of
    them. The limits of the scopes that the key is in are part of what it is published with: so one
    version fences a change of any of them.
    """
    ends = [(secret.key_hash, secret.expires_at_ms) for secret in key.retiring]
    return [
        Credential(
            key_hash=key_hash,
            key_id=key.key_id,
            account_id=key.account_id,
            user_id=key.created_by,
            settings=key.settings,
            suspended=key.suspended,
            account_suspended=account.suspended,
            expires_at_ms=_earlier(key.settings.expires_at_ms, end_ms),
            version=key.version + account.suspension_changes + account.limit_changes,
            scopes=binding(key, account),
        )
        for key_hash, end_ms in [*ends, (key.key_hash, 0)]
    ]


def binding(key: Key, account: Account) -> tuple[ScopeLimits, ...]:
    """The limits of the scopes that the key is in, beside its own, in the order of their names."""
    mine = {scopes.ACCOUNT, scopes.member(key.created_by), scopes.team(key.settings.team_id)}
    return tuple(
        account.limits[scope]
        for scope in sorted(account.limits)
        if scope in mine or scopes.kind_of(scope) == "account_model"
    )


def retired(before: Key | None, after: Key) -> list[str]:
    """The hashes that `before` had and `after` has no more: gateways must forget them."""
    if before is None:
        return []
    known = {before.key_hash, *(secret.key_hash for secret in before.retiring)}
    kept = {after.key_hash, *(secret.key_hash for secret in after.retiring)}
    return sorted(known - kept)


def _earlier(first_ms: int, second_ms: int) -> int:
    """The earlier of two times, where 0 means never."""
    return min((moment for moment in (first_ms, second_ms) if moment), default=0)
