"""What requests cost by UTC day, provider, model and key, from the request log alone.

A request counts on the day of its admission, as the ledger has it, so that these figures and the
ledger's spend history are equal row by row.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.common.errors import InvalidArgument
from services.usage.conditions import where
from services.usage.domain.filter import RequestFilter, Scope
from services.usage.ports import LogReader

# An admission follows its request's arrival within this time.
_ADMISSION_MAX_MS = 24 * 3_600_000
ROWS_MAX = 50_000
_ADMITTED = "ifNull(admitted_at, received_at)"
_MOMENT = "fromUnixTimestamp64Milli({%s:Int64}, 'UTC')"
_SQL = (
    f"SELECT formatDateTime({_ADMITTED}, '%Y-%m-%d', 'UTC') AS day, provider_id, model_id, key_id,"  # noqa: S608
    " sum(cost_nanousd), toInt64(count()) FROM requests FINAL"
    f" WHERE {{conditions}} AND {_ADMITTED} >= {_MOMENT % 'admitted_from'}"
    f" AND {_ADMITTED} < {_MOMENT % 'admitted_to'} AND cost_nanousd > 0"
    " GROUP BY day, provider_id, model_id, key_id"
    " ORDER BY day, provider_id, model_id, key_id LIMIT {rows_max:UInt32}"
)


@dataclass(frozen=True, slots=True)
class SpendDay:
    """One row; `requests` are those that cost something."""

    day: str
    provider_id: str
    model_id: str
    key_id: str
    cost_nanousd: int
    requests: int


async def spend_by_day(
    reader: LogReader, scope: Scope, *, from_ms: int, to_ms: int
) -> list[SpendDay]:
    """Costs of requests admitted within this time.

    Raises InvalidArgument for bounds that are none, and where there are too many rows to be told;
    Unavailable.
    """
    if not 0 <= from_ms <= to_ms:
        raise InvalidArgument.of("from_ms", "must be at least 0 and at most to_ms")
    arrived = RequestFilter(since_ms=max(0, from_ms - _ADMISSION_MAX_MS), until_ms=to_ms)
    conditions, parameters = where(scope, arrived)
    parameters |= {
        "admitted_from": from_ms, "admitted_to": to_ms, "rows_max": ROWS_MAX + 1,
    }  # fmt: skip
    sql = _SQL.replace("{conditions}", conditions)
    rows = [SpendDay(*row) for row in await reader.query(sql, parameters)]
    if len(rows) > ROWS_MAX:
        raise InvalidArgument.of("to_ms", f"there are more than {ROWS_MAX} rows: ask for less time")
    return rows
