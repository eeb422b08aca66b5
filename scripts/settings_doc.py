"""Writes .env.example from the settings classes; `--check` fails when the file is not current.

What a variable means is its field's description, or else the comment directly above the field in
the source of its class. A field that is excluded from dumps is no setting for operators.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from pydantic import SecretStr
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from services.cli.check_config import SERVICES, settings_class
from services.common.config import variable_of

PAGE = Path(".env.example")
COMPOSE = Path("docker-compose.yml")
HEAD = """# Every setting and its default, made by `python -m scripts.settings_doc`.
# A line that starts with `#` is optional; the others have no default, or none that production
# takes. `mesh check-config` says what is wrong with an environment.
"""
# `${NAME}`, `${NAME:-default}` and `${NAME:?what to do}` of the compose file.
INTERPOLATION = re.compile(r"\$\{(MESH_[A-Z0-9_]+)(?:(:-|:\?)([^}]*))?\}")


def compose_variables(text: str) -> dict[str, tuple[str, str]]:
    """What the compose file takes from `.env`: by name how (`:-`, `:?` or nothing), and the text
    that follows.
    """
    found: dict[str, tuple[str, str]] = {}
    for name, how, rest in INTERPOLATION.findall(text):
        if how or name not in found:
            found[name] = (how, rest)
    return found


def default_text(default: object) -> str:
    """A default as one would write it into the file; secrets are never written out."""
    if isinstance(default, SecretStr) or default is None or default is PydanticUndefined:
        return ""
    return str(default).lower() if isinstance(default, bool) else str(default)


def comment_above(cls: type[BaseSettings], name: str) -> str:
    """The comment lines directly above a field, as one; empty where there are none."""
    owner = next(base for base in cls.__mro__ if name in vars(base).get("__annotations__", {}))
    lines = inspect.getsourcelines(owner)[0]
    at = next(n for n, line in enumerate(lines) if re.match(rf"\s+{name}\s*:", line))
    first = at
    while lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return " ".join(line.strip().lstrip("# ") for line in lines[first:at])


def lines_of(cls: type[BaseSettings], seen: set[str], asked_for: set[str]) -> Iterator[str]:
    """One commented line of meaning and one of setting for every field not written before."""
    said = ""
    for name, field in cls.model_fields.items():
        variable = variable_of(cls, name).upper()
        if variable in seen or field.exclude:
            continue
        seen.add(variable)
        meaning = field.description or comment_above(cls, name)
        if meaning and meaning != said:
            yield from textwrap.wrap(meaning, 100, initial_indent="# ", subsequent_indent="# ")
        said = meaning
        if field.is_required() or variable in asked_for:
            yield f"{variable}="
        else:
            yield f"# {variable}={default_text(field.default)}"


def compose_lines(variables: dict[str, tuple[str, str]], seen: set[str]) -> Iterator[str]:
    """What the compose file takes and no service reads under that name."""
    for name, (how, rest) in variables.items():
        if name not in seen:
            yield f"# {name}={rest}" if how == ":-" else f"{name}="


def page() -> str:
    """The whole file."""
    seen: set[str] = set()
    variables = compose_variables(COMPOSE.read_text(encoding="utf-8"))
    asked_for = {name for name, (how, _) in variables.items() if how == ":?"}
    parts = [HEAD]
    for service in SERVICES:
        lines = "\n".join(lines_of(settings_class(service), seen, asked_for))
        parts.append(f"\n# --- {service} ---\n{lines}\n")
    lines = "\n".join(compose_lines(variables, seen))
    parts.append(
        f"\n# --- docker compose: passwords of its stores, ports of this machine ---\n{lines}\n"
    )
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
