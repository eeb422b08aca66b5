"""Keeps child processes running: starts them in order, heals them, ends them in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.logs import LINE_BYTES_MAX, Console, LogFile
from deploy.local.problems import StackProblem
from deploy.local.processes import child_options, signal_group

BACKOFF_FIRST_S = 0.2
BACKOFF_MAX_S = 10.0
# A child that was up for this long starts again with the first back-off.
STEADY_AFTER_S = 20.0
# Ends before the first readiness after which the whole start has failed.
START_ATTEMPTS_MAX = 4
READY_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How one process is started, known to be ready, and ended."""

    name: str
    # Asked for at each start, so that it may prepare files.
    command: Callable[[], Sequence[str]]
    ready: Callable[[], Awaitable[bool]]
    # Asked for at each start too; None: ours.
    environment: Callable[[], Mapping[str, str]] | None = None
    cwd: Path | None = None
    # Names of children that have to be ready before this one starts for the first time.
    after: tuple[str, ...] = ()
    # Done once after the first readiness, before the children `after` this one start.
    prepare: Callable[[], Awaitable[None]] | None = None
    # Ended in descending order; the same number together.
    stop_order: int = 0
    stop_signal: signal.Signals = signal.SIGTERM
    stop_grace_s: float = 10.0
    death_signal: signal.Signals = signal.SIGKILL
    start_timeout_s: float = 60.0
    # After a clean end.
    on_stopped: Callable[[], None] | None = None
    # False: its end is the end of the stack.
    restart: bool = True


