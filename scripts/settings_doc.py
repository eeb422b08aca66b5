"""Writes .env.example from the settings classes; `--check` fails when the file is not current."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import SecretStr
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from services.cli.check_config import SERVICES, settings_class
from services.common.config import variable_of

PAGE = Path(".env.example")
HEAD = """# Every setting and its default, made by `python -m scripts.settings_doc`.
# A line that starts with `#` is optional; the others have no default. `mesh check-config` says what
# is wrong with an environment.
# What `docker compose` needs besides: the passwords of the stores.
MESH_POSTGRES_PASSWORD=
MESH_CLICKHOUSE_PASSWORD=
"""


def default_text(default: object) -> str:
    if isinstance(default, SecretStr):
        return ""
    return "" if default is None else str(default)


def lines_of(cls: type[BaseSettings], seen: set[str]) -> Iterator[str]:
    """One commented line of meaning and one of setting for every field not written before."""
    for name, field in cls.model_fields.items():
        variable = variable_of(cls, name).upper()
        if variable in seen:
            continue
        seen.add(variable)
        if field.description:
            yield f"# {field.description}"
        required = field.is_required() or field.default is PydanticUndefined
        yield f"{variable}=" if required else f"# {variable}={default_text(field.default)}"


def page() -> str:
    seen: set[str] = set()
    parts = [HEAD]
    for service in SERVICES:
        lines = list(lines_of(settings_class(service), seen))
        parts.append(f"\n# --- {service} ---\n" + "\n".join(lines) + "\n")
    return "".join(parts)


def main() -> int:
    if "--check" in sys.argv:
        current = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
        if current != page():
            print(f"{PAGE} is not current: run python -m scripts.settings_doc")
            return 1
        return 0
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
