"""Migrations: numbered SQL files, each applied once, in order, and never changed afterwards.

The floor's own tables (events, outbox, consumer_cursor) are migrations of this package and come
before those of the service. What was applied is recorded with its checksum in `schema_migration`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources

import asyncpg

from services.common.postgres.pool import acquired, translated

_LOCK_ID = 0x6D657368_00000001
_NAME = re.compile(r"\d{4}_[a-z0-9_]+\.sql")
_FLOOR = "services.common.postgres"
_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migration (
    package text NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (package, name)
)
"""


class MigrationError(Exception):
    """The files and what the database says was applied do not fit together."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: which package, its name `NNNN_what.sql`, its SQL."""

    package: str
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations_of(package: str) -> list[Migration]:
    """The migrations of a package, by number. Raises MigrationError on a misnamed file or number
    used twice.
    """
    folder = resources.files(package).joinpath("migrations")
    if not folder.is_dir():
        return []
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    numbers = [f.name[:4] for f in files]
    for file in files:
        if not _NAME.fullmatch(file.name):
            raise MigrationError(f"{package}: not a migration's name: {file.name}")
        if numbers.count(file.name[:4]) > 1:
            raise MigrationError(f"{package}: two migrations have the number {file.name[:4]}")
    return [Migration(package, f.name, f.read_text("utf-8")) for f in files]


async def migrate(pool: asyncpg.Pool, package: str) -> None:
    """Applies what is new of the floor and of `package` (such as `services.billing`), each file in
    a transaction.

    Several processes may call it at once: one works, the others wait. Raises MigrationError,
    Unavailable.
    """
    packages = dict.fromkeys((_FLOOR, package))
    found = [migration for name in packages for migration in migrations_of(name)]
    with translated():
        async with acquired(pool) as connection:
            await connection.execute("SELECT pg_advisory_lock($1)", _LOCK_ID, timeout=300)
            try:
                await connection.execute(_TABLE)
                await _apply(connection, found)
            finally:
                if not connection.is_closed():
                    await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK_ID)


async def _apply(connection: asyncpg.Connection, found: list[Migration]) -> None:
    rows = await connection.fetch("SELECT package, name, checksum FROM schema_migration")
    applied = {(row["package"], row["name"]): row["checksum"] for row in rows}
    for migration in found:
        before = applied.get((migration.package, migration.name))
        if before == migration.checksum:
            continue
        if before is not None:
            raise MigrationError(
                f"{migration.package}: {migration.name} was changed after it had been applied"
            )
        async with connection.transaction():
            await connection.execute(migration.sql, timeout=600)
            await connection.execute(
                "INSERT INTO schema_migration (package, name, checksum) VALUES ($1, $2, $3)",
                migration.package,
                migration.name,
                migration.checksum,
            )
