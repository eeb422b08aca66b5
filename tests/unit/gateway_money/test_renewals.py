"""Grants that change while they are in use: more time, more money for one hold, idle money back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.common.errors import AppError, Forbidden, SpendLimitExceeded, Unavailable
from services.gateway.ports import Hold
from tests.unit.gateway_money.builders import ACCOUNT, KEY, Bench, wants


@asynccontextmanager
async def working(bench: Bench) -> AsyncIterator[None]:
    """The budget's own work in the background."""
    task = asyncio.ensure_future(bench.budget.run())
    await bench.run_for(0)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def grow(bench: Bench, hold: Hold, more: int, least: int = 1) -> None:
    await bench.until(bench.budget.grow(hold, more_nanousd=more, least_nanousd=least))


async def refused(bench: Bench, hold: Hold, more: int, least: int = 1) -> AppError:
    with pytest.raises(AppError) as caught:
        await grow(bench, hold, more, least)
    return caught.value


def lent_nanousd(bench: Bench) -> int:
    return bench.billing.granted_nanousd(ACCOUNT)


async def test_a_hold_grows_from_what_is_free_in_its_grant_without_a_question() -> None:
    bench = Bench(money=100_000)
    hold = await bench.place(wants(1, 100))
    await grow(bench, hold, 50)
    assert hold.amount_nanousd == 150
    assert (bench.billing.open_calls, bench.billing.renew_calls) == (1, 0)


async def test_a_hold_grows_beyond_its_grant_by_one_question_and_stays_inside_it() -> None:
    bench = Bench(money=1_000)
    hold = await bench.place(wants(1, 100))
    await grow(bench, hold, 700)
    assert hold.amount_nanousd == 800
    assert list(bench.billing.lent) == [hold.grant_id]
    assert lent_nanousd(bench) <= 1_000
    bench.settle(hold, 750)
    bench.billing.book(hold.grant_id, 750)
    await asyncio.gather(bench.until(bench.budget.drain()), _run_a_while(bench))
    assert lent_nanousd(bench) == 0


async def _run_a_while(bench: Bench) -> None:
    async with working(bench):
        await bench.run_for(1)


async def test_a_hold_grows_by_what_is_left_where_that_is_enough_to_go_on() -> None:
    bench = Bench(money=130)
    hold = await bench.place(wants(1, 100))
    await grow(bench, hold, 100, least=20)
    assert hold.amount_nanousd == 130


async def test_a_hold_that_cannot_grow_is_left_as_it_was() -> None:
    bench = Bench(money=110)
    bench.billing.balances[ACCOUNT] = 110
    hold = await bench.place(wants(1, 105))
    error = await refused(bench, hold, 100, least=20)
    assert isinstance(error, SpendLimitExceeded)
    assert hold.amount_nanousd == 105
    bench.settle(hold, 100)


async def test_money_freed_in_time_is_had_by_a_hold_that_waits_for_it() -> None:
    bench = Bench(money=200)
    first, second = await bench.place_all([wants(1, 100), wants(2, 100)])
    assert isinstance(first, Hold)
    assert isinstance(second, Hold)
    waiting = asyncio.ensure_future(bench.budget.grow(first, more_nanousd=60, least_nanousd=60))
    await bench.run_for(0.3)
    assert not waiting.done()
    bench.settle(second, 10)
    await bench.until(waiting)
    assert first.amount_nanousd == 160


async def test_a_suspended_key_gets_no_more_money() -> None:
    bench = Bench(money=1_000)
    hold = await bench.place(wants(1, 100))
    bench.billing.inactive.add(KEY)
    assert isinstance(await refused(bench, hold, 500, least=400), Forbidden)


async def test_a_lost_answer_lends_nothing_twice() -> None:
    bench = Bench(money=1_000)
    hold = await bench.place(wants(1, 100))
    bench.billing.answers_lost = True
    waiting = asyncio.ensure_future(bench.budget.grow(hold, more_nanousd=500, least_nanousd=500))
    await bench.run_for(0.5)
    lent = lent_nanousd(bench)
    bench.billing.answers_lost = False
    await bench.until(waiting)
    assert lent_nanousd(bench) == lent
    assert hold.amount_nanousd == 600
    assert sum(one.amount_nanousd for one in bench.budget.grants) == lent


