"""How many usage events a second become durable rows, and how long queries take on them.

`python -m tests.bench.usage_sink [--events N] [--folder PATH]` fills an embedded ClickHouse from
the bytes of usage events, through the sink as the service runs it. The baseline, in the same run,
inserts rows that are already made: no decoding, no recorded bounds. One JSON line a figure; a rate
by processor time (`rows_per_cpu_s`) counts every thread of the process, merges included.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from statistics import median
from typing import Any

import orjson

from services.common.kafka import Batch, LogMessage
from services.common.runtime import calm_garbage_collector
from services.common.topics import USAGE
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.migrations import migrate
from services.usage.adapters.sink_store_clickhouse import ClickHouseSinkStore
from services.usage.adapters.usage_event import row_from_message
from services.usage.bootstrap_sinks import GC_THRESHOLD
from services.usage.domain.filter import RequestFilter, Scope
from services.usage.domain.row import RequestRow
from services.usage.ports import REQUESTS
from services.usage.sink.target import RowSink
from services.usage.summaries import UsageSummaries
from services.usage.views import UsageViews
from tests.unit.usage.builders import START_MS, envelope, usage
from tests.unit.usage.test_sink import Letters

ACCOUNTS = 50
QUERIES = 20
# What the service stores in one insert when it catches up.
BATCH = 20_000


def print_figure(name: str, **facts: float | str) -> None:
    """One line of JSON."""
    print(orjson.dumps({"bench": name, **facts}).decode(), flush=True)


def messages_of(start: int, count: int) -> list[LogMessage]:
    """Events of many accounts, models and keys, over ten days."""
    found = []
    for number in range(start, start + count):
        event = usage(
            event_id=f"evt_{number}",
            usage_id=f"use_{number:012d}",
            request_id=f"req_{number:012d}",
            account_id=f"acc_{number % ACCOUNTS}",
            key_id=f"key_{number % 500}",
            model_id=f"model-{number % 20}",
            received_at_ms=START_MS - 20 * 86_400_000 + number * 860,
            latency_ms=number % 9_000,
        )
        found.append(LogMessage(USAGE.name, 0, number, START_MS, None, envelope(event)))
    return found


async def bounds(partition: int) -> tuple[int, int]:
    """The log begins at 0; nobody asks for its end."""
    return 0, 0


class Rate:
    """Rows a second, by the clock and by the processor time of the whole process."""

    def __init__(self) -> None:
        self.rows = 0
        self._taken_s = self._cpu_s = 0.0

    async def count(self, rows: int, work: Awaitable[None]) -> None:
        """Waits for the work that makes so many rows durable."""
        started_s, cpu_s = time.perf_counter(), time.process_time()
        await work
        self._taken_s += time.perf_counter() - started_s
        self._cpu_s += time.process_time() - cpu_s
        self.rows += rows

    def facts(self) -> dict[str, int]:
        """For a line of JSON."""
        return {
            "rows_per_s": round(self.rows / self._taken_s),
            "rows_per_cpu_s": round(self.rows / self._cpu_s),
        }


async def sink_rate(clickhouse: ClickHouse, events: int, batch_size: int) -> Rate:
    """Events a second from bytes to durable rows."""
    store = ClickHouseSinkStore(clickhouse, REQUESTS)
    sink = RowSink(
        store,
        decode=row_from_message,
        dead_letters=Letters(),
        log_bounds=bounds,
        on_rows=lambda _rows: None,
    )
    claim = (await sink.claim(USAGE.name, [0]))[0]
    rate = Rate()
    for start in range(claim.next_offset, claim.next_offset + events, batch_size):
        batch = Batch(USAGE.name, 0, claim.epoch, tuple(messages_of(start, batch_size)))
        await rate.count(batch_size, sink.apply(batch))
    return rate


async def insert_rate(clickhouse: ClickHouse, rows: Sequence[RequestRow], times: int) -> Rate:
    """Rows a second where they are made already; no two of the inserted rows share a key."""
    store = ClickHouseSinkStore(clickhouse, REQUESTS)
    copies = [
        [row._replace(usage_id=f"{row.usage_id}_{copy}") for row in rows] for copy in range(times)
    ]
    rate = Rate()
    for copy in copies:
        await rate.count(len(copy), store.insert_missing(copy))
    stored = int((await clickhouse.query("SELECT count() FROM requests"))[0][0])
    assert stored == rate.rows, f"{stored} rows were stored"
    return rate


async def times_ms(call: Callable[[int], Awaitable[Any]]) -> dict[str, float]:
    """The median and the slowest of some calls in milliseconds. Any: answers are not looked at."""
    taken = []
    for number in range(QUERIES):
        started_s = time.perf_counter()
        await call(number)
        taken.append((time.perf_counter() - started_s) * 1000)
    return {"p50_ms": round(median(taken), 1), "max_ms": round(max(taken), 1)}


async def bench(arguments: argparse.Namespace, folder: str) -> None:
    clickhouse = ClickHouse(f"chdb://{folder}", database="bench")
    await clickhouse.open()
    await migrate(clickhouse)
    calm_garbage_collector(GC_THRESHOLD)
    for size in (100, 1_000, BATCH):
        count = arguments.events if size == BATCH else 20 * size
        rate = await sink_rate(clickhouse, count, size)
        print_figure("usage_sink", events=count, batch=size, **rate.facts())
    views, sums = UsageViews(clickhouse), UsageSummaries(clickhouse)
    total = (await clickhouse.query("SELECT count() FROM requests"))[0][0]
    assert total == arguments.events + 20 * 100 + 20 * 1_000, f"{total} rows were stored"

    def scope(number: int) -> Scope:
        return Scope(f"acc_{number % ACCOUNTS}")

    one_model = RequestFilter(any_of={"model_id": frozenset({"model-3"})})
    everything = RequestFilter()
    calls: dict[str, Callable[[int], Awaitable[Any]]] = {
        "list": lambda n: views.list_requests(scope(n), everything),
        "list_filtered": lambda n: views.list_requests(Scope("acc_3"), one_model, page_size=100),
        "get": lambda n: views.get_request(scope(n), f"req_{n:012d}"),
        "summary_by_day": lambda n: sums.summarize(scope(n), everything, group_by="day"),
    }
    for name, call in calls.items():
        print_figure(f"usage_{name}", rows=total, **await times_ms(call))
    rows = [row_from_message(message) for message in messages_of(0, BATCH)]
    await clickhouse.command("TRUNCATE TABLE requests")
    rate = await insert_rate(clickhouse, rows, 5)
    print_figure("usage_sink_baseline_insert_only", batch=len(rows), **rate.facts())
    await clickhouse.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000, help="a multiple of 20,000")
    parser.add_argument("--folder", help="an empty folder for the store; default: temporary")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(bench(arguments, arguments.folder or folder))


if __name__ == "__main__":
    main()
