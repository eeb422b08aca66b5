"""How long the panel's queries take on a large log: one JSON line a query.

`python -m tests.bench.usage_queries [--rows N] [--accounts N] [--folder PATH]` makes the log inside
an embedded ClickHouse (its rows are those of a few models, keys and members of each account; the
accounts' sizes fall off as one over their rank: the largest has a tenth of all), sums up its days
as the service does, and asks. Accounts are drawn by their traffic: who has much, looks often.
`cpu_ms` is the processor time of a query, which other work on the machine does not change; the
baseline, in the same run, is an empty query.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any

import orjson

from services.common.clock import FakeClock
from services.common.errors import NotFound
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.migrations import migrate
from services.usage.domain.filter import RequestFilter, Scope
from services.usage.rollup.days import DayRoller
from services.usage.summaries import UsageSummaries
from services.usage.views import UsageViews

DAY_MS = 86_400_000
DAYS = 90
# 2026-09-21T14:00:00Z, where the log ends.
END_MS = 1_790_000_000_000 - 1_790_000_000_000 % DAY_MS + 14 * 3_600_000
START_MS = END_MS - DAYS * DAY_MS
STEP = 2_000_000
QUERIES = 60
MODELS = 40

# Of a row's number: its account by 1/rank, its key by the square of chance, its member by its key,
# its model by the square of chance, one outcome in twenty no success.
FILL = """
INSERT INTO requests (account_id, received_at, usage_id, request_id, key_id, user_id, trace_id,
 worker_id, event_id, route, requested_model, model_id, provider_id, upstream_model, stream,
 outcome, http_status, error_code, failure_stage, finish_reason, admitted_at, first_token_ms,
 latency_ms,
 tokens_prompt, tokens_completion, usage_basis, price_version_id, cost_nanousd, grant_id,
 held_nanousd, session_id, end_user_id, tags, attempts.provider_id, attempts.upstream_model,
 attempts.http_status, attempts.error_code, attempts.started_at_ms, attempts.latency_ms,
 attempts.served, log_topic, log_partition, log_offset)
SELECT
 concat('acc_', leftPad(toString(account), 5, '0')), moment,
 concat('use_', leftPad(toString(number), 22, '0')), concat('req_', hex(sipHash128(number))),
 concat('key_', toString(account), '_', toString(key)),
 concat('usr_', toString(account), '_', toString(key % 4)), lower(hex(sipHash128(number, 7))),
 'worker-1', concat('evt_', leftPad(toString(number), 22, '0')), '/v1/chat/completions', model_name,
 model_name, concat('provider-', toString(model % 7)), concat('model-', toString(model)),
 h4 % 3 > 0,
 multiIf(e < 950, 'success', e < 970, 'refused', e < 990, 'upstream_error', 'client_gone'),
 multiIf(e < 950, 200, e < 970, 429, e < 990, 502, 499),
 multiIf(e < 950, '', e < 970, 'rate_limit_exceeded', e < 990, 'upstream_error', 'client_gone'),
 multiIf(e < 950, '', e < 970, 'guard_rate_limit', e < 990, 'upstream_submit', 'upstream_stream'),
 if(e < 950, 'stop', ''), moment, toInt64(50 + r1 * 400), toInt64(100 - log(r1 + 1e-9) * 900),
 h4 % 4000, h5 % 900, 'provider', concat('pv_', toString(model)),
 if(e < 950, (h4 % 4000) * 150 + (h5 % 900) * 600, 0), concat('gr_', toString(account)), 5000000,
 if(h4 % 3 = 0, concat('ses_', toString(account), '_', toString(intDiv(number, 100000))), ''),
 if(h5 % 4 = 0, concat('end_', toString(h5 % 5000)), ''),
 if(h4 % 2 = 0, map('team', concat('t', toString(h5 % 8))), map()),
 [concat('provider-', toString(model % 7))], [concat('model-', toString(model))],
 [toInt32(if(e < 950, 200, 502))], [''], [toUnixTimestamp64Milli(moment)], [toInt64(300)],
 [e < 950], 'mesh.usage.v1', account % 6, number
