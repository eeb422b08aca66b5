"""Purses and scopes: a limited model's money lies apart, a moved key leaves its old team's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.common import scopes
from services.common.clock import FakeClock
from services.common.errors import SpendLimitExceeded
from services.common.ids import UsageId, WorkerId
from services.gateway.adapters.grants_memory import MemoryGrants
from services.gateway.budget.limits import BudgetLimits
from services.gateway.budget.service import PurseBudget
from services.gateway.ports import HoldRequest, KeyPrincipal
from services.gateway.scoped import Scoped, ScopeRates
from tests.unit.gateway_money.builders import ACCOUNT, KEY, PRICE, MemoryGrantLog, principal

MODEL = scopes.key_model(KEY, "m")
CAPPED = replace(principal(), scoped=Scoped(models={"m": (ScopeRates(MODEL, capped=True),)}))


def wants(name: str, full: int, model_id: str, who: KeyPrincipal = CAPPED) -> HoldRequest:
    return HoldRequest(who, PRICE, UsageId(f"use_{name}"), full, model_id=model_id)


@pytest.fixture
def billing() -> MemoryGrants:
    found = MemoryGrants(clock=FakeClock())
    found.balances[ACCOUNT] = 1_000
    return found


@pytest.fixture
def budget(billing: MemoryGrants) -> PurseBudget:
    clock = FakeClock()
    limits = BudgetLimits()
    return PurseBudget(
        billing, MemoryGrantLog(), worker_id=WorkerId("w1"), clock=clock, limits=limits
    )


async def test_a_capped_models_money_lies_apart(budget: PurseBudget, billing: MemoryGrants) -> None:
    billing.scope_caps[MODEL] = 100
    of_model = await budget.place(wants("1", 60, "m"))
    of_other = await budget.place(wants("2", 60, "n"))
    assert of_model.grant_id != of_other.grant_id
    assert (of_model.model_id, of_other.model_id) == ("m", "")
    with pytest.raises(SpendLimitExceeded) as refused:
        await budget.place(wants("3", 101, "m"))
    assert refused.value.extra == {"limit": "model_cap", "state": "gone"}
    assert "this model" in refused.value.message
    for hold in (of_model, of_other):
        budget.release(hold)
    assert budget.holds == 0


@pytest.mark.parametrize(
    ("scope", "limit", "words"),
    [
        ("team:a", "team_cap", "the team's spend cap"),
        ("member:u", "member_cap", "the member who made the key"),
        ("account", "account_cap", "the account's spend cap"),
    ],
)
async def test_a_402_names_the_scope_that_binds(
    budget: PurseBudget, billing: MemoryGrants, scope: str, limit: str, words: str
) -> None:
    billing.scopes_of[KEY] = (scope,)
    billing.scope_caps[scope] = 10
    with pytest.raises(SpendLimitExceeded, match=words) as refused:
        await budget.place(wants("1", 60, "n"))
    assert refused.value.extra == {"limit": limit, "state": "gone"}


async def test_a_key_that_was_moved_takes_no_more_of_what_its_old_team_lent(
    budget: PurseBudget, billing: MemoryGrants
) -> None:
    old = replace(principal(), scoped=Scoped(team_id="a"))
    billing.scopes_of[KEY] = ("team:a",)
    first = await budget.place(wants("1", 10, "", old))
    second = await budget.place(wants("2", 1, "", old))
    assert first.grant_id == second.grant_id
    moved = replace(old, key_version=2, scoped=Scoped(team_id="b"))
    billing.scopes_of[KEY] = ("team:b",)
    third = await budget.place(wants("3", 1, "", moved))
    assert third.grant_id != first.grant_id
    assert billing.lent[third.grant_id].scopes == ("team:b",)
    # What is idle goes back at the next turn, and nobody who is late brings the old team back.
    budget.release(first)
    budget.release(second)
    budget.sweep(idle_ms=60_000)
    assert [lent.grant_id for lent in budget.grants] == [third.grant_id]
    late = await budget.place(wants("4", 1, "", old))
    assert late.grant_id == third.grant_id
