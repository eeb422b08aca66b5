"""A store that is away holds the sink up and loses nothing; back again, the log catches up while
queries are answered.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from services.common.clock import SystemClock
from services.common.errors import Unavailable
from services.common.kafka import Pump
from services.common.kafka.memory import MemoryLog, MemorySource
from services.common.topics import USAGE
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.sink_store_clickhouse import ClickHouseSinkStore
from services.usage.adapters.usage_event import row_from_message
from services.usage.domain.filter import RequestFilter, Scope
from services.usage.domain.row import RequestRow
from services.usage.ports import REQUESTS, Bounds
from services.usage.rollup.marks import MarkingSinkStore
from services.usage.sink.target import RowSink
from services.usage.views import UsageViews
from tests.fixtures.waiting import eventually, eventually_async, running
from tests.unit.usage.builders import message
from tests.unit.usage.test_sink import Letters

RATE_PER_S = 8
HOUR_S = 3_600
EVENTS = RATE_PER_S * HOUR_S
TIMES_REAL_TIME = 10


class Away(MarkingSinkStore):
    """The store, away as long as it is told to be, and how often it was asked meanwhile."""

    is_away = False
    refused = 0

    async def record(self, bounds: Bounds, epoch: int) -> None:
        if self.is_away:
            self.refused += 1
            raise Unavailable("the store is away")
        await super().record(bounds, epoch)

    async def insert(self, bounds: Bounds, rows: Sequence[RequestRow]) -> None:
        if self.is_away:
            raise Unavailable("the store is away")
        await super().insert(bounds, rows)


async def test_an_hour_without_the_store_loses_nothing_and_is_caught_up_ten_times_as_fast(
    clickhouse: ClickHouse,
) -> None:
    log = MemoryLog()
    source = MemorySource(log, topic=USAGE, group="log")
    store = Away(ClickHouseSinkStore(clickhouse, REQUESTS), clickhouse, SystemClock())
    sink = RowSink(
        store,
        decode=row_from_message,
        dead_letters=Letters(),
        log_bounds=source.bounds,
        on_rows=lambda rows: None,
    )
    pump = Pump(topic=USAGE, group="log", target=sink, source=source, batch_max=10_000)
    views = UsageViews(clickhouse)

    async def has(count: int) -> bool:
        return await clickhouse.query("SELECT count() FROM requests") == [(count,)]

    async with running(pump.run):
        log.append(USAGE.name, b"acc_1", message(0).value)
        await eventually_async(lambda: has(1))
        store.is_away = True
        # The hour's events: whoever writes them is told nothing of the store.
        for number in range(1, EVENTS):
            log.append(USAGE.name, f"acc_{number % 13}".encode(), message(number).value)
        await eventually(lambda: store.refused > 0)
        assert await has(1)
        store.is_away = False
        back_s = time.monotonic()
        answered = 0

        async def has_all() -> bool:
            nonlocal answered
            page = await views.list_requests(Scope("acc_1"), RequestFilter())
            answered += bool(page.rows)
            return await has(EVENTS)

        await eventually_async(has_all, timeout_s=HOUR_S / TIMES_REAL_TIME)
        assert time.monotonic() - back_s < HOUR_S / TIMES_REAL_TIME
    assert answered > 0
    assert await clickhouse.query("SELECT uniqExact(usage_id) FROM requests") == [(EVENTS,)]
