"""Keys and sessions in memory, for tests and single-process demonstrations."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields as fields_of
from dataclasses import replace

from services.common.clock import Clock
from services.common.errors import Forbidden, InvalidArgument, NotFound, Unauthorized
from services.common.grpc.auth import has_role
from services.common.ids import new_id
from services.common.security.tokens import Principal
from services.gateway.key_admin import KeyFields, KeyLimits, LimitValues, ManagedKey

_LIMITS = tuple(one.name for one in fields_of(LimitValues))


class MemorySessions:
    """`Sessions` over a dictionary."""

    def __init__(self) -> None:
        self.holders: dict[str, Principal] = {}

    async def holder(self, token: str) -> Principal:
        found = self.holders.get(token)
        if found is None:
            raise Unauthorized("The session has ended.")
        return found


class MemoryKeyAdmin:
    """`KeyAdmin` over a dictionary."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._keys: dict[str, tuple[str, ManagedKey]] = {}

    async def create(self, principal: Principal, fields: KeyFields) -> tuple[ManagedKey, str]:
        require_role(principal, "developer")
        now_ms = self._clock.now_ms()
        plain = new_id("rsk", now_ms)
        key = ManagedKey(
            key_id=new_id("key", now_ms),
            masked_key=f"{plain[:8]}…{plain[-4:]}",
            fields=_checked(fields),
            suspended=False,
            created_at_ms=now_ms,
            updated_at_ms=now_ms,
            created_by=principal.user_id,
        )
        self._keys[key.key_id] = (principal.account_id, key)
        return key, plain

    async def all(self, principal: Principal) -> list[ManagedKey]:
        require_role(principal, "viewer")
        own = [key for account, key in self._keys.values() if account == principal.account_id]
        return sorted(own, key=lambda key: (key.created_at_ms, key.key_id), reverse=True)

    async def get(self, principal: Principal, key_id: str) -> ManagedKey:
        require_role(principal, "viewer")
        account, key = self._keys.get(key_id, ("", None))
        if key is None or account != principal.account_id:
            raise NotFound(f"there is no key {key_id!r}")
        return key

    async def update(
        self, principal: Principal, key_id: str, fields: KeyFields, *, changed: Collection[str]
    ) -> ManagedKey:
        require_role(principal, "developer")
        known = await self.get(principal, key_id)
        # The names are fields of the two dataclasses; a wrong one raises.
        limits = {name: getattr(fields.limits, name) for name in changed if name in _LIMITS}
        others = {name: getattr(fields, name) for name in changed if name not in _LIMITS}
        merged = replace(known.fields, limits=replace(known.fields.limits, **limits), **others)
        return self._put(principal, replace(known, fields=_checked(merged)))

    async def suspend(self, principal: Principal, key_id: str) -> ManagedKey:
        require_role(principal, "developer")
        known = await self.get(principal, key_id)
        return self._put(principal, replace(known, suspended=True))

    async def resume(self, principal: Principal, key_id: str) -> ManagedKey:
        require_role(principal, "developer")
        known = await self.get(principal, key_id)
        return self._put(principal, replace(known, suspended=False))

    async def limits(self, principal: Principal, key_id: str) -> KeyLimits:
        return KeyLimits((await self.get(principal, key_id)).fields.limits, {})

    def _put(self, principal: Principal, key: ManagedKey) -> ManagedKey:
        changed = replace(key, updated_at_ms=self._clock.now_ms())
        self._keys[key.key_id] = (principal.account_id, changed)
        return changed


def require_role(principal: Principal, role: str) -> None:
    """Forbidden where the principal is no person with at least this role."""
    if principal.kind != "user" or not has_role(principal.role, role):
        raise Forbidden(f"this needs a user with the role {role}")


def _checked(fields: KeyFields) -> KeyFields:
    if not 1 <= len(fields.label.strip()) <= 100:
        raise InvalidArgument.of("label", "must have 1 to 100 characters")
    if (fields.limits.rpm_limit or 0) > 1_000:
        raise InvalidArgument.of("rpm_limit", "must be at most 1000")
    return fields
