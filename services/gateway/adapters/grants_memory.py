"""Billing's lending in memory: the twin of `grants_grpc`, exact to the nano-dollar.

For tests and simulations of the worker's side. It knows balances and caps, lends once per
grant id, takes grants back once, and can be told to be away or to lose its answers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from services.common.clock import Clock
from services.common.errors import Conflict, NotFound, Unavailable
from services.common.ids import AccountId, GrantId, KeyId
from services.common.scopes import ScopeKind, account_model, key_model, kind_of
from services.gateway.budget.ports import (
    BindingLimit,
    Grant,
    GrantRequest,
    GrantTotal,
    Refusal,
    RenewRequest,
)

_CAPS: dict[ScopeKind, BindingLimit] = {
    "key_model": "model_cap",
    "member": "member_cap",
    "team": "team_cap",
    "account_model": "account_model_cap",
    "account": "account_cap",
}


@dataclass(slots=True)
class LentByMemory:
    """One grant as billing sees it."""

    request: GrantRequest
    grant: Grant
    spent_nanousd: int | None = None
    settled_nanousd: int = 0
    renewals: int = 0
    scopes: tuple[str, ...] = ()

    @property
    def open(self) -> bool:
        """True until the worker gave it back."""
        return self.spent_nanousd is None

    @property
    def held_nanousd(self) -> int:
        """What it takes from what is available: its amount, later what is spent but not settled."""
        if self.spent_nanousd is None:
            return max(0, self.grant.amount_nanousd - self.settled_nanousd)
        return max(0, self.spent_nanousd - self.settled_nanousd)


class MemoryGrants:
    """Implements `budget.ports.Grants`. An unknown account has no money, an unknown key no cap."""

    def __init__(self, *, clock: Clock, lifetime_s: float = 60.0, share: int = 4) -> None:
        self._clock = clock
        self._lifetime_ms = int(lifetime_s * 1000)
        # A grant beyond what is needed is never more than this part of what is available.
        self._share = share
        self.balances: dict[AccountId, int] = {}
        self.caps: dict[KeyId, int] = {}
        self.key_spent: dict[KeyId, int] = {}
        # The scopes that a key is in, what each is capped at, and what was spent in it.
        self.scopes_of: dict[KeyId, tuple[str, ...]] = {}
        self.scope_caps: dict[str, int] = {}
        self.scope_spent: dict[str, int] = {}
        self.inactive: set[KeyId] = set()
        self.lent: dict[GrantId, LentByMemory] = {}
        # Closed when there was no such grant.
        self.given_up: set[GrantId] = set()
        # Where idle money is wanted; a test says so.
        self.wanted: set[tuple[AccountId, KeyId]] = set()
        self.open_calls = 0
        self.renew_calls = 0
        self.close_calls = 0
        # While `away` nothing is done; while `answers_lost` everything is done and nothing said.
        self.away = False
        self.answers_lost = False
        # How long an answer takes, by the clock.
        self.latency_s = 0.0

    async def open(self, request: GrantRequest, *, timeout_s: float) -> Grant | Refusal:
        """Lends, or refuses; the same id twice gets the same answer."""
        self.open_calls += 1
        with self._wire():
            if self.latency_s:
                await self._clock.sleep(min(self.latency_s, timeout_s))
                if self.latency_s > timeout_s:
                    raise Unavailable("billing is slow")
            return self._open(request)

    async def renew(self, request: RenewRequest, *, timeout_s: float) -> Grant | Refusal:
        """Changes a grant; the same number twice changes it once."""
        self.renew_calls += 1
        with self._wire():
            if self.latency_s:
                await self._clock.sleep(min(self.latency_s, timeout_s))
                if self.latency_s > timeout_s:
                    raise Unavailable("billing is slow")
            return self._renew(request)

    async def recalls(
        self,
        accounts: Collection[AccountId],
        *,
        timeout_s: float,  # noqa: ARG002 - it answers at once
    ) -> list[tuple[AccountId, KeyId]]:
        """What a test put into `wanted`."""
        with self._wire():
            return sorted(ref for ref in self.wanted if ref[0] in accounts)

    async def close(self, total: GrantTotal, *, timeout_s: float) -> int:  # noqa: ARG002 - it answers at once
        """Takes a grant back; a second closing changes nothing."""
        self.close_calls += 1
        with self._wire():
            lent = self.lent.get(total.grant_id)
            if lent is None:
                self.given_up.add(total.grant_id)
                raise NotFound(f"no grant {total.grant_id}")
            if lent.request.account_id != total.account_id:
                raise NotFound(f"no grant {total.grant_id} of {total.account_id}")
            if lent.spent_nanousd is None:
                lent.spent_nanousd = max(total.spent_nanousd, lent.settled_nanousd)
            return max(0, lent.grant.amount_nanousd - lent.spent_nanousd)

    def book(self, grant_id: GrantId, cost_nanousd: int) -> None:
        """Books one usage event: what settlement does on the other side."""
        lent = self.lent[grant_id]
        lent.settled_nanousd += cost_nanousd
        request = lent.request
        self.balances[request.account_id] -= cost_nanousd
        self.key_spent[request.key_id] = self.key_spent.get(request.key_id, 0) + cost_nanousd
        for scope in lent.scopes:
            self.scope_spent[scope] = self.scope_spent.get(scope, 0) + cost_nanousd

    def granted_nanousd(self, account_id: AccountId) -> int:
        """Held by all grants of the account."""
        return sum(
            lent.held_nanousd
            for lent in self.lent.values()
            if lent.request.account_id == account_id
        )

    @property
    def open_grants(self) -> list[GrantId]:
        """What no worker has given back."""
        return [grant_id for grant_id, lent in self.lent.items() if lent.open]

    @contextmanager
    def _wire(self) -> Iterator[None]:
        if self.away:
            raise Unavailable("billing is away")
        yield
        if self.answers_lost:
            raise Unavailable("the answer was lost")

    def _open(self, request: GrantRequest) -> Grant | Refusal:
        lent = self.lent.get(request.grant_id)
        if lent is not None:
            if lent.request != replace(request, key_version=lent.request.key_version):
                raise Conflict(f"{request.grant_id} was another request")
            if not lent.open:
                raise Conflict(f"{request.grant_id} has ended")
            return lent.grant
        if request.grant_id in self.given_up:
            raise Conflict(f"{request.grant_id} was given up before it was opened")
        amount = self._amount(request)
        if isinstance(amount, Refusal):
            return amount
        grant = Grant(request.grant_id, amount, self._clock.now_ms() + self._lifetime_ms)
        scopes = self._lending(request)
        self.lent[request.grant_id] = LentByMemory(request, grant, scopes=scopes)
        return grant

    def _renew(self, request: RenewRequest) -> Grant | Refusal:
        lent = self.lent.get(request.grant_id)
        if lent is None or lent.request.account_id != request.account_id:
            raise NotFound(f"no grant {request.grant_id}")
        if not lent.open:
            raise Conflict(f"{request.grant_id} has ended")
        if request.number <= lent.renewals:
            return lent.grant
        if request.number != lent.renewals + 1:
            raise Conflict(f"{request.number} does not follow {lent.renewals}")
        added = -request.give_back_nanousd
        if lent.grant.amount_nanousd + added < max(1, lent.settled_nanousd):
            raise Conflict(f"{request.grant_id}: more would be given back than there is")
        if request.needed_nanousd:
            amount = self._amount(request, own_nanousd=lent.held_nanousd)
            if isinstance(amount, Refusal):
                return amount
            added = amount
        lent.renewals = request.number
        lent.grant = replace(
            lent.grant,
            amount_nanousd=lent.grant.amount_nanousd + added,
            expires_at_ms=self._clock.now_ms() + self._lifetime_ms,
        )
        return lent.grant

    def _amount(
        self, request: GrantRequest | RenewRequest, *, own_nanousd: int = 0
    ) -> int | Refusal:
        """How much is lent now, or the limit that binds; the grant's own money does not come back
        to it.
        """
        if request.key_id in self.inactive:
            return Refusal("key_inactive", held=False, retry_after_ms=0, available_nanousd=0)
        rooms = self._rooms(request)
        available = min(room.available_nanousd for room in rooms)
        least = request.least_nanousd or request.needed_nanousd
        if available < least:
            others = [
                replace(room, returning_nanousd=room.returning_nanousd - own_nanousd)
                for room in rooms
            ]
            return _refusal(others, least)
        if available < request.needed_nanousd:
            return available
        share = min(request.wanted_nanousd, available // self._share)
        return max(request.needed_nanousd, share)

    def _lending(self, request: GrantRequest | RenewRequest) -> tuple[str, ...]:
        """The scopes that lend: of an open grant those that lent it."""
        lent = self.lent.get(request.grant_id)
        if lent is not None:
            return lent.scopes
        found = self.scopes_of.get(request.key_id, ())
        model_id = request.model_id if isinstance(request, GrantRequest) else ""
        if model_id:
            found = (key_model(request.key_id, model_id), *found, account_model(model_id))
        return found

    def _rooms(self, request: GrantRequest | RenewRequest) -> list[_Room]:
        """What each limit leaves."""
        rooms = []
        cap = self.caps.get(request.key_id)
        if cap is not None:
            left = cap - self.key_spent.get(request.key_id, 0)
            of_key = [lent for lent in self.lent.values() if lent.request.key_id == request.key_id]
            rooms.append(_room("key_cap", left, of_key))
        of_account = [
            lent for lent in self.lent.values() if lent.request.account_id == request.account_id
        ]
        for scope in self._lending(request):
            if scope in self.scope_caps:
                left = self.scope_caps[scope] - self.scope_spent.get(scope, 0)
                inside = [lent for lent in self.lent.values() if scope in lent.scopes]
                rooms.append(_room(_CAPS[kind_of(scope)], left, inside))
        rooms.append(_room("balance", self.balances.get(request.account_id, 0), of_account))
        return rooms


@dataclass(frozen=True, slots=True)
class _Room:
    limit: BindingLimit
    available_nanousd: int
    # Held by open grants: what may come back.
    returning_nanousd: int


def _room(limit: BindingLimit, left_nanousd: int, lent: list[LentByMemory]) -> _Room:
    held = sum(each.held_nanousd for each in lent)
    returning = sum(each.held_nanousd for each in lent if each.open)
    return _Room(limit, left_nanousd - held, returning)


def _refusal(rooms: list[_Room], least_nanousd: int) -> Refusal:
    """Names the limit that binds; one whose money is gone before one whose money is only held."""
    binding = [room for room in rooms if room.available_nanousd < least_nanousd]
    gone = [
        room for room in binding if room.available_nanousd + room.returning_nanousd < least_nanousd
    ]
    named = (gone or binding)[0]
    return Refusal(named.limit, not gone, 0 if gone else 50, max(0, named.available_nanousd))
