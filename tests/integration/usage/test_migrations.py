"""Migrations are applied once, in order, and refuse to run when a file was changed."""

from __future__ import annotations

import pytest

from services.common.errors import InternalError
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.migrations import migrate, migrations


async def test_all_files_are_applied_once(empty_clickhouse: ClickHouse) -> None:
    names = [migration.name for migration in migrations()]
    assert await migrate(empty_clickhouse) == names
    assert await migrate(empty_clickhouse) == []


async def test_a_file_that_was_changed_after_it_was_applied_is_refused(
    clickhouse: ClickHouse,
) -> None:
    await clickhouse.command(
        "ALTER TABLE schema_migrations UPDATE checksum = 'other' WHERE version = 1"
        " SETTINGS mutations_sync = 1"
    )
    with pytest.raises(InternalError, match=r"0001_requests\.sql was changed"):
        await migrate(clickhouse)


async def test_a_migration_that_was_cut_off_is_completed(empty_clickhouse: ClickHouse) -> None:
    await migrate(empty_clickhouse)
    await empty_clickhouse.command("DROP TABLE sink_claims")
    await empty_clickhouse.command(
        "DELETE FROM schema_migrations WHERE version = 2 SETTINGS mutations_sync = 1"
    )
    assert await migrate(empty_clickhouse) == ["0002_sink.sql"]
    assert await empty_clickhouse.query("SELECT count() FROM sink_claims") == [(0,)]
