"""What quotas need from outside: a store of limits, windows and leases. Twins in `adapters/`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from services.billing.domain.quotas import (
    KeyLimits,
    Lease,
    LeaseId,
    ScopeLimits,
    Window,
    WindowKind,
)
from services.common.ids import AccountId, KeyId
from services.common.scopes import Scope

KeyRef = tuple[AccountId, KeyId]
ScopeRef = tuple[AccountId, Scope]
# Which window of a scope: its kind and when it starts, in Unix milliseconds.
WindowRef = tuple[AccountId, Scope, WindowKind, int]


@dataclass(slots=True)
class QuotaChanges:
    """What one unit of work writes: whole rows, by their keys."""

    windows: dict[WindowRef, Window] = field(default_factory=dict)
    leases: dict[LeaseId, Lease] = field(default_factory=dict)


class QuotaUnit(Protocol):
    """One unit of work: everything read under its locks, everything saved by it, or nothing.

    Keys are locked first and scopes after them, each in the order of their names and each in one
    call, so that no two units wait for one another in a circle. Locks last to the end of the unit.
    """

    async def keys(self, refs: Collection[KeyRef]) -> dict[KeyRef, KeyLimits]:
        """Locks the keys that are known; to be called once and first."""

    async def leases(self, ids: Collection[LeaseId]) -> dict[LeaseId, Lease]:
        """The leases of these ids."""

    async def scopes(self, refs: Collection[ScopeRef]) -> dict[ScopeRef, ScopeLimits]:
        """Locks the scopes that are known; to be called once, after `keys`."""

    async def open_leases(
        self, keys: Collection[KeyRef], accounts: Collection[AccountId], now_ms: int
    ) -> dict[LeaseId, Lease]:
        """Those of these keys, and of all keys of these accounts, that may still be returned."""

    async def windows(self, refs: Collection[WindowRef]) -> dict[WindowRef, Window]:
        """The windows that exist of those named."""

    async def save(self, changes: QuotaChanges) -> None:
        """Writes what changed."""


class QuotaStore(Protocol):
    """Opens units of work. Raises Unavailable, within a bound, where the store is away."""

    def unit(self) -> AbstractAsyncContextManager[QuotaUnit]:
        """A unit of work that commits at its end and leaves nothing behind where it fails."""

    async def put_limits(
        self, limits: Sequence[KeyLimits], scopes: Sequence[ScopeLimits] = ()
    ) -> None:
        """Takes over limits; an older version of a key or a scope changes nothing."""

    async def limits(self, ref: KeyRef) -> KeyLimits | None:
        """A key's limits, not locked."""

    async def scope_limits(self, refs: Collection[ScopeRef]) -> dict[ScopeRef, ScopeLimits]:
        """The limits of the scopes that are known of those named, not locked."""

    async def counted(self, refs: Sequence[WindowRef]) -> dict[WindowRef, Window]:
        """Windows as they are, not locked; empty where there is nothing counted."""

    async def prune(self, now_ms: int, limit: int) -> int:
        """Forgets at most so many windows and leases that are over; returns how many."""
