"""Quotas: how many requests and tokens a worker is lent for a key, window by window.

A lease takes from the UTC minute and the UTC day of every scope that limits the key, all together
when it is drawn: the key's own, its member's, its team's, its account's, its model's. What the
worker did not use comes off the windows again when it says so; a lease that nobody returns stays
counted for good. So in every window: used + leased <= limit, whatever becomes of the workers. Only
a request that used more tokens than were set aside for it can exceed that, and then nothing more is
lent.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, NewType

from services.common import scopes
from services.common.errors import Conflict, Forbidden, NotFound
from services.common.ids import AccountId, KeyId, WorkerId
from services.common.scopes import Scope

LeaseId = NewType("LeaseId", str)
LimitName = Literal["rpm", "rpd", "tpm"]
RefusalName = Literal["rpm", "rpd", "tpm", "key_inactive"]
WindowKind = Literal["minute", "day"]

WINDOW_MS: dict[WindowKind, int] = {"minute": 60_000, "day": 86_400_000}
# What is over is kept a little, for calls that were under way. A lease that nobody returned may
# come back to its day for as long as that lasts.
KEPT_MS = 600_000
NO_SCOPE = Scope("")
LEASE_KEPT_MS = WINDOW_MS["day"] + KEPT_MS


@dataclass(frozen=True, slots=True)
class ScopeLimits:
    """One scope's limits: None for none, 0 for nothing allowed."""

    account_id: AccountId
    scope: Scope
    version: int
    rpm: int | None = None
    rpd: int | None = None
    tpm: int | None = None

    @property
    def any(self) -> bool:
        """True where it limits anything."""
        return (self.rpm, self.rpd, self.tpm) != (None, None, None)


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """One key's limits, and the scopes that it is in. `active`: neither it nor its account is
    suspended; `model_ids` are the models with limits of their own under the key.
    """

    account_id: AccountId
    key_id: KeyId
    version: int
    active: bool
    rpm: int | None = None
    rpd: int | None = None
    tpm: int | None = None
    member_id: str = ""
    team_id: str = ""
    model_ids: tuple[str, ...] = ()

    @property
    def own(self) -> ScopeLimits:
        """The key's own limits."""
        scope = scopes.key(self.key_id)
        return ScopeLimits(self.account_id, scope, self.version, self.rpm, self.rpd, self.tpm)

    def scopes(self, model_id: str = "", *, model_only: bool = False) -> tuple[Scope, ...]:
        """The scopes beside the key whose limits bind it, for that model's requests where one is
        named, or of these that model's alone; narrow ones first.
        """
        found = []
        if model_id in self.model_ids:
            found.append(scopes.key_model(self.key_id, model_id))
        if self.member_id and not model_only:
            found.append(scopes.member(self.member_id))
        if self.team_id and not model_only:
            found.append(scopes.team(self.team_id))
        if model_id:
            found.append(scopes.account_model(model_id))
        return tuple(found) if model_only else (*found, scopes.ACCOUNT)


@dataclass(frozen=True, slots=True)
class DrawQuota:
    """A worker asks for requests and tokens: at least what is needed, at most what is wanted.
    `model_id` is given where they are for that model's requests alone; `model_scopes_only` says
    that they count against the key and its other scopes already, as one of a group.
    """

    lease_id: LeaseId
    worker_id: WorkerId
    account_id: AccountId
    key_id: KeyId
    key_version: int
    needed_requests: int
    wanted_requests: int
    needed_tokens: int
    wanted_tokens: int
    model_id: str = ""
    model_scopes_only: bool = False

    @property
    def content_hash(self) -> bytes:
        """What a retry must repeat; the key's version is left out, it may have grown meanwhile."""
        content = [
            self.worker_id,
            self.account_id,
            self.key_id,
            self.needed_requests,
            self.wanted_requests,
            self.needed_tokens,
            self.wanted_tokens,
            *([self.model_id] if self.model_id else []),
            *([True] if self.model_scopes_only else []),
        ]
        return hashlib.sha256(json.dumps(content).encode()).digest()


@dataclass(frozen=True, slots=True)
class ReturnQuota:
    """A worker says what it used under a lease in all, and gives nothing out of it any more."""

    lease_id: LeaseId
    worker_id: WorkerId
    account_id: AccountId
    key_id: KeyId
    used_requests: int
    used_tokens: int
    revision: int


