"""Quotas in memory: the twin of the PostgreSQL store, for tests.

One unit of work runs at a time, on copies; what it wrote is taken over at its end or not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

from services.billing.domain.quotas import (
    KEPT_MS,
    LEASE_KEPT_MS,
    KeyLimits,
    Lease,
    LeaseId,
    ScopeLimits,
    Window,
    window_end,
)
from services.billing.quota_ports import (
    KeyRef,
    QuotaChanges,
    QuotaUnit,
    ScopeRef,
    WindowRef,
)
from services.common.errors import Unavailable
from services.common.ids import AccountId


class MemoryQuotas:
    """`QuotaStore` in memory. `available` False makes it answer as a store that is away."""

    def __init__(self) -> None:
        self.keys: dict[KeyRef, KeyLimits] = {}
        self.scopes: dict[ScopeRef, ScopeLimits] = {}
        self.windows: dict[WindowRef, Window] = {}
        self.leases: dict[LeaseId, Lease] = {}
        self.available = True
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def unit(self) -> AsyncIterator[QuotaUnit]:
        """One unit of work. Raises Unavailable."""
        self._check()
        async with self._lock:
            unit = _MemoryUnit(self)
            yield unit
            self._check()
            self.windows |= unit.changes.windows
            self.leases |= unit.changes.leases

    async def put_limits(
        self, limits: Sequence[KeyLimits], scopes: Sequence[ScopeLimits] = ()
    ) -> None:
        self._check()
        for one in limits:
            known = self.keys.get((one.account_id, one.key_id))
            if known is None or known.version <= one.version:
                self.keys[one.account_id, one.key_id] = one
        for scope in scopes:
            before = self.scopes.get((scope.account_id, scope.scope))
            if before is None or before.version < scope.version:
                self.scopes[scope.account_id, scope.scope] = scope

    async def limits(self, ref: KeyRef) -> KeyLimits | None:
        self._check()
        return self.keys.get(ref)

    async def scope_limits(self, refs: Collection[ScopeRef]) -> dict[ScopeRef, ScopeLimits]:
        self._check()
        return {ref: self.scopes[ref] for ref in refs if ref in self.scopes}

    async def counted(self, refs: Sequence[WindowRef]) -> dict[WindowRef, Window]:
        self._check()
        return {ref: self.windows[ref] for ref in refs if ref in self.windows}

    async def prune(self, now_ms: int, limit: int) -> int:
        self._check()
        windows = [ref for ref in self.windows if window_end(ref[2], ref[3]) <= now_ms - KEPT_MS]
        leases = [
            one
            for one, lease in self.leases.items()
            if lease.drawn_at_ms <= now_ms - (LEASE_KEPT_MS if lease.is_open else KEPT_MS)
        ]
        for ref in windows[:limit]:
            del self.windows[ref]
        for one in leases[:limit]:
            del self.leases[one]
        return len(windows[:limit]) + len(leases[:limit])

    def _check(self) -> None:
        if not self.available:
            raise Unavailable("the store of quotas is away")


class _MemoryUnit:
    """`QuotaUnit` over the store; what it saves is taken over at the end."""

    def __init__(self, store: MemoryQuotas) -> None:
        self._store = store
        self.changes = QuotaChanges()

    async def keys(self, refs: Collection[KeyRef]) -> dict[KeyRef, KeyLimits]:
        return {ref: self._store.keys[ref] for ref in refs if ref in self._store.keys}

    async def leases(self, ids: Collection[LeaseId]) -> dict[LeaseId, Lease]:
        return {one: self._store.leases[one] for one in ids if one in self._store.leases}

    async def scopes(self, refs: Collection[ScopeRef]) -> dict[ScopeRef, ScopeLimits]:
        return {ref: self._store.scopes[ref] for ref in refs if ref in self._store.scopes}

    async def open_leases(
        self, keys: Collection[KeyRef], accounts: Collection[AccountId], now_ms: int
    ) -> dict[LeaseId, Lease]:
        return {
            one: lease
            for one, lease in self._store.leases.items()
            if lease.may_return(now_ms)
            and (lease.account_id in accounts or (lease.account_id, lease.key_id) in keys)
        }

    async def windows(self, refs: Collection[WindowRef]) -> dict[WindowRef, Window]:
        return {ref: self._store.windows[ref] for ref in refs if ref in self._store.windows}

    async def save(self, changes: QuotaChanges) -> None:
        self.changes = changes
