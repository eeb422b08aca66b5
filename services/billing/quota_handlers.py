"""Quota calls as a group: load under the keys' locks, decide one after the other, save.

Two replicas that decide for one key wait for one another at its row, so a decision is valid when it
is written. The moment of a decision is taken once the locks are held: no window is filled by a call
that began to wait in an earlier one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.billing.domain import quotas
from services.billing.domain.quotas import (
    DrawQuota,
    DrawState,
    KeyLimits,
    Lease,
    LeaseId,
    Meter,
    QuotaRefusal,
    QuotaRules,
    ReturnQuota,
    Window,
    WindowKind,
    window_start,
)
from services.billing.quota_ports import (
    KeyRef,
    QuotaChanges,
    QuotaStore,
    QuotaUnit,
    WindowRef,
)
from services.common.clock import Clock
from services.common.errors import AppError

QuotaCommand = DrawQuota | ReturnQuota
KINDS: tuple[WindowKind, ...] = ("minute", "day")


@dataclass(frozen=True, slots=True)
class Lent:
    """A lease, with how far its key is into its limits after it."""

    lease: Lease
    meters: tuple[Meter, ...]
    now_ms: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A refusal, with how far the key is into its limits."""

    refusal: QuotaRefusal
    meters: tuple[Meter, ...]
    now_ms: int


@dataclass(frozen=True, slots=True)
class Returned:
    """A lease after its return."""

    lease: Lease


QuotaAnswer = Lent | Refused | Returned | AppError


@dataclass(slots=True)
class _Desk:
    """What a group is decided by, and what it has changed so far."""

    keys: dict[KeyRef, KeyLimits]
    leases: dict[LeaseId, Lease]
    windows: dict[WindowRef, Window]
    now_ms: int
    changes: QuotaChanges = field(default_factory=QuotaChanges)

    def window(self, ref: KeyRef, kind: WindowKind) -> Window:
        return self.windows.get(window_ref(ref, kind, self.now_ms), Window())

    def meters(self, ref: KeyRef) -> tuple[Meter, ...]:
        key = self.keys.get(ref)
        if key is None:
            return ()
        return quotas.meters(
            key, self.window(ref, "minute"), self.window(ref, "day"), now_ms=self.now_ms
        )

    def put(self, before: Lease | None, after: Lease) -> None:
        """Takes a new or changed lease into the windows in which it was drawn.

        A window that is over may have been forgotten: what comes back to it interests nobody.
        """
        ref = (after.account_id, after.key_id)
        was, becomes = before.counted if before else Window(), after.counted
        for kind in KINDS:
            name = window_ref(ref, kind, after.drawn_at_ms)
            window = self.windows.get(name, None if before else Window())
            if window is None:
                continue
            if kind == "day":
                was, becomes = Window(was.requests), Window(becomes.requests)
            self.windows[name] = quotas.moved(window, was, becomes)
            self.changes.windows[name] = self.windows[name]
        self.leases[after.lease_id] = self.changes.leases[after.lease_id] = after


async def run_quota_commands(
    store: QuotaStore, clock: Clock, commands: Sequence[QuotaCommand], *, rules: QuotaRules
) -> list[QuotaAnswer]:
    """Decides a group of calls in one unit of work; a refused call spoils none of the others."""
    async with store.unit() as unit:
        desk = await _load(unit, clock, commands)
        answers = [_decide(desk, command, rules) for command in commands]
        if desk.changes.leases:
            await unit.save(desk.changes)
        return answers


async def read_meters(
    store: QuotaStore, clock: Clock, ref: KeyRef
) -> tuple[tuple[Meter, ...], int]:
    """How far the key is into its limits, and the moment of that; nothing for an unknown key."""
    now_ms = clock.now_ms()
    key = await store.limits(ref)
    if key is None:
        return (), now_ms
    refs = [window_ref(ref, kind, now_ms) for kind in KINDS]
    found = await store.counted(refs)
    minute, day = (found.get(one, Window()) for one in refs)
    return quotas.meters(key, minute, day, now_ms=now_ms), now_ms


def window_ref(ref: KeyRef, kind: WindowKind, moment_ms: int) -> WindowRef:
    """The key's window of that moment."""
    return (*ref, kind, window_start(kind, moment_ms))


async def _load(unit: QuotaUnit, clock: Clock, commands: Sequence[QuotaCommand]) -> _Desk:
    refs = {(command.account_id, command.key_id) for command in commands}
    keys = await unit.keys(refs)
    now_ms = clock.now_ms()
    ids = {command.lease_id for command in commands}
    leases = await unit.leases(ids, refs, now_ms)
    wanted = {window_ref(ref, kind, now_ms) for ref in refs for kind in KINDS}
    for one in ids & leases.keys():
        lease = leases[one]
        ref = (lease.account_id, lease.key_id)
        wanted |= {window_ref(ref, kind, lease.drawn_at_ms) for kind in KINDS}
    return _Desk(keys, leases, await unit.windows(wanted), now_ms)


def _decide(desk: _Desk, command: QuotaCommand, rules: QuotaRules) -> QuotaAnswer:
    before = desk.leases.get(command.lease_id)
    try:
        if isinstance(command, ReturnQuota):
            return _return(desk, before, command)
        return _draw(desk, before, command, rules=rules)
    except AppError as error:
        return error


def _return(desk: _Desk, before: Lease | None, command: ReturnQuota) -> Returned:
    after = quotas.decide_return(before, command)
    if after != before:
        desk.put(before, after)
    return Returned(after)


def _draw(
    desk: _Desk, before: Lease | None, command: DrawQuota, *, rules: QuotaRules
) -> Lent | Refused:
    ref = (command.account_id, command.key_id)
    out = tuple(one for one in desk.leases.values() if (one.account_id, one.key_id) == ref)
    state = DrawState(
        desk.keys.get(ref), desk.window(ref, "minute"), desk.window(ref, "day"), out, before
    )
    decision = quotas.decide_draw(state, command, now_ms=desk.now_ms, rules=rules)
    if isinstance(decision, QuotaRefusal):
        return Refused(decision, desk.meters(ref), desk.now_ms)
    if before is None:
        desk.put(None, decision)
    return Lent(decision, desk.meters(ref), desk.now_ms)
