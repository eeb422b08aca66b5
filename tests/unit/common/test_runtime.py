"""The life of a process: order of start and stop, signals, exit codes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from services.common.retry import Backoff
from services.common.runtime import Component, serve
from tests.fixtures.waiting import eventually


class Parts:
    """Makes components that write down what happens to them."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.up: list[str] = []
        self.running = asyncio.Event()

    def part(self, name: str) -> Component:
        async def start() -> None:
            self.log.append(f"start {name}")

        async def run() -> None:
            self.up.append(name)
            self.running.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.log.append(f"end {name}")

        async def stop() -> None:
            self.log.append(f"stop {name}")

        return Component(name, start, run, stop)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_the_parts_in_reverse_order(number: signal.Signals) -> None:
    parts = Parts()
    process = asyncio.create_task(serve("test", parts.part("a"), parts.part("b")))
    await eventually(lambda: parts.up == ["a", "b"])
    os.kill(os.getpid(), number)
    assert await process == 0
    assert parts.log == ["start a", "start b", "stop b", "end b", "stop a", "end a"]


async def test_a_part_that_fails_stops_the_others_with_exit_code_1() -> None:
    parts = Parts()

    async def failing() -> None:
        await parts.running.wait()
        raise ZeroDivisionError

    assert await serve("test", parts.part("a"), failing) == 1
    assert parts.log == ["start a", "stop a", "end a"]


async def test_a_part_that_ends_by_itself_has_died() -> None:
    parts = Parts()
    assert await serve("test", parts.part("a"), parts.running.wait) == 1  # type: ignore[arg-type]  # gives True


async def test_a_part_that_does_not_start_stops_those_before_it() -> None:
    parts = Parts()

    async def start() -> None:
        raise OSError("the address is taken")

    assert await serve("test", parts.part("a"), Component("b", start), parts.part("c")) == 1
    assert [line for line in parts.log if not line.startswith("end")] == ["start a", "stop a"]


async def test_a_signal_during_a_start_ends_it() -> None:
    parts, starting = Parts(), asyncio.Event()

    async def start() -> None:
        starting.set()
        await asyncio.Event().wait()

    process = asyncio.create_task(
        serve("test", parts.part("a"), Component("b", start), parts.part("c"))
    )
    await starting.wait()
    terminate()
    assert await process == 0
    assert [line for line in parts.log if not line.startswith("end")] == ["start a", "stop a"]


async def test_a_part_that_does_not_stop_in_time_is_cancelled() -> None:
    parts = Parts()

    async def stop() -> None:
        await asyncio.Event().wait()

    process = asyncio.create_task(
        serve("test", parts.part("a"), Component("b", stop=stop), grace_s=0.05)
    )
    await parts.running.wait()
    terminate()
    assert await process == 0
    assert "end a" in parts.log


async def test_an_error_while_stopping_is_told_by_the_exit_code_and_stops_the_rest() -> None:
    parts = Parts()

    async def stop() -> None:
        raise ZeroDivisionError

    process = asyncio.create_task(serve("test", parts.part("a"), Component("b", stop=stop)))
    await parts.running.wait()
    terminate()
    assert await process == 1
    assert parts.log[-2:] == ["stop a", "end a"]


SCRIPT = """
import asyncio
from services.common.config import CommonSettings, load_settings
from services.common.runtime import run, serve
from services.common.telemetry import configure_logging

async def main():
    configure_logging("test", load_settings(CommonSettings))
    async def part():
        print("up", flush=True)
        await asyncio.Event().wait()
    return await serve("test", part)

run(main())
"""


def process(**environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_process_ends_with_0_after_sigterm() -> None:
    with process() as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        child.send_signal(signal.SIGTERM)
        _, told = child.communicate(timeout=30)
    assert child.returncode == 0, told
    assert '"event": "stopped"' in told


def test_bad_settings_end_a_process_with_2_and_without_a_traceback() -> None:
    with process(MESH_LOG_LEVEL="loud") as child:
        _, told = child.communicate(timeout=30)
    assert child.returncode == 2
    assert "MESH_LOG_LEVEL: " in told
    assert "Traceback" not in told


def test_pauses_double_up_to_their_bound_and_begin_again_after_a_success() -> None:
    backoff = Backoff(first_s=0.1, max_s=1.0)
    pauses = [backoff.next_s() for _ in range(100)]
    for pause_s, full_s in zip(pauses, [0.1, 0.2, 0.4, 0.8, *([1.0] * 96)], strict=True):
        assert full_s / 2 <= pause_s <= full_s
    backoff.reset()
    assert backoff.next_s() <= 0.1
