"""The life of a process: its components start in order, a signal or a dead component stops them in
reverse order.

Exit code 0 after SIGTERM or SIGINT, 1 where a component died or did not start.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import uvloop

from services.common.config import SettingsError
from services.common.telemetry import get_logger, shutdown_tracing

_log = get_logger(__name__)

GC_THRESHOLD = 10_000

Action = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Component:
    """One part of a process.

    `start` returns when it serves; `run` lasts as long as it lives and is cancelled at the stop;
    `stop` ends it in order (drains, flushes) before that. Each may be missing.
    """

    name: str
    start: Action | None = None
    run: Action | None = None
    stop: Action | None = None


async def serve(
    service: str,
    *components: Component | Action,
    grace_s: float = 20.0,
    gc_threshold: int = GC_THRESHOLD,
) -> int:
    """Runs components until SIGTERM, SIGINT or the end of one of them; gives the exit code.

    They start in the given order and stop in reverse order, all within `grace_s` seconds. A bare
    async callable is a component that only runs. A component that ends by itself, even without an
    error, has died.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _signalled, service, number, stopping)
    process = _Process(service, stopping)
    try:
        for component in components:
            if stopping.is_set():
                break
            await process.start(_named(component))
        calm_garbage_collector(gc_threshold)
        _log.info("started", service=service)
        await stopping.wait()
    except Exception as error:  # noqa: BLE001 - the edge: what does not start ends it
        process.failed("start", error)
    finally:
        await process.stop(grace_s)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    _log.info("stopped", service=service, exit_code=process.exit_code)
    return process.exit_code


def calm_garbage_collector(threshold: int = GC_THRESHOLD) -> None:
    """What is loaded by now stays for good: it is left out of collections, which come less often.

    Our values have no cycles, so reference counting frees nearly everything; the collector's looks
    at batches of thousands of live values cost billing a fifth of its time. Call it once, when a
    process is about to work. `threshold` is how many more containers than before must live for
    a look to be taken: more than a batch of the process holds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(threshold, 20, 50)


def run(main: Coroutine[Any, Any, int | None]) -> None:
    """Runs a service's main coroutine on uvloop and leaves the process with its exit code.

    Bad settings are told on standard error without a traceback, exit code 2.
    """
    try:
        code = uvloop.run(main)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    finally:
        shutdown_tracing()
    sys.exit(code or 0)


def _signalled(service: str, number: signal.Signals, stopping: asyncio.Event) -> None:
    _log.info("stopping", service=service, signal=number.name)
    stopping.set()


def _named(component: Component | Action) -> Component:
    if isinstance(component, Component):
        return component
    name = getattr(component, "__qualname__", None) or repr(component)
    return Component(name, run=component)


class _Process:
    """The started components, and how the process is to end."""

    def __init__(self, service: str, stopping: asyncio.Event) -> None:
        self._service = service
        self._stopping = stopping
        self._started: list[tuple[Component, asyncio.Task[None] | None]] = []
        self.exit_code = 0

    async def start(self, component: Component) -> None:
        if component.start is not None and not await self._completed(component.start):
            return
        task: asyncio.Task[None] | None = None
        if component.run is not None:
            task = asyncio.create_task(self._watched(component.name, component.run))
        self._started.append((component, task))

    async def _completed(self, start: Action) -> bool:
        """Runs a start to its end; False where a signal came first and it was cancelled."""

        async def run() -> None:
            await start()

        starting = asyncio.create_task(run())
        signalled = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({starting, signalled}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                return False
            await starting
            return True
        finally:
            for task in (starting, signalled):
                task.cancel()
            await asyncio.gather(starting, signalled, return_exceptions=True)

    async def stop(self, grace_s: float) -> None:
        """Stops in reverse order; what has not stopped when the grace period ends is cancelled."""
        self._stopping.set()
        deadline_s = asyncio.get_running_loop().time() + grace_s
        for component, task in reversed(self._started):
            try:
                async with asyncio.timeout_at(deadline_s):
                    if component.stop is not None:
                        await component.stop()
            except TimeoutError:
                _log.warning("stopped by force", service=self._service, component=component.name)
            except Exception as error:  # noqa: BLE001 - the edge: the others stop too
                self.failed(component.name, error)
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _watched(self, name: str, action: Action) -> None:
        try:
            await action()
        except Exception as error:  # noqa: BLE001 - the edge: it ends the process
            self.failed(name, error)
        else:
            if not self._stopping.is_set():
                self.failed(name, None)
        finally:
            self._stopping.set()

    def failed(self, name: str, error: Exception | None) -> None:
        self.exit_code = 1
        _log.critical(
            "component died", service=self._service, component=name,
            error="it ended by itself" if error is None else repr(error), exc_info=error,
        )  # fmt: skip
