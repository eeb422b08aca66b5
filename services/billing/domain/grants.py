"""Grants: how much a worker is lent, and the only ways in which a loan ends.

    open --renew--> open
    open --close--> closed --------------settled--> resolved
    open --expire-> unresolved --settled----------> resolved
                    unresolved --renew----------> open
                    unresolved --close--> closed
                    unresolved --write off--> written_off

Money leaves a grant in four ways only: a close returns what the worker did not spend, a renewal may
give back what it does without, settlement moves what was spent to the posted side, and a write-off
gives up what nobody accounted for. An expiry returns nothing, so a worker that comes back late with
requests still running has its grant renewed as if it had come in time.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace

from services.billing.domain.events import (
    GrantChange,
    GrantClosed,
    GrantExpired,
    GrantOpened,
    GrantRenewed,
    GrantResolved,
    GrantWrittenOff,
)
from services.billing.domain.rooms import LimitName, Room, ScopeSpent, binding_room, rooms_of
from services.billing.domain.state import Grant, GrantStatus, KeyAccount, Wallet
from services.common.errors import Conflict, Forbidden, InternalError, NotFound
from services.common.ids import AccountId, GrantId, KeyId, WorkerId


@dataclass(frozen=True, slots=True)
class OpenGrant:
    """A worker asks for money, in nano-dollars; with `least` 0 only `needed` will do. `model_id`
    is given where it is for that model's requests alone.
    """

    grant_id: GrantId
    worker_id: WorkerId
    account_id: AccountId
    key_id: KeyId
    key_version: int
    needed_nanousd: int
    least_nanousd: int
    wanted_nanousd: int
    traceparent: str = ""
    model_id: str = ""

    @property
    def content_hash(self) -> bytes:
        """What a retry must repeat; the key's version is left out, it may have grown meanwhile."""
        content = [
            self.grant_id,
            self.worker_id,
            self.account_id,
            self.key_id,
            self.needed_nanousd,
            self.least_nanousd,
            self.wanted_nanousd,
            *([self.model_id] if self.model_id else []),
        ]
        return hashlib.sha256(json.dumps(content).encode()).digest()


@dataclass(frozen=True, slots=True)
class RenewGrant:
    """A worker changes its grant for the `number`th time: more time, and money one way at most."""

    grant_id: GrantId
    worker_id: WorkerId
    account_id: AccountId
    number: int
    key_version: int
    needed_nanousd: int = 0
    least_nanousd: int = 0
    wanted_nanousd: int = 0
    give_back_nanousd: int = 0
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class CloseGrant:
    """A worker says what it spent in all under a grant, in nano-dollars."""

    grant_id: GrantId
    worker_id: WorkerId
    account_id: AccountId
    spent_nanousd: int
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class GrantRules:
    """How long a grant lives, which part of the available money one may take, when to ask again.

    An unresolved grant is written off `write_off_after_ms` after it expired. Money that was refused
    because it is held is asked back from workers for `recall_ms`.
    """

    ttl_ms: int = 120_000
    grace_ms: int = 30_000
    share_max: int = 8
    retry_after_ms: int = 1_000
    write_off_after_ms: int = 7 * 86_400_000
    recall_ms: int = 1_500


