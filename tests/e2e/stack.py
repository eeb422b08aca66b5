"""The whole embedded stack as a process, for end-to-end tests.

It is started by `mesh up` as a person would, and seen through its printed addresses, its files and
its gRPC admin API.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

REPOSITORY = Path(__file__).parents[2]
READY_TIMEOUT_S = 150.0
STOP_TIMEOUT_S = 60.0
PORTS_OF_A_STACK = 24


def read_env(path: Path) -> dict[str, str]:
    """The variables of a file of `NAME=value` lines."""
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = (line.removeprefix("export ").split("=", 1) for line in lines if "=" in line)
    return {name.strip(): value.strip().strip("'\"") for name, value in pairs if name[:1] != "#"}


def free_ports_from() -> int:
    """The first of enough neighbouring ports that nobody listens on, below the ephemeral ones."""
    for first in range(18_000, 31_000, PORTS_OF_A_STACK):
        if all(is_free(port) for port in range(first, first + PORTS_OF_A_STACK)):
            return first
    raise RuntimeError("no free ports between 18,000 and 31,000")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


@dataclass(slots=True)
class Stack:
    """One `mesh up` on a data directory of its own."""

    data_dir: Path
    first_port: int
    gateway_workers: int = 2
    extra_env: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    ready_after_s: float = 0.0

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "MESH_DATA_DIR": str(self.data_dir), **self.extra_env}

    @property
    def demo(self) -> dict[str, str]:
        """`demo.env`: addresses, key, log-in."""
        return read_env(self.data_dir / "demo.env")

    @property
    def ready_file(self) -> Path:
        return self.data_dir / "ready.json"

    def start(self) -> None:
        """Starts the stack; returns when it is ready. Raises RuntimeError with its output."""
        output = self.data_dir.parent / f"{self.data_dir.name}.out"
        started = time.monotonic()
        with output.open("ab") as sink:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "services.cli", "up",
                    "--data-dir", str(self.data_dir),
                    "--ports-from", str(self.first_port),
                    "--gateway-workers", str(self.gateway_workers),
                ],
                cwd=REPOSITORY, env=self.environment, stdout=sink, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        while not self.ready_file.exists():
            late = time.monotonic() - started > READY_TIMEOUT_S
            if late or self.process.poll() is not None:
                self.stop()
                raise RuntimeError("mesh up did not get ready:\n" + output.read_text()[-6000:])
            time.sleep(0.05)  # the only way to wait for another process's file
        self.ready_after_s = time.monotonic() - started

    def stop(self) -> int:
        """Stops it as Ctrl-C does; its exit code."""
        if self.process is None:
            return 0
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise
        finally:
            self.process = None

    def pids(self) -> dict[str, int]:
        """The process ids of what runs now, by name."""
        found: dict[str, int] = json.loads(self.ready_file.read_text())["pids"]
        return found

    def kill(self, name: str) -> int:
        """`kill -9` of one process; the id that it had."""
        pid = self.pids()[name]
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return pid

    def pause(self, name: str) -> None:
        """Stops a process and its children without ending them: there, and not answering."""
        for process in self._family(name):
            process.suspend()

    def resume(self, name: str) -> None:
        """Undoes `pause`."""
        for process in self._family(name):
            process.resume()

    def _family(self, name: str) -> list[psutil.Process]:
        first = psutil.Process(self.pids()[name])
        return [first, *first.children(recursive=True)]

    async def admin(self, *arguments: str, timeout_s: float = 30.0) -> list[dict[str, Any]]:
        """What `mesh admin ... --json` prints. Raises RuntimeError with its words."""
        return await self.mesh("admin", *arguments, timeout_s=timeout_s)

    async def mesh(self, *arguments: str, timeout_s: float = 30.0) -> list[dict[str, Any]]:
        """What `mesh ... --json` prints. Raises RuntimeError with its words."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.cli", *arguments, "--json",
            cwd=REPOSITORY, env=self.environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(timeout_s):
            out, problems = await process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"mesh {' '.join(arguments)}: {out.decode()}{problems.decode()}")
        return [json.loads(line) for line in out.decode().splitlines()]


def gateway_names(stack: Stack) -> Sequence[str]:
    """The names of the gateway workers."""
    return sorted(name for name in stack.pids() if name.startswith("gateway"))
