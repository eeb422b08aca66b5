"""Calls that come together are made as one, and each is answered for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from services.usage.adapters.together import Together
from tests.fixtures.waiting import eventually


class Work:
    """Doubles numbers; notes which it was given together. Waits while `gate` is closed."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def __call__(self, items: Sequence[int]) -> list[int]:
        self.groups.append(list(items))
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return [2 * item for item in items]


async def test_calls_of_a_moment_are_one_and_each_has_its_own_answer() -> None:
    work = Work()
    together = Together(work)
    assert await asyncio.gather(*(together(n) for n in range(5))) == [0, 2, 4, 6, 8]
    assert work.groups == [[0, 1, 2, 3, 4]]


async def test_what_comes_while_work_is_under_way_goes_together_after_it() -> None:
    work = Work()
    work.gate.clear()
    together = Together(work, gather_s=0)
    first = asyncio.create_task(together(1))
    await eventually(lambda: bool(work.groups))
    later = [asyncio.create_task(together(n)) for n in (2, 3)]
    await asyncio.sleep(0)
    work.gate.set()
    assert await asyncio.gather(first, *later) == [2, 4, 6]
    assert work.groups == [[1], [2, 3]]


async def test_an_error_is_told_to_all_that_went_with_it_and_to_nobody_else() -> None:
    work = Work()
    work.error = ValueError("no")
    together = Together(work)
    answers = await asyncio.gather(*(together(n) for n in range(3)), return_exceptions=True)
    assert answers == [work.error] * 3
    work.error = None
    assert await together(4) == 8


async def test_a_caller_that_is_cancelled_takes_nobody_with_it() -> None:
    work = Work()
    work.gate.clear()
    together = Together(work, gather_s=0)
    calls = [asyncio.create_task(together(n)) for n in (1, 2)]
    await eventually(lambda: bool(work.groups))
    calls[0].cancel()
    work.gate.set()
    assert await calls[1] == 4
    with pytest.raises(asyncio.CancelledError):
        await calls[0]


async def test_rest_waits_for_what_is_under_way_whoever_asked_for_it() -> None:
    work = Work()
    work.gate.clear()
    together = Together(work, gather_s=0)
    call = asyncio.create_task(together(1))
    await eventually(lambda: bool(work.groups))
    call.cancel()
    resting = asyncio.create_task(together.rest())
    await asyncio.sleep(0)
    assert not resting.done()
    work.gate.set()
    await resting
    await together.rest()
