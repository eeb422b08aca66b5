"""Compares the request log with the ledger: every request that cost something must be in both, with
the same cost.

The unit is an account's hour by the moment of admission, which is when the ledger says a charge
occurred. Counts, sums and a digest of (usage id, cost) are compared first; only where they differ
are the requests themselves looked at. An hour is compared once it has been over for a while and
both sinks have nothing left to read, so that what is under way is no difference.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from services.common.clock import Clock
from services.common.errors import Unavailable
from services.common.telemetry import get_logger
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.metrics import LEDGER_COMPARED, LEDGER_DIFFERENCES

HOUR_MS = 3_600_000
# Requests of each kind that a difference names.
NAMED_MAX = 100
# An admission follows its request's arrival within this time, or the row is looked for in vain.
_ADMISSION_MAX_MS = 24 * HOUR_MS

_MOMENT = "fromUnixTimestamp64Milli({%s:Int64}, 'UTC')"
_SINCE, _UNTIL, _ARRIVED = (_MOMENT % name for name in ("since", "until", "arrived"))
_LOG = f"""
SELECT account_id, usage_id, request_id, cost_nanousd AS cost,
 toStartOfHour(ifNull(admitted_at, received_at)) AS hour, 1 AS in_log
FROM requests FINAL
WHERE received_at >= {_ARRIVED} AND received_at < {_UNTIL} AND cost_nanousd > 0
 AND ifNull(admitted_at, received_at) >= {_SINCE} AND ifNull(admitted_at, received_at) < {_UNTIL}
"""  # noqa: S608 - times are parameters
_LEDGER = f"""
SELECT account_id, usage_id, request_id, -wallet_nanousd AS cost,
 toStartOfHour(occurred_at) AS hour, 0 AS in_log
FROM ledger_transactions FINAL
WHERE occurred_at >= {_SINCE} AND occurred_at < {_UNTIL} AND kind = 'usage'
"""  # noqa: S608 - as above
_HOURS = f"""
SELECT account_id, toInt64(toUnixTimestamp(hour)) * 1000 AS start,
 countIf(in_log = 1) AS log_count, sumIf(cost, in_log = 1) AS log_cost,
 countIf(in_log = 0) AS ledger_count, sumIf(cost, in_log = 0) AS ledger_cost,
 groupBitXorIf(sipHash64(usage_id, cost), in_log = 1)
  = groupBitXorIf(sipHash64(usage_id, cost), in_log = 0)
  AND log_count = ledger_count AND log_cost = ledger_cost AS agree
FROM ({_LOG} UNION ALL {_LEDGER}) GROUP BY account_id, hour
"""  # noqa: S608 - as above
_TOTALS = f"""
SELECT count(), sum(log_count), sum(log_cost), countIf(NOT agree) FROM ({_HOURS})
"""  # noqa: S608 - as above
_DIFFERING = f"""
SELECT account_id, start, log_count, log_cost, ledger_count, ledger_cost FROM ({_HOURS})
WHERE NOT agree ORDER BY start, account_id LIMIT {{limit:UInt32}}
"""  # noqa: S608 - as above
_REQUESTS = f"""
SELECT if(any(request_id) = '', usage_id, any(request_id)) AS name,
 countIf(in_log = 1) AS logged, countIf(in_log = 0) AS booked,
 sumIf(cost, in_log = 1) != sumIf(cost, in_log = 0) AS differs
FROM ({_LOG} UNION ALL {_LEDGER}) WHERE account_id = {{account:String}}
GROUP BY usage_id HAVING logged != booked OR differs ORDER BY name
"""  # noqa: S608 - as above
_OPEN = f"""
SELECT account_id, toInt64(toUnixTimestamp(hour)) * 1000 AS start, log_requests, log_cost_nanousd,
 ledger_requests, ledger_cost_nanousd, only_in_log, only_in_ledger, cost_differs,
 toUnixTimestamp64Milli(found_at)
