"""What a worker holds at rest: its memory, and what must be nothing while no request runs."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from aiohttp import TCPConnector

from tests.fixtures.gateway import GatewayHarness

MIB = 1024 * 1024
# The scripted provider's server has one for each connection that the worker keeps open to it.
_PROVIDERS_TASK = "RequestHandler.start"


@dataclass(frozen=True, slots=True)
class Sample:
    """One hour's end. `rss_mb` is in MiB; `tasks` are by the name of their coroutine."""

    hour: int
    rss_mb: float
    objects: int
    requests: int
    statuses: dict[str, int]
    tasks: dict[str, int]
    # Connections to providers on which an answer is under way, those kept for the next, and those
    # of callers.
    busy: int
    idle: int
    callers: int
    files: int
    in_flight: int
    grants: int
    holds: int
    tickets: int
    # Sizes of what the worker keeps in memory that should be empty at rest, and of what is bounded.
    open: dict[str, int]
    kept: dict[str, int]

    def line(self) -> dict[str, object]:
        """For JSON."""
        return {**asdict(self), "tasks": sum(self.tasks.values())}


def tasks() -> Counter[str]:
    """The tasks of the loop, but for the provider's."""
    names = (
        getattr(task.get_coro(), "__qualname__", "?")
        for task in asyncio.all_tasks()
        if task is not asyncio.current_task()
    )
    return Counter(name for name in names if name != _PROVIDERS_TASK)


def rss_mb() -> float:
    """What is resident once everything that is free was given back to the system."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def held(gateway: GatewayHarness) -> dict[str, int]:
    """What must be nothing at rest, by name. The worker's tables are private: they are read here,
    never changed.
    """
    money, quotas = gateway.money, gateway.quotas
    return {
        "in_flight": gateway.edge.in_flight,
        "busy": len(connector(gateway)._acquired),
        "callers": len(gateway.server._server.server_state.connections),
        "grants": len(money.budget.grants) + len(gateway.grants.open_grants),
        "holds": money.budget.holds,
        "tickets": quotas.running,
        "closing": money.budget.closer.pending,
        "purses": len(money.budget._accounts),
        "renewals": len(money.budget.renewals._works),
        "quota_lines": len(quotas._lines),
        "quota_unknown": len(quotas._returner._unknown),
        "admitted": len(money.wal.state.admitted),
        "logged_grants": len(money.wal.state.grants),
        "owed": len(money.journal._owed),
    }


def connector(gateway: GatewayHarness) -> TCPConnector:
    """The pool of connections to providers."""
    found = gateway.session.connector
    assert isinstance(found, TCPConnector)
    return found


def take(hour: int, gateway: GatewayHarness, statuses: Counter[str]) -> Sample:
    """Measures now."""
    now = held(gateway)
    named = {name: now.pop(name) for name in _NAMED}
    pipeline = gateway.edge.pipeline
    resident = rss_mb()
    return Sample(
        hour=hour,
        rss_mb=round(resident, 2),
        objects=len(gc.get_objects()),
        requests=statuses.total(),
        statuses=dict(sorted(statuses.items())),
        tasks=dict(tasks()),
        idle=sum(len(kept) for kept in connector(gateway)._conns.values()),
        files=len(os.listdir("/proc/self/fd")),
        open=now,
        kept={
            "cache": len(pipeline.cache),
            "cache_bytes": pipeline.cache.size,
            "places": len(pipeline.attempts.health._places),
        },
        **named,
    )


_NAMED = ("in_flight", "busy", "callers", "grants", "holds", "tickets")