@dataclass(frozen=True, slots=True)
class Lease:
    """What one worker was lent, out of the windows of `scopes`. `requests` and `tokens` are None
    where none of these has such a limit; `revision` is 0 until it is returned, and the used figures
    mean nothing before.
    """

    lease_id: LeaseId
    account_id: AccountId
    key_id: KeyId
    worker_id: WorkerId
    requests: int | None
    tokens: int | None
    drawn_at_ms: int
    usable_until_ms: int
    content_hash: bytes
    used_requests: int = 0
    used_tokens: int = 0
    revision: int = 0
    scopes: tuple[Scope, ...] = ()

    @property
    def is_open(self) -> bool:
        """True until its worker returned it."""
        return self.revision == 0

    @property
    def counted(self) -> Window:
        """What it takes in its windows."""
        if self.is_open:
            return Window(self.requests or 0, self.tokens or 0)
        requests = self.used_requests if self.requests is not None else 0
        return Window(requests, self.used_tokens if self.tokens is not None else 0)

    def may_return(self, now_ms: int) -> bool:
        """True while its worker may still have some of it unused."""
        return self.is_open and now_ms < self.usable_until_ms


@dataclass(frozen=True, slots=True)
class Window:
    """What is counted in one window: used, and leased. Days count no tokens."""

    requests: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class QuotaRules:
    """How long a lease may be used, which part of what is left one may take, when to ask again."""

    ttl_ms: int = 15_000
    share_max: int = 8
    retry_after_ms: int = 50


@dataclass(frozen=True, slots=True)
class Meter:
    """How far a scope is into one of its limits."""

    limit: LimitName
    limit_value: int
    taken: int
    resets_at_ms: int
    scope: Scope = NO_SCOPE

    @property
    def left(self) -> int:
        """What nobody has used or leased."""
        return max(0, self.limit_value - self.taken)


@dataclass(frozen=True, slots=True)
class ScopeWindows:
    """A scope's limits and its two windows of this moment."""

    limits: ScopeLimits
    minute: Window = Window()
    day: Window = Window()


@dataclass(frozen=True, slots=True)
class DrawState:
    """What a draw is decided by: the key, every scope that limits it, itself first, the leases that
    are out in any of these, and the lease of this id where it was drawn before.
    """

    key: KeyLimits | None
    scopes: tuple[ScopeWindows, ...]
    leases: tuple[Lease, ...]
    before: Lease | None


@dataclass(frozen=True, slots=True)
class QuotaRefusal:
    """Why nothing was lent. `behind`: the key's settings are older here than the worker's."""

    limit: RefusalName
    limit_value: int
    retry_after_ms: int
    held: bool
    behind: bool = False
    scope: Scope = NO_SCOPE


def window_start(kind: WindowKind, moment_ms: int) -> int:
    """When the window that contains the moment began; both are Unix milliseconds."""
    return moment_ms - moment_ms % WINDOW_MS[kind]


def window_end(kind: WindowKind, moment_ms: int) -> int:
    """When it ends; the first millisecond of the next."""
    return window_start(kind, moment_ms) + WINDOW_MS[kind]


def meters(scopes: Iterable[ScopeWindows], *, now_ms: int) -> tuple[Meter, ...]:
    """One for each limit of each scope, in their order."""
    found = []
    minute_ms, day_ms = window_end("minute", now_ms), window_end("day", now_ms)
    for one in scopes:
        limits, scope = one.limits, one.limits.scope
        if limits.rpm is not None:
            found.append(Meter("rpm", limits.rpm, one.minute.requests, minute_ms, scope))
        if limits.rpd is not None:
            found.append(Meter("rpd", limits.rpd, one.day.requests, day_ms, scope))
        if limits.tpm is not None:
            found.append(Meter("tpm", limits.tpm, one.minute.tokens, minute_ms, scope))
    return tuple(found)


