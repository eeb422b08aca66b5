"""The queries against a real engine: scope, filters, pages, sums."""

from __future__ import annotations

import random
from dataclasses import astuple, replace
from itertools import product

import pytest

from services.common.errors import InvalidArgument, NotFound
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.sink_store_clickhouse import ClickHouseSinkStore
from services.usage.domain.filter import RequestFilter, Scope
from services.usage.domain.row import RequestLine, RequestRow
from services.usage.ports import REQUESTS
from services.usage.summaries import UsageSummaries, UsageSums
from services.usage.views import OFFSET_MAX, UsageViews
from tests.unit.usage.builders import START_MS, random_row, row

ACCOUNT = Scope("acc_1")


async def stored(clickhouse: ClickHouse, rows: list[RequestRow]) -> UsageViews:
    await ClickHouseSinkStore(clickhouse, REQUESTS).insert_missing(rows)
    return UsageViews(clickhouse)


def newest_first(rows: list[RequestRow]) -> list[RequestRow]:
    return sorted(rows, key=lambda r: (r.received_at, r.usage_id), reverse=True)


async def test_a_stored_row_comes_back_as_it_was(clickhouse: ClickHouse) -> None:
    original = row(7, tags={"q'uote": 'a"b\\c\n'}, quantities={1: 3, 42: 9}, admitted_at_ms=0)
    views = await stored(clickhouse, [original])
    assert await views.get_request(ACCOUNT, original.usage_id) == original


FILTERS = [
    RequestFilter(),
    RequestFilter(since_ms=START_MS + 40_000),
    RequestFilter(until_ms=START_MS + 80_000),
    RequestFilter(any_of={"model_id": frozenset({"m1"})}),
    RequestFilter(any_of={"provider_id": frozenset({"p1", "p3"}), "key_id": frozenset({"k2"})}),
    RequestFilter(any_of={"outcome": frozenset({"success", "unknown_9"})}),
    RequestFilter(any_of={"http_status": frozenset({402, 502})}),
    RequestFilter(any_of={"error_code": frozenset({"upstream_error"})}),
    RequestFilter(any_of={"failure_stage": frozenset({"balance"})}),
    RequestFilter(any_of={"session_id": frozenset({"s'1"})}),
    RequestFilter(any_of={"end_user_id": frozenset({"e\\1"})}),
    RequestFilter(tags={"team": ""}),
    RequestFilter(tags={"team": "", "env": "it's"}),
    RequestFilter(trace_id="t1"),
    RequestFilter(min_latency_ms=20, min_cost_nanousd=20),
    RequestFilter(max_latency_ms=10, max_cost_nanousd=20),
    RequestFilter(any_of={"user_id": frozenset({"usr_1", "usr_3"})}),
]


async def test_sql_and_the_tail_take_the_same_rows_for_every_filter(
    clickhouse: ClickHouse,
) -> None:
    chance = random.Random(7)
    rows = [random_row(chance, offset) for offset in range(300)]
    views = await stored(clickhouse, rows)
    for wanted, scope in product(FILTERS, [ACCOUNT, Scope("acc_1", "k1")]):
        page = await views.list_requests(scope, wanted, page_size=1_000, with_total=True)
        expected = newest_first([r for r in rows if scope.sees(r) and wanted.matches(r)])
        assert page.rows == expected, wanted
        assert page.total == len(expected)
        total, _ = await UsageSummaries(clickhouse).summarize(scope, wanted)
        assert (total.requests, total.cost_nanousd) == (
            len(expected),
            sum(r.cost_nanousd for r in expected),
        )


async def test_nobody_sees_another_account_whatever_they_ask(clickhouse: ClickHouse) -> None:
    mine, theirs = row(1), row(2, account_id="acc_2", request_id="req_0_1")
    views = await stored(clickhouse, [mine, theirs])
    assert (await views.list_requests(ACCOUNT, RequestFilter())).rows == [mine]
    assert await views.get_request(ACCOUNT, "req_0_1") == mine
    with pytest.raises(NotFound):
        await views.get_request(ACCOUNT, theirs.usage_id)
    with pytest.raises(NotFound):
        await views.get_request(Scope("acc_1", "key_other"), mine.usage_id)
    with pytest.raises(InvalidArgument):
        await views.list_requests(Scope(""), RequestFilter())


