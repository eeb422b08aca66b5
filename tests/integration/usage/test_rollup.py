"""Figures of whole days are those of the rows, whatever comes late and wherever a writer dies."""

from __future__ import annotations

import random
from dataclasses import astuple
from datetime import date

import pytest

from services.common.clock import FakeClock
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.sink_store_clickhouse import ClickHouseSinkStore
from services.usage.domain.filter import RequestFilter, Scope
from services.usage.domain.row import RequestRow
from services.usage.ports import REQUESTS, Bounds
from services.usage.rollup.days import DayRoller, valid_days
from services.usage.rollup.marks import DAY_MS, MarkingSinkStore, date_of
from services.usage.summaries import UsageSummaries, UsageSums
from tests.unit.usage.builders import random_row, row

# 2026-03-10T12:00:00Z
NOON_MS = 1_773_144_000_000
ACCOUNT = Scope("acc_1")
TOPIC = "mesh.usage.v1"


def rows_of(days: range, count: int = 30) -> list[RequestRow]:
    """Rows of the days so many before the noon, none later than it."""
    chance = random.Random(4)
    rows = []
    for ago in days:
        for number in range(count):
            at_ms = NOON_MS - ago * DAY_MS - chance.randrange(11 * 3_600_000)
            offset = 1_000 * ago + number
            rows.append(random_row(chance, offset, received_at_ms=at_ms))
    return rows


def counts(sums: UsageSums) -> list[object]:
    """All but the percentiles."""
    return [value for value in astuple(sums) if not isinstance(value, float)]


