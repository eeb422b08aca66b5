"""The purse's bookkeeping, by a state machine against plain integers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.common.ids import GrantId, UsageId
from services.gateway.budget.ports import Grant
from services.gateway.budget.purse import Purse
from services.gateway.ports import Hold
from tests.unit.gateway_money.builders import ACCOUNT, KEY

AMOUNTS = st.integers(1, 1_000)


class PurseMachine(RuleBasedStateMachine):
    """Grants come and go, holds are placed and settled; the model knows every figure itself."""

    def __init__(self) -> None:
        super().__init__()
        self.purse = Purse(ACCOUNT, KEY)
        self.now_ms = 0
        self.made = 0
        self.holds: list[Hold] = []
        self.amount: dict[str, int] = {}
        self.spent: dict[str, int] = {}
        self.overrun: dict[str, int] = {}
        self.ends_ms: dict[str, int] = {}

    def _name(self, prefix: str) -> str:
        self.made += 1
        return f"{prefix}_{self.made}"

    def _free(self, grant_id: str) -> int:
        held = sum(hold.amount_nanousd for hold in self.holds if hold.grant_id == grant_id)
        return self.amount[grant_id] - self.spent[grant_id] - held

    @rule(amount=AMOUNTS, life_ms=st.integers(1, 1_000))
    def lend(self, amount: int, life_ms: int) -> None:
        grant_id = self._name("gr")
        grant = Grant(GrantId(grant_id), amount, self.now_ms + life_ms)
        self.purse.add(grant, now_ms=self.now_ms, usable_fraction=0.5)
        self.amount[grant_id], self.spent[grant_id], self.overrun[grant_id] = amount, 0, 0
        self.ends_ms[grant_id] = self.now_ms + int(life_ms * 0.5)

    @rule(amount=AMOUNTS)
    def take(self, amount: int) -> None:
        usable = [g for g in self.amount if self.now_ms < self.ends_ms[g]]
        could = any(self._free(grant_id) >= amount for grant_id in usable)
        hold = self.purse.take(UsageId(self._name("use")), amount, self.now_ms)
        assert (hold is not None) == could
        if hold is not None:
            assert hold.amount_nanousd == amount
            assert self._free(hold.grant_id) >= amount
            self.holds.append(hold)

    @rule(least=AMOUNTS, more=st.integers(0, 500))
    def take_most(self, least: int, more: int) -> None:
        usable = [g for g in self.amount if self.now_ms < self.ends_ms[g]]
        most = max((self._free(grant_id) for grant_id in usable), default=0)
        hold = self.purse.take_most(
            UsageId(self._name("use")),
            least_nanousd=least,
            full_nanousd=least + more,
            now_ms=self.now_ms,
        )
        assert (hold is not None) == (most >= least)
        if hold is not None:
            assert hold.amount_nanousd == min(most, least + more)
            self.holds.append(hold)

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), over=st.booleans())
    def settle(self, data: Any, over: bool) -> None:  # Any: hypothesis has no public type for it
        hold = self.holds.pop(data.draw(st.integers(0, len(self.holds) - 1)))
        most = hold.amount_nanousd * (2 if over else 1)
        cost = data.draw(st.integers(0, most))
        self.purse.settle(hold, cost, self.now_ms)
        self.spent[hold.grant_id] += cost
        self.overrun[hold.grant_id] += max(0, cost - hold.amount_nanousd)
        with pytest.raises(AssertionError, match="ended already"):
            self.purse.settle(hold, cost, self.now_ms)

    @rule(idle_ms=st.integers(0, 300))
    def give_back(self, idle_ms: int) -> None:
        for grant_id in self.purse.returnable(self.now_ms, idle_ms=idle_ms):
            lent = self.purse.remove(grant_id)
            assert lent.spent_nanousd == self.spent.pop(grant_id)
            assert not any(hold.grant_id == grant_id for hold in self.holds)
            del self.amount[grant_id]

    @rule(elapsed_ms=st.integers(1, 300))
    def wait(self, elapsed_ms: int) -> None:
        self.now_ms += elapsed_ms

    @invariant()
    def holds_and_spent_never_exceed_what_was_lent(self) -> None:
        for lent in self.purse.grants:
            name = lent.grant_id
            assert lent.free_nanousd == self._free(name)
            assert lent.held_nanousd + lent.spent_nanousd <= (
                lent.amount_nanousd + self.overrun[name]
            )
        assert self.purse.holds == len(self.holds)


TestPurseMachine = PurseMachine.TestCase


def test_a_grant_with_holds_is_never_taken_out() -> None:
    purse = Purse(ACCOUNT, KEY)
    purse.add(Grant(GrantId("gr_1"), 100, 1_000), now_ms=0, usable_fraction=1.0)
    assert purse.take(UsageId("use_1"), 60, 0) is not None
    assert purse.returnable(10_000, idle_ms=0) == []
    with pytest.raises(AssertionError, match="still has 1 holds"):
        purse.remove(GrantId("gr_1"))


def test_one_request_cannot_hold_twice() -> None:
    purse = Purse(ACCOUNT, KEY)
    purse.add(Grant(GrantId("gr_1"), 100, 1_000), now_ms=0, usable_fraction=1.0)
    assert purse.take(UsageId("use_1"), 10, 0) is not None
    with pytest.raises(AssertionError, match="holds money already"):
        purse.take(UsageId("use_1"), 10, 0)
