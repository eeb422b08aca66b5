"""One chDB engine for the whole run (a process can have only one), and a database of its own for
each test.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest

from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.migrations import migrate

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def chdb_dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the run's engine; one open client keeps it alive between tests."""
    import clickhouse_connect

    dsn = f"chdb://{tmp_path_factory.mktemp('chdb')}"
    client = clickhouse_connect.get_client(dsn=dsn)
    yield dsn
    client.close()


@pytest.fixture
async def empty_clickhouse(chdb_dsn: str) -> AsyncIterator[ClickHouse]:
    """A new database without tables."""
    clickhouse = ClickHouse(chdb_dsn, database=f"test_{next(_numbers)}")
    await clickhouse.open()
    yield clickhouse
    await clickhouse.close()


@pytest.fixture
async def clickhouse(empty_clickhouse: ClickHouse) -> ClickHouse:
    """A new database with all migrations applied."""
    await migrate(empty_clickhouse)
    return empty_clickhouse