def decide_draw(
    state: DrawState, command: DrawQuota, *, now_ms: int, rules: QuotaRules
) -> Lease | QuotaRefusal:
    """A new lease, the one drawn before under this id, or the limit that binds.

    Raises Conflict where the id stands for another draw, or for a lease that was returned.
    """
    if state.before is not None:
        return _drawn_before(state.before, command)
    key = state.key
    if key is None or key.version < max(1, command.key_version):
        return QuotaRefusal("key_inactive", 0, rules.retry_after_ms, held=True, behind=True)
    if not key.active:
        return QuotaRefusal("key_inactive", 0, 0, held=False)
    found = meters(state.scopes, now_ms=now_ms)
    binding = [meter for meter in found if meter.left < _needed(command, meter.limit)]
    if binding:
        return _refusal(binding, state.leases, command, now_ms=now_ms, rules=rules)
    requests = [meter.left for meter in found if meter.limit != "tpm"]
    tokens = [meter.left for meter in found if meter.limit == "tpm"]
    return Lease(
        command.lease_id,
        command.account_id,
        command.key_id,
        command.worker_id,
        _size(
            command.needed_requests,
            command.wanted_requests,
            left=requests,
            share_max=rules.share_max,
        ),
        _size(command.needed_tokens, command.wanted_tokens, left=tokens, share_max=rules.share_max),
        now_ms,
        min(now_ms + rules.ttl_ms, window_end("minute", now_ms)),
        command.content_hash,
        scopes=tuple(one.limits.scope for one in state.scopes if one.limits.any),
    )


def decide_return(lease: Lease | None, command: ReturnQuota) -> Lease:
    """The lease as it is after the return; unchanged where a later one came before.

    Raises NotFound for a lease that the key has not, Forbidden where another worker holds it.
    """
    owner = (command.account_id, command.key_id)
    if lease is None or (lease.account_id, lease.key_id) != owner:
        raise NotFound("there is no such lease")
    if lease.worker_id != command.worker_id:
        raise Forbidden("the lease belongs to another worker")
    if command.revision <= lease.revision:
        return lease
    return replace(
        lease,
        # Requests are counted before they are let in; only tokens can come to more than was lent.
        used_requests=min(command.used_requests, lease.counted.requests),
        used_tokens=command.used_tokens,
        revision=command.revision,
    )


def moved(window: Window, before: Window, after: Window) -> Window:
    """The window after something counted in it changed."""
    requests = window.requests - before.requests + after.requests
    tokens = window.tokens - before.tokens + after.tokens
    assert requests >= 0, "a window of fewer than no requests"
    assert tokens >= 0, "a window of fewer than no tokens"
    return Window(requests, tokens)


def _drawn_before(lease: Lease, command: DrawQuota) -> Lease:
    if lease.content_hash != command.content_hash:
        raise Conflict("the lease id was used for another draw")
    if not lease.is_open:
        raise Conflict("the lease has ended")
    return lease


def _needed(command: DrawQuota, limit: LimitName) -> int:
    return command.needed_tokens if limit == "tpm" else command.needed_requests


def _refusal(
    binding: list[Meter],
    leases: Iterable[Lease],
    command: DrawQuota,
    *,
    now_ms: int,
    rules: QuotaRules,
) -> QuotaRefusal:
    """Names a limit that is used up before one that is only held, the longest to last first."""
    out = [lease for lease in leases if lease.may_return(now_ms)]
    gone = [
        meter
        for meter in binding
        if meter.left + _returning(meter, out) < _needed(command, meter.limit)
    ]
    named = max(gone or binding, key=lambda meter: meter.resets_at_ms)
    wait_ms = named.resets_at_ms - now_ms if gone else rules.retry_after_ms
    return QuotaRefusal(named.limit, named.limit_value, wait_ms, held=not gone, scope=named.scope)


def _returning(meter: Meter, leases: list[Lease]) -> int:
    """What the workers that hold it may still give back of it within its window: of the leases out
    of the meter's scope.

    A lease is usable within one minute only, so an open one is of this minute, and of this day.
    """
    inside = [lease for lease in leases if meter.scope in lease.scopes]
    if meter.limit == "tpm":
        returning = sum(lease.tokens or 0 for lease in inside)
    else:
        returning = sum(lease.requests or 0 for lease in inside)
    # Where the limit was lowered below what is taken, that much of it must come back first.
    return returning - max(0, meter.taken - meter.limit_value)


def _size(needed: int, wanted: int, *, left: list[int], share_max: int) -> int | None:
    """Between needed and wanted, at most a share of what is left unless the need demands more."""
    if not left:
        return None
    return max(needed, min(wanted, min(left) // share_max))
