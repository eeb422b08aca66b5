"""The request log as a file, out of the panel."""

from __future__ import annotations

import csv
import io

import pyarrow.parquet as pq

from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.sink_store_clickhouse import ClickHouseSinkStore
from services.usage.ports import REQUESTS
from tests.integration.dashboard.conftest import Browser
from tests.unit.usage.builders import row


async def test_what_fits_comes_as_csv_and_as_parquet(ada: Browser, chdb_dsn: str) -> None:
    account_id = ada.session["account_id"]
    log = ClickHouse(chdb_dsn, database="test_dashboard")
    await log.open()
    rows = [
        row(700 + n, account_id=account_id, usage_id=f"use_{account_id}_{n}", key_id=f"key_{n % 2}")
        for n in range(4)
    ]
    await ClickHouseSinkStore(log, REQUESTS).insert_missing(rows)
    await log.close()
    answer = await ada.call("GET", "/api/requests/export/csv?key_id=key_1")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/csv; charset=utf-8")
    assert answer.headers["content-disposition"].startswith('attachment; filename="requests-20')
    expected = {f"use_{account_id}_1", f"use_{account_id}_3"}
    assert {
        one["usage_id"] for one in csv.DictReader(io.StringIO(answer.body.decode()))
    } == expected
    packed = await ada.call("GET", "/api/requests/export/parquet?key_id=key_1")
    table = pq.read_table(io.BytesIO(packed.body))
    assert set(table["usage_id"].to_pylist()) == expected
    # Of nothing, a file with a head alone.
    empty = await ada.call("GET", "/api/requests/export/csv?key_id=key_9")
    assert len(empty.body.decode().splitlines()) == 1
    refused = await ada.call("GET", "/api/requests/export/csv?status=1000")
    assert (refused.status, refused.code) == (422, "validation_error")
