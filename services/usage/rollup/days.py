"""Derives the figures of days that are over, and says of which days they hold.

A roll is one derivation of one day, under an id of its own. Its rows count from the moment that
`rolled_days` names it, so a derivation that is cut off, or two at once, leave nothing behind that
counts. Rolls that were replaced are deleted once no reader can be at them any more.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta

from services.common.clock import Clock
from services.common.errors import Unavailable
from services.common.telemetry import get_logger
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.ports import LogReader
from services.usage.rollup.marks import date_of

# After its end a day is left alone for so long: most of what is late comes within it, and clocks
# differ.
SETTLE_MS = 600_000
# Longer than any query may take.
_REPLACED_KEPT_S = 900
# An id of a roll is Unix milliseconds and so many random bits.
_RANDOM_BITS = 20

_VALID = """
SELECT day, max(roll) AS newest FROM
(SELECT day, roll, marks, 0 AS marks_now FROM rolled_days
 UNION ALL SELECT day, 0, 0, marks FROM day_marks)
GROUP BY day HAVING newest > 0 AND argMax(marks, roll) = sum(marks_now)
"""
_MARKS = "SELECT sum(marks) FROM day_marks WHERE day = {day:Date}"
_NEWEST = "SELECT max(roll) FROM rolled_days WHERE day = {day:Date}"
_ROLL = """
INSERT INTO requests_daily
SELECT account_id, {day:Date}, {roll:UInt64}, key_id, user_id, model_id, provider_id, outcome,
 http_status, error_code, failure_stage, count(), sum(prompt_tokens), sum(completion_tokens),
 sum(cost_nanousd), quantilesTDigestState(0.5, 0.95, 0.99)(latency_ms),
 quantilesTDigestIfState(0.5, 0.95, 0.99)(first_token_ms, first_token_ms > 0)
FROM requests FINAL
WHERE received_at >= toDateTime64({day:Date}, 3, 'UTC')
 AND received_at < toDateTime64({day:Date} + 1, 3, 'UTC')
GROUP BY account_id, key_id, user_id, model_id, provider_id, outcome, http_status, error_code,
 failure_stage
SETTINGS do_not_merge_across_partitions_select_final = 1, max_threads = 1,
 max_bytes_before_external_group_by = 1000000000, insert_deduplicate = 0
"""
_COMMIT = """
INSERT INTO rolled_days (day, roll, marks, requests, cost_nanousd)
SELECT {day:Date}, {roll:UInt64}, {marks:UInt64}, sum(requests), sum(cost_nanousd)
FROM requests_daily WHERE day = {day:Date} AND roll = {roll:UInt64}
"""
_REPLACED = """
SELECT DISTINCT roll FROM requests_daily WHERE roll NOT IN
(SELECT max(roll) FROM rolled_days GROUP BY day)
AND roll < {before:UInt64}
"""

_log = get_logger(__name__)


async def valid_days(reader: LogReader) -> dict[date, int]:
    """The days whose figures hold, with the roll that has them."""
    return dict(await reader.query(_VALID))


@dataclass(slots=True)
class DayRoller:
    """Rolls what is over and not rolled, or marked since; a day that is being marked waits until
    it is quiet for one round.
    """

    clickhouse: ClickHouse
    clock: Clock
    every_s: float = 60.0
    _marks_before: dict[date, int] = field(default_factory=dict)
    _has_scanned: bool = False

    async def run(self) -> None:
        """Rounds until cancelled."""
        while True:
            try:
                await self.round()
            except Unavailable as error:
                _log.warning("days are not rolled up", error=error.message)
            await asyncio.sleep(self.every_s)

    async def round(self) -> list[date]:
        """Rolls the days that need it and are quiet; returns them."""
        rolled = []
        for day, marks in sorted((await self._due()).items()):
            is_quiet = self._marks_before.get(day, marks) == marks
            self._marks_before[day] = marks
            if is_quiet:
                await self.roll(day)
                rolled.append(day)
        self._has_scanned = True
        await self._delete_replaced()
        return rolled

    async def roll(self, day: date) -> None:
        """Derives one day's figures and puts them in force."""
        marks = int((await self.clickhouse.query(_MARKS, {"day": day}))[0][0])
        newest = int((await self.clickhouse.query(_NEWEST, {"day": day}))[0][0])
        # Above the one before, whatever the clock says, and not that of another who rolls now.
        at = max(self.clock.now_ms(), (newest >> _RANDOM_BITS) + 1)
        roll = (at << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS)
        parameters = {"day": day, "roll": roll, "marks": marks}
        await self.clickhouse.work(_ROLL, parameters)
        await self.clickhouse.work(_COMMIT, parameters)

    async def _due(self) -> Mapping[date, int]:
        """Days that are over and whose figures do not hold, with their marks."""
        over = date_of(self.clock.now_ms() - SETTLE_MS) - timedelta(days=1)
        marked = dict(
            await self.clickhouse.query("SELECT day, sum(marks) FROM day_marks GROUP BY day")
        )
        known = set(marked) | {over}
        if not self._has_scanned:
            rows = await self.clickhouse.query("SELECT DISTINCT toDate(received_at) FROM requests")
            known |= {day for (day,) in rows}
        valid = await valid_days(self.clickhouse)
        return {day: int(marked.get(day, 0)) for day in known if day <= over and day not in valid}

    async def _delete_replaced(self) -> None:
        before = (self.clock.now_ms() - 1000 * _REPLACED_KEPT_S) << _RANDOM_BITS
        rows = await self.clickhouse.query(_REPLACED, {"before": before})
        if rows:
            await self.clickhouse.work(
                "ALTER TABLE requests_daily DELETE WHERE roll IN {rolls:Array(UInt64)}",
                {"rolls": [roll for (roll,) in rows]},
            )
