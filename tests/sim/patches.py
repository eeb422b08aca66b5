"""What a run puts in the place of clocks, randomness, disks and loggers, and takes back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import services.common.ids as ids_module
import services.common.kafka.pump as pump_module
import services.common.retry as retry_module
import services.gateway.journal.flusher as flusher_module
import services.gateway.journal.segments as segments_module
import services.gateway.journal.wal as wal_module
from tests.sim.disk import SimOs
from tests.sim.world import World

_LOGGERS = ("_log", "log")


class _Time:
    """`time` as the patched modules use it."""

    def __init__(self, world: World) -> None:
        self._world = world

    def monotonic(self) -> float:
        return self._world.loop.time()

    def time_ns(self) -> int:
        return self._world.now_ms() * 1_000_000


class _Entropy:
    """`os.urandom` by the seed."""

    def __init__(self, world: World) -> None:
        self._world = world

    def urandom(self, count: int) -> bytes:
        return self._world.rng.randbytes(count)


class _Logger:
    """Puts warnings into the trace; an exception that somebody only logged is a defect."""

    def __init__(self, world: World, on_defect: Callable[[str], None]) -> None:
        self._world = world
        self._on_defect = on_defect

    def debug(self, event: str, **facts: object) -> None:
        """Not kept."""

    info = debug

    def warning(self, event: str, **facts: object) -> None:
        self._world.note(f"log {event} {facts}")

    error = warning

    def exception(self, event: str, **facts: object) -> None:
        self._on_defect(f"{event}: {sys.exc_info()[1]!r}")


@contextmanager
def patched(targets: list[tuple[Any, str, object]]) -> Iterator[None]:  # Any: modules and classes
    """Sets attributes and sets them back."""
    before = [(holder, name, holder.__dict__[name]) for holder, name, _ in targets]
    for holder, name, value in targets:
        setattr(holder, name, value)
    try:
        yield
    finally:
        for holder, name, value in reversed(before):
            setattr(holder, name, value)


@contextmanager
def simulated(world: World, disks: SimOs, on_defect: Callable[[str], None]) -> Iterator[None]:
    """Production code sees virtual time, seeded randomness and simulated disks inside."""
    clock, logger = _Time(world), _Logger(world, on_defect)
    targets: list[tuple[Any, str, object]] = [  # Any: as above
        (ids_module, "os", _Entropy(world)),
        # Random bytes that an earlier run fetched are none of this one's.
        (ids_module, "_pool", list[bytes]()),
        (ids_module, "time", clock),
        (retry_module, "random", world.rng),
        (pump_module, "time", clock),
        (flusher_module, "time", clock),
        (wal_module, "time", clock),
        (wal_module, "os", disks),
        (segments_module, "os", disks),
        (segments_module, "fcntl", disks),
    ]
    for name, module in list(sys.modules.items()):
        if name.startswith("services.") and module is not None:
            targets += [
                (module, logger_name, logger)
                for logger_name in _LOGGERS
                if hasattr(module.__dict__.get(logger_name), "warning")
            ]
    with patched(targets):
        yield
