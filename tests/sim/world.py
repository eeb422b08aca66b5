"""One simulated run: its random choices, its clock, its trace, and who dies when."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tests.sim.loop import NETWORK, PROCESS, Killed, Process, VirtualLoop, call_in

TRACE_LINES = 80


class Violation(Exception):
    """An invariant does not hold; the text says which and how. The first word is its name."""


@dataclass(frozen=True, slots=True)
class Odds:
    """How hostile a run is: probabilities per occasion, seconds, counts."""

    drop: float
    duplicate: float
    slow: float
    store_fails: float
    answer_lost: float
    ack_lost: float
    crash_writes: int
    power: float


class World:
    """What everything in a run shares. Every choice comes from `rng`."""

    def __init__(self, seed: int, *, steps_max: int = 400_000) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.loop = VirtualLoop(steps_max=steps_max)
        self.loop.executor_delay = lambda: (
            0.0005 + self.rng.random() * (0.2 if self.rng.random() < 0.05 else 0.004),
            self.rng.random() < 0.5,
        )
        self.start_ms = _start_ms(self.rng)
        self.odds = _odds(self.rng)
        # True while nothing may fail any more: the time in which everything must come to rest.
        self.calm = False
        self.crashes = 0
        self.processes: list[Process] = []
        self._writes_left: dict[Process, int] = {}
        self._trace: deque[str] = deque(maxlen=TRACE_LINES)
        self._digest = hashlib.blake2b(digest_size=8)
        self.violation: Violation | None = None
        self.on_violation: Callable[[], object] = lambda: None

    def chance(self, probability: float) -> bool:
        """True that often, and never in calm times."""
        return not self.calm and self.rng.random() < probability

    def delay_s(self, usual_s: float = 0.003, slow_s: float = 1.5) -> float:
        """How long something takes: mostly little, now and then very long."""
        if self.chance(self.odds.slow):
            return self.rng.random() * slow_s
        return usual_s * (0.2 + self.rng.random())

    async def pause(self, usual_s: float = 0.003, slow_s: float = 1.5) -> None:
        """Waits that long."""
        await asyncio.sleep(self.delay_s(usual_s, slow_s))

    def now_ms(self) -> int:
        """True time."""
        return self.start_ms + round(self.loop.time() * 1000)

    def note(self, what: str) -> None:
        """A line of the trace."""
        line = f"{self.loop.step:>7} {self.loop.time():>11.4f}s {PROCESS.get().name:<10} {what}"
        self._digest.update(line.encode())
        self._trace.append(line)

    def trace(self) -> list[str]:
        """The last lines."""
        return list(self._trace)

    def digest(self) -> str:
        """A hash of the whole trace: the same seed gives the same."""
        return self._digest.hexdigest()

    def fail(self, name: str, what: str) -> None:
        """An invariant is broken: the run ends. Only the first counts."""
        if self.violation is None:
            self.violation = Violation(f"{name}: {what}")
            self.note(f"VIOLATION {name}: {what}")
            self.on_violation()

    def require(self, name: str, holds: bool, what: Callable[[], str]) -> None:
        """Fails unless it holds."""
        if not holds:
            self.fail(name, what())

    def process(self, name: str) -> Process:
        """A new process, which may die at any of its writes."""
        process = Process(name)
        self.processes.append(process)
        self.rearm(process)
        return process

    def rearm(self, process: Process) -> None:
        """Draws after how many writes it dies; none in calm times."""
        if not self.calm and self.odds.crash_writes:
            self._writes_left[process] = 1 + int(self.rng.expovariate(1 / self.odds.crash_writes))

    def point(self, where: str) -> None:
        """Between two writes of the running process: here it may die. Raises Killed."""
        process = PROCESS.get()
        process.check()
        left = self._writes_left.get(process)
        if left is None or self.calm:
            return
        self._writes_left[process] = left - 1
        if left <= 1:
            self.note(f"dies at {where}")
            self.kill(process)
            raise Killed(where)

    def kill(self, process: Process) -> None:
        """kill -9."""
        if not process.alive:
            return
        process.alive = False
        self.crashes += 1
        self.note(f"killed {process.name}")
        for told in process.on_death:
            call_in(NETWORK, told)


class SimClock:
    """The clock of one machine: true time, and how wrong the machine is about it."""

    def __init__(self, world: World, skew_ms: int = 0) -> None:
        self._world = world
        self.skew_ms = skew_ms

    def now_ms(self) -> int:
        """Unix milliseconds as this machine believes."""
        return self._world.now_ms() + self.skew_ms

    def monotonic_s(self) -> float:
        """Seconds since the start of the run."""
        return self._world.loop.time()

    async def sleep(self, seconds: float) -> None:
        """Waits in virtual time."""
        await asyncio.sleep(seconds)


# 2026-03-31T23:59:30Z and 2026-03-10T12:00:00Z: a day and a month end in some runs.
_MONTH_END_MS = 1_775_001_570_000
_NOON_MS = 1_773_144_000_000


def _start_ms(rng: random.Random) -> int:
    base = _MONTH_END_MS if rng.random() < 0.5 else _NOON_MS
    return base + rng.randrange(0, 25_000)


def _odds(rng: random.Random) -> Odds:
    rough = rng.random() < 0.7
    return Odds(
        drop=rng.choice([0.0, 0.02, 0.1]) if rough else 0.0,
        duplicate=rng.choice([0.0, 0.05, 0.2]) if rough else 0.0,
        slow=rng.choice([0.0, 0.02, 0.1]),
        store_fails=rng.choice([0.0, 0.01, 0.05]) if rough else 0.0,
        answer_lost=rng.choice([0.0, 0.01, 0.05]) if rough else 0.0,
        ack_lost=rng.choice([0.0, 0.05, 0.2]) if rough else 0.0,
        crash_writes=rng.choice([0, 60, 200, 600]) if rough else 0,
        power=rng.choice([0.0, 0.5]),
    )
