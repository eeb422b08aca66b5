"""The quotas of a worker over billing's twin: who waits, who is refused, what comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from services.common.clock import FakeClock
from services.common.errors import AppError, Forbidden, RateLimitExceeded, Unavailable
from services.common.ids import AccountId, KeyId, UserId
from services.gateway.adapters.quotas_memory import MemoryQuotas
from services.gateway.ports import KeyPrincipal, KeySettings, QuotaTicket
from services.gateway.quota.service import LeasedQuotas
from tests.fixtures.waiting import running

KEY = KeyId("key_1")
# Ten seconds into a day.
START_MS = 1_763_769_610_000


def key(version: int = 1, **limits: int) -> KeyPrincipal:
    settings = KeySettings(**{f"{name}_limit": value for name, value in limits.items()})  # type: ignore[arg-type]  # only the three limits are given
    return KeyPrincipal(AccountId("acc_1"), KEY, UserId("usr_1"), version, settings)


@dataclass
class World:
    """One billing and some workers on one clock."""

    clock: FakeClock
    billing: MemoryQuotas
    workers: list[LeasedQuotas]

    async def until(self, *tasks: asyncio.Task[QuotaTicket | None], seconds: float = 4.0) -> None:
        """Moves time on in small steps until these have ended, at most so long."""
        end_s = self.clock.monotonic_s() + seconds
        await self.settled()
        while not all(task.done() for task in tasks):
            assert self.clock.monotonic_s() < end_s, "still waiting"
            await self.pass_time(0.01)

    async def pass_time(self, seconds: float) -> None:
        """Moves time on; whoever was woken has done what there was to do."""
        await self.clock.advance(seconds)
        await self.settled()

    async def settled(self) -> None:
        """Lets everybody run who need not wait for time."""
        for _ in range(30):
            await asyncio.sleep(0)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    clock = FakeClock(START_MS)
    billing = MemoryQuotas(clock=clock)
    workers = [LeasedQuotas(billing, clock=clock) for _ in range(3)]
    async with running(workers[0].run), running(workers[1].run), running(workers[2].run):
        yield World(clock, billing, workers)


def ask(
    worker: LeasedQuotas, who: KeyPrincipal, tokens: int = 0
) -> asyncio.Task[QuotaTicket | None]:
    return asyncio.create_task(worker.admit(who, tokens))


async def outcome(task: asyncio.Task[QuotaTicket | None]) -> QuotaTicket | AppError | None:
    try:
        return await task
    except AppError as error:
        return error


async def test_the_steady_state_asks_seldom(world: World) -> None:
    who = key(rpm=100_000)
    world.billing.limits[KEY] = {"rpm": 100_000}
    [worker, *_] = world.workers
    for _ in range(1_000):
        task = ask(worker, who)
        await world.until(task)
        worker.settle((await task), 0)  # type: ignore[arg-type]  # a limited key gets a ticket
        await world.pass_time(0.005)
    assert world.billing.draws <= 25
    assert world.billing.draws + world.billing.returns < 50


async def test_workers_do_not_starve_one_another(world: World) -> None:
    who = key(rpm=9)
    world.billing.limits[KEY] = {"rpm": 9}
    # The first has asked for everything; what it does not use comes to the others in time.
    first = [ask(world.workers[0], who) for _ in range(3)]
    await world.until(*first)
    others = [ask(worker, who) for worker in world.workers for _ in range(4)]
    await world.until(*others)
    found = [await outcome(task) for task in (*first, *others)]
    assert sum(isinstance(one, QuotaTicket) for one in found) == 9
    assert sum(isinstance(one, RateLimitExceeded) for one in found) == 6
    assert world.billing.taken(KEY, "rpm") == 9


async def test_a_worker_returns_what_it_holds_before_it_refuses(world: World) -> None:
    who = key(tpm=100)
    world.billing.limits[KEY] = {"tpm": 100}
    small = ask(world.workers[0], who, 60)
    await world.until(small)
    # Forty are left at billing; sixty are set aside here and will not be used.
    large = ask(world.workers[0], who, 90)
    await world.pass_time(0.05)
    assert not large.done()
    worker, ticket = world.workers[0], await small
    assert ticket is not None
    worker.settle(ticket, 5)
    await world.until(large)
    assert isinstance(await outcome(large), QuotaTicket)


async def test_a_limit_that_is_used_up_is_refused_at_once_and_then_without_asking(
    world: World,
) -> None:
    who = key(rpd=1)
    world.billing.limits[KEY] = {"rpd": 1}
    [worker, *_] = world.workers
    await world.until(ask(worker, who))
    await world.pass_time(1.0)
    refused = ask(worker, who)
    await world.until(refused, seconds=0.05)
    error = await outcome(refused)
    assert isinstance(error, RateLimitExceeded)
    assert (error.extra, error.retry_after_s) == ({"limit": "rpd", "scope": "key"}, 86_389)
    draws = world.billing.draws
    for _ in range(20):
        with pytest.raises(RateLimitExceeded):
            worker.check(who)
        with pytest.raises(RateLimitExceeded):
            await worker.admit(who, 0)
    assert world.billing.draws == draws
    await world.pass_time(1.5)
    worker.check(who)


async def test_a_new_minute_lets_requests_in_again(world: World) -> None:
    who = key(rpm=2)
    world.billing.limits[KEY] = {"rpm": 2}
    [worker, *_] = world.workers
    for expected in (QuotaTicket, QuotaTicket, RateLimitExceeded):
        task = ask(worker, who)
        await world.until(task)
        assert isinstance(await outcome(task), expected)
    await world.pass_time(50.0)
    task = ask(worker, who)
    await world.until(task)
    assert isinstance(await outcome(task), QuotaTicket)


async def test_a_worker_that_died_takes_its_lease_with_it_for_that_minute(world: World) -> None:
    who = key(rpm=8)
    world.billing.limits[KEY] = {"rpm": 8}
    dead = LeasedQuotas(world.billing, clock=world.clock)
    tasks = [ask(dead, who) for _ in range(2)]
    await world.until(*tasks)
    lost = sum(lent.requests or 0 for lent in world.billing.lent.values() if lent.used is None)
    assert lost >= 2
    rest = [ask(world.workers[number % 2], who) for number in range(20)]
    await world.until(*rest)
    passed = [isinstance(await outcome(task), QuotaTicket) for task in rest]
    assert sum(passed) == 8 - lost
    assert world.billing.taken(KEY, "rpm") == 8


async def test_billing_away_is_no_quota_and_an_unheard_lease_is_returned(world: World) -> None:
    who = key(rpm=80)
    world.billing.limits[KEY] = {"rpm": 80}
    [worker, *_] = world.workers
    world.billing.answers_lost = True
    task = ask(worker, who)
    await world.pass_time(0.1)
    assert world.billing.taken(KEY, "rpm") == 1
    await world.until(task)
    assert isinstance(await outcome(task), Unavailable)
    world.billing.answers_lost = False
    await world.pass_time(3.0)
    assert world.billing.taken(KEY, "rpm") == 0
    world.billing.away = True
    task = ask(worker, who)
    await world.until(task)
    error = await outcome(task)
    assert isinstance(error, Unavailable)
    assert error.retry_after_s == 1


async def test_a_lost_answer_is_asked_for_again_and_draws_nothing_twice(world: World) -> None:
    who = key(rpm=80)
    world.billing.limits[KEY] = {"rpm": 80}
    world.billing.answers_lost = True
    task = ask(world.workers[0], who)
    await world.pass_time(0.1)
    world.billing.answers_lost = False
    await world.until(task)
    assert isinstance(await outcome(task), QuotaTicket)
    assert world.billing.taken(KEY, "rpm") == 1


async def test_other_limits_end_the_leases_drawn_under_the_old_ones(world: World) -> None:
    world.billing.limits[KEY] = {"rpm": 80}
    [worker, *_] = world.workers
    await world.until(*(ask(worker, key(rpm=80)) for _ in range(4)))
    world.billing.limits[KEY] = {"rpm": 4}
    task = ask(worker, key(2, rpm=4))
    await world.until(task)
    assert isinstance(await outcome(task), RateLimitExceeded)


async def test_a_request_whose_caller_went_away_waits_no_longer(world: World) -> None:
    who = key(rpm=1)
    world.billing.limits[KEY] = {"rpm": 1}
    world.billing.away = True
    task = ask(world.workers[0], who)
    await world.pass_time(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    world.billing.away = False
    await world.pass_time(3.0)
    assert world.workers[0].running == 0
    later = ask(world.workers[0], who)
    await world.until(later)
    assert isinstance(await outcome(later), QuotaTicket)


async def test_an_inactive_key_is_forbidden_and_an_unknown_one_waited_for(world: World) -> None:
    who = key(rpm=1)
    task = ask(world.workers[0], who)
    await world.pass_time(0.2)
    assert not task.done()
    world.billing.limits[KEY] = {"rpm": 1}
    await world.until(task)
    assert isinstance(await outcome(task), QuotaTicket)
    world.billing.inactive.add(KEY)
    task = ask(world.workers[1], who)
    await world.until(task)
    assert isinstance(await outcome(task), Forbidden)


async def test_a_draining_worker_gives_everything_back(world: World) -> None:
    who = key(rpm=80)
    world.billing.limits[KEY] = {"rpm": 80}
    [worker, *_] = world.workers
    tasks = [ask(worker, who) for _ in range(3)]
    await world.until(*tasks)
    draining = asyncio.create_task(worker.drain())
    await world.pass_time(0.1)
    await draining
    assert world.billing.taken(KEY, "rpm") == 3
    with pytest.raises(Unavailable):
        await worker.admit(who, 0)
    for task in tasks:
        ticket = await task
        assert ticket is not None
        worker.settle(ticket, 0)
    assert worker.running == 0


async def test_a_key_without_limits_is_let_in_even_by_a_worker_that_drains(world: World) -> None:
    who = replace(key(), settings=KeySettings())
    await world.workers[0].drain()
    world.workers[0].check(who)
    assert await world.workers[0].admit(who, 10) is None
    assert world.billing.draws == 0
