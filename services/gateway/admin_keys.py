"""Admin keys as people manage them through the public API, and whom one stands for: ports; the
accounts service is behind them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, Protocol

from services.common.security.tokens import Principal

Permission = Literal[
    "keys:read", "keys:write", "org:read", "limits:read", "limits:write", "alerts:read",
    "alerts:write",
]  # fmt: skip
KeyScope = Literal["self", "team", "org"]


@dataclass(frozen=True, slots=True)
class ManagedAdminKey:
    """One admin key as its account sees it; times in Unix milliseconds, 0 for never."""

    admin_key_id: str
    label: str
    masked_key: str
    permissions: tuple[str, ...]
    scope: str
    expires_at_ms: int
    last_used_at_ms: int
    created_by: str
    created_at_ms: int
    revoked_at_ms: int = 0
    revoke_reason: str = ""


@dataclass(frozen=True, slots=True)
class AdminGrant:
    """What an admin key may: as its maker, with their role of now, narrowed down. The principal's
    `key_id` is the admin key's own.
    """

    principal: Principal
    permissions: frozenset[str]
    scope: str
    # The teams that its maker is in.
    team_ids: frozenset[str] = frozenset()


class AdminKeyHolders(Protocol):
    """Whom a secret stands for."""

    async def holder(self, secret: str) -> AdminGrant:
        """Raises Unauthorized where it is unknown, revoked or expired, Unavailable."""


class AdminKeys(Protocol):
    """The admin keys of the principal's account.

    All raise NotFound, Forbidden where the principal's role does not suffice, InvalidArgument that
    names the field, Conflict, Unavailable.
    """

    async def create(
        self,
        principal: Principal,
        label: str,
        *,
        permissions: Collection[str],
        scope: str,
        expires_at_ms: int,
    ) -> tuple[ManagedAdminKey, str]:
        """The key and its secret, which is told this once."""

    async def all(self, principal: Principal) -> list[ManagedAdminKey]:
        """Newest first, also those that work no more."""

    async def get(self, principal: Principal, key_id: str) -> ManagedAdminKey: ...

    async def rotate(
        self, principal: Principal, key_id: str, *, grace_s: int, expires_at_ms: int
    ) -> tuple[ManagedAdminKey, str]:
        """A new secret; the old one works on for the grace. No expiry (0) leaves it as it is."""

    async def revoke(self, principal: Principal, key_id: str, reason: str) -> None: ...
