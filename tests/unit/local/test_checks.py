"""What is checked before anything starts: each failure is a sentence that says what to do."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.checks import require_disk, require_modules, require_ports
from deploy.local.java import NoJava, find_java
from deploy.local.layout import Ports
from deploy.local.logs import Console
from deploy.local.problems import StackProblem
from deploy.local.stack import jars_or_fallback


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
def no_java(tmp_path: Path) -> dict[str, str]:
    """An environment in which no program is found."""
    return {"PATH": str(tmp_path)}


def a_java(folder: Path, version: str) -> dict[str, str]:
    """An environment whose `java` says that it is this version."""
    program = folder / "java"
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2020-01-01' >&2\n")
    program.chmod(0o755)
    return {"PATH": str(folder)}


def test_a_taken_port_is_named_with_what_wanted_it(taken_port: int) -> None:
    with pytest.raises(StackProblem) as problem:
        require_ports([("gateway", taken_port)])
    assert str(problem.value).startswith(f"Port {taken_port} (gateway) is in use: end what listens")


def test_two_listeners_on_one_port_are_refused() -> None:
    with pytest.raises(StackProblem, match="given to both gateway and model"):
        require_ports([("gateway", 1), ("model", 1)])


def test_counted_ports_never_meet_whatever_the_number_of_workers() -> None:
    ports = [port for _, port in Ports.counted_from(20_000).listeners(gateway_workers=8)]
    assert len(set(ports)) == len(ports)
    assert min(ports) == 20_000


def test_the_usual_ports_never_meet() -> None:
    ports = [port for _, port in Ports().listeners(gateway_workers=8)]
    assert len(set(ports)) == len(ports)


def test_a_missing_package_is_named() -> None:
    with pytest.raises(StackProblem, match=r"\(no_such_module\): run `make setup`"):
        require_modules(["json", "no_such_module"])


def test_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StackProblem, match="--data-dir"):
        require_disk(tmp_path, bytes_min=10**18)


def test_missing_java_is_a_sentence_that_names_the_package(no_java: dict[str, str]) -> None:
    with pytest.raises(NoJava) as problem:
        find_java(no_java)
    assert "Java is missing: install Java 17 or newer" in str(problem.value)
    assert "openjdk-17-jre-headless" in str(problem.value)


def test_an_old_java_is_refused_with_its_version(tmp_path: Path) -> None:
    with pytest.raises(NoJava, match=r"is Java 11\.0\.2"):
        find_java(a_java(tmp_path, "11.0.2"))


def test_the_java_that_java_home_names_comes_first(tmp_path: Path) -> None:
    home = tmp_path / "jdk"
    (home / "bin").mkdir(parents=True)
    other = tmp_path / "other"
    other.mkdir()
    a_java(home / "bin", "21.0.1")
    environment = a_java(other, "17.0.9") | {"JAVA_HOME": str(home)}
    assert find_java(environment) == (str(home / "bin" / "java"), "21.0.1")


def test_without_java_the_stack_warns_that_it_keeps_everything_in_memory(
    no_java: dict[str, str],
) -> None:
    said = io.StringIO()
    assert jars_or_fallback("auto", Console(said), no_java) is None
    assert "WARNING: MEMORY ONLY: Java is missing" in said.getvalue()
    assert "LOST when it stops" in said.getvalue()


def test_without_java_the_broker_that_was_asked_for_is_refused(no_java: dict[str, str]) -> None:
    with pytest.raises(NoJava):
        jars_or_fallback("node", Console(io.StringIO()), no_java)


def test_the_memory_only_log_is_loud_even_when_it_was_asked_for() -> None:
    said = io.StringIO()
    assert jars_or_fallback("memory", Console(said)) is None
    assert "WARNING: MEMORY ONLY: it was asked for" in said.getvalue()
