"""Migrations and the event store on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from services.common.errors import ConcurrencyConflict, InvalidArgument, Unavailable
from services.common.events import EventRecord, record_of
from services.common.pb.mesh.events.v1 import usage_pb2
from services.common.postgres import EventStore, MigrationError, migrate, open_pool
from services.common.topics import BALANCES, LEDGER
from tests.fixtures.engines import PostgresServer

FLOOR = "services.common.postgres"


@pytest.fixture
async def pool(postgres_dsn: PostgresServer) -> AsyncIterator[asyncpg.Pool]:
    opened = await open_pool(postgres_dsn("floor"))
    await migrate(opened, FLOOR)
    yield opened
    await opened.close()


def usage(number: int) -> EventRecord:
    message = usage_pb2.UsageRecorded(usage_id=f"use_{number}")
    return record_of(message, account_id="acc_1", occurred_at_ms=number)


async def test_appended_events_are_loaded_in_order_with_their_place(pool: asyncpg.Pool) -> None:
    store = EventStore(pool)
    async with store.transaction() as transaction:
        placed = await transaction.append("account:1", 0, [usage(1), usage(2)])
    assert [(r.stream_id, r.stream_version) for r in placed] == [("account:1", 1), ("account:1", 2)]
    async with store.transaction() as transaction:
        await transaction.append("account:1", 2, [usage(3)])
        loaded = await transaction.load("account:1")
        tail = await transaction.load("account:1", after_version=2)
    assert [r.stream_version for r in loaded] == [1, 2, 3]
    assert loaded[:2] == placed
    assert [r.occurred_at_ms for r in tail] == [3]


@pytest.mark.parametrize("expected", [0, 1, 3])
async def test_another_version_than_expected_is_a_conflict(
    pool: asyncpg.Pool, expected: int
) -> None:
    store = EventStore(pool)
    async with store.transaction() as transaction:
        await transaction.append("account:1", 0, [usage(1), usage(2)])
    with pytest.raises(ConcurrencyConflict):
        async with store.transaction() as transaction:
            await transaction.append("account:1", expected, [usage(3)])
    async with store.transaction() as transaction:
        assert len(await transaction.load("account:1")) == 2


async def test_of_two_open_transactions_only_one_appends(pool: asyncpg.Pool) -> None:
    store = EventStore(pool)

    async def append(number: int) -> None:
        async with store.transaction() as transaction:
            await transaction.append("account:1", 0, [usage(number)])
            await transaction.publish(LEDGER, "acc_1", b"%d" % number)

    outcomes = await asyncio.gather(*(append(n) for n in range(5)), return_exceptions=True)
    assert [o for o in outcomes if o is None] == [None]
    assert all(isinstance(o, ConcurrencyConflict) for o in outcomes if o is not None)
    assert await pool.fetchval("SELECT count(*) FROM events") == 1
    assert await pool.fetchval("SELECT count(*) FROM outbox") == 1


async def test_many_streams_are_appended_to_or_none(pool: asyncpg.Pool) -> None:
    store = EventStore(pool)
    async with store.transaction() as transaction:
        placed = await transaction.append_many(
            [("a", 0, [usage(1), usage(2)]), ("b", 0, [usage(3)])]
        )
    assert [(r.stream_id, r.stream_version) for r in placed] == [("a", 1), ("a", 2), ("b", 1)]
    with pytest.raises(ConcurrencyConflict):
        async with store.transaction() as transaction:
            await transaction.append_many([("a", 2, [usage(4)]), ("b", 0, [usage(5)])])
    assert await pool.fetchval("SELECT count(*) FROM events") == 3


async def test_an_error_in_the_block_leaves_nothing_behind(pool: asyncpg.Pool) -> None:
    store = EventStore(pool)
    with pytest.raises(KeyError):  # noqa: PT012 - the block is what is tested
        async with store.transaction() as transaction:
            await transaction.append("account:1", 0, [usage(1)])
            await transaction.publish(LEDGER, "acc_1", b"value")
            raise KeyError
    assert await pool.fetchval("SELECT count(*) FROM events") == 0
    assert await pool.fetchval("SELECT count(*) FROM outbox") == 0


async def test_published_messages_stand_in_the_outbox_in_order(pool: asyncpg.Pool) -> None:
    store = EventStore(pool)
    async with store.transaction() as transaction:
        await transaction.publish(LEDGER, "acc_1", b"one")
        await transaction.publish_many([(LEDGER, "acc_1", b"two"), (BALANCES, "acc_1", None)])
    rows = await pool.fetch("SELECT topic, key, value FROM outbox ORDER BY position")
    assert [tuple(row) for row in rows] == [
        (LEDGER.name, "acc_1", b"one"),
        (LEDGER.name, "acc_1", b"two"),
        (BALANCES.name, "acc_1", None),
    ]


async def test_events_can_be_neither_changed_nor_removed(pool: asyncpg.Pool) -> None:
    async with EventStore(pool).transaction() as transaction:
        await transaction.append("account:1", 0, [usage(1)])
    for statement in ("UPDATE events SET account_id = 'x'", "DELETE FROM events"):
        with pytest.raises(asyncpg.RaiseError, match="immutable"):
            await pool.execute(statement)


async def test_all_events_are_read_in_the_order_of_recording(pool: asyncpg.Pool) -> None:
    store = EventStore(pool)
    for number in range(7):
        async with store.transaction() as transaction:
            await transaction.append(f"account:{number % 2}", number // 2, [usage(number)])
    found = [record.occurred_at_ms async for record in store.read_all(batch_size=3)]
    assert found == list(range(7))


async def test_a_lost_connection_is_unavailable_and_the_next_transaction_works(
    pool: asyncpg.Pool,
) -> None:
    store = EventStore(pool)
    with pytest.raises(Unavailable):  # noqa: PT012 - the block is what is tested
        async with store.transaction() as transaction:
            pid = await transaction.connection.fetchval("SELECT pg_backend_pid()")
            await pool.execute("SELECT pg_terminate_backend($1)", pid)
            await transaction.append("account:1", 0, [usage(1)])
    async with store.transaction() as transaction:
        await transaction.append("account:1", 0, [usage(1)])
    assert await pool.fetchval("SELECT count(*) FROM events") == 1


async def test_a_server_that_is_away_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        await open_pool(f"postgresql://postgres@/postgres?host={tmp_path}")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `migrated` with one migration; gives its folder of migrations."""
    folder = tmp_path / "migrated" / "migrations"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    (folder / "0001_first.sql").write_text("CREATE TABLE one (id int);")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "migrated", raising=False)
    return folder


