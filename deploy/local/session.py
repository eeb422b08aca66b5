"""That one stack runs in a data directory, and what a killed one left behind."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

import psutil

from deploy.local.layout import Layout, write_private
from deploy.local.problems import StackProblem
from deploy.local.processes import signal_group

_LEFTOVER_GRACE_S = 5.0


class Session:
    """Holds the data directory's lock from `acquire` to `release`."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._lock: int | None = None

    def acquire(self) -> list[str]:
        """Take the lock and end what a killed stack left; returns the names of those processes.

        Raises:
            StackProblem: another stack runs in this data directory.
        """
        descriptor = os.open(self._layout.lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise StackProblem(
                f"Mesh already runs in {self._layout.data_dir} (process {holder}): stop it with "
                f"`kill {holder}` or Ctrl-C, or choose another place with --data-dir."
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._lock = descriptor
        self._layout.ready.unlink(missing_ok=True)
        return self._clear_leftovers()

    def record(self, pids: Mapping[str, int], socket_dir: Path | None) -> None:
        """Note the running children, for the next start if this one is killed."""
        children = {}
        for name, pid in pids.items():
            with contextlib.suppress(psutil.Error):
                children[name] = {"pid": pid, "created": psutil.Process(pid).create_time()}
        text = json.dumps(
            {"children": children, "socket_dir": str(socket_dir) if socket_dir else ""}, indent=1
        )
        write_private(self._layout.children, text)

    def release(self) -> None:
        """Give the data directory free."""
        self._layout.ready.unlink(missing_ok=True)
        self._layout.children.unlink(missing_ok=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _clear_leftovers(self) -> list[str]:
        if not self._layout.children.exists():
            return []
        try:
            left = json.loads(self._layout.children.read_text())
        except ValueError:
            return []
        found: dict[str, psutil.Process] = {}
        for name, child in left["children"].items():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(child["pid"])
                # The number may belong to somebody else by now; the time of birth tells.
                if abs(process.create_time() - child["created"]) < 1:
                    found[name] = process
        for process in found.values():
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(found.values(), timeout=_LEFTOVER_GRACE_S)
        for process in alive:
            signal_group(process.pid, signal.SIGKILL)
        psutil.wait_procs(alive, timeout=_LEFTOVER_GRACE_S)
        remove_socket_dir(Path(left["socket_dir"]) if left["socket_dir"] else None, self._layout)
        return sorted(found)


def remove_socket_dir(path: Path | None, layout: Layout) -> None:
    """Remove a socket directory of ours that lies outside of the data directory."""
    if path is not None and path.name.startswith("mesh-") and layout.data_dir not in path.parents:
        shutil.rmtree(path, ignore_errors=True)
