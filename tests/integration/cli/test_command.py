"""`mesh` as a process: what it prints, what it exits with, never a trace."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.cli.check_config import SERVICES
from services.cli.context import SERVICES as ASKED
from services.common.config import DEVELOPMENT_SECRET
from services.common.topics import TOPICS
from tests.fixtures.engines import unused_port

GOOD = {
    "MESH_ACCOUNTS_DSN": "postgresql:///accounts",
    "MESH_BILLING_DSN": "postgresql:///billing",
    "MESH_USAGE_CLICKHOUSE_DSN": "chdb:///tmp/log",
}


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """What went wrong, which must be one line and no trace."""
        assert self.code != 0
        assert self.out == ""
        assert "Traceback" not in self.err
        (line,) = self.err.splitlines()
        return line.removeprefix("mesh: ")


async def mesh(folder: Path, *arguments: str, **environment: str) -> Done:
    """Runs the command with these variables of ours and no others, in a folder without a stack."""
    theirs = {name: value for name, value in os.environ.items() if not name.startswith("MESH_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "services.cli", *arguments),
        env={**theirs, "MESH_DATA_DIR": str(folder), "COLUMNS": "100", **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())


def stack_at(port: int) -> dict[str, str]:
    """The variables of a stack whose services all have this port."""
    addresses = {f"MESH_{name.upper()}_ADDRESS": f"127.0.0.1:{port}" for name in ASKED}
    return {"MESH_SERVICE_SECRET": DEVELOPMENT_SECRET, **addresses}


async def test_a_complete_environment_is_ok_for_every_service(tmp_path: Path) -> None:
    done = await mesh(tmp_path, "check-config", **GOOD)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [f"{service}: ok" for service in SERVICES]


async def test_a_bad_environment_fails_naming_each_variable_and_no_value(tmp_path: Path) -> None:
    bad = {
        "MESH_GATEWAY_LISTEN": "nonsense-address",
        "MESH_USAGE_CLICKHOUSE_DSN": "mysql://user:hunter2@host",
    }
    done = await mesh(tmp_path, "check-config", "usage", "gateway", "accounts", **bad)
    assert done.code == 1
    assert "Traceback" not in done.err
    for variable in (*bad, "MESH_ACCOUNTS_DSN"):
        assert variable in done.err
    assert "hunter2" not in done.out + done.err


async def test_a_secret_that_is_too_short_is_named_and_not_shown(tmp_path: Path) -> None:
    done = await mesh(tmp_path, "check-config", "dashboard", MESH_SERVICE_SECRET="tooshort")
    assert done.code == 1
    assert "MESH_SERVICE_SECRET: has fewer than 32 characters" in done.err
    assert "tooshort" not in done.out + done.err


async def test_one_service_can_be_checked_alone(tmp_path: Path) -> None:
    done = await mesh(tmp_path, "check-config", "dashboard")
    assert (done.code, done.out, done.err) == (0, "dashboard: ok\n", "")


async def test_production_does_not_take_the_secrets_of_development(tmp_path: Path) -> None:
    done = await mesh(tmp_path, "check-config", **GOOD, MESH_ENV="production")
    assert done.code == 1
    assert done.err.count("MESH_SERVICE_SECRET: must be set") == len(SERVICES)


async def test_the_table_of_topics_can_be_read_by_a_script(tmp_path: Path) -> None:
    done = await mesh(tmp_path, "topics", "list", "--json")
    assert (done.code, done.err) == (0, "")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["topic"] for row in rows] == [topic.name for topic in TOPICS]
    assert rows[0]["partitions"] == TOPICS[0].partitions


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "check-config"),
        (("--help",), "The whole product on this machine."),
        (("admin", "--help"), "balances"),
        (("admin", "keys", "create", "--help"), "--spend-cap"),
        (("up", "--help"), "--fresh"),
    ],
)
async def test_help_needs_no_stack(arguments: tuple[str, ...], told: str, tmp_path: Path) -> None:
    done = await mesh(tmp_path, *arguments)
    assert (done.code, done.err) == (0, "")
    assert told in done.out


async def test_a_stack_that_was_never_started_is_one_sentence(tmp_path: Path) -> None:
    done = await mesh(tmp_path, "admin", "accounts", "list")
    assert done.sentence == (
        f"MESH_SERVICE_SECRET is not set and {tmp_path}/secrets.env is not there: "
        "start the stack with `mesh up`, or set it"
    )
    assert done.code == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("admin", "accounts", "list"),
        ("admin", "balances", "show", "acc_1"),
        ("admin", "models", "list"),
        ("admin", "logs", "tail"),
        ("topics", "create"),
    ],
)
async def test_a_stack_that_does_not_answer_is_one_sentence(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    port = unused_port()
    kafka = f"127.0.0.1:{port}"
    done = await mesh(tmp_path, *arguments, **stack_at(port), MESH_KAFKA_BOOTSTRAP=kafka)
    assert done.sentence.startswith("is the stack running? ")
    assert done.code == 1


async def test_the_files_of_the_embedded_stack_are_found(tmp_path: Path) -> None:
    known = stack_at(unused_port())
    secret = known.pop("MESH_SERVICE_SECRET")
    (tmp_path / "secrets.env").write_text(f"# kept\nMESH_SERVICE_SECRET='{secret}'\n")
    lines = "".join(f"{name}={value}\n" for name, value in known.items())
    (tmp_path / "stack.env").write_text(lines)
    done = await mesh(tmp_path, "admin", "accounts", "list")
    assert done.sentence.startswith("is the stack running? ")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("admni",), "admni"),
        (("check-config", "biling"), "biling"),
        (("admin", "keys", "list", "--bogus"), "--bogus"),
        (("admin", "credit"), "amount"),
        (("admin", "credit", "ten", "-a", "acc_1"), "amount: not an amount in USD: 'ten'"),
        (("admin", "credit", "1e30", "-a", "acc_1"), "amount: amount too large"),
        (("admin", "keys", "create", "--rpm", "9" * 30, "-a", "acc_1"), "rpm: not between"),
        (("admin", "keys", "create", "--spend-cap-window", "year"), "year"),
        (("admin", "keys", "update", "key_1", "-a", "acc_1"), "at least one setting"),
        (("admin", "keys", "rotate", "key_1", "--grace-s", "9" * 30), "--grace-s"),
        (("admin", "logs", "list", "--since", "yesterday"), "since: not a duration"),
        (("admin", "logs", "list", "--status", "9" * 12), "--status"),
        (("admin", "logs", "list", "--limit", "0"), "--limit"),
        (("admin", "accounts", "list", "--limit", "9" * 12), "--limit"),
        (("admin", "token", "--ttl-s", "-1"), "--ttl-s"),
    ],
)
async def test_a_bad_argument_is_told_and_nothing_is_called(
    arguments: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    done = await mesh(tmp_path, *arguments, **stack_at(unused_port()))
    assert done.code != 0
    assert done.out == ""
    assert "Traceback" not in done.err
    assert told.lower() in done.err.lower()
    assert "is the stack running?" not in done.err
