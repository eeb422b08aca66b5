"""Figures over many requests: sums, error counts and percentiles, by one thing or two.

Days that are over are read from their figures (`rollup/days.py`) where the filter asks for nothing
that these do not have; the rest of the time is read from table `requests` with `FINAL`, which
counts each request once. Percentiles of both are merged in one statement; counts alone are added
up here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import chain, pairwise
from math import isnan
from operator import add
from typing import Any, Literal, get_args

from services.common.errors import InvalidArgument
from services.usage.conditions import FINAL_BY_MONTH, where
from services.usage.domain.filter import RequestFilter, Scope
from services.usage.ports import LogReader
from services.usage.rollup.days import valid_days
from services.usage.rollup.marks import DAY_MS
from services.usage.spend_by_day import SpendDay, spend_by_day

BUCKETS_DEFAULT = 100
BUCKETS_MAX = 1_000

GroupBy = Literal[
    "",
    "model",
    "key",
    "provider",
    "member",
    "day",
    "hour",
    "outcome",
    "status",
    "error_code",
    "failure_stage",
]
# What each is in `requests` and, but for hours, in `requests_daily`.
_COLUMNS: Mapping[str, str] = {
    "": "''",
    "model": "model_id",
    "key": "key_id",
    "provider": "provider_id",
    "member": "user_id",
    "outcome": "outcome",
    "status": "toString(http_status)",
    "error_code": "error_code",
    "failure_stage": "failure_stage",
}
_RAW: Mapping[str, str] = {
    **_COLUMNS,
    "day": "formatDateTime(received_at, '%Y-%m-%d')",
    "hour": "formatDateTime(received_at, '%Y-%m-%dT%H:00:00Z')",
}
_DAILY: Mapping[str, str] = {**_COLUMNS, "day": "formatDateTime(day, '%Y-%m-%d')"}
# The conditions that a day's figures can answer.
_DAILY_FILTERS = frozenset(
    {
        "key_id",
        "user_id",
        "model_id",
        "provider_id",
        "outcome",
        "http_status",
        "error_code",
        "failure_stage",
    }
)
_SPANS_MS: Mapping[str, int] = {"hour": 3_600_000, "day": DAY_MS}
_SUCCESS = "outcome IN ('success', 'limit_reached')"
_LEVELS = "(0.5, 0.95, 0.99)"
# What percentiles are made of costs more than everything else, so it is read where it is asked for.
_RAW_TIMES = (
    f", quantilesTDigestState{_LEVELS}(latency_ms) AS latency,"
    f" quantilesTDigestIfState{_LEVELS}(first_token_ms, first_token_ms > 0) AS first_token"
)
_DAILY_TIMES = (
    f", quantilesTDigestMergeState{_LEVELS}(latencies) AS latency,"
    f" quantilesTDigestIfMergeState{_LEVELS}(first_tokens) AS first_token"
)
_SUMMED_TIMES = (
    f", quantilesTDigestMerge{_LEVELS}(latency), quantilesTDigestIfMerge{_LEVELS}(first_token)"
)
_RAW_SQL = (
    "SELECT {value} AS value, {second} AS second, toInt64(count()) AS requests,"  # noqa: S608
    f" toInt64(countIf({_SUCCESS})) AS successes,"
    " sum(prompt_tokens) AS prompt, sum(completion_tokens) AS completion,"
    " sum(cost_nanousd) AS cost{times} FROM requests FINAL WHERE {conditions}"
    " GROUP BY value, second"
)
_DAILY_SQL = (
    "SELECT {value} AS value, {second} AS second, sum(requests) AS requests,"  # noqa: S608
    f" sumIf(requests_daily.requests, {_SUCCESS}) AS successes,"
    " sum(prompt_tokens) AS prompt, sum(completion_tokens) AS completion,"
    " sum(cost_nanousd) AS cost{times} FROM requests_daily WHERE {conditions}"
    " GROUP BY value, second"
)
_SUMMED_SQL = (
    "SELECT value, second, sum(requests), sum(successes), sum(prompt), sum(completion),"  # noqa: S608
    f" sum(cost) AS total_cost, grouping(value) AS is_total{_SUMMED_TIMES}"
    " FROM ({parts}) GROUP BY GROUPING SETS ((value, second), ())"
    " ORDER BY is_total DESC, total_cost DESC, value, second LIMIT {{limit:UInt32}}"
    f"{FINAL_BY_MONTH}"
)


@dataclass(frozen=True, slots=True)
class UsageSums:
    """Figures over the requests of one value (of two, where two were asked for); latencies and
    times to the first token in milliseconds, NaN-free (0 where there are none or none were asked
    for).
    """

    value: str
    second: str
    requests: int
    successful_requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_nanousd: int
    latency_p50_ms: float = 0.0
    latency_p95_ms: float = 0.0
    latency_p99_ms: float = 0.0
    first_token_p50_ms: float = 0.0
    first_token_p95_ms: float = 0.0
    first_token_p99_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class SpendBucket:
    """Spend of one hour or day; the average is over it and the two before, as far as there are."""

    start_ms: int
    requests: int
    cost_nanousd: int
    trailing_average_nanousd: int


_NOTHING = UsageSums("", "", 0, 0, 0, 0, 0)


class UsageSummaries:
    """Sums over the log."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader

    async def spend_by_day(self, scope: Scope, *, from_ms: int, to_ms: int) -> list[SpendDay]:
        """As `spend_by_day.py` has it. Raises InvalidArgument, Unavailable."""
        return await spend_by_day(self._reader, scope, from_ms=from_ms, to_ms=to_ms)

    async def summarize(
        self,
        scope: Scope,
        wanted: RequestFilter,
        *,
        group_by: str = "",
        then_by: str = "",
        limit: int = 0,
        with_times: bool = True,
    ) -> tuple[UsageSums, list[UsageSums]]:
        """Totals, and one row for each value of `group_by` (and of `then_by`), by cost descending;
        at most `limit`. Without times, percentiles are left out.
        """
        for name, value in (("group_by", group_by), ("then_by", then_by)):
            if value not in get_args(GroupBy):
                raise InvalidArgument.of(name, f"is one of {', '.join(sorted(_RAW))} or empty")
        if then_by and (not group_by or then_by == group_by):
            raise InvalidArgument.of("then_by", "needs another group_by before it")
        if limit > BUCKETS_MAX:
            raise InvalidArgument.of("limit", f"is at most {BUCKETS_MAX:,}")
        parts, parameters = await self._parts(
            scope, wanted, group_by=group_by, then_by=then_by, with_times=with_times
        )
        limit = limit or BUCKETS_DEFAULT
        if not with_times:
            total, buckets = await self._added_up(parts, parameters)
            return total, buckets[:limit] if group_by else []
        answer = await self._reader.query(
            _SUMMED_SQL.format(parts=" UNION ALL ".join(parts)),
            parameters | {"limit": limit + 1},
        )
        total = _sums(answer[0]) if answer else _NOTHING
        return total, [_sums(row) for row in answer[1:]] if group_by else []

    async def _added_up(
        self, parts: list[str], parameters: dict[str, Any]
    ) -> tuple[UsageSums, list[UsageSums]]:
        """Totals and buckets by cost descending. Counts can be added up here, so the parts are
        asked side by side, which takes about two thirds of the time.
        """
        answers = await asyncio.gather(
            *(self._reader.query(part + FINAL_BY_MONTH, parameters) for part in parts)
        )
        counts: dict[tuple[str, str], list[int]] = {}
        for value, second, *numbers in chain.from_iterable(answers):
            found = counts.setdefault((value, second), [0] * len(numbers))
            found[:] = map(add, found, numbers)
        buckets = [UsageSums(*names, *numbers) for names, numbers in counts.items()]
        buckets.sort(key=lambda one: (-one.cost_nanousd, one.value, one.second))
        if not buckets:
            return _NOTHING, []
        total = map(sum, zip(*counts.values(), strict=True))
        return UsageSums("", "", *total), buckets

    async def spend_trend(
        self, scope: Scope, wanted: RequestFilter, *, granularity: str, now_ms: int
    ) -> list[SpendBucket]:
        """Spend by hour or day, oldest first and without holes; without a range, of the last two
        days or thirty.
        """
        if granularity not in _SPANS_MS:
            raise InvalidArgument.of("granularity", f"is one of {', '.join(_SPANS_MS)}")
        span_ms = _SPANS_MS[granularity]
        until_ms = wanted.until_ms or now_ms
        count_default = 48 if granularity == "hour" else 30
        since_ms = wanted.since_ms or (until_ms - 1) // span_ms * span_ms - span_ms * (
            count_default - 1
        )
        first_ms = since_ms // span_ms * span_ms
        starts = range(first_ms, until_ms, span_ms)
        if len(starts) > BUCKETS_MAX:
            raise InvalidArgument.of(
                "since", f"more than {BUCKETS_MAX:,} buckets of one {granularity} are asked for"
            )
        ranged = replace(wanted, since_ms=since_ms, until_ms=until_ms)
        _, found = await self.summarize(
            scope, ranged, group_by=granularity, limit=BUCKETS_MAX, with_times=False
        )
        by_name = {one.value: one for one in found}
        shape = "%Y-%m-%d" if granularity == "day" else "%Y-%m-%dT%H:00:00Z"
        buckets: list[SpendBucket] = []
        for start_ms in starts:
            name = datetime.fromtimestamp(start_ms / 1000, UTC).strftime(shape)
            sums = by_name.get(name, _NOTHING)
            window = [*(bucket.cost_nanousd for bucket in buckets[-2:]), sums.cost_nanousd]
            average = (2 * sum(window) + len(window)) // (2 * len(window))
            buckets.append(SpendBucket(start_ms, sums.requests, sums.cost_nanousd, average))
        return buckets

    async def _parts(
        self,
        scope: Scope,
        wanted: RequestFilter,
        *,
        group_by: str,
        then_by: str,
        with_times: bool,
    ) -> tuple[list[str], dict[str, Any]]:
        """The statements whose rows are added up, and their parameters."""
        conditions, parameters = where(scope, wanted)
        raw = {
            "value": _RAW[group_by],
            "second": _RAW[then_by],
            "times": _RAW_TIMES if with_times else "",
        }
        days: dict[date, int] = {}
        if "hour" not in (group_by, then_by) and _has_figures(wanted):
            known = await valid_days(self._reader)
            days = {day: roll for day, roll in known.items() if _is_whole(day, wanted)}
        if not days:
            return [_RAW_SQL.format(conditions=conditions, **raw)], parameters
        no_times = RequestFilter(any_of=wanted.any_of)
        daily_conditions, _ = where(scope, no_times)
        daily_conditions += (
            " AND day BETWEEN {first_day:Date} AND {last_day:Date}"
            " AND roll IN {rolls:Array(UInt64)}"
        )
        daily = _DAILY_SQL.format(
            value=_DAILY[group_by],
            second=_DAILY[then_by],
            times=_DAILY_TIMES if with_times else "",
            conditions=daily_conditions,
        )
        parameters |= {
            "first_day": min(days),
            "last_day": max(days),
            "rolls": sorted(days.values()),
        }
        gaps = [gap for gap in _gaps(sorted(days)) if _meets(gap, wanted)]
        if not gaps:
            return [daily], parameters
        times, bounds = _between(gaps)
        rest = _RAW_SQL.format(conditions=f"{conditions} AND ({times})", **raw)
        return [daily, rest], parameters | bounds