FROM (
 SELECT number,
  fromUnixTimestamp64Milli(
   {start:Int64} + intDiv(toInt64(number) * {span:Int64}, {total:Int64}), 'UTC') AS moment,
  sipHash64(number, 1) AS h1, sipHash64(number, 2) AS h2, sipHash64(number, 3) AS h3,
  sipHash64(number, 4) AS h4, sipHash64(number, 5) AS h5,
  (h1 % 1000000) / 1000000 AS r1, (h2 % 1000000) / 1000000 AS r2,
  least({accounts:UInt32} - 1, toUInt32(pow({accounts:UInt32}, (h3 % 1000000) / 1000000)) - 1)
   AS account,
  toUInt32(r2 * r2 * 10) AS key,
  toUInt32(pow(((h1 / 1000000) % 1000) / 1000, 2) * {models:UInt32}) AS model,
  concat('vendor/model-', toString(model)) AS model_name, (h2 / 1000000) % 1000 AS e
 FROM numbers({first:UInt64}, {count:UInt64})
)
SETTINGS max_insert_threads = 1, max_threads = 2, max_memory_usage = 4000000000,
 min_insert_block_size_rows = 500000, optimize_on_insert = 0, max_partitions_per_insert_block = 0,
 insert_deduplicate = 0
"""
MONTHS = """
SELECT DISTINCT partition FROM system.parts
WHERE database = currentDatabase() AND table = {table:String} AND active ORDER BY partition
"""

Query = Callable[[], Awaitable[Any]]  # Any: answers are not looked at


def print_figure(name: str, **facts: float | str) -> None:
    """One line of JSON."""
    print(orjson.dumps({"name": name, **facts}).decode(), flush=True)


class Drawn:
    """What is asked for, drawn by chance from the same distributions as the rows."""

    def __init__(self, clickhouse: ClickHouse, accounts: int) -> None:
        self.clickhouse = clickhouse
        self.accounts = accounts
        self.views = UsageViews(clickhouse)
        self.summaries = UsageSummaries(clickhouse)
        self.chance = random.Random(1)

    def account(self) -> int:
        return min(self.accounts - 1, int(self.accounts ** self.chance.random()) - 1)

    @staticmethod
    def scope(account: int) -> Scope:
        return Scope(f"acc_{account:05d}")

    async def last_page(self) -> Query:
        scope = self.scope(self.account())
        return lambda: self.views.list_lines(scope, RequestFilter())

    async def by_model_status_day(self) -> Query:
        scope = self.scope(self.account())
        since_ms = END_MS - self.chance.randrange(1, DAYS - 1) * DAY_MS
        wanted = RequestFilter(
            since_ms=since_ms,
            until_ms=since_ms + DAY_MS,
            any_of={
                "model_id": frozenset({f"vendor/model-{int(self.chance.random() ** 2 * MODELS)}"}),
                "http_status": frozenset({self.chance.choice([200, 502])}),
            },
        )
        return lambda: self.views.list_lines(scope, wanted)

    async def by_key(self) -> Query:
        account = self.account()
        key = f"key_{account}_{int(self.chance.random() ** 2 * 10)}"
        wanted = RequestFilter(any_of={"key_id": frozenset({key})})
        return lambda: self.views.list_lines(self.scope(account), wanted)

    async def by_request_id(self) -> Query:
        scope = self.scope(self.account())
        before_ms = END_MS - self.chance.randrange(DAYS * 24) * 3_600_000
        rows = await self.clickhouse.query(
            "SELECT request_id FROM requests WHERE account_id = {account:String} AND received_at <"
            " fromUnixTimestamp64Milli({before:Int64}, 'UTC') ORDER BY received_at DESC LIMIT 1",
            {"account": scope.account_id, "before": before_ms},
        )
        wanted = rows[0][0] if rows else "req_none"

        async def get() -> None:
            try:
                await self.views.get_request(scope, wanted)
            except NotFound:
                assert not rows, wanted

        return get

    async def spend_by_model_30_days(self) -> Query:
        scope = self.scope(self.account())
        wanted = RequestFilter(since_ms=END_MS - 30 * DAY_MS, until_ms=END_MS)
        return lambda: self.summaries.summarize(scope, wanted, group_by="model", with_times=False)

    async def figures_by_model_30_days(self) -> Query:
        scope = self.scope(self.account())
        wanted = RequestFilter(since_ms=END_MS - 30 * DAY_MS, until_ms=END_MS)
        return lambda: self.summaries.summarize(scope, wanted, group_by="model")

    async def baseline_empty_query(self) -> Query:
        return lambda: self.clickhouse.query("SELECT 1")


async def measured(make: Callable[[], Awaitable[Query]]) -> dict[str, float]:
    """Milliseconds of the median and of the 95th of 100, and the same of the processor's."""
    await (await make())()
    taken, worked = [], []
    for _ in range(QUERIES):
        query = await make()
        started_s, worked_s = time.perf_counter(), time.process_time()
        await query()
        taken.append(1000 * (time.perf_counter() - started_s))
        worked.append(1000 * (time.process_time() - worked_s))
    return {
        "p50_ms": round(median(taken), 1),
        "p95_ms": round(sorted(taken)[int(0.95 * len(taken)) - 1], 1),
        "cpu_ms": round(median(worked), 1),
        "cpu_p95_ms": round(sorted(worked)[int(0.95 * len(worked)) - 1], 1),
    }


