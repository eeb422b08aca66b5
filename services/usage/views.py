"""Reads of the request log: plain SQL over table `requests`, every one scoped to what the principal
may see.

Values travel as parameters; only names of our own columns are in the text. Lists read newest first
along the sorting key and drop duplicates that are not merged yet on the way; sums read `FINAL`,
which counts each request once.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from math import isnan
from typing import Any, Literal, get_args

from services.common.errors import InvalidArgument, NotFound
from services.usage.domain.filter import FILTER_COLUMNS, RequestFilter, Scope
from services.usage.domain.row import COLUMNS, RequestRow
from services.usage.ports import LogReader

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 1_000
OFFSET_MAX = 10_000
BUCKETS_DEFAULT = 100
# 2100-01-01, UTC; the sink takes no later row.
_MS_MAX = 4_102_444_800_000
BUCKETS_MAX = 1_000
# A month of requests never shares a sorting key with another month, so partitions need no merging
# for FINAL.
_FINAL = "FROM requests FINAL"
_FINAL_SETTINGS = " SETTINGS do_not_merge_across_partitions_select_final = 1"
_TIMES = ("received_at", "admitted_at")
_COLUMNS_SQL = ", ".join(
    f"toUnixTimestamp64Milli({name}) AS {name}_ms" if name in _TIMES else name for name in COLUMNS
)

GroupBy = Literal["", "model", "key", "provider", "day", "hour", "outcome"]
_GROUP_SQL: dict[str, str] = {
    "model": "model_id",
    "key": "key_id",
    "provider": "provider_id",
    "day": "formatDateTime(received_at, '%Y-%m-%d')",
    "hour": "formatDateTime(received_at, '%Y-%m-%dT%H:00:00Z')",
    "outcome": "outcome",
}
_SUMS_SQL = (
    "count(), countIf(outcome = 'success'), sum(prompt_tokens), sum(completion_tokens),"
    " sum(cost_nanousd) AS cost, quantilesTDigest(0.5, 0.95)(latency_ms) AS latencies"
)


@dataclass(frozen=True, slots=True)
class Page:
    """Rows newest first, where the next page begins ("" on the last), and how many there are in
    all if asked for.
    """

    rows: list[RequestRow]
    next_page_token: str
    total: int | None = None


@dataclass(frozen=True, slots=True)
class UsageSums:
    """Figures over the requests of one value; latencies in milliseconds, NaN-free (0 where there
    are none).
    """

    value: str
    requests: int
    successful_requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_nanousd: int
    latency_p50_ms: float
    latency_p95_ms: float


class UsageViews:
    """The queries of the usage service."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader

    async def list_requests(
        self,
        scope: Scope,
        wanted: RequestFilter,
        *,
        page_size: int = 0,
        page_token: str = "",
        offset: int = 0,
        with_total: bool = False,
    ) -> Page:
        """One page, newest first. Raises InvalidArgument for a page that cannot be."""
        size = _page_size(page_size)
        if offset > OFFSET_MAX:
            raise InvalidArgument.of("offset", f"is at most {OFFSET_MAX:,}")
        if offset and page_token:
            raise InvalidArgument.of("offset", "excludes page.page_token")
        where, parameters = _where(scope, wanted)
        total = await self._total(where, parameters) if with_total else None
        if page_token:
            where += (
                " AND received_at <= fromUnixTimestamp64Milli({after_ms:Int64}, 'UTC')"
                " AND (received_at, usage_id) <"
                " (fromUnixTimestamp64Milli({after_ms:Int64}, 'UTC'), {after_id:String})"
            )
            parameters |= _position_from_token(page_token)
        rows = await self._rows(where, parameters, limit=size + 1, offset=offset)
        token = _token_of(rows[size - 1]) if len(rows) > size else ""
        return Page(rows[:size], token, total)

    async def get_request(self, scope: Scope, request_or_usage_id: str) -> RequestRow:
        """The newest request with that id. Raises NotFound, also where it is not in the log yet."""
        if not request_or_usage_id:
            raise InvalidArgument.of("request_id", "is empty")
        where, parameters = _where(scope, RequestFilter())
        where += " AND (request_id = {id:String} OR usage_id = {id:String})"
        rows = await self._rows(where, parameters | {"id": request_or_usage_id}, limit=1)
        if not rows:
            raise NotFound(f"no request {request_or_usage_id} in the log")
        return rows[0]

    async def summarize(
        self, scope: Scope, wanted: RequestFilter, *, group_by: str = "", limit: int = 0
    ) -> tuple[UsageSums, list[UsageSums]]:
        """Totals, and one row for each value of `group_by` by cost descending (at most `limit`)."""
        if group_by not in get_args(GroupBy):
            raise InvalidArgument.of("group_by", f"is one of {', '.join(_GROUP_SQL)} or empty")
        if limit > BUCKETS_MAX:
            raise InvalidArgument.of("limit", f"is at most {BUCKETS_MAX:,}")
        where, parameters = _where(scope, wanted)
        totals = await self._reader.query(
            f"SELECT '', {_SUMS_SQL} {_FINAL} WHERE {where}{_FINAL_SETTINGS}",
            parameters,
        )
        total = _sums(totals[0])
        if not group_by:
            return total, []
        rows = await self._reader.query(
            f"SELECT {_GROUP_SQL[group_by]} AS value, {_SUMS_SQL} {_FINAL} WHERE {where}"
            " GROUP BY value ORDER BY cost DESC, value LIMIT {limit:UInt32}" + _FINAL_SETTINGS,
            parameters | {"limit": limit or BUCKETS_DEFAULT},
        )
        return total, [_sums(row) for row in rows]

    async def _total(self, where: str, parameters: dict[str, Any]) -> int:
        rows = await self._reader.query(
            f"SELECT count() {_FINAL} WHERE {where}{_FINAL_SETTINGS}",
            parameters,
        )
        return int(rows[0][0])

    async def _rows(
        self, where: str, parameters: dict[str, Any], *, limit: int, offset: int = 0
    ) -> list[RequestRow]:
        answer = await self._reader.query(
            f"SELECT {_COLUMNS_SQL} FROM requests WHERE {where}"  # noqa: S608
            " ORDER BY received_at DESC, usage_id DESC, log_offset"
            " LIMIT 1 BY received_at, usage_id LIMIT {limit:UInt32} OFFSET {offset:UInt32}",
            parameters | {"limit": limit, "offset": offset},
        )
        return [RequestRow._make(map(_frozen, row)) for row in answer]


