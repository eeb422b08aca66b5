"""A short soak leaves nothing behind, and the checks of a soak see what they are there for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fixtures.gateway import GatewayHarness
from tests.soak.gauge import Sample
from tests.soak.run import Plan, soak
from tests.soak.verdict import faults, slope

SHORT = Plan(hours=3, requests=54, accounts=30, at_once=12, growth_max_mb_h=20.0)
CLEAN = Sample(
    hour=1,
    rss_mb=200.0,
    objects=100_000,
    requests=100,
    statuses={"200": 100},
    tasks={"run": 2},
    busy=0,
    idle=4,
    callers=0,
    files=20,
    in_flight=0,
    grants=0,
    holds=0,
    tickets=0,
    open={"purses": 0},
    kept={"cache": 9},
)


def _faults(samples: Sequence[Sample]) -> list[str]:
    return faults(samples, tasks_before={"run": 2}, idle_max=8)


async def test_three_hours_of_mixed_traffic_leave_nothing_behind(tmp_path: Path) -> None:
    report = await soak(tmp_path, SHORT)
    assert report.faults == []
    assert [sample.hour for sample in report.samples] == [1, 2, 3]
    assert isinstance(report.line()["slope_mb_h"], float)
    told = sum((Counter(sample.statuses) for sample in report.samples), Counter[str]())
    expected = {"200", "200 cached", "401", "404", "hung up"}
    assert expected <= told.keys()


async def test_a_worker_that_keeps_memory_and_tasks_of_its_requests_fails_the_soak(
    tmp_path: Path,
) -> None:
    kept: list[bytearray] = []
    waiting: list[asyncio.Task[bool]] = []

    async def leaked() -> bool:
        return await asyncio.Event().wait()

    def leak(_: GatewayHarness) -> None:
        kept.append(bytearray(b"x") * 1024 * 1024)
        if len(waiting) < 3:
            waiting.append(asyncio.create_task(leaked()))

    try:
        report = await soak(tmp_path, replace(SHORT, hours=2, requests=36, beside=leak))
    finally:
        for task in waiting:
            task.cancel()
    assert any(fault.startswith("memory grows") for fault in report.faults)
    assert any("leaked left" in fault for fault in report.faults)


def test_the_slope_is_that_of_the_line_nearest_to_the_points() -> None:
    assert slope([5.0]) == 0.0
    assert slope([1.0, 3.0, 5.0]) == 2.0
    assert slope([4.0, 4.5, 3.5, 4.0]) == pytest.approx(-0.1)


def test_flat_memory_with_nothing_left_is_no_fault_and_growth_of_a_megabyte_an_hour_is() -> None:
    flat = [replace(CLEAN, hour=hour, rss_mb=200 + hour % 2) for hour in range(1, 25)]
    assert _faults(flat) == []
    grown = [replace(one, rss_mb=200.0 + one.hour) for one in flat]
    assert _faults(grown) == ["memory grows by 1.00 MB an hour"]
    # What the first hours take is the warm-up.
    warmed = [replace(one, rss_mb=300.0 if one.hour > 8 else 30.0 * one.hour) for one in flat]
    assert _faults(warmed) == []


@pytest.mark.parametrize("name", ["in_flight", "busy", "callers", "grants", "holds", "tickets"])
def test_one_of_anything_that_is_left_at_rest_is_a_fault(name: str) -> None:
    # The facts are fields of the dataclass; a wrong one raises.
    (fault,) = _faults([replace(CLEAN, **{name: 1})])  # type: ignore[arg-type]  # see above
    assert fault.startswith("hour 1: 1 ")


def test_a_table_that_is_not_empty_a_task_too_many_and_a_pool_without_bound_are_faults() -> None:
    sample = replace(CLEAN, open={"purses": 2}, tasks={"run": 3}, idle=9)
    assert _faults([sample]) == [
        "hour 1: 2 purses left",
        "hour 1: 1 tasks of run left",
        "hour 1: 9 connections kept, not 8",
    ]