def _between(gaps: list[tuple[int | None, int | None]]) -> tuple[str, dict[str, int]]:
    """The condition of being in one of the gaps, and its parameters."""
    ranges, parameters = [], {}
    for number, (since_ms, until_ms) in enumerate(gaps):
        bounds = []
        if since_ms is not None:
            bounds.append(_moment("received_at >=", f"gap_since_{number}"))
            parameters[f"gap_since_{number}"] = since_ms
        if until_ms is not None:
            bounds.append(_moment("received_at <", f"gap_until_{number}"))
            parameters[f"gap_until_{number}"] = until_ms
        ranges.append("(" + " AND ".join(bounds) + ")")
    return " OR ".join(ranges), parameters


def _has_figures(wanted: RequestFilter) -> bool:
    """True where a day's figures can answer the filter."""
    others = (
        wanted.tags,
        wanted.trace_id,
        wanted.min_latency_ms,
        wanted.max_latency_ms,
        wanted.min_cost_nanousd,
        wanted.max_cost_nanousd,
    )
    return not any(others) and wanted.any_of.keys() <= _DAILY_FILTERS


def _is_whole(day: date, wanted: RequestFilter) -> bool:
    """True where all of the day was asked for."""
    start_ms = _start_ms(day)
    return wanted.since_ms <= start_ms and (
        not wanted.until_ms or start_ms + DAY_MS <= wanted.until_ms
    )


