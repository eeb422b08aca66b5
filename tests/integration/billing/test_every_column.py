"""`verify` against a change of any one column of any one row of what the ledger stores."""

from __future__ import annotations

import asyncpg

from services.billing.adapters.ledger_postgres import PostgresLedger
from services.billing.rebuild import READ_TABLES
from services.billing.verify import verify
from tests.integration.billing.test_rebuild import random_run

# When a row was written, and in which order those of all accounts were, says nothing about money.
# Marks are a record of their own, which has usage too that cost nothing: what they must have for
# the journal is another test's.
ELSEWHERE = {
    ("events", "recorded_at"),
    ("events", "global_position"),
    ("seal_chain", "one"),
    ("usage_mark", "usage_id"),
    ("usage_mark", "content_hash"),
}
OTHERWISE = {
    "bigint": "{0} + 1",
    "integer": "{0} % 5 + 1",
    "text": "{0} || 'x'",
    "boolean": "NOT {0}",
    "bytea": "set_bit({0}, 0, 1 - get_bit({0}, 0))",
}
COLUMNS = """
SELECT table_name, column_name, data_type FROM information_schema.columns
WHERE table_schema = 'public' AND table_name = ANY($1) ORDER BY 1, 2
"""


async def test_a_change_of_any_column_is_found(pool: asyncpg.Pool, ledger: PostgresLedger) -> None:
    await random_run(ledger, 12, steps=60)
    assert (await verify(pool)).is_sound
    tables = ["events", "usage_mark", *(table for table, _ in READ_TABLES)]
    await _without_constraints(pool, tables)
    missed = []
    looked = 0
    for table, column, kind in await pool.fetch(COLUMNS, tables):
        if (table, column) in ELSEWHERE:
            continue
        looked += 1
        if not await _found(pool, table, column, OTHERWISE[kind].format(column)):
            missed.append(f"{table}.{column}")
    assert not missed, ", ".join(missed)
    assert looked > 50


async def _found(pool: asyncpg.Pool, table: str, column: str, changed: str) -> bool:
    """Changes one row, as somebody past every constraint could, asks, and changes it back."""
    row = await pool.fetchrow(
        f"SELECT ctid, {column} AS before, {changed} AS after FROM {table}"
        f" WHERE {column} IS NOT NULL ORDER BY ctid LIMIT 1"
    )
    assert row is not None, f"{table}.{column} is empty"
    put = f"UPDATE {table} SET {column} = $1 WHERE ctid = $2 RETURNING ctid"
    place = await pool.fetchval(put, row["after"], row["ctid"])
    try:
        return not (await verify(pool)).is_sound
    finally:
        await pool.execute(put, row["before"], place)


async def _without_constraints(pool: asyncpg.Pool, tables: list[str]) -> None:
    """Checks, keys and triggers would stop some of the changes; somebody with the disk can make
    them all the same.
    """
    found = await pool.fetch(
        "SELECT conrelid::regclass::text AS name, conname FROM pg_constraint"
        " WHERE conrelid::regclass::text = ANY($1) AND contype IN ('c', 'u', 'p')",
        tables,
    )
    for one in found:
        await pool.execute(f"ALTER TABLE {one['name']} DROP CONSTRAINT {one['conname']}")
    await pool.execute("ALTER TABLE events DISABLE TRIGGER events_immutable")
