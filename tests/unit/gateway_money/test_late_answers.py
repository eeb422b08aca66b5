"""Questions to billing that were given up and still take effect; and whom an answer is for."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest

from services.common.errors import Conflict, SpendLimitExceeded, Unavailable
from services.common.ids import AccountId, GrantId, KeyId
from services.gateway.budget.limits import BudgetLimits
from services.gateway.budget.line import Line, Waiter
from services.gateway.budget.ports import (
    Grant,
    GrantRequest,
    Grants,
    GrantTotal,
    Refusal,
    RenewRequest,
)
from services.gateway.budget.purse import Purse
from tests.unit.gateway_money.builders import ACCOUNT, KEY, WORKER, Bench, wants


class LateBilling:
    """Billing to which the first question is still on its way when the second is answered."""

    def __init__(self, billing: Grants) -> None:
        self._billing = billing
        self.under_way: GrantRequest | None = None

    async def open(self, request: GrantRequest, *, timeout_s: float) -> Grant | Refusal:
        if self.under_way is None:
            self.under_way = request
            raise Unavailable("no answer in time")
        return await self._billing.open(request, timeout_s=timeout_s)

    async def renew(self, request: RenewRequest, *, timeout_s: float) -> Grant | Refusal:
        return await self._billing.renew(request, timeout_s=timeout_s)

    async def recalls(
        self, accounts: Collection[AccountId], *, timeout_s: float
    ) -> list[tuple[AccountId, KeyId]]:
        return await self._billing.recalls(accounts, timeout_s=timeout_s)

    async def close(self, total: GrantTotal, *, timeout_s: float) -> int:
        return await self._billing.close(total, timeout_s=timeout_s)

    async def arrive(self) -> None:
        """The first question takes effect at last."""
        assert self.under_way is not None
        assert isinstance(await self._billing.open(self.under_way, timeout_s=1), Grant)


def _late(bench: Bench) -> LateBilling:
    late = LateBilling(bench.billing)
    bench.budget._billing = late
    bench.budget.closer._billing = late
    return late


async def test_a_question_that_arrives_after_its_grant_was_given_up_opens_nothing() -> None:
    bench = Bench(money=0)
    late = _late(bench)
    running = asyncio.create_task(bench.budget.run())
    place = asyncio.create_task(bench.budget.place(wants(1, 100)))
    await bench.run_for(1)
    assert isinstance(place.exception(), SpendLimitExceeded)
    assert bench.budget.closer.pending == 0
    bench.billing.balances[ACCOUNT] = 1_000
    with pytest.raises(Conflict, match="given up"):
        await late.arrive()
    assert bench.billing.granted_nanousd(ACCOUNT) == 0
    running.cancel()


async def test_that_a_grant_was_never_opened_is_believed() -> None:
    bench = Bench(money=0)
    total = GrantTotal(GrantId("gr_before_the_crash"), WORKER, ACCOUNT, KEY)
    bench.log.grant_opened(total)
    running = asyncio.create_task(bench.budget.run())
    bench.budget.closer.add(total)
    await bench.run_for(1)
    assert (bench.billing.close_calls, bench.budget.closer.pending) == (1, 0)
    assert bench.log.closed == [total.grant_id]
    running.cancel()


async def test_a_grant_is_closed_when_what_was_spent_under_it_is_on_disk() -> None:
    bench = Bench(money=1_000)
    running = asyncio.create_task(bench.budget.run())
    hold = await bench.place(wants(1, 100))
    bench.settle(hold, 40)
    bench.log.flushed.clear()
    await bench.run_for(BudgetLimits().idle_s + 2)
    assert (bench.billing.close_calls, bench.budget.closer.pending) == (0, 1)
    bench.log.flushed.set()
    await bench.run_for(1)
    assert bench.billing.lent[hold.grant_id].spent_nanousd == 40
    running.cancel()


async def test_who_needs_less_than_was_asked_for_is_not_told_that_its_money_is_held() -> None:
    line = Line(Purse(ACCOUNT, KEY), spend_window_s=10)
    loop = asyncio.get_running_loop()
    large, small = (
        Waiter(wants(amount, amount), loop.create_future(), deadline_s=1) for amount in (1_000, 10)
    )
    line.waiters = [large, small]
    held = SpendLimitExceeded("held by others")
    line.learn_held([large], held)
    line.expire(now_s=1)
    assert large.future.exception() is held
    assert isinstance(small.future.exception(), Unavailable)