class Child:
    """One supervised process and its successors."""

    def __init__(self, spec: ChildSpec, log: LogFile, console: Console) -> None:
        self.spec = spec
        self.log = log
        self.ready = asyncio.Event()
        self.prepared = asyncio.Event()
        self.starts = 0
        self.ready_after_s = 0.0
        self.process: asyncio.subprocess.Process | None = None
        self._console = console
        self._output: asyncio.Task[None] | None = None
        self._started_at = 0.0

    @property
    def pid(self) -> int | None:
        """The running process, if it runs."""
        running = self.process is not None and self.process.returncode is None
        return self.process.pid if running and self.process is not None else None

    @property
    def up_s(self) -> float:
        """Since when the newest process was started."""
        return time.monotonic() - self._started_at

    async def start(self) -> None:
        """Start a process; one that is being started is never lost, even if this is cancelled."""
        command = await asyncio.to_thread(self.spec.command)
        spawning = asyncio.create_task(self._spawn(command))
        try:
            await asyncio.shield(spawning)
        except asyncio.CancelledError:
            await spawning
            raise

    async def _spawn(self, command: Sequence[str]) -> None:
        self.starts += 1
        self._started_at = time.monotonic()
        self.process = await asyncio.create_subprocess_exec(
            *command,
            env=None if self.spec.environment is None else dict(self.spec.environment()),
            cwd=self.spec.cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            limit=LINE_BYTES_MAX,
            **child_options(self.spec.death_signal),
        )
        self._output = asyncio.create_task(self._read_output())

    async def until_ready(self) -> bool:
        """Wait for readiness; False if the process ended before. Raises StackProblem in the end."""
        assert self.process is not None
        deadline = time.monotonic() + self.spec.start_timeout_s
        while self.process.returncode is None:
            if await self.spec.ready():
                self.ready_after_s = self.up_s
                self.ready.set()
                return True
            if time.monotonic() > deadline:
                raise StackProblem(
                    f"{self.spec.name} is not ready after {self.spec.start_timeout_s:.0f} s; "
                    f"the end of {self.log.path}:\n{self.log.tail(15)}"
                )
            await asyncio.sleep(READY_POLL_S)
        return False

    async def ended(self) -> int:
        """The exit code, after the last line was read."""
        assert self.process is not None
        code = await self.process.wait()
        self.ready.clear()
        # Whatever the process left in its group must not hold its ports or its output.
        signal_group(self.process.pid, signal.SIGKILL)
        if self._output is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._output, 2)
        return code

    async def stop(self) -> None:
        """Ask the process to end; kill its group after the grace period."""
        pid = self.pid
        if pid is None or self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(self.spec.stop_signal)
        try:
            await asyncio.wait_for(self.process.wait(), self.spec.stop_grace_s)
        except TimeoutError:
            self._console.warn(f"{self.spec.name} did not end in time and is killed")
        finally:
            signal_group(pid, signal.SIGKILL)
        await self.ended()
        if self.spec.on_stopped is not None:
            self.spec.on_stopped()

    async def _read_output(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        while True:
            try:
                line = await self.process.stdout.readline()
            except ValueError:
                # Longer than the limit: what was read is dropped, the rest is read as lines.
                line = b"(a line that was too long is left out)\n"
            if not line:
                return
            self.log.write(line)
            self._console.child(self.spec.name, line)


class Supervisor:
    """All children of one stack. `failed` tells why the stack cannot go on, if it cannot."""

    def __init__(
        self,
        specs: Sequence[ChildSpec],
        *,
        logs: Path,
        console: Console,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        names = [spec.name for spec in specs]
        assert len(set(names)) == len(names), "two children have one name"
        logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.children = {
            spec.name: Child(spec, LogFile(logs / f"{spec.name}.log"), console) for spec in specs
        }
        self.failed: asyncio.Future[StackProblem] = asyncio.get_running_loop().create_future()
        self._console = console
        self._on_change = on_change
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = False

    def pids(self) -> dict[str, int]:
        """The running processes by name."""
        return {name: child.pid for name, child in self.children.items() if child.pid is not None}

    def kill(self, name: str) -> int:
        """End a child as a crash would, for tests; returns the pid that was killed."""
        pid = self.children[name].pid
        if pid is None:
            raise StackProblem(f"{name} does not run")
        os.kill(pid, signal.SIGKILL)
        return pid

    async def start(self) -> None:
        """Start all children, each after those it waits for; returns when all are ready.

        Raises:
            StackProblem: a child does not get ready; the others still run until `stop`.
        """
        self._keepers = [asyncio.create_task(self._keep(child)) for child in self.children.values()]
        all_ready = asyncio.create_task(self._all_prepared())
        try:
            both: list[asyncio.Future[None] | asyncio.Future[StackProblem]] = [
                all_ready,
                self.failed,
            ]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            all_ready.cancel()
        if self.failed.done():
            raise self.failed.result()

    async def _all_prepared(self) -> None:
        for child in self.children.values():
            await child.prepared.wait()

    async def stop(self) -> None:
        """End all children, highest stop order first."""
        self._stopping = True
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        orders = sorted({child.spec.stop_order for child in self.children.values()}, reverse=True)
        for order in orders:
            together = [c for c in self.children.values() if c.spec.stop_order == order]
            await asyncio.gather(*(child.stop() for child in together))
        for child in self.children.values():
            child.log.close()

    def kill_all(self) -> None:
        """End everything at once, for a user who does not want to wait."""
        for pid in self.pids().values():
            signal_group(pid, signal.SIGKILL)

    def _fail(self, problem: StackProblem) -> None:
        if not self.failed.done():
            self.failed.set_result(problem)

    async def _keep(self, child: Child) -> None:
        try:
            for name in child.spec.after:
                await self.children[name].prepared.wait()
            await self._run(child)
        except StackProblem as problem:
            self._fail(problem)
        except Exception as error:  # noqa: BLE001 - the edge: a defect here must not hang the start
            self._fail(StackProblem(f"{child.spec.name}: {type(error).__name__}: {error}"))

    async def _run(self, child: Child) -> None:
        backoff_s = BACKOFF_FIRST_S
        while True:
            await child.start()
            self._on_change()
            await self._ready_once(child)
            code = await child.ended()
            self._on_change()
            name, first_start = child.spec.name, not child.prepared.is_set()
            if (first_start and child.starts >= START_ATTEMPTS_MAX) or not child.spec.restart:
                raise StackProblem(
                    f"{name} ended with code {code}; the end of {child.log.path}:\n"
                    f"{child.log.tail(15)}"
                )
            if child.up_s > STEADY_AFTER_S:
                backoff_s = BACKOFF_FIRST_S
            self._console.warn(f"{name} ended ({_cause(code)}); started again in {backoff_s:.1f} s")
            await asyncio.sleep(backoff_s)
            backoff_s = min(BACKOFF_MAX_S, backoff_s * 2)

    async def _ready_once(self, child: Child) -> None:
        if child.prepared.is_set():
            # Healing: it may take as long as it needs; its end is seen by the caller.
            with contextlib.suppress(StackProblem):
                if await child.until_ready():
                    self._console.say(f"{child.spec.name} is back (after {child.up_s:.1f} s)")
            return
        if await child.until_ready():
            if child.spec.prepare is not None:
                await child.spec.prepare()
            child.prepared.set()
            self._console.say(f"{child.spec.name} is ready (after {child.ready_after_s:.1f} s)")


def _cause(code: int) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"code {code}"
