"""Purse, journal and delivery together: one event a request, whatever is away or dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from services.common.clock import Clock, FakeClock, SystemClock
from services.common.errors import Unavailable
from services.common.events import EventRecord
from services.common.ids import WorkerId
from services.common.kafka.memory import MemoryLog, MemoryProducer
from services.common.pb.mesh.events.v1.usage_pb2 import (
    REQUEST_OUTCOME_CRASHED,
    REQUEST_OUTCOME_SUCCESS,
    UsageRecorded,
)
from services.common.topics import USAGE
from services.gateway.adapters.grants_memory import MemoryGrants
from services.gateway.journal.limits import JournalLimits
from services.gateway.journal.segments import DiskCalls
from services.gateway.journal.wal import WriteAheadFile
from services.gateway.money import Money
from services.gateway.ports import Hold
from tests.unit.gateway_money.builders import ACCOUNT, admitted, event, wants

LIMITS = JournalLimits(
    total_bytes=200_000,
    reserve_bytes=20_000,
    segment_bytes=8_000,
    read_bytes=2_000,
    backoff_first_s=0.001,
    backoff_max_s=0.01,
)


class World:
    """What outlives a worker: its directory, billing and Kafka."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock: Clock = SystemClock()
        self.limits = LIMITS
        self.billing = MemoryGrants(clock=self.clock)
        self.billing.balances[ACCOUNT] = 1_000_000
        self.log = MemoryLog()
        self.producer = MemoryProducer(self.log)

    async def start(self) -> Money:
        """A worker that has recovered and does not run yet."""
        if self.log.available:
            await self.producer.start()
        money = Money.open(
            self.directory,
            billing=self.billing,
            producer=self.producer,
            worker_id=WorkerId("w1"),
            clock=self.clock,
            journal_limits=self.limits,
        )
        await money.recover()
        return money

    async def die(self, money: Money) -> None:
        """The process is gone; the system gives the lock back."""
        await money.close(drained=False)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Money]:
        """A worker that runs, and dies at the end."""
        money = await self.start()
        task = asyncio.ensure_future(money.run())
        try:
            yield money
        finally:
            task.cancel()
            await asyncio.wait({task})
            await self.die(money)

    def events(self) -> list[UsageRecorded]:
        """All that Kafka has, in order; what a crash sent twice, byte for byte the same, once."""
        found = []
        for value in dict.fromkeys(m.value for m in self.log.messages(USAGE.name)):
            decoded = EventRecord.from_bytes(value).message()
            assert isinstance(decoded, UsageRecorded)
            found.append(decoded)
        return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A directory, billing and Kafka."""
    return World(tmp_path)


async def _request(money: Money, number: int, cost: int = 7) -> None:
    hold = await money.budget.place(wants(number, 100))
    money.journal.admitted(admitted(number, hold))
    await money.journal.record(event(number, cost), hold)


async def test_a_recorded_request_reaches_kafka_with_its_grant_and_its_hold(world: World) -> None:
    async with world.running() as money:
        await _request(money, 1)
        assert await money.drain(timeout_s=5)
    (found,) = world.events()
    assert (found.usage_id, found.cost_nanousd, found.held_nanousd) == ("use_1", 7, 100)
    assert found.worker_id == "w1"
    assert world.billing.lent.keys() == {found.grant_id}
    (message,) = world.log.messages(USAGE.name)
    assert message.key == ACCOUNT.encode()
    assert EventRecord.from_bytes(message.value).event_id == "evt_1"


async def test_events_of_an_account_stay_in_order_over_many_segments(world: World) -> None:
    async with world.running() as money:
        for number in range(150):
            await _request(money, number)
        assert await money.drain(timeout_s=5)
        assert money.wal.bytes_total < 20_000
    assert [found.usage_id for found in world.events()] == [f"use_{n}" for n in range(150)]
    assert world.billing.open_grants == []


async def test_after_draining_the_directory_holds_no_segment(world: World) -> None:
    money = await world.start()
    task = asyncio.ensure_future(money.run())
    await _request(money, 1)
    assert await money.drain(timeout_s=5)
    task.cancel()
    await asyncio.wait({task})
    await money.close(drained=True)
    assert [path.name for path in world.directory.iterdir()] == ["lock"]


async def test_what_kafka_did_not_get_it_gets_after_a_restart(world: World) -> None:
    async with world.running() as money:
        world.log.available = False
        for number in range(40):
            await _request(money, number)
    world.log.available = True
    assert world.events() == []
    async with world.running() as money:
        assert await money.drain(timeout_s=5)
    assert [found.usage_id for found in world.events()] == [f"use_{n}" for n in range(40)]


async def test_kafka_away_and_back_loses_and_repeats_nothing(world: World) -> None:
    async with world.running() as money:
        for number in range(60):
            world.log.available = number % 20 < 10
            await _request(money, number)
        world.log.available = True
        assert await money.drain(timeout_s=5)
    assert [found.usage_id for found in world.events()] == [f"use_{n}" for n in range(60)]


async def test_an_hour_without_kafka_loses_nothing_and_stays_within_the_files_bound(
    world: World,
) -> None:
    clock = FakeClock()
    world.clock, world.billing = clock, MemoryGrants(clock=clock)
    world.billing.balances[ACCOUNT] = 1_000_000
    # As in production: a try every few seconds.
    world.limits = replace(LIMITS, backoff_first_s=0.05, backoff_max_s=5.0)
    async with world.running() as money:
        world.log.available = False
        for minute in range(60):
            for number in range(3):
                await _request(money, 3 * minute + number)
            await clock.advance(60)
            assert money.wal.bytes_total <= LIMITS.total_bytes
            assert money.wal.admits()
        assert money.delivery.delivered_events == 0
        world.log.available = True
        while len(world.events()) < 180:
            await clock.advance(1)
            await asyncio.sleep(0)
        await clock.advance(1)
    assert [found.usage_id for found in world.events()] == [f"use_{n}" for n in range(180)]
    assert sum(found.cost_nanousd for found in world.events()) == 180 * 7


async def test_a_crash_leaves_exactly_one_event_for_each_admitted_request(world: World) -> None:
    async with world.running() as money:
        for number in range(10):
            hold = await money.budget.place(wants(number, 100))
            money.journal.admitted(admitted(number, hold))
            if number % 3 == 0:
                await money.journal.record(event(number, 9), hold)
    for _ in range(2):
        async with world.running() as money:
            assert await money.drain(timeout_s=5)
    found = {each.usage_id: each for each in world.events()}
    assert len(world.events()) == len(found) == 10
    crashed = [each for each in found.values() if each.outcome == REQUEST_OUTCOME_CRASHED]
    assert len(crashed) == 6
    assert all(each.cost_nanousd == 0 and each.held_nanousd == 100 for each in crashed)
    assert all(each.request_id and each.account_id and each.key_id for each in crashed)


async def test_since_when_a_request_has_not_ended_outlives_a_crash(world: World) -> None:
    async with world.running() as money:
        assert money._oldest_s() == 0
        for number in range(2):
            hold = await money.budget.place(wants(number, 100))
            money.journal.admitted(admitted(number, hold))
        since_ms = money.wal.state.oldest_admitted_ms()
        assert since_ms
        await money.journal.record(event(1, 9), hold)
        assert money.wal.state.oldest_admitted_ms() == since_ms
        await money.flusher.durable()
    reborn = WriteAheadFile(world.directory, LIMITS)
    assert reborn.state.oldest_admitted_ms() == since_ms
    reborn.close(remove=False)


async def test_a_crash_closes_every_grant_with_what_was_spent_under_it(world: World) -> None:
    async with world.running() as money:
        holds: list[Hold] = []
        for number in range(30):
            hold = await money.budget.place(wants(number, 5_000))
            money.journal.admitted(admitted(number, hold))
            holds.append(hold)
        for number, hold in enumerate(holds[:20]):
            await money.journal.record(event(number, 100 + number), hold)
    world.billing.away = True
    async with world.running() as money:
        await asyncio.sleep(0)
        assert money.budget.closer.pending == len(world.billing.open_grants) > 0
        world.billing.away = False
        assert await money.drain(timeout_s=5)
    assert world.billing.open_grants == []
    spent: dict[str, int] = {}
    for found in world.events():
        spent[found.grant_id] = spent.get(found.grant_id, 0) + found.cost_nanousd
    assert {g: lent.spent_nanousd for g, lent in world.billing.lent.items()} == spent


async def test_a_grant_whose_answer_never_came_is_closed_after_the_crash(world: World) -> None:
    async with world.running() as money:
        world.billing.answers_lost = True
        waiting = asyncio.ensure_future(money.budget.place(wants(1, 100)))
        for _ in range(1_000):
            if world.billing.lent:
                break
            await asyncio.sleep(0)
        waiting.cancel()
    world.billing.answers_lost = False
    assert len(world.billing.open_grants) == 1
    async with world.running() as money:
        assert await money.drain(timeout_s=5)
    assert world.billing.open_grants == []
    assert world.billing.granted_nanousd(ACCOUNT) == 0


async def test_an_event_that_cannot_be_written_bills_nothing(world: World) -> None:
    async with world.running() as money:
        hold = await money.budget.place(wants(1, 100))
        money.journal.admitted(admitted(1, hold))
        written = money.wal._disk
        money.wal._disk = DiskCalls(write=_no_disk)
        with pytest.raises(Unavailable):
            await money.journal.record(event(1, 50), hold)
        assert money.budget.holds == 0
        assert not money.checks()["journal"]()
        with pytest.raises(Unavailable):
            money.journal.admitted(admitted(2))
        money.wal._disk = written
        await asyncio.sleep(0)
    async with world.running() as money:
        assert await money.drain(timeout_s=5)
    (found,) = world.events()
    assert (found.outcome, found.cost_nanousd) == (REQUEST_OUTCOME_CRASHED, 0)
    assert [lent.spent_nanousd for lent in world.billing.lent.values()] == [0]


async def test_an_event_that_could_not_be_written_follows_when_the_disk_is_back(
    world: World,
) -> None:
    async with world.running() as money:
        money.journal.admitted(admitted(1))
        written = money.wal._disk
        money.wal._disk = DiskCalls(write=_no_disk)
        with pytest.raises(Unavailable):
            await money.journal.record(event(1), None)
        money.wal._disk = written
        money.wal._tried_s = float("-inf")
        await _request(money, 2)
        assert await money.drain(timeout_s=5)
        assert money.wal.state.admitted == {}
    outcomes = {found.usage_id: found.outcome for found in world.events()}
    assert outcomes == {"use_1": REQUEST_OUTCOME_CRASHED, "use_2": REQUEST_OUTCOME_SUCCESS}


async def test_after_a_failed_flush_what_was_written_is_delivered_and_nothing_more_let_in(
    world: World,
) -> None:
    async with world.running() as money:
        hold = await money.budget.place(wants(1, 100))
        money.journal.admitted(admitted(1, hold))
        money.wal._disk = DiskCalls(sync=_no_flush)
        await money.journal.record(event(1, 30), hold)
        await money.delivery.wait_idle()
        assert not money.checks()["journal"]()
        with pytest.raises(Unavailable):
            money.journal.admitted(admitted(2))
    assert [found.cost_nanousd for found in world.events()] == [30]


async def test_cancelling_the_wait_for_the_disk_undoes_nothing(world: World) -> None:
    async with world.running() as money:
        hold = await money.budget.place(wants(1, 100))
        money.journal.admitted(admitted(1, hold))
        waiting = asyncio.ensure_future(money.journal.record(event(1, 30), hold))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert money.budget.holds == 0
        assert await money.drain(timeout_s=5)
    assert [found.cost_nanousd for found in world.events()] == [30]


async def test_many_records_share_a_flush(world: World) -> None:
    async with world.running() as money:
        await asyncio.gather(*(_request(money, number) for number in range(200)))
        assert money.flusher.flushes < 50


async def test_a_refused_request_is_recorded_without_a_hold(world: World) -> None:
    async with world.running() as money:
        await money.journal.record(event(1), None)
        assert await money.drain(timeout_s=5)
    assert [found.usage_id for found in world.events()] == ["use_1"]


async def test_a_drain_that_takes_too_long_says_so_and_loses_nothing(world: World) -> None:
    async with world.running() as money:
        await _request(money, 1)
        world.billing.away = True
        assert not await money.drain(timeout_s=0.05)
    world.billing.away = False
    async with world.running() as money:
        assert await money.drain(timeout_s=5)
    assert world.billing.open_grants == []
    assert [found.usage_id for found in world.events()] == ["use_1"]


def _no_disk(_handle: int, _data: bytes) -> int:
    raise OSError("no space left")


def _no_flush(_handle: int) -> None:
    raise OSError("input/output error")
