"""Admin keys in memory, for tests and single-process demonstrations."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import get_args

from services.common.clock import Clock
from services.common.errors import Conflict, InvalidArgument, NotFound, Unauthorized
from services.common.ids import new_id
from services.common.security.tokens import Principal
from services.gateway.adapters.key_admin_memory import require_role
from services.gateway.admin_keys import AdminGrant, ManagedAdminKey, Permission

_LIFETIME_MS_MAX = 90 * 86_400_000


class MemoryAdminKeys:
    """`AdminKeys` and `AdminKeyHolders` over dictionaries."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._keys: dict[str, tuple[Principal, ManagedAdminKey]] = {}
        # Secret to the key's id and when it stops working; the newest of a key is the last.
        self._secrets: dict[str, tuple[str, int]] = {}
        self.teams_of_user: dict[str, frozenset[str]] = {}

    async def holder(self, secret: str) -> AdminGrant:
        key_id, until_ms = self._secrets.get(secret, ("", 0))
        now_ms = self._clock.now_ms()
        if not key_id or now_ms >= until_ms or self._keys[key_id][1].revoked_at_ms:
            raise Unauthorized("The admin key is unknown, revoked or expired.")
        maker, key = self._keys[key_id]
        self._keys[key_id] = (maker, replace(key, last_used_at_ms=now_ms))
        teams = self.teams_of_user.get(maker.user_id, frozenset())
        acting = replace(maker, key_id=key_id)
        return AdminGrant(acting, frozenset(key.permissions), key.scope, teams)

    async def create(
        self,
        principal: Principal,
        label: str,
        *,
        permissions: Collection[str],
        scope: str,
        expires_at_ms: int,
    ) -> tuple[ManagedAdminKey, str]:
        require_role(principal, "admin")
        now_ms = self._clock.now_ms()
        if scope != "org" and not set(permissions) <= {"keys:read", "keys:write"}:
            raise InvalidArgument.of("permissions", "only keys:* may be narrowed down")
        if not now_ms < expires_at_ms <= now_ms + _LIFETIME_MS_MAX:
            raise InvalidArgument.of("expires_at", "must be in the future, within 90 days")
        key = ManagedAdminKey(
            admin_key_id=new_id("adk", now_ms),
            label=label,
            masked_key="",
            permissions=tuple(one for one in get_args(Permission) if one in permissions),
            scope=scope,
            expires_at_ms=expires_at_ms,
            last_used_at_ms=0,
            created_by=principal.user_id,
            created_at_ms=now_ms,
        )
        return self._with_secret(principal, key)

    async def all(self, principal: Principal) -> list[ManagedAdminKey]:
        require_role(principal, "viewer")
        own = [k for maker, k in self._keys.values() if maker.account_id == principal.account_id]
        return sorted(own, key=lambda key: key.admin_key_id, reverse=True)

    async def get(self, principal: Principal, key_id: str) -> ManagedAdminKey:
        require_role(principal, "viewer")
        maker, key = self._keys.get(key_id, (None, None))
        if key is None or maker is None or maker.account_id != principal.account_id:
            raise NotFound("There is no such admin key.")
        return key

    async def rotate(
        self, principal: Principal, key_id: str, *, grace_s: int, expires_at_ms: int
    ) -> tuple[ManagedAdminKey, str]:
        require_role(principal, "admin")
        key = await self.get(principal, key_id)
        now_ms = self._clock.now_ms()
        if key.revoked_at_ms or now_ms >= key.expires_at_ms:
            raise Conflict("The admin key was revoked or has expired; make a new one.")
        old = [secret for secret, (of, _) in self._secrets.items() if of == key_id]
        for secret in old[:-1]:
            del self._secrets[secret]
        until_ms = min(now_ms + grace_s * 1_000, key.expires_at_ms)
        self._secrets[old[-1]] = (key_id, until_ms)
        maker = self._keys[key_id][0]
        renewed = replace(key, expires_at_ms=expires_at_ms or key.expires_at_ms)
        return self._with_secret(maker, renewed)

    async def revoke(self, principal: Principal, key_id: str, reason: str) -> None:
        require_role(principal, "admin")
        key = await self.get(principal, key_id)
        if not key.revoked_at_ms:
            now_ms = self._clock.now_ms()
            revoked = replace(key, revoked_at_ms=now_ms, revoke_reason=reason)
            self._keys[key_id] = (self._keys[key_id][0], revoked)

    def _with_secret(self, maker: Principal, key: ManagedAdminKey) -> tuple[ManagedAdminKey, str]:
        plain = new_id("mak", self._clock.now_ms())
        shown = replace(key, masked_key=f"{plain[:8]}...{plain[-4:]}")
        self._keys[key.admin_key_id] = (maker, shown)
        self._secrets[plain] = (key.admin_key_id, key.expires_at_ms)
        return shown, plain
