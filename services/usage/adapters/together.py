"""Calls that come while one is under way are made as one: a statement that reaches the disk costs
about the same for one partition as for all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Together(Generic[Item, Answer]):
    """Hands the items of many callers to `work` at once, which gives an answer for each, in order.

    One `work` is under way at a time; items that come meanwhile wait for the next. The first one
    waits for `gather_s`, because those who were answered together come again together.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        *,
        gather_s: float = 0.003,
    ) -> None:
        self._work = work
        self._gather_s = gather_s
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._working: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Answer:
        """The answer for this item. Raises what `work` raised for the items it went with.

        A caller that is cancelled is not answered; its item may be worked all the same.
        """
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._working is None:
            self._working = asyncio.create_task(self._run(), name="together")
        return await answer

    async def rest(self) -> None:
        """Waits until nothing is under way."""
        while self._working is not None:
            await asyncio.wait([self._working])

    async def _run(self) -> None:
        try:
            await asyncio.sleep(self._gather_s)
            while self._waiting:
                group, self._waiting = self._waiting, []
                await self._answer([one for one in group if not one[1].done()])
        finally:
            self._working = None

    async def _answer(self, group: Sequence[tuple[Item, asyncio.Future[Answer]]]) -> None:
        if not group:
            return
        try:
            found = await self._work([item for item, _ in group])
        except asyncio.CancelledError:
            for _, answer in group:
                answer.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - it is the callers'
            for _, answer in group:
                if not answer.done():
                    answer.set_exception(error)
        else:
            for (_, answer), value in zip(group, found, strict=True):
                if not answer.done():
                    answer.set_result(value)
