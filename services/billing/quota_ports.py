"""What quotas need from outside: a store of limits, windows and leases. Twins in `adapters/`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from services.billing.domain.quotas import KeyLimits, Lease, LeaseId, Window, WindowKind
from services.common.ids import AccountId, KeyId

KeyRef = tuple[AccountId, KeyId]
# Which window of a key: its kind and when it starts, in Unix milliseconds.
WindowRef = tuple[AccountId, KeyId, WindowKind, int]


@dataclass(slots=True)
class QuotaChanges:
    """What one unit of work writes: whole rows, by their keys."""

    windows: dict[WindowRef, Window] = field(default_factory=dict)
    leases: dict[LeaseId, Lease] = field(default_factory=dict)


class QuotaUnit(Protocol):
    """One unit of work: everything read under its locks, everything saved by it, or nothing."""

    async def keys(self, refs: Collection[KeyRef]) -> dict[KeyRef, KeyLimits]:
        """Locks, in the order of their ids, the keys that are known; to be called once and first.

        The locks last to the end of the unit.
        """

    async def leases(
        self, ids: Collection[LeaseId], refs: Collection[KeyRef], now_ms: int
    ) -> dict[LeaseId, Lease]:
        """The leases of these ids, and those of these keys that may still be returned."""

    async def windows(self, refs: Collection[WindowRef]) -> dict[WindowRef, Window]:
        """The windows that exist of those named."""

    async def save(self, changes: QuotaChanges) -> None:
        """Writes what changed."""


class QuotaStore(Protocol):
    """Opens units of work. Raises Unavailable, within a bound, where the store is away."""

    def unit(self) -> AbstractAsyncContextManager[QuotaUnit]:
        """A unit of work that commits at its end and leaves nothing behind where it fails."""

    async def put_limits(self, limits: Sequence[KeyLimits]) -> None:
        """Takes over limits; an older version of a key changes nothing."""

    async def limits(self, ref: KeyRef) -> KeyLimits | None:
        """A key's limits, not locked."""

    async def counted(self, refs: Sequence[WindowRef]) -> dict[WindowRef, Window]:
        """Windows as they are, not locked; empty where there is nothing counted."""

    async def prune(self, now_ms: int, limit: int) -> int:
        """Forgets at most so many windows and leases that are over; returns how many."""