class Log:
    """The store as the service has it, with a clock to turn."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self.clock = FakeClock(NOON_MS)
        self.store = MarkingSinkStore(
            ClickHouseSinkStore(clickhouse, REQUESTS), clickhouse, self.clock
        )
        self.roller = DayRoller(clickhouse, self.clock)
        self.sums = UsageSummaries(clickhouse)
        self.clickhouse = clickhouse

    async def days(self) -> list[date]:
        return sorted(await valid_days(self.clickhouse))

    async def figures(self, wanted: RequestFilter, group: str) -> dict[str, tuple[int, int]]:
        """Requests and cost of each value, and of all under ''."""
        total, buckets = await self.sums.summarize(ACCOUNT, wanted, group_by=group)
        counted = await self.sums.summarize(ACCOUNT, wanted, group_by=group, with_times=False)
        assert [counts(one) for one in (counted[0], *counted[1])] == [
            counts(one) for one in (total, *buckets)
        ]
        found = {one.value: (one.requests, one.cost_nanousd) for one in buckets}
        return found | {"total": (total.requests, total.cost_nanousd)}


@pytest.fixture
async def log(clickhouse: ClickHouse) -> Log:
    return Log(clickhouse)


def expected(
    rows: list[RequestRow], wanted: RequestFilter, column: str
) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for one in filter(wanted.matches, rows):
        value = (
            date_of(one.received_at).isoformat() if column == "day" else str(getattr(one, column))
        )
        for name in (value, "total"):
            requests, cost = found.get(name, (0, 0))
            found[name] = requests + 1, cost + one.cost_nanousd
    return found


WANTED = [
    RequestFilter(),
    RequestFilter(since_ms=NOON_MS - 3 * DAY_MS),
    RequestFilter(since_ms=NOON_MS - 4 * DAY_MS, until_ms=NOON_MS - 2 * DAY_MS),
    RequestFilter(until_ms=NOON_MS - 2 * DAY_MS, any_of={"model_id": frozenset({"m1"})}),
    RequestFilter(any_of={"http_status": frozenset({200, 402}), "key_id": frozenset({"k2"})}),
    RequestFilter(tags={"team": "blue"}),
    RequestFilter(min_latency_ms=20),
]


async def test_figures_of_days_and_of_rows_add_up_to_the_same(log: Log) -> None:
    rows = rows_of(range(5))
    await log.store.insert_missing(rows)
    assert await log.days() == []
    rolled = await log.roller.round()
    assert rolled == [date_of(NOON_MS - ago * DAY_MS) for ago in (4, 3, 2, 1)]
    assert await log.days() == rolled
    for wanted in WANTED:
        for group, column in (
            ("model", "model_id"),
            ("day", "day"),
            ("member", "user_id"),
            ("status", "http_status"),
        ):
            found = await log.figures(wanted, group)
            assert found == expected(rows, wanted, column), (wanted, group)


async def test_percentiles_of_days_are_close_to_those_of_rows(log: Log) -> None:
    rows = [
        one._replace(latency_ms=n, first_token_ms=n // 2) for n, one in enumerate(rows_of(range(4)))
    ]
    await log.store.insert_missing(rows)
    before, _ = await log.sums.summarize(ACCOUNT, RequestFilter())
    await log.roller.round()
    after, _ = await log.sums.summarize(ACCOUNT, RequestFilter())
    assert after.latency_p95_ms == pytest.approx(before.latency_p95_ms, rel=0.05)
    assert after.first_token_p50_ms == pytest.approx(before.first_token_p50_ms, rel=0.05)
    assert after.latency_p50_ms > after.first_token_p50_ms > 0


async def test_a_late_row_counts_at_once_and_its_day_is_summed_up_again(log: Log) -> None:
    rows = rows_of(range(4))
    await log.store.insert_missing(rows)
    await log.roller.round()
    late = row(9_999, received_at_ms=NOON_MS - 2 * DAY_MS, cost_nanousd=7_000)
    await log.store.insert(Bounds(TOPIC, 0, 9_999, 9_999, 1), [late])
    two_ago = date_of(late.received_at)
    assert two_ago not in await log.days()
    assert await log.figures(RequestFilter(), "day") == expected(
        [*rows, late], RequestFilter(), "day"
    )
    # A day that has just been marked waits for a round, because more may be coming.
    assert await log.roller.round() == []
    assert await log.roller.round() == [two_ago]
    assert two_ago in await log.days()
    assert await log.figures(RequestFilter(), "day") == expected(
        [*rows, late], RequestFilter(), "day"
    )


async def test_a_row_that_came_twice_counts_once(log: Log) -> None:
    rows = rows_of(range(1, 3))
    await log.store.insert_missing(rows)
    await log.store.insert_missing([one._replace(log_offset=one.log_offset + 50) for one in rows])
    await log.roller.round()
    assert await log.figures(RequestFilter(), "day") == expected(rows, RequestFilter(), "day")


async def test_a_writer_that_died_between_rows_and_mark_leaves_no_old_figures(log: Log) -> None:
    await log.store.insert_missing(rows_of(range(3)))
    await log.roller.round()
    late = row(9_999, received_at_ms=NOON_MS - DAY_MS)
    bounds = Bounds(TOPIC, 0, 9_999, 9_999, 1)
    # The rows without their marks: what a writer leaves that dies right behind them.
    await ClickHouseSinkStore(log.clickhouse, REQUESTS).insert(bounds, [late])
    assert date_of(late.received_at) in await log.days()
    assert await log.store.stored_count(bounds) == 1
    assert date_of(late.received_at) not in await log.days()


async def test_a_derivation_that_was_cut_off_counts_for_nothing(log: Log) -> None:
    rows = rows_of(range(1, 3))
    await log.store.insert_missing(rows)
    await log.clickhouse.command(
        "INSERT INTO requests_daily (account_id, day, roll, requests, cost_nanousd)"
        f" VALUES ('acc_1', '{date_of(NOON_MS - DAY_MS)}', 1, 500, 500)"
    )
    for _ in range(2):
        assert await log.figures(RequestFilter(), "day") == expected(rows, RequestFilter(), "day")
        await log.roller.round()


async def test_what_was_replaced_is_deleted_when_no_reader_can_need_it(log: Log) -> None:
    rows = rows_of(range(1, 3))
    await log.store.insert_missing(rows)
    await log.roller.round()
    await log.roller.roll(date_of(NOON_MS - DAY_MS))
    rolls = "SELECT uniqExact(roll) FROM requests_daily"
    await log.roller.round()
    assert await log.clickhouse.query(rolls) == [(3,)]
    await log.clock.advance(3_600)
    await log.roller.round()
    await log.clickhouse.command("OPTIMIZE TABLE requests_daily FINAL")
    assert await log.clickhouse.query(rolls) == [(2,)]
    assert await log.figures(RequestFilter(), "day") == expected(rows, RequestFilter(), "day")


async def test_spend_has_a_bucket_for_each_day_and_a_trailing_average(log: Log) -> None:
    days = {0: 100, 1: 50, 3: 201}
    rows = [
        row(n, received_at_ms=NOON_MS - ago * DAY_MS, cost_nanousd=cost)
        for n, (ago, cost) in enumerate(days.items())
    ]
    await log.store.insert_missing(rows)
    wanted = RequestFilter(since_ms=NOON_MS - 4 * DAY_MS)
    buckets = await log.sums.spend_trend(ACCOUNT, wanted, granularity="day", now_ms=NOON_MS + 1_000)
    assert [one.cost_nanousd for one in buckets] == [0, 201, 0, 50, 100]
    # 201 / 2 is rounded half up; so is 251 / 3.
    assert [one.trailing_average_nanousd for one in buckets] == [0, 101, 67, 84, 50]
    assert [one.start_ms % DAY_MS for one in buckets] == [0] * 5