# Parameters are typed Any because the client takes whatever its types can carry.
def _where(scope: Scope, wanted: RequestFilter) -> tuple[str, dict[str, Any]]:
    """The conditions and their parameters; the account always is one of them."""
    if not scope.account_id:
        raise InvalidArgument.of("principal", "names no account")
    conditions = ["account_id = {account_id:String}"]
    parameters: dict[str, Any] = {"account_id": scope.account_id}

    def add(condition: str, **values: object) -> None:
        conditions.append(condition)
        parameters.update(values)

    if scope.key_id:
        add("key_id = {own_key_id:String}", own_key_id=scope.key_id)
    if wanted.since_ms:
        since = "received_at >= fromUnixTimestamp64Milli({since_ms:Int64}, 'UTC')"
        add(since, since_ms=wanted.since_ms)
    if wanted.until_ms:
        until = "received_at < fromUnixTimestamp64Milli({until_ms:Int64}, 'UTC')"
        add(until, until_ms=wanted.until_ms)
    for name, values in wanted.any_of.items():
        assert name in FILTER_COLUMNS, name
        kind = "Int32" if name == "http_status" else "String"
        add(f"{name} IN {{{name}:Array({kind})}}", **{name: sorted(values, key=str)})
    for number, (tag, value) in enumerate(sorted(wanted.tags.items())):
        has = f"mapContains(tags, {{tag{number}:String}})"
        equal = f"tags[{{tag{number}:String}}] = {{tag_value{number}:String}}"
        add(f"{has} AND {equal}", **{f"tag{number}": tag, f"tag_value{number}": value})
    if wanted.trace_id:
        add("trace_id = {trace_id:String}", trace_id=wanted.trace_id)
    if wanted.min_latency_ms:
        add("latency_ms >= {min_latency:Int64}", min_latency=wanted.min_latency_ms)
    if wanted.min_cost_nanousd:
        add("cost_nanousd >= {min_cost:Int64}", min_cost=wanted.min_cost_nanousd)
    return " AND ".join(conditions), parameters


def _frozen(value: object) -> object:
    """Lists as the tuples that rows hold."""
    return tuple(value) if isinstance(value, list) else value


def _page_size(asked: int) -> int:
    if asked > PAGE_SIZE_MAX:
        raise InvalidArgument.of("page.page_size", f"is at most {PAGE_SIZE_MAX:,}")
    return asked or PAGE_SIZE_DEFAULT


def _token_of(row: RequestRow) -> str:
    return base64.urlsafe_b64encode(json.dumps([row.received_at, row.usage_id]).encode()).decode()


def _position_from_token(token: str) -> dict[str, Any]:
    """Where the page before ended. Raises InvalidArgument for a token that none of our pages
    gave.
    """
    try:
        position = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        position = None
    match position:
        case [int(received_at), str(usage_id)] if (
            type(received_at) is int and 0 <= received_at < _MS_MAX
        ):
            return {"after_ms": received_at, "after_id": usage_id}
        case _:
            raise InvalidArgument.of("page.page_token", "is not a token of this list")


def _sums(row: tuple[Any, ...]) -> UsageSums:
    *counts, latencies = row
    # Of no requests the quantiles are NaN.
    return UsageSums(*counts, *(0.0 if isnan(value) else value for value in latencies))
