"""How long it takes from an event in the log to a query that sees it, at a trickle and at a steady
load.

`python -m tests.bench.usage_latency [--seconds N]` reads an in-memory log of six partitions into an
embedded ClickHouse as the service does, each request with its ledger transaction, and asks all the
while how far the rows are. The baseline, in the same run, makes one insert a second of each
partition, as is usual. One JSON line a load.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Mapping

from services.common.clock import SystemClock
from services.common.events import record_of
from services.common.kafka import Pump
from services.common.kafka.memory import MemoryLog, MemorySource
from services.common.runtime import calm_garbage_collector
from services.common.topics import LEDGER, USAGE
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.ledger_event import ledger_row_from_message
from services.usage.adapters.migrations import migrate
from services.usage.adapters.sink_store_clickhouse import ClickHouseSinkStore
from services.usage.adapters.usage_event import row_from_message
from services.usage.bootstrap_sinks import GC_THRESHOLD, LINGER_S
from services.usage.config import UsageSettings
from services.usage.domain.ledger_row import LedgerRow
from services.usage.domain.row import RequestRow
from services.usage.ports import LEDGER_TRANSACTIONS, REQUESTS
from services.usage.rollup.marks import MarkingSinkStore
from services.usage.sink.target import RowSink
from tests.bench._figures import quantile, say
from tests.fixtures.waiting import eventually_async, running
from tests.unit.usage.builders import envelope, usage
from tests.unit.usage.test_ledger_row import posted
from tests.unit.usage.test_sink import Letters

LOADS_PER_S = (5, 1_000)
ACCOUNTS = 200
# So often the rows are looked for: what the figures are exact to, beside the query itself.
LOOK_S = 0.025
MOMENT_S = 0.02
NEWEST = """
SELECT log_partition, max(log_offset) FROM requests
WHERE log_topic = {topic:String} AND received_at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')
GROUP BY log_partition
"""
APART_S = UsageSettings.model_fields["sink_linger_ms"].default / 1000


def ledger_event(number: int, account_id: str, now_ms: int) -> bytes:
    """The transaction that books the request."""
    transaction = posted(
        transaction_id=f"txn_{number}",
        account_id=account_id,
        usage_id=f"use_{number}",
        occurred_at_ms=now_ms,
        booked_at_ms=now_ms,
    )
    return record_of(transaction, account_id=account_id, occurred_at_ms=now_ms).to_bytes()


class Town:
    """The log, the store, and the moments at which events were written and seen."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self.log = MemoryLog((USAGE, LEDGER))
        self.clickhouse = clickhouse
        self.since_ms = SystemClock().now_ms()
        self.written_s: dict[tuple[int, int], float] = {}
        self.taken_s: list[float] = []

    async def write(self, rate: int, seconds: float) -> None:
        """Writes events at an even rate, those of a moment together as a producer does."""
        count = round(rate * seconds)
        events = [self._event(number, rate) for number in range(count)]
        started_s = time.perf_counter()
        number = 0
        while number < count:
            due = min(count, int((time.perf_counter() - started_s) * rate) + 1)
            for key, request, transaction in events[number:due]:
                at = self.log.append(USAGE.name, key, request)
                self.written_s[at.partition, at.offset] = time.perf_counter()
                self.log.append(LEDGER.name, key, transaction)
            number = max(number, due)
            await asyncio.sleep(MOMENT_S)

    def _event(self, number: int, rate: int) -> tuple[bytes, bytes, bytes]:
        """Key, request and transaction. They are made before the clock runs."""
        at_ms, account = self.since_ms + number * 1000 // rate, f"acc_{number % ACCOUNTS}"
        event = usage(usage_id=f"use_{number}", account_id=account, received_at_ms=at_ms)
        return account.encode(), envelope(event), ledger_event(number, account, at_ms)

    async def look(self) -> None:
        """Notes for each event when a query first saw it, until cancelled."""
        parameters = {"topic": USAGE.name, "since": self.since_ms}
        seen: dict[int, int] = {}
        while True:
            newest = dict(await self.clickhouse.query(NEWEST, parameters))
            self._note(seen, newest, time.perf_counter())
            await asyncio.sleep(LOOK_S)

    def _note(self, seen: dict[int, int], newest: Mapping[int, int], now_s: float) -> None:
        for partition, last in newest.items():
            for offset in range(seen.get(partition, -1) + 1, last + 1):
                self.taken_s.append(now_s - self.written_s.pop((partition, offset)))
            seen[partition] = last

    async def all_seen(self) -> bool:
        return not self.written_s

    def pumps(self, linger_s: float, apart_s: float) -> list[Pump]:
        """Of requests and of the ledger."""
        source = MemorySource(self.log, topic=USAGE, group="log")
        requests = ClickHouseSinkStore(self.clickhouse, REQUESTS)
        sink = RowSink[RequestRow](
            MarkingSinkStore(requests, self.clickhouse, SystemClock()),
            decode=row_from_message,
            dead_letters=Letters(),
            log_bounds=source.bounds,
            on_rows=lambda _rows: None,
        )
        ledger_source = MemorySource(self.log, topic=LEDGER, group="ledger")
        ledger = RowSink[LedgerRow](
            ClickHouseSinkStore(self.clickhouse, LEDGER_TRANSACTIONS),
            decode=ledger_row_from_message,
            dead_letters=Letters(),
            log_bounds=ledger_source.bounds,
            on_rows=lambda _rows: None,
        )
        parts = ((USAGE, sink, source), (LEDGER, ledger, ledger_source))
        return [
            Pump(
                topic=topic,
                group="log",
                target=target,
                source=read,
                batch_max=20_000,
                linger_s=linger_s,
                apart_s=apart_s,
            )
            for topic, target, read in parts
        ]


async def taken_s(
    folder: str, rate: int, seconds: float, *, linger_s: float, apart_s: float
) -> list[float]:
    """From the log to a query, in seconds, of every event; in a store of its own."""
    clickhouse = ClickHouse(f"chdb://{folder}", database=f"at_{rate}_{round(linger_s * 1000)}")
    await clickhouse.open()
    await migrate(clickhouse)
    town = Town(clickhouse)
    requests, ledger = town.pumps(linger_s, apart_s)
    async with running(requests.run), running(ledger.run), running(town.look):
        await town.write(rate, seconds)
        await eventually_async(town.all_seen, timeout_s=60)
    await clickhouse.close()
    return town.taken_s


async def bench(seconds: float, folder: str) -> None:
    calm_garbage_collector(GC_THRESHOLD)
    for rate in LOADS_PER_S:
        usual = await taken_s(folder, rate, seconds, linger_s=1.0, apart_s=0.0)
        taken = await taken_s(folder, rate, seconds, linger_s=LINGER_S, apart_s=APART_S)
        for name, part in (("p50", 0.5), ("p99", 0.99)):
            say(
                f"usage_visible_{name}",
                quantile(taken, part) * 1000,
                "ms",
                baseline=quantile(usual, part) * 1000,
                events_per_s=rate,
                events=len(taken),
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(bench(arguments.seconds, folder))


if __name__ == "__main__":
    main()
