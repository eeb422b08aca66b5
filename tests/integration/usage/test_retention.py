"""Old months are dropped whole, and what summed them up stays."""

from __future__ import annotations

from dataclasses import replace

from services.common.clock import FakeClock
from services.common.kafka import Pump
from services.common.kafka.memory import MemoryLog, MemorySource
from services.common.topics import USAGE
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.sink_store_clickhouse import ClickHouseSinkStore
from services.usage.adapters.usage_event import row_from_message
from services.usage.domain.filter import RequestFilter, Scope
from services.usage.ports import REQUESTS
from services.usage.retention import Retention
from services.usage.rollup.days import DayRoller
from services.usage.rollup.marks import DAY_MS, MarkingSinkStore
from services.usage.sink.target import RowSink
from services.usage.summaries import UsageSummaries
from tests.fixtures.waiting import eventually_async, running
from tests.unit.usage.builders import envelope, row, usage
from tests.unit.usage.test_sink import Letters

# 2026-03-31T12:00:00Z
NOW_MS = 1_774_958_400_000
DAYS_AGO = [0, 40, 75]


async def test_only_months_that_are_wholly_over_the_time_are_dropped_and_spend_stays(
    clickhouse: ClickHouse,
) -> None:
    rows = [row(n, received_at_ms=NOW_MS - ago * DAY_MS) for n, ago in enumerate(DAYS_AGO)]
    await ClickHouseSinkStore(clickhouse, REQUESTS).insert_missing(rows)
    clock = FakeClock(NOW_MS)
    await DayRoller(clickhouse, clock).round()
    months = "SELECT DISTINCT toYYYYMM(received_at) AS month FROM requests ORDER BY month"
    assert await Retention(clickhouse, clock, 0).apply() == []
    # The 28th of February is 31 days old, the 31st of January 59.
    assert await Retention(clickhouse, clock, 59).apply() == []
    assert await Retention(clickhouse, clock, 58).apply(dry_run=True) == ["202601"]
    assert await clickhouse.query(months) == [(202601,), (202602,), (202603,)]
    assert await Retention(clickhouse, clock, 58).apply() == ["202601"]
    assert await clickhouse.query(months) == [(202602,), (202603,)]
    total, _ = await UsageSummaries(clickhouse).summarize(Scope("acc_1"), RequestFilter())
    assert (total.requests, total.cost_nanousd) == (3, 3 * 12_345)


async def test_the_sink_goes_on_where_retention_took_the_newest_batch_of_rows_and_log(
    clickhouse: ClickHouse,
) -> None:
    log, clock = MemoryLog(), FakeClock(NOW_MS)

    def write(number: int, received_at_ms: int) -> int:
        event = replace(usage(usage_id=f"use_{number}"), received_at_ms=received_at_ms)
        return log.append(USAGE.name, b"acc_1", envelope(event)).partition

    async def sink_until(*stored: str) -> None:
        """A process that stores what is there, notes it once it is idle, and ends."""
        source = MemorySource(log, topic=USAGE, group="log")
        sink = RowSink(
            MarkingSinkStore(ClickHouseSinkStore(clickhouse, REQUESTS), clickhouse, clock),
            decode=row_from_message,
            dead_letters=Letters(),
            log_bounds=source.bounds,
            on_rows=lambda _rows: None,
        )
        ids = "SELECT usage_id FROM requests ORDER BY usage_id"

        async def are_stored() -> bool:
            found = [row_id for (row_id,) in await clickhouse.query(ids)]
            return found == sorted(stored) and pump.ready.is_set() and not pump.lag()

        pump = Pump(topic=USAGE, group="log", target=sink, source=source)
        async with running(pump.run):
            await eventually_async(are_stored)
        for _ in range(2):
            await sink.note_complete()

    partition = write(0, NOW_MS - 75 * DAY_MS)
    write(1, NOW_MS - 75 * DAY_MS)
    await sink_until("use_0", "use_1")
    assert await Retention(clickhouse, clock, 58).apply() == ["202601"]
    log.remove_before(USAGE.name, partition, 2)
    await sink_until()
    write(2, NOW_MS)
    await sink_until("use_2")
