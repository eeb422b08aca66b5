"""Checks the container files, since no container engine runs where the tests do.

docker-compose.yml against the Compose schema, the Dockerfile with hadolint, and both against the
repository: every service is there, is built from a dependency group that exists, sets only
variables that some settings class reads, has a health check, and keeps what must survive on a named
volume.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

COMPOSE = Path("docker-compose.yml")
BIN = str(Path(sys.executable).parent)
DOCKERFILE = Path("deploy/docker/Dockerfile")
STORES = {
    "kafka": "/var/lib/kafka/data",
    "postgres": "/var/lib/postgresql",
    "clickhouse": "/var/lib/clickhouse",
}
# Compose documents are free-form mappings; only the parts named below are looked at.
Document = dict[str, Any]


def tool(*command: str) -> Iterator[str]:
    """The output of a linter, if it is not content."""
    # Beside this interpreter, wherever the virtual environment was not activated.
    found = shutil.which(command[0], path=os.pathsep.join([BIN, os.environ.get("PATH", "")]))
    assert found is not None, f"{command[0]} is not installed: run `make setup`"
    done = subprocess.run(  # noqa: S603 - fixed commands
        [found, *command[1:]], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        yield (done.stdout + done.stderr).strip()


def product_services() -> set[str]:
    """The services of the repository: packages below services/ that can be started."""
    return {p.parent.name for p in Path("services").glob("*/__main__.py")} - {"cli"}


def environment(service: Document) -> dict[str, str]:
    found = service.get("environment", {})
    return {str(k): str(v) for k, v in found.items()}


def known_variables() -> set[str]:
    """Every variable that `.env.example` documents; that page is made from the settings classes."""
    text = Path(".env.example").read_text(encoding="utf-8")
    return set(re.findall(r"^#? ?(MESH_[A-Z0-9_]+)=", text, flags=re.MULTILINE))


def offences_of_service(name: str, service: Document, groups: set[str]) -> Iterator[str]:
    built = service.get("build", {})
    if built.get("args", {}).get("SERVICE") not in groups:
        yield f"{name}: build argument SERVICE is no dependency group of pyproject.toml"
    if built.get("dockerfile") != str(DOCKERFILE):
        yield f"{name}: is not built by {DOCKERFILE}"
    if "healthcheck" not in service and name != "topics":
        yield f"{name}: has no health check"
    if not service.get("read_only") or "no-new-privileges:true" not in service.get(
        "security_opt", []
    ):
        yield f"{name}: does not run read-only and without new privileges"
    for variable in environment(service).keys() - known_variables():
        yield f"{name}: sets {variable}, which no settings class reads"


def offences(document: Document) -> Iterator[str]:
    services: dict[str, Document] = document["services"]
    with Path("pyproject.toml").open("rb") as file:
        groups = set(tomllib.load(file)["dependency-groups"])
    for missing in product_services() - services.keys():
        yield f"{missing}: is a service of the repository but not of {COMPOSE}"
    for name, service in services.items():
        if name in STORES:
            if not any(str(v).split(":")[1] == STORES[name] for v in service.get("volumes", [])):
                yield f"{name}: its data is not on a volume"
            if "healthcheck" not in service:
                yield f"{name}: has no health check"
            continue
        yield from offences_of_service(name, service, groups)
    if not any("/data" in str(v) for v in services["gateway"].get("volumes", [])):
        yield "gateway: its write-ahead file is not on a volume"


def main() -> int:
    document: Document = YAML(typ="safe").load(COMPOSE.read_text(encoding="utf-8"))
    found = [
        *tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)),
        *tool("hadolint", str(DOCKERFILE)),
        *offences(document),
    ]
    last_user = re.findall(r"^USER (\S+)", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    if not last_user or last_user[-1].split(":")[0] in ("root", "0"):
        found.append(f"{DOCKERFILE}: runs as root")
    print("\n".join(found) if found else "containers: the compose file and the Dockerfile hold")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
