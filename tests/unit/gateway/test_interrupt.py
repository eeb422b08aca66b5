"""Ending a block from outside."""

from __future__ import annotations

import asyncio

import pytest

from services.gateway.errors import ClientGone
from services.gateway.interrupt import Interrupt


async def _wait_in(interrupt: Interrupt, entered: asyncio.Event) -> str:
    try:
        with interrupt:
            entered.set()
            await asyncio.Event().wait()
    except ClientGone:
        # The task itself goes on.
        await asyncio.sleep(0)
        return "gone"
    raise AssertionError("the block ended by itself")


async def test_a_block_that_waits_is_left_and_the_task_goes_on() -> None:
    interrupt, entered = Interrupt(), asyncio.Event()
    task = asyncio.create_task(_wait_in(interrupt, entered))
    await entered.wait()
    interrupt.trigger()
    interrupt.trigger()
    assert await task == "gone"
    assert task.cancelling() == 0


async def test_a_block_is_not_entered_once_triggered() -> None:
    interrupt = Interrupt()
    interrupt.trigger()
    with pytest.raises(ClientGone), interrupt:
        raise AssertionError("entered")


async def test_a_trigger_behind_the_block_does_nothing() -> None:
    interrupt = Interrupt()
    with interrupt:
        pass
    interrupt.trigger()
    await asyncio.sleep(0)


async def test_a_cancellation_of_the_task_stays_one() -> None:
    interrupt, entered = Interrupt(), asyncio.Event()
    task = asyncio.create_task(_wait_in(interrupt, entered))
    await entered.wait()
    task.cancel()
    interrupt.trigger()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_time_limit_around_it_still_works() -> None:
    async def wait() -> None:
        async with asyncio.timeout(0.01):
            with Interrupt():
                await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await wait()
