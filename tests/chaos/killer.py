"""Ends processes of a stack with `kill -9`, at random moments of a seed."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import psutil

from tests.e2e.stack import Stack

# How often a process is killed, relative to the others. Few enough of each that it comes back
# between two of its kills: one that ends early too often waits ever longer for its next start.
BAG = (
    "gateway-0", "gateway-1", "gateway-2", "billing", "billing", "usage", "usage",
    "accounts", "catalog", "dashboard", "kafka", "postgres",
)  # fmt: skip
WAIT_FOR_SERVICE_SHARE = 0.5
SERVICE_WITHIN_S = 12.0
PAUSE_MAX_S = 3.0


@dataclass(slots=True)
class Killer:
    """Kills `kills` times. After a kill it waits until `serves` says yes, or not at all."""

    stack: Stack
    kills: int
    seed: int
    serves: Callable[[], Awaitable[bool]]
    killed: Counter[str] = field(default_factory=Counter)
    # Kills after which the stack served again, and how long that took at most.
    waited: int = 0
    longest_s: float = 0.0
    _bag: list[str] = field(default_factory=list)

    async def run(self) -> None:
        """Returns after the last kill."""
        order = random.Random(self.seed)
        while self.killed.total() < self.kills:
            await asyncio.sleep(order.uniform(0, PAUSE_MAX_S))
            self._kill_one(order)
            if order.random() < WAIT_FOR_SERVICE_SHARE:
                await self._until_it_serves()

    def _kill_one(self, order: random.Random) -> None:
        """Kills the next process of the bag that is running; a bag holds each by its weight."""
        if not self._bag:
            self._bag = list(BAG)
            order.shuffle(self._bag)
        running = self.stack.pids()
        for name in self._bag:
            pid = running.get(name)
            if pid is not None and self._is_ours(pid):
                with suppress(psutil.NoSuchProcess):
                    psutil.Process(pid).kill()
                    self.killed[name] += 1
                self._bag.remove(name)
                return

    def _is_ours(self, pid: int) -> bool:
        """Whether it is still a child of this stack: the file may be older than a pid's reuse."""
        assert self.stack.process is not None
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(pid).ppid() == self.stack.process.pid
        return False

    async def _until_it_serves(self) -> None:
        started = time.monotonic()
        while time.monotonic() - started < SERVICE_WITHIN_S:
            if await self.serves():
                self.waited += 1
                self.longest_s = max(self.longest_s, time.monotonic() - started)
                return
            await asyncio.sleep(0.2)
