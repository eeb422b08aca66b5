"""Hours of a worker's life in minutes: bursts of traffic with simulated time between them.

The worker is the real one: HTTP server, edge, pipeline, purse, quotas, journal and pool, in this
process; the provider is scripted, billing and the log are in memory. What those remember is dropped
each hour, so that what grows is the worker's.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from services.common.topics import TOPICS
from tests.fixtures.gateway import GatewayHarness, running_gateway
from tests.fixtures.waiting import eventually, running
from tests.soak.clock import SkippingClock
from tests.soak.gauge import Sample, held, take, tasks
from tests.soak.traffic import Traffic
from tests.soak.verdict import GROWTH_MAX_MB_H, after_warm_up, faults, slope

_HOUR_S = 3_600.0
_BURSTS = 6
# Longer than a grant lives in billing's twin, so that what is in use is renewed.
_STAY_S = 90.0
# Rests until all is given back; what is not after so many simulated seconds is reported as left.
_REST_S, _RESTS_MAX = 20.0, 60
_KEPT_MS = 400 * 86_400_000
# The response cache is full well before the warm-up ends; from then on it is part of what is flat.
_CACHE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how much. `beside` is called after every request: what a test breaks."""

    hours: int = 24
    requests: int = 500
    at_once: int = 24
    accounts: int = 60
    seed: int = 1
    growth_max_mb_h: float = GROWTH_MAX_MB_H
    beside: Callable[[GatewayHarness], None] | None = None


@dataclass(slots=True)
class Report:
    """What came of it."""

    samples: list[Sample] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    tasks_before: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def line(self) -> dict[str, object]:
        """The figures, for JSON."""
        warm, last = after_warm_up(self.samples), self.samples[-1]
        return {
            "name": "gateway_soak",
            "hours": len(self.samples),
            "requests": sum(sample.requests for sample in self.samples),
            "rss_mb": [self.samples[0].rss_mb, warm[0].rss_mb, last.rss_mb],
            "slope_mb_h": round(slope([sample.rss_mb for sample in warm]), 3),
            "slope_objects_h": round(slope([sample.objects for sample in warm]), 1),
            "tasks": [self.tasks_before.total(), sum(last.tasks.values())],
            "connections": last.busy + last.callers,
            "connections_kept": last.idle,
            "grants": last.grants,
            "holds": last.holds,
            "tickets": last.tickets,
            "seconds": round(self.seconds, 1),
            "faults": len(self.faults),
        }


async def soak(
    directory: Path, plan: Plan, *, each: Callable[[Sample], None] = lambda _: None
) -> Report:
    """Runs the plan; `each` hears of every hour at its end."""
    started_s, clock, report = time.monotonic(), SkippingClock(), Report()
    async with (
        running_gateway(directory, clock=clock, cache_bytes_max=_CACHE_BYTES) as gateway,
        running(gateway.runner.run),
    ):
        traffic = Traffic(gateway, random.Random(plan.seed))
        await traffic.prepare()
        traffic.arrive(plan.accounts)
        # What the runner of jobs keeps beside it is there for good, from its first turn on.
        await eventually(lambda: any("JobRunner._keep" in name for name in tasks()))
        report.tasks_before = tasks()
        for hour in range(1, plan.hours + 1):
            await _hour(gateway, clock, traffic, plan=plan)
            await _rest(gateway, clock, report.tasks_before)
            await _forget(gateway, clock)
            sample = take(hour, gateway, traffic.statuses)
            traffic.statuses.clear()
            report.samples.append(sample)
            each(sample)
    report.faults = faults(
        report.samples,
        tasks_before=report.tasks_before,
        # Those that stay come on top of a burst.
        idle_max=2 * plan.at_once,
        growth_max_mb_h=plan.growth_max_mb_h,
    )
    report.seconds = time.monotonic() - started_s
    return report


async def _hour(
    gateway: GatewayHarness, clock: SkippingClock, traffic: Traffic, *, plan: Plan
) -> None:
    """Bursts and pauses; some stay through a pause, accounts come and go."""
    traffic.leave(plan.accounts // 2)
    traffic.arrive(plan.accounts // 2)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        for _ in range(_BURSTS):
            gateway.upstream.go_on.clear()
            staying = [asyncio.create_task(traffic.stay(http)) for _ in range(2)]
            await _burst(gateway, traffic, http, plan=plan)
            await clock.skip(_STAY_S)
            gateway.upstream.go_on.set()
            await asyncio.gather(*staying)
            await clock.skip(_HOUR_S / _BURSTS - _STAY_S)


async def _burst(
    gateway: GatewayHarness, traffic: Traffic, http: aiohttp.ClientSession, *, plan: Plan
) -> None:
    left = iter(range(plan.requests // _BURSTS))

    async def lane() -> None:
        for _ in left:
            await traffic.one(http)
            if plan.beside is not None:
                plan.beside(gateway)

    await asyncio.gather(*(lane() for _ in range(plan.at_once)))


async def _rest(gateway: GatewayHarness, clock: SkippingClock, tasks_before: Counter[str]) -> None:
    """Lets time pass until nothing is held any more, as a worker without callers would."""
    for _ in range(_RESTS_MAX):
        await clock.skip(_REST_S)
        if not any(held(gateway).values()) and not tasks() - tasks_before:
            return
        # The disk and the sockets take time of the machine's.
        await asyncio.sleep(0.02)


async def _forget(gateway: GatewayHarness, clock: SkippingClock) -> None:
    """What the surroundings in memory know of the past, which is not the worker's memory."""
    for topic in TOPICS:
        for number, partition in enumerate(gateway.log.partitions(topic.name)):
            gateway.log.remove_before(topic.name, number, partition.end)
    lent = gateway.grants.lent
    for grant_id in [grant_id for grant_id, grant in lent.items() if not grant.open]:
        del lent[grant_id]
    leases = gateway.quota_source.lent
    for lease_id in [lease_id for lease_id, lease in leases.items() if lease.used is not None]:
        del leases[lease_id]
    # Batches and kept responses, long after anyone would ask for them.
    await gateway.jobs.store.sweep(clock.now_ms() + _KEPT_MS)
    gateway.upstream.forget()
