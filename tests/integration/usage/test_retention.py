"""Old months are dropped whole, and what summed them up stays."""

from __future__ import annotations

from services.common.clock import FakeClock
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.sink_store_clickhouse import ClickHouseSinkStore
from services.usage.domain.filter import RequestFilter, Scope
from services.usage.ports import REQUESTS
from services.usage.retention import Retention
from services.usage.rollup.days import DayRoller
from services.usage.rollup.marks import DAY_MS
from services.usage.summaries import UsageSummaries
from tests.unit.usage.builders import row

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