def _gaps(days: list[date]) -> list[tuple[int | None, int | None]]:
    """The times around and between the days, which are ascending; None is open."""
    gaps: list[tuple[int | None, int | None]] = [(None, _start_ms(days[0]))]
    for before, after in pairwise(days):
        if after - before > timedelta(days=1):
            gaps.append((_start_ms(before) + DAY_MS, _start_ms(after)))
    gaps.append((_start_ms(days[-1]) + DAY_MS, None))
    return gaps


def _meets(gap: tuple[int | None, int | None], wanted: RequestFilter) -> bool:
    """True where something of the gap was asked for."""
    since_ms, until_ms = gap
    return not (until_ms is not None and until_ms <= wanted.since_ms) and not (
        since_ms is not None and wanted.until_ms and wanted.until_ms <= since_ms
    )


def _moment(condition: str, parameter: str) -> str:
    return f"{condition} fromUnixTimestamp64Milli({{{parameter}:Int64}}, 'UTC')"


def _start_ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000


def _sums(row: tuple[Any, ...]) -> UsageSums:
    value, second, requests, successes, prompt, completion, cost, _, latencies, first_tokens = row
    # Of no requests the quantiles are NaN.
    numbers = (0.0 if isnan(one) else one for one in (*latencies, *first_tokens))
    return UsageSums(value, second, requests, successes, prompt, completion, cost, *numbers)
