"""Group commit: calls that arrive together are written together, in one transaction.

One round trip to the database then serves hundreds of grants. A group closes after `linger_s` or at
`size_max` calls, and while one is being written the next collects. Nothing is kept between groups,
so several replicas of billing are safe beside one another: the locks are in the database.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

from services.common.errors import AppError, Unavailable

Command = TypeVar("Command")
Answer = TypeVar("Answer")


class GroupCommit(Generic[Command, Answer]):
    """Collects calls and runs them in groups; `execute` answers a group in its order."""

    def __init__(
        self,
        execute: Callable[[Sequence[Command]], Awaitable[list[Answer]]],
        *,
        linger_s: float,
        size_max: int,
        waiting_max: int,
    ) -> None:
        self._execute = execute
        self._linger_s = linger_s
        self._size_max = size_max
        self._waiting_max = waiting_max
        self._waiting: deque[tuple[Command, asyncio.Future[Answer]]] = deque()
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()

    async def submit(self, command: Command) -> Answer:
        """The command's answer, once its group is committed.

        Raises Unavailable where too many wait already or the store is away.
        """
        if len(self._waiting) >= self._waiting_max:
            raise Unavailable("billing has too many calls waiting")
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, future))
        self._arrived.set()
        if len(self._waiting) >= self._size_max:
            self._full.set()
        return await future

    async def run(self) -> None:
        """Writes groups until cancelled; calls still waiting then are refused as unavailable."""
        try:
            while True:
                await self._arrived.wait()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._full.wait(), self._linger_s)
                await self._write(self._take())
        finally:
            for _, future in self._waiting:
                _fail(future, Unavailable("billing is shutting down"))
            self._waiting.clear()

    def _take(self) -> list[tuple[Command, asyncio.Future[Answer]]]:
        group: list[tuple[Command, asyncio.Future[Answer]]] = []
        while self._waiting and len(group) < self._size_max:
            command, future = self._waiting.popleft()
            # Whoever gave up before his group began must not be lent money he will not hear of.
            if not future.done():
                group.append((command, future))
        if not self._waiting:
            self._arrived.clear()
        if len(self._waiting) < self._size_max:
            self._full.clear()
        return group

    async def _write(self, group: list[tuple[Command, asyncio.Future[Answer]]]) -> None:
        if not group:
            return
        try:
            answers = await self._execute([command for command, _ in group])
        except Unavailable as error:
            for _, future in group:
                _fail(future, error)
        except AppError as error:
            await self._write_apart(group, error)
        except BaseException:
            # Cancelled, or a defect: nobody may be left waiting, and the defect goes up.
            for _, future in group:
                _fail(future, Unavailable("billing could not finish the call"))
            raise
        else:
            for (_, future), answer in zip(group, answers, strict=True):
                if not future.done():
                    future.set_result(answer)

    async def _write_apart(
        self,
        group: list[tuple[Command, asyncio.Future[Answer]]],
        error: AppError,
    ) -> None:
        """One call that collides with another replica, or is poison, must not fail its group."""
        if len(group) == 1:
            _fail(group[0][1], error)
            return
        for one in group:
            await self._write([one])


def _fail(future: asyncio.Future[Answer], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