async def test_pages_give_every_row_once_also_when_times_are_equal(clickhouse: ClickHouse) -> None:
    rows = [row(offset, received_at_ms=START_MS + offset // 10) for offset in range(95)]
    views = await stored(clickhouse, rows)
    seen: list[RequestRow] = []
    token = ""
    while True:
        page = await views.list_requests(ACCOUNT, RequestFilter(), page_size=7, page_token=token)
        seen += page.rows
        token = page.next_page_token
        if not token:
            break
    assert seen == newest_first(rows)


async def test_an_offset_skips_the_newest(clickhouse: ClickHouse) -> None:
    rows = [row(offset, received_at_ms=START_MS + offset) for offset in range(30)]
    views = await stored(clickhouse, rows)
    page = await views.list_requests(ACCOUNT, RequestFilter(), page_size=5, offset=10)
    assert page.rows == newest_first(rows)[10:15]


@pytest.mark.parametrize(
    "token", ["x", "W10=", "WzEsMl0=", "bm90IGpzb24=", "é", "W3RydWUsICJhIl0="]
)
async def test_a_page_token_of_somewhere_else_is_refused(
    clickhouse: ClickHouse, token: str
) -> None:
    with pytest.raises(InvalidArgument, match="page_token"):
        await UsageViews(clickhouse).list_requests(ACCOUNT, RequestFilter(), page_token=token)


async def test_impossible_pages_are_refused_by_name(clickhouse: ClickHouse) -> None:
    views = UsageViews(clickhouse)
    with pytest.raises(InvalidArgument, match="page_size"):
        await views.list_requests(ACCOUNT, RequestFilter(), page_size=1_001)
    with pytest.raises(InvalidArgument, match="offset"):
        await views.list_requests(ACCOUNT, RequestFilter(), offset=OFFSET_MAX + 1)
    with pytest.raises(InvalidArgument, match="group_by"):
        await UsageSummaries(clickhouse).summarize(
            ACCOUNT, RequestFilter(), group_by="usage_id; DROP TABLE requests"
        )


async def test_an_event_that_was_produced_twice_is_one_request(clickhouse: ClickHouse) -> None:
    first = row(1)
    again = first._replace(log_offset=900)
    views = await stored(clickhouse, [first])
    await ClickHouseSinkStore(clickhouse, REQUESTS).insert_missing([again])
    page = await views.list_requests(ACCOUNT, RequestFilter(), with_total=True)
    assert (page.rows, page.total) == ([first], 1)
    total, _ = await UsageSummaries(clickhouse).summarize(ACCOUNT, RequestFilter())
    assert (total.requests, total.cost_nanousd) == (1, first.cost_nanousd)
    assert await clickhouse.query("SELECT log_offset FROM request_log") == [(1,)]


async def test_the_newest_of_requests_with_one_id_is_given(clickhouse: ClickHouse) -> None:
    older = row(1, request_id="mine")
    newer = row(2, request_id="mine", received_at_ms=START_MS + 5)
    views = await stored(clickhouse, [newer, older])
    assert await views.get_request(ACCOUNT, "mine") == newer


async def test_sums_by_each_group_add_up_to_the_total(clickhouse: ClickHouse) -> None:
    chance = random.Random(8)
    rows = [random_row(chance, offset) for offset in range(200)]
    await stored(clickhouse, rows)
    for group in ("model", "key", "provider", "member", "day", "hour", "outcome", "status"):
        total, buckets = await UsageSummaries(clickhouse).summarize(
            ACCOUNT, RequestFilter(), group_by=group
        )
        assert sum(bucket.requests for bucket in buckets) == total.requests == 200
        assert sum(bucket.cost_nanousd for bucket in buckets) == total.cost_nanousd
        costs = [bucket.cost_nanousd for bucket in buckets]
        assert costs == sorted(costs, reverse=True)
    total, buckets = await UsageSummaries(clickhouse).summarize(
        ACCOUNT, RequestFilter(), group_by="hour", limit=1
    )
    assert buckets[0].value in {"2026-01-31T23:00:00Z", "2026-02-01T00:00:00Z"}
    assert len(buckets) == 1
    assert total.successful_requests == sum(r.outcome == "success" for r in rows)
    assert total.prompt_tokens == sum(r.prompt_tokens for r in rows)
    assert total.completion_tokens == sum(r.completion_tokens for r in rows)


async def test_sums_of_no_requests_are_zeros(clickhouse: ClickHouse) -> None:
    total, buckets = await UsageSummaries(clickhouse).summarize(
        ACCOUNT, RequestFilter(), group_by="model"
    )
    assert buckets == []
    assert replace(total, value="x") == replace(total, value="x", requests=0, cost_nanousd=0)
    assert (total.latency_p50_ms, total.latency_p95_ms) == (0.0, 0.0)


async def test_pages_hold_however_many_rows_came_more_than_once(clickhouse: ClickHouse) -> None:
    rows = [row(offset, received_at_ms=START_MS + offset) for offset in range(40)]
    views = await stored(clickhouse, rows)
    store = ClickHouseSinkStore(clickhouse, REQUESTS)
    for copy in range(1, 4):
        await store.insert_missing([one._replace(log_offset=100 * copy) for one in rows[20:]])
    for offset in (0, 3, 25):
        page = await views.list_requests(
            ACCOUNT, RequestFilter(), page_size=15, offset=offset, with_total=True
        )
        assert page.rows == newest_first(rows)[offset : offset + 15]
        assert page.total == 40


async def test_a_line_tells_of_a_request_what_its_row_tells(clickhouse: ClickHouse) -> None:
    chance = random.Random(9)
    rows = [random_row(chance, offset) for offset in range(120)]
    views = await stored(clickhouse, rows)
    wanted = RequestFilter(any_of={"outcome": frozenset({rows[0].outcome})})
    token = ""
    for _ in range(120):
        page = await views.list_requests(ACCOUNT, wanted, page_size=7, page_token=token)
        lines = await views.list_lines(ACCOUNT, wanted, page_size=7, page_token=token)
        assert lines.next_page_token == page.next_page_token
        told = [{name: getattr(row, name) for name in RequestLine._fields} for row in page.rows]
        assert [line._asdict() for line in lines.rows] == told
        token = page.next_page_token
        if not token:
            break
    assert not token


async def test_sums_without_times_are_the_same_sums(clickhouse: ClickHouse) -> None:
    chance = random.Random(10)
    await stored(clickhouse, [random_row(chance, offset) for offset in range(60)])
    summaries = UsageSummaries(clickhouse)
    for group in ("model", "hour"):
        total, buckets = await summaries.summarize(ACCOUNT, RequestFilter(), group_by=group)
        bare, bare_buckets = await summaries.summarize(
            ACCOUNT, RequestFilter(), group_by=group, with_times=False
        )
        assert [counts(one) for one in (bare, *bare_buckets)] == [
            counts(one) for one in (total, *buckets)
        ]
        assert {bare.latency_p50_ms, bare.latency_p99_ms, bare.first_token_p95_ms} == {0.0}
        assert total.latency_p50_ms > 0


def counts(sums: UsageSums) -> list[object]:
    return [value for value in astuple(sums) if not isinstance(value, float)]


async def test_the_requests_that_share_an_id_are_told_oldest_first(clickhouse: ClickHouse) -> None:
    rows = [row(n, request_id="mine", received_at_ms=START_MS + n) for n in range(3)]
    views = await stored(clickhouse, [*rows, row(9, request_id="other")])
    assert await views.requests_of_id(ACCOUNT, "mine") == rows
    assert await views.requests_of_id(ACCOUNT, rows[1].usage_id) == rows
    with pytest.raises(NotFound):
        await views.requests_of_id(ACCOUNT, "none")
