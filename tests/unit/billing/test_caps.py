"""Windows of spend caps: which days count."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.billing.domain.caps import DAY_MS, day_of, first_day
from services.billing.domain.events import CapWindow

MOMENTS = st.datetimes(datetime(1970, 3, 1), datetime(2200, 1, 1)).map(  # noqa: DTZ001 - made aware next
    lambda moment: moment.replace(tzinfo=UTC)
)


def ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


@pytest.mark.parametrize(
    ("window", "first"),
    [
        (CapWindow.LIFETIME, "1970-01-01"),
        (CapWindow.DAY, "2026-11-22"),
        (CapWindow.WEEK, "2026-11-16"),
        (CapWindow.MONTH, "2026-11-01"),
        (CapWindow.ROLLING_30_DAYS, "2026-10-23"),
    ],
)
def test_each_window_begins_where_the_calendar_says(window: CapWindow, first: str) -> None:
    sunday_night = datetime(2026, 11, 22, 23, 59, 59, tzinfo=UTC)
    expected = ms(datetime.fromisoformat(first).replace(tzinfo=UTC)) // DAY_MS
    assert first_day(window, ms(sunday_night)) == expected


@given(MOMENTS, st.sampled_from(CapWindow))
def test_no_window_begins_after_today(moment: datetime, window: CapWindow) -> None:
    assert 0 <= first_day(window, ms(moment)) <= day_of(ms(moment))


@given(MOMENTS)
def test_the_rolling_window_never_misses_a_moment_of_the_last_30_times_24_hours(
    moment: datetime,
) -> None:
    earliest = moment - timedelta(days=30)
    assert day_of(ms(earliest)) >= first_day(CapWindow.ROLLING_30_DAYS, ms(moment))


@given(MOMENTS)
def test_weeks_begin_on_monday_and_months_on_their_first_day(moment: datetime) -> None:
    def date_of(day: int) -> datetime:
        return datetime.fromtimestamp(day * 86_400, tz=UTC)

    assert date_of(first_day(CapWindow.WEEK, ms(moment))).weekday() == 0
    assert date_of(first_day(CapWindow.MONTH, ms(moment))).day == 1


@given(st.integers(-(2**63), 2**63 - 1), st.sampled_from(CapWindow))
def test_a_nonsensical_clock_breaks_nothing(moment_ms: int, window: CapWindow) -> None:
    assert first_day(window, moment_ms) >= 0
