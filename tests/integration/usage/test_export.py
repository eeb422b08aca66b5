"""Files of requests: every row of the filter once, nobody else's, in flat memory."""

from __future__ import annotations

import csv
import io
import random
from decimal import Decimal
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from services.common.errors import InvalidArgument
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.sink_store_clickhouse import ClickHouseSinkStore
from services.usage.domain.filter import RequestFilter, Scope
from services.usage.export import ExportFormat, Exports
from services.usage.ports import REQUESTS
from tests.unit.usage.builders import START_MS, random_row, row

ACCOUNT = Scope("acc_1")
MIB = 1_048_576


async def file_of(
    exports: Exports, wanted: RequestFilter, file_format: ExportFormat, rows_max: int = 0
) -> bytes:
    pieces = exports.export(ACCOUNT, wanted, file_format, rows_max=rows_max)
    return b"".join([piece async for piece in pieces])


@pytest.fixture
async def exports(clickhouse: ClickHouse) -> Exports:
    chance = random.Random(3)
    rows = [random_row(chance, offset, session_id="=cmd()") for offset in range(100)]
    store = ClickHouseSinkStore(clickhouse, REQUESTS)
    await store.insert_missing([*rows, row(500, account_id="acc_2")])
    await store.insert_missing([one._replace(log_offset=900 + n) for n, one in enumerate(rows[:9])])
    return Exports(clickhouse, piece_rows=7)


async def test_both_formats_have_every_request_of_the_filter_once_newest_first(
    exports: Exports, clickhouse: ClickHouse
) -> None:
    for wanted in (RequestFilter(), RequestFilter(any_of={"model_id": frozenset({"m1"})})):
        parquet = pq.read_table(io.BytesIO(await file_of(exports, wanted, "parquet"))).to_pylist()
        lines = list(csv.DictReader(io.StringIO((await file_of(exports, wanted, "csv")).decode())))
        keys = [(one["received_at_ms"], one["usage_id"]) for one in parquet]
        assert keys == sorted(set(keys), reverse=True)
        assert [one["usage_id"] for one in lines] == [one["usage_id"] for one in parquet]
        where = "AND model_id = 'm1'" if wanted.any_of else ""
        count, cost = (
            await clickhouse.query(
                "SELECT count(), sum(cost_nanousd) FROM request_log"
                f" WHERE account_id = 'acc_1' {where}"
            )
        )[0]
        assert (len(parquet), sum(one["cost_nanousd"] for one in parquet)) == (count, cost)
        usd = sum(Decimal(one["cost_usd"]) for one in lines)
        assert usd * 1_000_000_000 == cost


async def test_a_table_calculator_takes_nothing_a_client_sent_for_a_formula(
    exports: Exports,
) -> None:
    lines = csv.DictReader(io.StringIO((await file_of(exports, RequestFilter(), "csv")).decode()))
    assert {one["session_id"] for one in lines} == {"'=cmd()"}
    parquet = pq.read_table(io.BytesIO(await file_of(exports, RequestFilter(), "parquet")))
    assert set(parquet["session_id"].to_pylist()) == {"=cmd()"}


async def test_a_file_of_nothing_has_its_columns_and_a_limit_is_kept(exports: Exports) -> None:
    none = RequestFilter(until_ms=START_MS - 1)
    assert (await file_of(exports, none, "csv")).decode().count("\n") == 1
    assert pq.read_table(io.BytesIO(await file_of(exports, none, "parquet"))).num_rows == 0
    limited = await file_of(exports, RequestFilter(), "parquet", rows_max=10)
    assert pq.read_table(io.BytesIO(limited)).num_rows == 10
    with pytest.raises(InvalidArgument, match="rows_max"):
        await file_of(exports, RequestFilter(), "csv", rows_max=-1)


# Columns that are left out have their type's default.
MANY = """
INSERT INTO requests (account_id, received_at, usage_id, request_id, key_id, model_id, outcome,
 cost_nanousd, latency_ms, tags)
SELECT 'acc_1', fromUnixTimestamp64Milli({start:Int64} + toInt64(number), 'UTC'),
 concat('use_', leftPad(toString(number), 22, '0')), concat('req_', toString(cityHash64(number))),
 concat('key_', toString(number % 50)), concat('model-', toString(number % 9)), 'success',
 number % 1000, number % 5000, map('team', toString(number % 7))
FROM numbers({count:UInt64})
"""


async def test_a_million_rows_stream_as_parquet_in_flat_memory(
    clickhouse: ClickHouse, tmp_path: Path
) -> None:
    count = 1_000_000
    await clickhouse.command(MANY, {"start": START_MS, "count": count})
    process = psutil.Process()
    target = tmp_path / "requests.parquet"
    sizes: list[int] = []
    largest = 0
    with target.open("wb") as file:
        async for piece in Exports(clickhouse).export(ACCOUNT, RequestFilter(), "parquet"):
            file.write(piece)
            largest = max(largest, len(piece))
            sizes.append(process.memory_info().rss)
    written = pq.ParquetFile(target)
    assert written.metadata.num_rows == count
    assert sum(
        batch["cost_nanousd"].to_numpy().sum()
        for batch in written.iter_batches(columns=["cost_nanousd"])
    ) == sum(range(1000)) * (count // 1000)
    assert largest < 4 * MIB
    # The first pieces warm up the engine's caches; from then on a file is as good as constant.
    half = len(sizes) // 2
    assert max(sizes[half:]) - max(sizes[:half]) < 64 * MIB