async def fill(clickhouse: ClickHouse, rows: int, accounts: int) -> None:
    """Makes the log as it is after a while: months that are over are one part, days are summed."""
    for first in range(0, rows, STEP):
        await clickhouse.work(
            FILL,
            {
                "start": START_MS,
                "span": END_MS - START_MS,
                "total": rows,
                "first": first,
                "count": min(STEP, rows - first),
                "accounts": accounts,
                "models": MODELS,
            },
        )
    await merge_months_that_are_over(clickhouse, "requests")


async def merge_months_that_are_over(clickhouse: ClickHouse, table: str) -> None:
    """What the engine does by itself within hours."""
    months = [month for (month,) in await clickhouse.query(MONTHS, {"table": table})]
    for month in months[:-1]:
        await clickhouse.work(f"OPTIMIZE TABLE {table} PARTITION {int(month)} FINAL")


async def bench(arguments: argparse.Namespace, folder: str) -> None:
    clickhouse = ClickHouse(f"chdb://{folder}", database="bench", read_timeout_s=300)
    await clickhouse.open()
    await migrate(clickhouse)
    rows = int((await clickhouse.query("SELECT count() FROM requests"))[0][0])
    if not rows:
        started_s = time.perf_counter()
        await fill(clickhouse, arguments.rows, arguments.accounts)
        filled_s = time.perf_counter()
        days = await DayRoller(clickhouse, FakeClock(END_MS)).round()
        await merge_months_that_are_over(clickhouse, "requests_daily")
        print_figure(
            "usage_filled",
            rows=arguments.rows,
            seconds=round(filled_s - started_s, 1),
            days=len(days),
            rollup_seconds=round(time.perf_counter() - filled_s, 1),
        )
        rows = arguments.rows
    drawn = Drawn(clickhouse, arguments.accounts)
    for make in (
        drawn.baseline_empty_query,
        drawn.last_page,
        drawn.by_model_status_day,
        drawn.by_key,
        drawn.by_request_id,
        drawn.spend_by_model_30_days,
        drawn.figures_by_model_30_days,
    ):
        print_figure(f"query:{make.__name__}", rows=rows, **await measured(make))
    await clickhouse.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--accounts", type=int, default=2_000)
    parser.add_argument("--folder", help="where the log is or is made; default: temporary")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(bench(arguments, arguments.folder or folder))


if __name__ == "__main__":
    main()
