"""The clients that answer queries cannot write and are not held up by inserts."""

from __future__ import annotations

import asyncio

import pytest

from services.common.errors import AppError, InternalError, Unavailable
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.sink_store_clickhouse import ClickHouseSinkStore
from services.usage.ports import REQUESTS
from tests.unit.usage.builders import row


async def test_a_query_cannot_write(clickhouse: ClickHouse) -> None:
    with pytest.raises(AppError):
        await clickhouse.query("DROP TABLE requests")
    assert await clickhouse.query("SELECT count() FROM requests") == [(0,)]


async def test_a_query_is_answered_while_inserts_are_under_way(clickhouse: ClickHouse) -> None:
    store = ClickHouseSinkStore(clickhouse, REQUESTS)
    rows = [row(n) for n in range(2_000)]
    inserts = [asyncio.create_task(store.insert_missing(rows)) for _ in range(20)]
    await inserts[0]
    assert await clickhouse.query("SELECT 1") == [(1,)]
    assert not inserts[-1].done()
    await asyncio.gather(*inserts)


async def test_a_query_that_takes_too_long_is_cut_off(chdb_dsn: str, new_database: str) -> None:
    clickhouse = ClickHouse(chdb_dsn, database=new_database, read_timeout_s=1)
    await clickhouse.open()
    with pytest.raises(Unavailable, match="TIMEOUT_EXCEEDED"):
        await clickhouse.query("SELECT count() FROM numbers(1e13) WHERE sipHash64(number) = 1")
    await clickhouse.close()


async def test_a_wrong_statement_is_a_defect_and_not_a_store_that_is_away(
    clickhouse: ClickHouse,
) -> None:
    with pytest.raises(InternalError):
        await clickhouse.query("SELECT nothing FROM requests")
    with pytest.raises(InternalError):
        await clickhouse.query("SELECT {n:Int32}", {"n": "x"})


async def test_a_closed_store_is_away(chdb_dsn: str, new_database: str) -> None:
    clickhouse = ClickHouse(chdb_dsn, database=new_database)
    await clickhouse.open()
    await clickhouse.close()
    with pytest.raises(Unavailable, match="closed"):
        await clickhouse.query("SELECT 1")
