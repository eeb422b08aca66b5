"""Group commit: what is collected, what a failure does, what is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from services.billing.group_commit import GroupCommit
from services.common.errors import (
    AppError,
    ConcurrencyConflict,
    InternalError,
    InvalidArgument,
    Unavailable,
)
from tests.fixtures.waiting import eventually, running


class Ledger:
    """Answers each command with itself; notes the groups, and waits or fails where told to."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.go = asyncio.Event()
        self.go.set()
        self.poison: int | None = None
        self.problem: AppError = ConcurrencyConflict("another was first")
        self.away = False

    async def __call__(self, commands: Sequence[int]) -> list[int]:
        self.groups.append(list(commands))
        await self.go.wait()
        if self.away:
            raise Unavailable("away")
        if self.poison in commands:
            raise self.problem
        return list(commands)


def group_commit(ledger: Ledger, **bounds: int) -> GroupCommit[int, int]:
    given = {"size_max": 256, "waiting_max": 1_000} | bounds
    return GroupCommit(ledger, linger_s=0.003, **given)


async def test_calls_that_arrive_together_are_written_together() -> None:
    ledger = Ledger()
    groups = group_commit(ledger)
    async with running(groups.run):
        answers = await asyncio.gather(*(groups.submit(number) for number in range(200)))
    assert answers == list(range(200))
    assert ledger.groups == [list(range(200))]


async def test_a_full_group_does_not_wait() -> None:
    ledger = Ledger()
    groups = group_commit(ledger, size_max=10)
    async with running(groups.run):
        await asyncio.gather(*(groups.submit(number) for number in range(25)))
    assert [len(group) for group in ledger.groups] == [10, 10, 5]


async def test_calls_collect_while_a_group_is_being_written() -> None:
    ledger = Ledger()
    ledger.go.clear()
    groups = group_commit(ledger)
    async with running(groups.run):
        first = asyncio.create_task(groups.submit(0))
        await eventually(lambda: ledger.groups)
        rest = [asyncio.create_task(groups.submit(number)) for number in range(1, 50)]
        await asyncio.sleep(0)
        ledger.go.set()
        await asyncio.gather(first, *rest)
    assert ledger.groups == [[0], list(range(1, 50))]


@pytest.mark.parametrize("error", [ConcurrencyConflict, InternalError, InvalidArgument])
async def test_a_poisonous_call_fails_alone(error: type[AppError]) -> None:
    ledger = Ledger()
    ledger.problem = error("not this one")
    ledger.poison = 3
    groups = group_commit(ledger)
    async with running(groups.run):
        answers = await asyncio.gather(
            *(groups.submit(number) for number in range(5)), return_exceptions=True
        )
    assert [answer for answer in answers if isinstance(answer, int)] == [0, 1, 2, 4]
    assert isinstance(answers[3], error)


async def test_a_store_that_is_away_fails_every_call_and_heals() -> None:
    ledger = Ledger()
    ledger.away = True
    groups = group_commit(ledger)
    async with running(groups.run):
        answers = await asyncio.gather(groups.submit(1), groups.submit(2), return_exceptions=True)
        assert all(isinstance(answer, Unavailable) for answer in answers)
        ledger.away = False
        assert await groups.submit(3) == 3


async def test_too_many_waiting_calls_are_refused() -> None:
    groups = group_commit(Ledger(), waiting_max=2)
    waiting = [asyncio.create_task(groups.submit(number)) for number in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await groups.submit(3)
    async with running(groups.run):
        assert await asyncio.gather(*waiting) == [0, 1]


async def test_a_caller_that_gave_up_is_not_served() -> None:
    ledger = Ledger()
    groups = group_commit(ledger)
    gone = asyncio.create_task(groups.submit(1))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    async with running(groups.run):
        assert await groups.submit(2) == 2
    assert ledger.groups == [[2]]


async def test_nobody_is_left_waiting_at_the_stop() -> None:
    ledger = Ledger()
    ledger.go.clear()
    groups = group_commit(ledger)
    async with running(groups.run):
        writing = asyncio.create_task(groups.submit(1))
        await eventually(lambda: ledger.groups)
        waiting = asyncio.create_task(groups.submit(2))
        await asyncio.sleep(0)
    answers = await asyncio.gather(writing, waiting, return_exceptions=True)
    assert all(isinstance(answer, Unavailable) for answer in answers)
