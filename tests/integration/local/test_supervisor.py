"""The supervisor with small processes of its own: order, healing, ending, and its own death."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from deploy.local.logs import Console
from deploy.local.probes import in_thread
from deploy.local.problems import StackProblem
from deploy.local.processes import child_options
from deploy.local.supervisor import START_ATTEMPTS_MAX, ChildSpec, Supervisor
from tests.fixtures.waiting import eventually

# Says that it runs by making a file, and ends on SIGTERM with a word in another.
FAKE = """
import pathlib, signal, sys
folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]
def end(*_):
    with (folder / "ends").open("a") as file:
        file.write(name + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
with (folder / "starts").open("a") as file:
    file.write(name + "\\n")
print("hello from", name, flush=True)
(folder / name).touch()
while True:
    signal.pause()
"""
DEAF = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
signal.pause()
"""
LOUD = """
import signal
print("x" * 200_000)
print("after", flush=True)
signal.pause()
"""


def is_there(path: Path) -> Callable[[], Awaitable[bool]]:
    return in_thread(path.exists)


def fake(folder: Path, name: str, *, after: tuple[str, ...] = (), stop_order: int = 0) -> ChildSpec:
    def command() -> list[str]:
        (folder / name).unlink(missing_ok=True)
        return [sys.executable, "-S", "-c", FAKE, str(folder), name]

    return ChildSpec(
        name=name,
        command=command,
        ready=is_there(folder / name),
        after=after,
        stop_order=stop_order,
    )


def supervisor(
    tmp_path: Path, *specs: ChildSpec, on_change: Callable[[], None] = lambda: None
) -> tuple[Supervisor, io.StringIO]:
    said = io.StringIO()
    logs = tmp_path / "logs"
    return Supervisor(specs, logs=logs, console=Console(said), on_change=on_change), said


def lines(path: Path) -> list[str]:
    return path.read_text().split()


async def test_children_start_after_those_they_need_and_end_in_their_order(tmp_path: Path) -> None:
    specs = (
        fake(tmp_path, "gateway", after=("store", "billing"), stop_order=2),
        fake(tmp_path, "billing", after=("store",), stop_order=1),
        fake(tmp_path, "store"),
    )
    kept, said = supervisor(tmp_path, *specs)
    await kept.start()
    assert set(kept.pids()) == {"gateway", "billing", "store"}
    await kept.stop()
    assert lines(tmp_path / "starts") == ["store", "billing", "gateway"]
    assert lines(tmp_path / "ends") == ["gateway", "billing", "store"]
    assert kept.pids() == {}
    assert "gateway    | hello from gateway" in said.getvalue()
    assert "hello from billing" in (tmp_path / "logs" / "billing.log").read_text()


async def test_a_killed_child_comes_back_under_a_new_process(tmp_path: Path) -> None:
    changes: list[int] = []
    kept, said = supervisor(
        tmp_path, fake(tmp_path, "service"), on_change=lambda: changes.append(1)
    )
    await kept.start()
    old = kept.kill("service")
    await eventually(lambda: kept.pids().get("service", old) != old)
    await eventually(lambda: "service is back" in said.getvalue())
    await kept.stop()
    assert lines(tmp_path / "starts") == ["service", "service"]
    assert "service ended (killed by SIGKILL)" in said.getvalue()
    assert len(changes) >= 3


async def test_a_child_that_never_gets_ready_fails_the_start_with_its_last_words(
    tmp_path: Path,
) -> None:
    spec = ChildSpec(
        name="broken",
        command=lambda: [sys.executable, "-S", "-c", "print('no such table'); raise SystemExit(3)"],
        ready=is_there(tmp_path / "never"),
    )
    kept, _ = supervisor(tmp_path, spec, fake(tmp_path, "other"))
    with pytest.raises(StackProblem) as problem:
        await kept.start()
    await kept.stop()
    assert "broken ended with code 3" in str(problem.value)
    assert "no such table" in str(problem.value)
    assert kept.children["broken"].starts == START_ATTEMPTS_MAX
    assert kept.pids() == {}


async def test_the_end_of_a_child_that_cannot_heal_is_told(tmp_path: Path) -> None:
    spec = ChildSpec(
        name="log",
        command=lambda: [sys.executable, "-S", "-c", FAKE, str(tmp_path), "log"],
        ready=is_there(tmp_path / "log"),
        restart=False,
    )
    kept, _ = supervisor(tmp_path, spec)
    await kept.start()
    kept.kill("log")
    problem = await kept.failed
    await kept.stop()
    assert "log ended with code -9" in str(problem)


async def test_a_child_that_does_not_end_in_time_is_killed(tmp_path: Path) -> None:
    async def ready() -> bool:
        return "deaf" in (tmp_path / "logs" / "deaf.log").read_text()

    spec = ChildSpec(
        name="deaf",
        command=lambda: [sys.executable, "-S", "-c", DEAF],
        ready=ready,
        stop_grace_s=0.2,
    )
    kept, said = supervisor(tmp_path, spec)
    await kept.start()
    pid = kept.pids()["deaf"]
    await kept.stop()
    assert not psutil.pid_exists(pid)
    assert "deaf did not end in time and is killed" in said.getvalue()


async def test_a_line_without_an_end_neither_stops_the_child_nor_fills_the_memory(
    tmp_path: Path,
) -> None:
    async def ready() -> bool:
        return "after" in (tmp_path / "logs" / "loud.log").read_text()

    spec = ChildSpec(
        name="loud", command=lambda: [sys.executable, "-S", "-c", LOUD], ready=ready, stop_grace_s=1
    )
    kept, _ = supervisor(tmp_path, spec)
    await kept.start()
    await kept.stop()
    assert "too long" in (tmp_path / "logs" / "loud.log").read_text()


PARENT = """
import asyncio, pathlib, sys
from deploy.local.logs import Console
from deploy.local.supervisor import Supervisor
from tests.integration.local.test_supervisor import fake
folder = pathlib.Path(sys.argv[1])
async def main():
    kept = Supervisor([fake(folder, "orphan")], logs=folder / "logs", console=Console())
    await kept.start()
    print("pid", kept.pids()["orphan"], flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def parent_of_an_orphan(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PARENT, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl is Linux's")
async def test_no_child_outlives_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    parent = parent_of_an_orphan(tmp_path)
    assert parent.stdout is not None
    with parent.stdout as output:
        pid = next(int(line.split()[1]) for line in output if line.startswith("pid "))
        assert psutil.pid_exists(pid)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        await eventually(lambda: not psutil.pid_exists(pid))


def test_a_child_is_out_of_reach_of_the_terminal_of_its_parent() -> None:
    with subprocess.Popen(
        [sys.executable, "-S", "-c", "import os; print(os.getpgid(0) == os.getpid())"],
        stdout=subprocess.PIPE, **child_options(signal.SIGKILL),
    ) as child:  # fmt: skip
        assert child.communicate()[0].strip() == b"True"
