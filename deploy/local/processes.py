"""Children of the stack: each in a group of its own, bound to its parent's life, ended in time."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TypedDict

from deploy.local.problems import StackProblem

# From linux/prctl.h: "send me this signal when my parent dies".
_PR_SET_PDEATHSIG = 1
# Loaded before any fork, because a child between fork and exec must not load libraries.
_LIBC = ctypes.CDLL(None) if sys.platform.startswith("linux") else None

# PostgreSQL refuses to run as root. This account exists on every Unix and needs no set-up.
_UNPRIVILEGED_ID = 65534


def die_with_parent(death_signal: signal.Signals) -> Callable[[], None]:
    """What a child runs before exec, so that it gets `death_signal` when its parent is gone.

    The parent is the thread that starts it: children are to be started from the main thread, which
    lives as long as the process. On systems without prctl this does nothing: there the next start
    clears what is left.
    """
    parent = os.getpid()

    def before_exec() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, int(death_signal))
            # The parent may have died before the call above.
            if os.getppid() != parent:
                os._exit(1)

    return before_exec


class ChildOptions(TypedDict):
    """What every child is started with; the same words as those of `subprocess.Popen`."""

    start_new_session: bool
    preexec_fn: Callable[[], None]


def child_options(death_signal: signal.Signals) -> ChildOptions:
    """A group of its own, so that a terminal's Ctrl-C reaches us alone, and a bond to our life."""
    return ChildOptions(start_new_session=True, preexec_fn=die_with_parent(death_signal))


def spawn(
    command: Sequence[str],
    *,
    output: int | IO[bytes] = subprocess.DEVNULL,
    death_signal: signal.Signals = signal.SIGKILL,
) -> subprocess.Popen[bytes]:
    """Start `command` in its own process group; standard error goes where `output` goes."""
    return subprocess.Popen(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        **child_options(death_signal),
    )


def signal_group(pid: int, number: signal.Signals) -> None:
    """Send a signal to the group that `pid` leads; a group that is gone is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def end(
    process: subprocess.Popen[bytes],
    *,
    first: signal.Signals = signal.SIGTERM,
    grace_s: float = 15.0,
) -> int:
    """Ask `process` to end, kill its group after `grace_s`, and return its exit code."""
    if process.poll() is None:
        process.send_signal(first)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
    signal_group(process.pid, signal.SIGKILL)
    return process.wait()


def wait_until(
    answers: Callable[[], bool],
    *,
    what: str,
    timeout_s: float,
    process: subprocess.Popen[bytes] | None = None,
) -> None:
    """Poll `answers` until it is true.

    Raises:
        StackProblem: the time is over, or `process` ended meanwhile.
    """
    deadline = time.monotonic() + timeout_s
    while not answers():
        if process is not None and process.poll() is not None:
            raise StackProblem(f"{what} ended with code {process.returncode} while it started.")
        if time.monotonic() > deadline:
            raise StackProblem(f"{what} did not answer within {timeout_s:.0f} s.")
        time.sleep(0.03)


def unprivileged(command: Sequence[str], death_signal: signal.Signals) -> list[str]:
    """`command`, run by an unprivileged user where we are root, but able to reach our folders.

    Raises:
        StackProblem: we are root and `setpriv` (util-linux) is missing.
    """
    if os.geteuid() != 0:
        return list(command)
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise StackProblem(
            "PostgreSQL does not run as root: install util-linux (setpriv), or start Mesh as "
            "another user."
        )
    # A change of user clears the bond to the parent, so that setpriv has to make it again.
    # DAC_OVERRIDE lets it pass our own 0700 folders and root's home, if we were cloned there; it is
    # in a container's default set. Without the secure bit access(2) would not count it.
    return [
        setpriv, f"--reuid={_UNPRIVILEGED_ID}", f"--regid={_UNPRIVILEGED_ID}", "--clear-groups",
        "--inh-caps=+dac_override", "--ambient-caps=+dac_override",
        "--securebits=+no_setuid_fixup",
        f"--pdeathsig={death_signal.name.removeprefix('SIG')}", "--", *command,
    ]  # fmt: skip


def give_away(path: Path) -> None:
    """Make `path` and all below it belong to the user that `unprivileged` runs commands as."""
    if os.geteuid() != 0 or path.stat().st_uid == _UNPRIVILEGED_ID:
        return
    for entry in [*path.rglob("*"), path]:
        os.chown(entry, _UNPRIVILEGED_ID, _UNPRIVILEGED_ID, follow_symlinks=False)