async def test_growing_without_an_answer_ends_at_the_deadline_and_the_money_is_not_lost() -> None:
    bench = Bench(money=1_000)
    hold = await bench.place(wants(1, 100))
    bench.billing.away = True
    assert isinstance(await refused(bench, hold, 500), Unavailable)
    bench.billing.away = False
    await bench.run_for(3)
    assert sum(one.amount_nanousd for one in bench.budget.grants) == lent_nanousd(bench)


async def test_a_request_that_ends_while_it_grows_leaves_nothing_held() -> None:
    bench = Bench(money=1_000)
    hold = await bench.place(wants(1, 100))
    bench.billing.latency_s = 0.05
    waiting = asyncio.ensure_future(bench.budget.grow(hold, more_nanousd=500, least_nanousd=500))
    await bench.run_for(0.01)
    waiting.cancel()
    bench.settle(hold, 70)
    await bench.run_for(0.2)
    assert bench.budget.holds == 0
    [lent] = bench.budget.grants
    assert (lent.held_nanousd, lent.spent_nanousd) == (0, 70)
    assert lent.amount_nanousd == bench.billing.lent[lent.grant_id].grant.amount_nanousd


async def test_a_grant_in_use_is_renewed_before_it_expires_however_long_the_use_lasts() -> None:
    bench = Bench(money=10_000)
    async with working(bench):
        hold = await bench.place(wants(1, 100))
        for _ in range(40):
            await bench.run_for(15)
            expires_at_ms = bench.billing.lent[hold.grant_id].grant.expires_at_ms
            assert expires_at_ms > bench.clock.now_ms() + 10_000
        assert bench.billing.renew_calls < 30
        bench.settle(hold, 1)
        await bench.run_for(8)
        assert bench.billing.open_grants == []


async def test_a_grant_that_billing_does_not_renew_takes_no_new_hold_past_its_time() -> None:
    bench = Bench(money=10_000)
    async with working(bench):
        old = await bench.place(wants(1, 100))
        bench.billing.lent[old.grant_id].spent_nanousd = 0
        await bench.run_for(41)
        new = await bench.place(wants(2, 100))
        assert new.grant_id != old.grant_id
        assert isinstance(await refused(bench, old, 10), Unavailable)
        bench.settle(old, 1)


async def test_idle_money_that_others_wait_for_goes_back_before_it_has_been_idle_long() -> None:
    bench = Bench(money=10_000)
    async with working(bench):
        bench.settle(await bench.place(wants(1, 100)), 1)
        bench.billing.wanted.add((ACCOUNT, KEY))
        await bench.run_for(1)
        assert bench.billing.open_grants == []


async def test_what_is_free_beside_a_running_request_goes_back_where_others_wait() -> None:
    bench = Bench(money=10_000)
    async with working(bench):
        hold = await bench.place(wants(1, 100))
        assert lent_nanousd(bench) > 100
        bench.billing.wanted.add((ACCOUNT, KEY.replace("1", "other")))  # type: ignore[arg-type]
        await bench.run_for(2)
        assert lent_nanousd(bench) > 100
        bench.billing.wanted.add((ACCOUNT, ""))  # type: ignore[arg-type]  # anywhere in the account
        await bench.run_for(2)
        assert lent_nanousd(bench) == 100
        bench.settle(hold, 100)


async def test_nothing_is_asked_about_recalls_without_free_money() -> None:
    bench = Bench(money=100)
    asked = 0
    recalls = bench.billing.recalls

    async def counted(accounts: object, *, timeout_s: float) -> object:
        nonlocal asked
        asked += 1
        return await recalls([ACCOUNT], timeout_s=timeout_s)

    bench.billing.recalls = counted  # type: ignore[assignment,method-assign]
    async with working(bench):
        hold = await bench.place(wants(1, 100))
        await bench.run_for(5)
        assert asked == 0
        bench.settle(hold, 10)
        await bench.run_for(2)
        assert asked > 0


async def test_scattered_free_money_of_one_worker_serves_a_request_that_needs_all_of_it() -> None:
    bench = Bench(money=200)
    async with working(bench):
        first = await bench.place(wants(1, 100))
        second = await bench.place(wants(2, 100))
        assert first.grant_id != second.grant_id
        bench.settle(first, 0)
        small = [await bench.place(wants(number, 20)) for number in (3, 4)]
        bench.settle(second, 0)
        hold = await bench.place(wants(5, 160))
        assert hold.amount_nanousd == 160
        assert lent_nanousd(bench) <= 200
        for one in [*small, hold]:
            bench.settle(one, 1)
