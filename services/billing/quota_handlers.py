"""Quota calls as a group: load under the keys' locks, decide one after the other, save.

Two replicas that decide for one key, or for keys of one scope, wait for one another at its row, so
a decision is valid when it is written. The moment of a decision is taken once the locks are held:
no window is filled by a call that began to wait in an earlier one.
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
    ScopeLimits,
    ScopeWindows,
    Window,
    WindowKind,
    window_start,
)
from services.billing.quota_ports import (
    KeyRef,
    QuotaChanges,
    QuotaStore,
    QuotaUnit,
    ScopeRef,
    WindowRef,
)
from services.common import scopes
from services.common.clock import Clock
from services.common.errors import AppError
from services.common.ids import AccountId
from services.common.scopes import Scope

QuotaCommand = DrawQuota | ReturnQuota
KINDS: tuple[WindowKind, ...] = ("minute", "day")


@dataclass(frozen=True, slots=True)
class Lent:
    """A lease, with how far everything that limits its key is taken after it."""

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
    scopes: dict[ScopeRef, ScopeLimits]
    leases: dict[LeaseId, Lease]
    windows: dict[WindowRef, Window]
    now_ms: int
    changes: QuotaChanges = field(default_factory=QuotaChanges)

    def binding(self, command: DrawQuota) -> tuple[ScopeWindows, ...]:
        """Every scope that it draws from, the key itself first, with its windows of now."""
        key = self.keys.get((command.account_id, command.key_id))
        if key is None:
            return ()
        refs = [(command.account_id, scope) for scope in _scopes(key, command)]
        limits = [self.scopes[ref] for ref in refs if ref in self.scopes]
        if not command.model_scopes_only:
            limits.insert(0, key.own)
        return tuple(
            ScopeWindows(
                one,
                *(
                    self.windows.get(
                        window_ref((one.account_id, one.scope), kind, self.now_ms), Window()
                    )
                    for kind in KINDS
                ),
            )
            for one in limits
        )

    def meters(self, command: DrawQuota) -> tuple[Meter, ...]:
        return quotas.meters(self.binding(command), now_ms=self.now_ms)

    def put(self, before: Lease | None, after: Lease) -> None:
        """Takes a new or changed lease into the windows in which it was drawn, of all its scopes.

        A window that is over may have been forgotten: what comes back to it interests nobody.
        """
        was, becomes = before.counted if before else Window(), after.counted
        for scope in after.scopes:
            for name in window_refs((after.account_id, scope), after.drawn_at_ms):
                window = self.windows.get(name, None if before else Window())
                if window is None:
                    continue
                if name[2] == "day":
                    moved = quotas.moved(window, Window(was.requests), Window(becomes.requests))
                else:
                    moved = quotas.moved(window, was, becomes)
                self.windows[name] = self.changes.windows[name] = moved
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


async def read_account_meters(
    store: QuotaStore, clock: Clock, account_id: AccountId
) -> tuple[tuple[Meter, ...], int]:
    """How far the account's own limits are taken, and the moment of that."""
    now_ms = clock.now_ms()
    known = await store.scope_limits([(account_id, scopes.ACCOUNT)])
    return await _counted(store, list(known.values()), now_ms), now_ms


async def read_meters(
    store: QuotaStore, clock: Clock, ref: KeyRef, *, model_id: str = ""
) -> tuple[tuple[Meter, ...], int]:
    """How far everything that limits the key is taken, with that model where one is named, and the
    moment of that; nothing for an unknown key.
    """
    now_ms = clock.now_ms()
    key = await store.limits(ref)
    if key is None:
        return (), now_ms
    known = await store.scope_limits([(ref[0], scope) for scope in key.scopes(model_id)])
    return await _counted(store, [key.own, *known.values()], now_ms), now_ms


def window_ref(ref: ScopeRef, kind: WindowKind, moment_ms: int) -> WindowRef:
    """The scope's window of that moment."""
    return (*ref, kind, window_start(kind, moment_ms))


def window_refs(ref: ScopeRef, moment_ms: int) -> list[WindowRef]:
    """The scope's minute and day of that moment."""
    return [window_ref(ref, kind, moment_ms) for kind in KINDS]


async def _counted(
    store: QuotaStore, limits: Sequence[ScopeLimits], now_ms: int
) -> tuple[Meter, ...]:
    refs = [window_refs((one.account_id, one.scope), now_ms) for one in limits]
    found = await store.counted([one for pair in refs for one in pair])
    windows = [
        ScopeWindows(one, *(found.get(name, Window()) for name in pair))
        for one, pair in zip(limits, refs, strict=True)
    ]
    return quotas.meters(windows, now_ms=now_ms)


async def _load(unit: QuotaUnit, clock: Clock, commands: Sequence[QuotaCommand]) -> _Desk:
    refs = {(command.account_id, command.key_id) for command in commands}
    keys = await unit.keys(refs)
    leases = await unit.leases({command.lease_id for command in commands})
    wanted = _scopes_of(keys, commands)
    wanted |= {(one.account_id, scope) for one in leases.values() for scope in one.scopes}
    known = await unit.scopes({ref for ref in wanted if scopes.kind_of(ref[1]) != "key"})
    now_ms = clock.now_ms()
    windows = {
        name
        for ref in wanted
        if ref in known or scopes.kind_of(ref[1]) == "key"
        for name in window_refs(ref, now_ms)
    }
    windows |= {
        name
        for one in leases.values()
        for scope in one.scopes
        for name in window_refs((one.account_id, scope), one.drawn_at_ms)
    }
    # Who shares a scope with others has to know what these may still give back.
    sharing = {account_id for (account_id, _), limits in known.items() if limits.any}
    leases |= await unit.open_leases(refs, sharing, now_ms)
    return _Desk(keys, known, leases, await unit.windows(windows), now_ms)


def _scopes_of(
    keys: dict[KeyRef, KeyLimits], commands: Sequence[QuotaCommand]
) -> set[tuple[AccountId, Scope]]:
    """The scopes that may limit the draws among these commands."""
    found: set[tuple[AccountId, Scope]] = set()
    for command in commands:
        key = keys.get((command.account_id, command.key_id))
        if key is not None and isinstance(command, DrawQuota):
            found |= {(key.account_id, scope) for scope in _scopes(key, command)}
            found.add((key.account_id, key.own.scope))
    return found


def _scopes(key: KeyLimits, command: DrawQuota) -> tuple[Scope, ...]:
    """The scopes beside the key's own limits that the draw is out of."""
    return key.scopes(command.model_id, model_only=command.model_scopes_only)


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
    key = desk.keys.get((command.account_id, command.key_id))
    out = tuple(one for one in desk.leases.values() if one.account_id == command.account_id)
    state = DrawState(key, desk.binding(command), out, before)
    decision = quotas.decide_draw(state, command, now_ms=desk.now_ms, rules=rules)
    if isinstance(decision, QuotaRefusal):
        return Refused(decision, desk.meters(command), desk.now_ms)
    if before is None:
        desk.put(None, decision)
    return Lent(decision, desk.meters(command), desk.now_ms)
