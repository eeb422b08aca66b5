"""Live windows hold what a plain count over the same requests gives, within bounded memory."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from math import ceil

import pytest

from services.usage.domain.live import (
    AHEAD_MAX_MS,
    HORIZON_S,
    RESOLUTIONS,
    Cell,
    LiveEvent,
    LiveSet,
    bin_of,
    latency_of,
)

NOW_MS = 1_800_000_000_000
EVENT = LiveEvent("use_1", "acc_1", "key_1", "model_1", NOW_MS, 100, False, 10, 20, 1_000)


def some_events(count: int = 2_000) -> list[LiveEvent]:
    chance = random.Random(7)
    return [
        LiveEvent(
            usage_id=f"use_{number}",
            account_id=f"acc_{chance.randrange(3)}",
            key_id=f"key_{chance.randrange(4)}",
            model_id=f"model_{chance.randrange(2)}",
            ended_at_ms=NOW_MS - chance.randrange(HORIZON_S * 1000),
            latency_ms=round(chance.lognormvariate(5, 1.5)),
            failed=chance.random() < 0.2,
            prompt_tokens=chance.randrange(500),
            completion_tokens=chance.randrange(500),
            cost_nanousd=chance.randrange(10**9),
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("resolution_s", RESOLUTIONS)
def test_each_bucket_is_the_sum_over_the_requests_that_ended_in_it(resolution_s: int) -> None:
    windows, events = LiveSet(), some_events()
    for event in events:
        assert windows.add(event, NOW_MS)
    oldest_s = NOW_MS // 1000 - RESOLUTIONS[resolution_s]
    wanted = Counter[tuple[str, int]]()
    cost = Counter[tuple[str, int]]()
    for event in events:
        start = event.ended_at_ms // 1000 // resolution_s * resolution_s
        if event.account_id == "acc_1" and event.ended_at_ms >= oldest_s * 1000:
            wanted[event.key_id, start] += 1
            cost[event.key_id, start] += event.cost_nanousd
    found = {
        (value, start): (cell.requests, cell.cost_nanousd)
        for value, cells in windows.read(
            "acc_1", "key", resolution_s=resolution_s, since_s=0, after=0
        )
        for start, cell in cells
    }
    assert found == {key: (count, cost[key]) for key, count in wanted.items()}
    assert found


def test_an_event_counts_once_however_often_it_is_read() -> None:
    windows = LiveSet()
    assert windows.add(EVENT, NOW_MS)
    assert not windows.add(EVENT, NOW_MS)
    [(_, [(_, cell)])] = windows.read("acc_1", "", resolution_s=60, since_s=0, after=0)
    assert cell.requests == 1


def test_what_is_too_old_or_from_the_future_is_not_counted() -> None:
    windows = LiveSet()
    old = replace(EVENT, ended_at_ms=NOW_MS - HORIZON_S * 1000 - 1)
    ahead = replace(EVENT, ended_at_ms=NOW_MS + AHEAD_MAX_MS + 1)
    assert not windows.add(old, NOW_MS)
    assert not windows.add(ahead, NOW_MS)
    assert windows.series_count == 0


@pytest.mark.parametrize("share", [0.01, 0.5, 0.95, 0.99, 1.0])
def test_a_quantile_is_off_by_two_percent_at_most(share: float) -> None:
    cell, latencies = Cell(), sorted(event.latency_ms for event in some_events())
    for latency_ms in latencies:
        cell.add(replace(EVENT, latency_ms=latency_ms), bin_of(latency_ms), 1)
    exact = latencies[ceil(share * len(latencies)) - 1]
    assert cell.quantile_ms(share) == pytest.approx(exact, abs=0.02 * exact + 1)
    assert Cell().quantile_ms(share) == 0
    assert latency_of(bin_of(0)) == 0


def test_a_reader_gets_what_changed_since_it_last_read() -> None:
    windows = LiveSet()
    windows.add(EVENT, NOW_MS)
    seen = windows.version
    assert not list(windows.read("acc_1", "model", resolution_s=1, since_s=0, after=seen))
    windows.add(replace(EVENT, usage_id="use_2", model_id="model_2"), NOW_MS)
    changed = windows.read("acc_1", "model", resolution_s=1, since_s=0, after=seen)
    assert [value for value, _ in changed] == ["model_2"]


def test_nobody_reads_the_windows_of_another_account() -> None:
    windows = LiveSet()
    windows.add(EVENT, NOW_MS)
    assert not list(windows.read("acc_2", "", resolution_s=1, since_s=0, after=0))
    assert not list(windows.read("", "", resolution_s=1, since_s=0, after=0))


def test_nothing_stays_in_memory_once_it_is_older_than_the_horizon() -> None:
    windows = LiveSet()
    for event in some_events():
        windows.add(event, NOW_MS)
    windows.forget(NOW_MS + (HORIZON_S + 61) * 1000)
    assert windows.series_count == 0
    assert not windows.accounts()


def test_keys_beyond_the_bound_are_left_out_and_the_total_is_not() -> None:
    windows = LiveSet(series_max=3)
    for number in range(5):
        event = replace(EVENT, usage_id=f"use_{number}", key_id=f"key_{number}")
        windows.add(event, NOW_MS)
    assert windows.series_count == 3
    assert "acc_1" in windows.truncated
    [(_, [(_, cell)])] = windows.read("acc_1", "", resolution_s=60, since_s=0, after=0)
    assert cell.requests == 5
