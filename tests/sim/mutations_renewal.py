"""Mutants of what changes a grant while it is in use; see `mutations.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from services.billing.adapters.ledger_memory import _MemoryUnit
from services.billing.domain import grants
from services.billing.domain.events import GrantRenewed
from services.billing.domain.grants import GrantRules, OpenState, RenewGrant
from services.common.ids import GrantId
from services.gateway.budget import purse, renewal
from services.gateway.budget.purse import LentGrant
from services.gateway.ports import Hold
from tests.sim.simulation import Target


def growth_from_nowhere() -> list[Target]:
    """A hold grows without taking from what is free in its grant."""
    settle = purse.Purse.settle

    def grow(self: purse.Purse, hold: Hold, more_nanousd: int) -> None:
        hold.amount_nanousd += more_nanousd

    def settled(self: purse.Purse, hold: Hold, cost_nanousd: int, now_ms: int) -> None:
        self.grant_of(hold).held_nanousd = max(
            self.grant_of(hold).held_nanousd, hold.amount_nanousd
        )
        settle(self, hold, cost_nanousd, now_ms)

    return [(purse.Purse, "grow", grow), (purse.Purse, "settle", settled)]


def growth_without_asking() -> list[Target]:
    """A worker takes as lent what it asks for before billing has answered, or refused."""
    following = renewal.Renewals._next

    def mutated(self: renewal.Renewals, work: Any) -> Any:  # Any: inside of the renewals
        request = following(self, work)
        if request is not None:
            work.lent.amount_nanousd += request.needed_nanousd
            self._serve(work, clamped=False)
        return request

    return [(renewal.Renewals, "_next", mutated)]


def renewal_refused_but_spent_on() -> list[Target]:
    """A worker goes on with a grant for as long as it likes, whatever billing says."""

    def is_due(self: LentGrant, now_ms: int) -> bool:
        if self.holds and now_ms >= self.renew_from_ms:
            self.usable_until_ms += 60_000
            self.renew_from_ms += 60_000
        return False

    return [(LentGrant, "is_due", is_due)]


def renewal_lends_again() -> list[Target]:
    """A question that is asked again, because its answer was lost, lends again."""
    decide = grants.decide_renew

    def mutated(
        state: OpenState, request: RenewGrant, *, now_ms: int, rules: GrantRules
    ) -> Any:  # Any: what was decided
        if state.grant is not None and request.number <= state.grant.renewals:
            request = replace(request, number=state.grant.renewals + 1)
        return decide(state, request, now_ms=now_ms, rules=rules)

    return [(grants, "decide_renew", mutated)]


def growth_without_limits() -> list[Target]:
    """More is lent into an open grant without a look at the limits."""
    decide = grants.decide_renew

    def mutated(
        state: OpenState, request: RenewGrant, *, now_ms: int, rules: GrantRules
    ) -> Any:  # Any: what was decided
        decision = decide(state, replace(request, needed_nanousd=0), now_ms=now_ms, rules=rules)
        if isinstance(decision, GrantRenewed) and request.needed_nanousd:
            return replace(decision, added_nanousd=request.needed_nanousd)
        return decision

    return [(grants, "decide_renew", mutated)]


def held_money_given_back() -> list[Target]:
    """On a recall a worker gives back what its requests hold, too."""
    following = renewal.Renewals._next

    def mutated(self: renewal.Renewals, work: Any) -> Any:  # Any: inside of the renewals
        wanted = work.give_back
        request = following(self, work)
        if request is None or not wanted or not request.give_back_nanousd:
            return request
        more = max(0, work.lent.held_nanousd - 1)
        return replace(request, give_back_nanousd=request.give_back_nanousd + more)

    return [(renewal.Renewals, "_next", mutated)]


def opened_after_it_was_given_up() -> list[Target]:
    """Billing lends to a question that arrives after its worker closed the grant."""

    async def mutated(self: _MemoryUnit, ids: set[GrantId]) -> tuple[object, set[GrantId]]:
        return await self.grants(ids), set()

    return [(_MemoryUnit, "grants_or_given_up", mutated)]


RENEWAL_MUTANTS: tuple[Callable[[], list[Target]], ...] = (
    growth_from_nowhere,
    growth_without_asking,
    renewal_refused_but_spent_on,
    renewal_lends_again,
    growth_without_limits,
    held_money_given_back,
    opened_after_it_was_given_up,
)