@dataclass(frozen=True, slots=True)
class OpenState:
    """What an opening is decided by; `window_spent_nanousd` is the key's, in its cap's window.
    `scopes` are those that lend beside the key, in their order. `given_up`: its worker has closed
    the grant already, when there was none.
    """

    wallet: Wallet | None
    key: KeyAccount | None
    window_spent_nanousd: int
    grant: Grant | None
    scopes: tuple[ScopeSpent, ...] = ()
    given_up: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why no money was lent. `behind`: the key's settings are older here than the worker's."""

    limit: LimitName
    held: bool
    retry_after_ms: int
    available_nanousd: int
    behind: bool = False


@dataclass(frozen=True, slots=True)
class Closed:
    """The answer to a close and the events it takes; `disputed` where it contradicts an earlier."""

    returned_nanousd: int
    events: tuple[GrantClosed | GrantResolved, ...] = ()
    disputed: bool = False


def decide_open(
    state: OpenState, request: OpenGrant, *, now_ms: int, rules: GrantRules
) -> GrantOpened | Grant | Refusal:
    """A new grant, the one opened before under this id, or the limit that binds.

    Raises Conflict where the id stands for another request, or for a grant that has ended or was
    given up: its worker would never hear of it, and nobody would close it.
    """
    if state.grant is not None:
        return _opened_before(state.grant, request)
    if state.given_up:
        raise Conflict("the grant was given up before it was opened")
    amount = _amount(state, request, rules)
    if isinstance(amount, Refusal):
        return amount
    return GrantOpened(
        request.grant_id,
        request.account_id,
        request.key_id,
        request.worker_id,
        amount,
        now_ms,
        now_ms + rules.ttl_ms,
        request.content_hash,
        tuple(one.scope.scope for one in state.scopes),
    )


def decide_renew(
    state: OpenState, request: RenewGrant, *, now_ms: int, rules: GrantRules
) -> GrantRenewed | Grant | Refusal:
    """The change, the grant as it is where that was made before, or the limit that binds.

    Raises NotFound and Forbidden as a close does, Conflict for a grant that has ended, for a number
    that does not follow and for more given back than is not settled.
    """
    grant = _grant_of(state.grant, request)
    if grant.status not in ("open", "unresolved"):
        raise Conflict("the grant has ended")
    if request.number <= grant.renewals:
        return grant
    if request.number != grant.renewals + 1:
        raise Conflict(f"renewal {request.number} does not follow {grant.renewals}")
    added = 0
    if request.needed_nanousd:
        amount = _amount(state, request, rules, own_nanousd=grant.held_nanousd)
        if isinstance(amount, Refusal):
            return amount
        added = amount
    elif request.give_back_nanousd:
        # What stays must cover what is settled, and be a grant at all.
        if grant.amount_nanousd - request.give_back_nanousd < max(1, grant.settled_nanousd):
            raise Conflict("more would be given back than there is")
        added = -request.give_back_nanousd
    expires_at_ms = max(grant.expires_at_ms, now_ms + rules.ttl_ms)
    return GrantRenewed(grant.grant_id, grant.account_id, request.number, added, expires_at_ms)


def decide_close(grant: Grant | None, request: CloseGrant) -> Closed:
    """What comes back; the same again where it was closed before, whatever is said now.

    Raises NotFound for a grant the account has not, Forbidden where another worker holds it.
    """
    grant = _grant_of(grant, request)
    if grant.spent_nanousd is not None:
        return Closed(grant.returned_nanousd, disputed=grant.spent_nanousd != request.spent_nanousd)
    if grant.status in ("resolved", "written_off"):
        return Closed(0, disputed=grant.settled_nanousd != request.spent_nanousd)
    kept = max(request.spent_nanousd, grant.settled_nanousd)
    returned = max(0, grant.amount_nanousd - kept)
    closed = GrantClosed(grant.grant_id, grant.account_id, request.spent_nanousd, returned)
    return Closed(returned, (closed, *resolution(evolve(grant, closed))))


def decide_expire(
    grant: Grant, *, now_ms: int, rules: GrantRules
) -> tuple[GrantExpired | GrantResolved, ...]:
    """Marks an open grant unresolved once its time and the grace are over; returns no money."""
    if grant.status != "open" or now_ms < grant.expires_at_ms + rules.grace_ms:
        return ()
    expired = GrantExpired(grant.grant_id, grant.account_id, grant.held_nanousd)
    return (expired, *resolution(evolve(grant, expired)))


def decide_write_off(grant: Grant | None, reason: str) -> tuple[GrantWrittenOff, ...]:
    """Gives up what an unresolved grant holds; nothing where it was written off before.

    Raises NotFound for a grant that is not there, Conflict for one that is not unresolved.
    """
    if grant is None:
        raise NotFound("there is no such grant")
    if grant.status == "written_off":
        return ()
    if grant.status != "unresolved":
        raise Conflict(f"the grant is {grant.status}: only an unresolved one is written off")
    return (GrantWrittenOff(grant.grant_id, grant.account_id, grant.held_nanousd, reason),)


def is_overdue(grant: Grant, *, now_ms: int, rules: GrantRules) -> bool:
    """True for an unresolved grant that has waited as long as the rules let it."""
    due_ms = grant.expires_at_ms + rules.write_off_after_ms
    return grant.status == "unresolved" and now_ms >= due_ms


def settle(grant: Grant, cost_nanousd: int) -> Grant:
    """The grant after a usage event of this cost was booked; what exceeds it is an overrun."""
    return _changed(grant, grant.status, settled=grant.settled_nanousd + cost_nanousd)


def resolution(grant: Grant) -> tuple[GrantResolved, ...]:
    """The event that ends it, once nothing is held and nobody may spend from it any more."""
    if grant.status in ("closed", "unresolved") and grant.held_nanousd == 0:
        return (GrantResolved(grant.grant_id, grant.account_id, grant.settled_nanousd),)
    return ()


def opened(event: GrantOpened) -> Grant:
    """The grant that the event begins."""
    return Grant(
        event.grant_id, event.account_id, event.key_id, event.worker_id, event.amount_nanousd,
        event.opened_at_ms, event.expires_at_ms, event.request_hash, scopes=event.scopes,
    )  # fmt: skip


def evolve(grant: Grant, event: GrantChange) -> Grant:
    """The grant after one of its events."""
    match event:
        case GrantRenewed():
            if event.number != grant.renewals + 1:
                raise InternalError("a renewal does not follow the last one of its grant")
            return replace(
                grant,
                status="open",
                amount_nanousd=grant.amount_nanousd + event.added_nanousd,
                expires_at_ms=event.expires_at_ms,
                renewals=event.number,
            )
        case GrantClosed():
            return _changed(grant, "closed", event.returned_nanousd, spent=event.spent_nanousd)
        case GrantExpired():
            return _changed(grant, "unresolved")
        case GrantResolved():
            return _changed(grant, "resolved")
        case GrantWrittenOff():
            returned = grant.returned_nanousd + event.written_off_nanousd
            return _changed(grant, "written_off", returned)


def _changed(
    grant: Grant,
    status: GrantStatus,
    returned: int | None = None,
    *,
    spent: int | None = None,
    settled: int | None = None,
) -> Grant:
    """Written out: `replace` takes ten times as long, and every usage event changes a grant."""
    return Grant(
        grant.grant_id,
        grant.account_id,
        grant.key_id,
        grant.worker_id,
        grant.amount_nanousd,
        grant.opened_at_ms,
        grant.expires_at_ms,
        grant.request_hash,
        grant.settled_nanousd if settled is None else settled,
        grant.spent_nanousd if spent is None else spent,
        grant.returned_nanousd if returned is None else returned,
        status,
        grant.renewals,
        grant.scopes,
    )


def _opened_before(grant: Grant, request: OpenGrant) -> Grant:
    if grant.request_hash != request.content_hash:
        raise Conflict("the grant id was used for another request")
    if grant.status in ("closed", "resolved", "written_off"):
        raise Conflict("the grant has ended")
    return grant


def _grant_of(grant: Grant | None, request: RenewGrant | CloseGrant) -> Grant:
    """The grant that is spoken of, where whoever speaks may do so."""
    if grant is None or grant.account_id != request.account_id:
        raise NotFound("there is no such grant")
    if grant.worker_id != request.worker_id:
        raise Forbidden("the grant belongs to another worker")
    return grant


def _amount(
    state: OpenState, request: OpenGrant | RenewGrant, rules: GrantRules, *, own_nanousd: int = 0
) -> int | Refusal:
    """How much is lent now, or the limit that binds; `own_nanousd`, which the grant holds itself,
    does not come back to it from others.
    """
    inactive = _refusal_of_key(state, request, rules)
    if inactive is not None:
        return inactive
    assert state.wallet is not None
    assert state.key is not None
    rooms = rooms_of(state.wallet, state.key, state.window_spent_nanousd, scopes=state.scopes)
    available = min(room.available_nanousd for room in rooms)
    least = request.least_nanousd or request.needed_nanousd
    if available < least:
        others = [
            replace(room, returning_nanousd=room.returning_nanousd - own_nanousd) for room in rooms
        ]
        return _refusal_of_money(others, least, rules)
    return _size(request, available, rules.share_max)


def _refusal_of_key(
    state: OpenState, request: OpenGrant | RenewGrant, rules: GrantRules
) -> Refusal | None:
    known = state.key.version if state.key is not None else 0
    if state.wallet is None or state.key is None or known < max(1, request.key_version):
        return Refusal("key_inactive", True, rules.retry_after_ms, 0, behind=True)
    if not state.key.active:
        return Refusal("key_inactive", False, 0, 0)
    return None


def _refusal_of_money(rooms: list[Room], least_nanousd: int, rules: GrantRules) -> Refusal:
    named, gone = binding_room(rooms, least_nanousd)
    return Refusal(
        named.limit,
        not gone,
        0 if gone else rules.retry_after_ms,
        max(0, named.available_nanousd),
    )


def _size(request: OpenGrant | RenewGrant, available_nanousd: int, share_max: int) -> int:
    """Between needed and wanted, at most a share of what is there unless the need demands more."""
    if available_nanousd < request.needed_nanousd:
        return available_nanousd
    share = available_nanousd // share_max
    return max(request.needed_nanousd, min(request.wanted_nanousd, share))
