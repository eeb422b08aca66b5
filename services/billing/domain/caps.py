"""Spend caps: from which day on a window counts. Days are UTC and numbered from 1970-01-01.

A window's spend is the sum of the key's entries by day of admission, so no job ever resets anything
and a changed window counts its own past at once. The rolling window takes today and the thirty days
before, whole: never less than 30 x 24 hours, so the cap holds over every such span.
"""

from __future__ import annotations

from datetime import date
from typing import assert_never

from services.billing.domain.events import CapWindow

DAY_MS = 86_400_000
ROLLING_DAYS = 30
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_DAYS_MAX = date.max.toordinal() - _EPOCH_ORDINAL


def day_of(moment_ms: int) -> int:
    """The UTC day of a Unix time in milliseconds, kept within the calendar's bounds."""
    return min(max(moment_ms // DAY_MS, 0), _DAYS_MAX)


def first_day(window: CapWindow, now_ms: int) -> int:
    """The first day that counts in the window of `now_ms`; 0 where every day does.

    Weeks begin on Monday, months on their first day.
    """
    today = day_of(now_ms)
    match window:
        case CapWindow.LIFETIME:
            return 0
        case CapWindow.DAY:
            return today
        case CapWindow.WEEK:
            return max(0, today - date.fromordinal(today + _EPOCH_ORDINAL).weekday())
        case CapWindow.MONTH:
            return today - date.fromordinal(today + _EPOCH_ORDINAL).day + 1
        case CapWindow.ROLLING_30_DAYS:
            return max(0, today - ROLLING_DAYS)
        case _:
            assert_never(window)
