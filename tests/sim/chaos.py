"""What goes wrong, and when: outages, partitions, rebalances, kills, leaps of time, full disks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.sim.hosts import Gateway, Host, Town
from tests.sim.workload import Workload


class Chaos:
    """The weather of a run."""

    def __init__(self, town: Town, workload: Workload, hosts: list[Host]) -> None:
        self.town, self.workload, self.hosts = town, workload, hosts
        self.world = town.world
        rng = self.world.rng
        self._requests = rng.choice([15, 40, 80])
        self._pause_s = rng.choice([0.01, 0.08, 0.3])
        self._trouble = rng.choice([0.0, 0.03, 0.12])

    async def storm(self) -> None:
        """The time in which requests come and things break."""
        rng = self.world.rng
        await asyncio.sleep(rng.random() * rng.choice([0.1, 2.0]))
        for _ in range(self._requests):
            for _ in range(rng.choice([1, 1, 1, 2, 6])):
                self.workload.request()
            if rng.random() < 0.06:
                self.workload.credit(rng.choice(self.workload.accounts), rng.randint(50, 20_000))
            if rng.random() < 0.04:
                self.workload.change_key()
            if self.world.chance(self._trouble):
                self._break()
            await asyncio.sleep(rng.expovariate(1 / self._pause_s))

    async def calm(self) -> None:
        """Everything is mended, and stays so."""
        self.world.calm = True
        self.world.note("calm")
        self._set_all(True)
        for host in self.hosts:
            if isinstance(host, Gateway):
                host.disk.free = None
        await asyncio.sleep(1.0)
        for key in self.workload.keys:
            if not key.active:
                key.version, key.active = key.version + 1, True
                self.workload.publish(key)

    def _set_all(self, works: bool) -> None:
        self.town.log.available = works
        self.town.ledger.available = works
        self.town.sink_store.available = works
        self.town.network.partitioned = not works

    def _break(self) -> None:
        rng = self.world.rng
        actions: list[Callable[[], None]] = [
            self._kill,
            self._kill,
            self._expel,
            self._expel,
            self._outage,
            self._outage,
            self._leap,
            self._clock_step,
            self._full_disk,
        ]
        rng.choice(actions)()

    def _kill(self) -> None:
        self.world.kill(self.world.rng.choice(self.hosts).process)

    def _expel(self) -> None:
        groups = [
            source
            for members in self.town.log.groups()
            for source in members
            if source.process.alive
        ]
        if groups:
            self.town.log.expel(self.world.rng.choice(groups))

    def _outage(self) -> None:
        """One part is away for a while, or for hours."""
        rng = self.world.rng
        part, name = rng.choice(
            [
                (self.town.log, "available"),
                (self.town.ledger, "available"),
                (self.town.sink_store, "available"),
                (self.town.network, "partitioned"),
            ]
        )
        self.world.note(f"outage of {type(part).__name__}")
        setattr(part, name, name == "partitioned")
        self.world.loop.call_later(
            rng.random() * rng.choice([1.0, 8.0]), setattr, part, name, name != "partitioned"
        )
        if rng.random() < 0.3:
            self._leap()

    def _leap(self) -> None:
        """Time passes for everybody at once: grants expire, days end."""
        rng = self.world.rng
        seconds = rng.choice([5.0, 60.0, 3_600.0, 6 * 3_600.0])
        self.world.note(f"leaps {seconds} s")
        self.world.loop.jump(seconds)

    def _clock_step(self) -> None:
        """One machine's clock is set."""
        rng = self.world.rng
        rng.choice(self.hosts).clock.skew_ms = rng.randint(-3_000, 3_000)

    def _full_disk(self) -> None:
        rng = self.world.rng
        disk = rng.choice([host.disk for host in self.hosts if isinstance(host, Gateway)])
        disk.free = rng.choice([0, 0, 3_000])
        self.world.loop.call_later(rng.random() * 5, setattr, disk, "free", None)
