"""Where the embedded stack keeps its files, and on which ports its parts listen."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

ROOT = Path(__file__).parents[2]

# A unix socket's address has at most 107 characters, and PostgreSQL adds `/.s.PGSQL.5432`.
_SOCKET_DIR_LENGTH_MAX = 107 - len("/.s.PGSQL.5432.lock")


@dataclass(frozen=True, slots=True)
class Ports:
    """One port for each listener; gateway worker i has its own `gateway_ops + i`."""

    gateway: int = 8080
    dashboard: int = 8090
    accounts: int = 8201
    billing: int = 8202
    usage: int = 8203
    catalog: int = 8204
    jobs: int = 8205
    accounts_ops: int = 8211
    billing_ops: int = 8212
    usage_ops: int = 8213
    catalog_ops: int = 8214
    jobs_ops: int = 8215
    dashboard_ops: int = 8190
    usage_sql: int = 8223
    usage_live: int = 8206
    usage_live_ops: int = 8216
    kafka: int = 9092
    kafka_controller: int = 9093
    model: int = 8300
    billing_webhook: int = 8222
    stripe_sim: int = 8400
    # Last, because it takes as many ports as there are workers.
    gateway_ops: int = 8180

    @classmethod
    def counted_from(cls, first: int) -> Ports:
        """Neighbouring ports from `first` on, in the order of the fields."""
        return cls(*(first + index for index in range(len(fields(cls)))))

    def listeners(self, gateway_workers: int) -> Iterator[tuple[str, int]]:
        """Every name and port that has to be free."""
        for field in fields(self):
            if field.name != "gateway_ops":
                yield field.name, getattr(self, field.name)
        for index in range(gateway_workers):
            yield f"gateway_ops_{index}", self.gateway_ops + index


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of one data directory. Whatever is not named here is no file of ours."""

    data_dir: Path
    # In memory-only mode the stores live apart and are wiped at each start.
    memory_only: bool = False

    @classmethod
    def prepared(cls, data_dir: Path) -> Layout:
        """The layout of `data_dir`, made private to its owner."""
        resolved = data_dir.expanduser().resolve()
        resolved.mkdir(parents=True, exist_ok=True, mode=0o700)
        resolved.chmod(0o700)
        layout = cls(resolved)
        layout.logs.mkdir(exist_ok=True, mode=0o700)
        return layout

    @property
    def logs(self) -> Path:
        return self.data_dir / "logs"

    @property
    def secrets(self) -> Path:
        return self.data_dir / "secrets.env"

    @property
    def stack(self) -> Path:
        return self.data_dir / "stack.env"

    @property
    def demo(self) -> Path:
        return self.data_dir / "demo.env"

    @property
    def ready(self) -> Path:
        return self.data_dir / "ready.json"

    @property
    def lock(self) -> Path:
        return self.data_dir / "up.lock"

    @property
    def children(self) -> Path:
        return self.data_dir / "children.json"

    @property
    def state(self) -> Path:
        """Where the stores keep their data."""
        return self.data_dir / ("memory" if self.memory_only else "state")

    def wipe(self, *, everything: bool = False) -> None:
        """Remove the stores' data (of both modes if `everything`) and the demo key of that data."""
        for path in (
            [self.data_dir / "state", self.data_dir / "memory"] if everything else [self.state]
        ):
            shutil.rmtree(path, ignore_errors=True)
        if everything or self.memory_only:
            self.demo.unlink(missing_ok=True)


def socket_dir_fits(path: Path) -> bool:
    """Whether a unix socket of PostgreSQL can be made in `path`."""
    return len(os.fsencode(path)) <= _SOCKET_DIR_LENGTH_MAX


def write_private(path: Path, text: str) -> None:
    """Replace a file of ours in one step, readable by its owner only."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    part.replace(path)


def read_env_file(path: Path) -> dict[str, str]:
    """The variables of a file that `write_env_file` wrote; empty where there is none."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def write_env_file(path: Path, comment: str, values: dict[str, str]) -> None:
    """A file that a shell can source; values need no quoting because we make them all."""
    lines = [f"# {comment}", *(f"{name}={value}" for name, value in values.items())]
    write_private(path, "\n".join(lines) + "\n")