async def test_migrations_are_applied_once_and_in_order(pool: asyncpg.Pool, package: Path) -> None:
    await migrate(pool, "migrated")
    (package / "0002_second.sql").write_text(
        "INSERT INTO one VALUES (1); INSERT INTO one VALUES (2);"
    )
    await asyncio.gather(*(migrate(pool, "migrated") for _ in range(3)))
    assert await pool.fetchval("SELECT count(*) FROM one") == 2


async def test_a_changed_migration_is_an_error(pool: asyncpg.Pool, package: Path) -> None:
    await migrate(pool, "migrated")
    (package / "0001_first.sql").write_text("CREATE TABLE other (id int);")
    with pytest.raises(MigrationError, match=r"0001_first\.sql was changed"):
        await migrate(pool, "migrated")


async def test_a_failing_migration_leaves_nothing_behind(pool: asyncpg.Pool, package: Path) -> None:
    (package / "0002_bad.sql").write_text("CREATE TABLE two (id int); SELECT nothing FROM nowhere;")
    with pytest.raises(asyncpg.UndefinedTableError):
        await migrate(pool, "migrated")
    assert await pool.fetchval("SELECT to_regclass('two')") is None
    assert await pool.fetchval("SELECT to_regclass('one')") is not None


async def test_a_number_used_twice_is_an_error(pool: asyncpg.Pool, package: Path) -> None:
    (package / "0001_again.sql").write_text("SELECT 1;")
    with pytest.raises(MigrationError, match="two migrations"):
        await migrate(pool, "migrated")


@pytest.mark.parametrize("statement", ["SELECT $1::text", "SELECT $1::text::jsonb"])
async def test_a_text_that_cannot_be_stored_is_the_callers_mistake(
    pool: asyncpg.Pool, statement: str
) -> None:
    bad = '{"a": "\\u0000"}' if "jsonb" in statement else "a\0b"
    with pytest.raises(InvalidArgument, match="NUL"):
        async with EventStore(pool).transaction() as transaction:
            await transaction.connection.fetchval(statement, bad)
