"""Applies the numbered SQL files of `services/usage/clickhouse`, once each and in order."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources

from services.common.errors import InternalError
from services.usage.adapters.clickhouse import ClickHouse

_FILE = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations
(
    version UInt32,
    name String,
    checksum String,
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = MergeTree ORDER BY version
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its number, name, text and the SHA-256 of the text in hex."""

    version: int
    name: str
    text: str
    checksum: str

    def statements(self) -> list[str]:
        """The statements of the file, without comments; a statement ends with `;` at a line's
        end.
        """
        lines = [line for line in self.text.splitlines() if not line.lstrip().startswith("--")]
        parts = re.split(r";\s*$", "\n".join(lines), flags=re.MULTILINE)
        return [part.strip() for part in parts if part.strip()]


def migrations() -> list[Migration]:
    """All files, by number. Raises InternalError where two have the same number."""
    found = []
    for entry in resources.files("services.usage.clickhouse").iterdir():
        match = _FILE.fullmatch(entry.name)
        if match:
            text = entry.read_text(encoding="utf-8")
            checksum = hashlib.sha256(text.encode()).hexdigest()
            found.append(Migration(int(match[1]), entry.name, text, checksum))
    found.sort(key=lambda migration: migration.version)
    if len({migration.version for migration in found}) != len(found):
        raise InternalError("two migrations of the request log have the same number")
    return found


async def migrate(store: ClickHouse) -> list[str]:
    """Applies what is not applied yet and returns the names of it.

    Raises InternalError where a file was changed after it had been applied. A migration that was
    cut off between its statements is run again whole, so statements are written to allow that (`IF
    NOT EXISTS`).
    """
    await store.command(_TABLE)
    rows = await store.query("SELECT version, checksum FROM schema_migrations")
    applied = dict(rows)
    done = []
    for migration in migrations():
        known = applied.get(migration.version)
        if known is None:
            for statement in migration.statements():
                await store.command(statement)
            await store.insert(
                "schema_migrations",
                ("version", "name", "checksum"),
                [[migration.version], [migration.name], [migration.checksum]],
            )
            done.append(migration.name)
        elif known != migration.checksum:
            raise InternalError(f"{migration.name} was changed after it had been applied")
    return done