FROM ledger_differences FINAL
WHERE is_open AND hour >= toDateTime({_SINCE}) AND hour < toDateTime({_UNTIL})
 AND ({{account:String}} = '' OR account_id = {{account:String}})
ORDER BY hour DESC, account_id LIMIT {{limit:UInt32}}
"""  # noqa: S608 - as above
_COLUMNS = (
    "account_id",
    "hour",
    "log_requests",
    "log_cost_nanousd",
    "ledger_requests",
    "ledger_cost_nanousd",
    "only_in_log",
    "only_in_ledger",
    "cost_differs",
    "found_at",
)
_COMPARISON_COLUMNS = (
    "compared_at",
    "since",
    "until",
    "hours",
    "requests",
    "cost_nanousd",
    "differences",
)
# Differing hours that are looked at closely in one comparison; more of them are one great fault.
_DIFFERENCES_MAX = 1_000
# 2100-01-01 in milliseconds: an end for what has none.
_FAR_MS = 4_102_444_800_000

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Difference:
    """One account's hour; the lists name requests, at most `NAMED_MAX` each."""

    account_id: str
    hour_start_ms: int
    log_requests: int
    log_cost_nanousd: int
    ledger_requests: int
    ledger_cost_nanousd: int
    only_in_log: tuple[str, ...]
    only_in_ledger: tuple[str, ...]
    cost_differs: tuple[str, ...]
    found_at_ms: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was compared, as the log has it, and where the ledger has something else."""

    hours: int
    requests: int
    cost_nanousd: int
    differences: Sequence[Difference]


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Compares on request and, while `run` is running, every `every_s` the hours of the last
    `window_ms` that ended `settle_ms` ago. `is_current` says whether both sinks have read all.
    """

    clickhouse: ClickHouse
    clock: Clock
    is_current: Callable[[], bool]
    every_s: float = 900.0
    window_ms: int = 26 * HOUR_MS
    settle_ms: int = 300_000

    async def run(self) -> None:
        """Compares until cancelled; a sink that lags behind puts the comparison off."""
        while True:
            await asyncio.sleep(self.every_s)
            if not self.is_current():
                _log.warning("log and ledger are not compared: a sink is behind")
                continue
            try:
                await self.compare()
            except Unavailable as error:
                _log.warning("log and ledger are not compared", error=error.message)

    async def compare(self, since_ms: int = 0, until_ms: int = 0) -> Comparison:
        """Compares whole hours; without a range, those of the window. Each difference is recorded,
        logged and counted; what agrees again is recorded as closed.
        """
        settled_ms = (self.clock.now_ms() - self.settle_ms) // HOUR_MS * HOUR_MS
        until_ms = until_ms // HOUR_MS * HOUR_MS or settled_ms
        since_ms = (since_ms or until_ms - self.window_ms) // HOUR_MS * HOUR_MS
        times = _times(since_ms, until_ms)
        hours, requests, cost, count = (await self.clickhouse.query(_TOTALS, times))[0]
        found = [await self._looked_at(row) for row in await self._differing(times, count)]
        await self._record(found, since_ms, until_ms)
        comparison = Comparison(hours, requests, cost, found)
        await self._note(comparison, since_ms=since_ms, until_ms=until_ms)
        return comparison

    async def open_differences(
        self, account_id: str, *, since_ms: int = 0, until_ms: int = 0, limit: int = 100
    ) -> list[Difference]:
        """What is not agreed, newest hour first; an empty account is all of them."""
        rows = await self.clickhouse.query(
            _OPEN,
            {
                "since": since_ms,
                "until": until_ms or _FAR_MS,
                "account": account_id,
                "limit": limit,
            },
        )
        return [_difference(*row) for row in rows]

    async def compared_at_ms(self) -> int:
        """When the last comparison ended; 0 where there was none."""
        rows = await self.clickhouse.query(
            "SELECT toUnixTimestamp64Milli(max(compared_at)) FROM ledger_comparisons"
        )
        return max(0, int(rows[0][0]))

    async def _differing(self, times: dict[str, Any], count: int) -> list[tuple[Any, ...]]:
        """The differing hours' figures. Any: parameters and rows of many types."""
        if not count:
            return []
        return await self.clickhouse.query(_DIFFERING, times | {"limit": _DIFFERENCES_MAX})

    async def _looked_at(self, figures: tuple[Any, ...]) -> Difference:
        """The requests behind one hour's figures. Any: a row of many types."""
        account_id, start_ms, log_count, log_cost, ledger_count, ledger_cost = figures
        rows = await self.clickhouse.query(
            _REQUESTS, _times(start_ms, start_ms + HOUR_MS) | {"account": account_id}
        )
        only_log = [name for name, logged, booked, _ in rows if logged and not booked]
        only_ledger = [name for name, logged, booked, _ in rows if booked and not logged]
        differs = [name for name, logged, booked, _ in rows if logged and booked]
        difference = Difference(
            account_id,
            start_ms,
            log_count,
            log_cost,
            ledger_count,
            ledger_cost,
            only_in_log=tuple(only_log[:NAMED_MAX]),
            only_in_ledger=tuple(only_ledger[:NAMED_MAX]),
            cost_differs=tuple(differs[:NAMED_MAX]),
            found_at_ms=self.clock.now_ms(),
        )
        _log.error(
            "log and ledger differ",
            account_id=account_id,
            hour_start_ms=start_ms,
            log_cost_nanousd=difference.log_cost_nanousd,
            ledger_cost_nanousd=difference.ledger_cost_nanousd,
            only_in_log=difference.only_in_log,
            only_in_ledger=difference.only_in_ledger,
            cost_differs=difference.cost_differs,
        )
        return difference

    async def _record(self, found: Sequence[Difference], since_ms: int, until_ms: int) -> None:
        known = await self.open_differences(
            "", since_ms=since_ms, until_ms=until_ms, limit=_DIFFERENCES_MAX
        )
        still = {(one.account_id, one.hour_start_ms) for one in found}
        now_ms = self.clock.now_ms()
        closed = [one for one in known if (one.account_id, one.hour_start_ms) not in still]
        rows = [
            *((*_stored(one), True) for one in found),
            *((*_stored(one)[:-1], now_ms, False) for one in closed),
        ]
        if rows:
            columns = list(zip(*rows, strict=True))
            await self.clickhouse.insert("ledger_differences", (*_COLUMNS, "is_open"), columns)

    async def _note(self, comparison: Comparison, *, since_ms: int, until_ms: int) -> None:
        values = (
            self.clock.now_ms(),
            since_ms,
            until_ms,
            comparison.hours,
            comparison.requests,
            comparison.cost_nanousd,
            len(comparison.differences),
        )
        await self.clickhouse.insert(
            "ledger_comparisons", _COMPARISON_COLUMNS, [[value] for value in values]
        )
        LEDGER_COMPARED.inc(comparison.requests)
        LEDGER_DIFFERENCES.set(len(await self.open_differences("", limit=_DIFFERENCES_MAX)))


def _times(since_ms: int, until_ms: int) -> dict[str, Any]:
    return {"since": since_ms, "until": until_ms, "arrived": max(0, since_ms - _ADMISSION_MAX_MS)}


# Any: the columns of a row, in order, lists where a difference has tuples.
def _difference(*values: Any) -> Difference:
    frozen: list[Any] = [tuple(one) if isinstance(one, list) else one for one in values]
    return Difference(*frozen)


def _stored(difference: Difference) -> tuple[Any, ...]:
    """A difference as its row. Any: columns of many types."""
    account_id, start_ms, *rest = astuple(difference)
    return (account_id, start_ms // 1000, *rest)
