"""One stack in a data directory, and what a killed one left there."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deploy.local.layout import Layout
from deploy.local.problems import StackProblem
from deploy.local.session import Session
from tests.fixtures.engines import unused_port

ROOT = Path(__file__).parents[3]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout.prepared(tmp_path / "data")


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing, as one that a killed stack left."""
    program = [sys.executable, "-S", "-c", "import signal; signal.pause()"]
    with subprocess.Popen(program, start_new_session=True) as process:
        yield process
        process.kill()


def mesh_up(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.cli", "up", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_second_stack_in_one_data_directory_is_refused(layout: Layout) -> None:
    session = Session(layout)
    session.acquire()
    try:
        ended = mesh_up("--data-dir", str(layout.data_dir))
    finally:
        session.release()
    assert ended.returncode == 1
    assert f"mesh: Mesh already runs in {layout.data_dir} (process {os.getpid()})" in ended.stdout


def test_a_released_data_directory_can_be_taken_again(layout: Layout) -> None:
    for _ in range(2):
        session = Session(layout)
        assert session.acquire() == []
        session.release()


def test_a_taken_port_ends_the_start_with_one_sentence(layout: Layout) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        ended = mesh_up(
            "--data-dir", str(layout.data_dir),
            "--ports-from", str(unused_port()), "--gateway-port", str(port),
        )  # fmt: skip
    assert ended.returncode == 1
    assert f"{port} (gateway)" in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr
    assert not layout.children.exists()


def test_what_a_killed_stack_left_is_ended_by_the_next(
    layout: Layout, sleeper: subprocess.Popen[bytes]
) -> None:
    Session(layout).record({"gateway-0": sleeper.pid}, None)
    assert Session(layout).acquire() == ["gateway-0"]
    assert not psutil.pid_exists(sleeper.pid)


def test_a_stranger_with_the_number_of_a_dead_child_is_left_alone(
    layout: Layout, sleeper: subprocess.Popen[bytes]
) -> None:
    layout.children.write_text(
        f'{{"children": {{"billing": {{"pid": {sleeper.pid}, "created": 1.0}}}}, "socket_dir": ""}}'
    )
    assert Session(layout).acquire() == []
    assert psutil.pid_exists(sleeper.pid)


def test_the_socket_folder_of_a_killed_stack_is_removed(layout: Layout, tmp_path: Path) -> None:
    folder = tmp_path / "mesh-abc"
    folder.mkdir()
    layout.children.write_text(f'{{"children": {{}}, "socket_dir": "{folder}"}}')
    Session(layout).acquire()
    assert not folder.exists()


def test_a_torn_note_of_a_killed_stack_stops_nobody(layout: Layout) -> None:
    layout.children.write_text('{"children": {"bil')
    assert Session(layout).acquire() == []
    with pytest.raises(StackProblem, match="already runs"):
        Session(layout).acquire()
