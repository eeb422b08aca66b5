"""Reads of single requests: plain SQL over table `requests`, every one scoped to what the principal
may see.

A page is one statement: the store orders by the few columns that the filter and the order need, and
reads the others of exactly the rows that are left (lazy materialization). What a row costs is what
it is wide, so lists that show a line of each request ask for lines. Duplicates that are not merged
away yet have one key, are neighbours, and are dropped on the way.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypedDict, TypeVar, Unpack

from services.common.errors import InvalidArgument, NotFound
from services.usage.conditions import FINAL_BY_MONTH, behind, where
from services.usage.domain.filter import RequestFilter, Scope
from services.usage.domain.row import COLUMNS, RequestLine, RequestRow
from services.usage.ports import LogReader

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 1_000
OFFSET_MAX = 10_000
# The attempts that are shown of one request id, which a client may use again and again.
ATTEMPTS_MAX = 1_000
# 2100-01-01, UTC; the sink takes no later row.
_MS_MAX = 4_102_444_800_000
_TIMES = ("received_at", "admitted_at")
# A page's rows lie in a handful of granules: more threads only wait for one another. Ordered by the
# sorting key alone, so that reading ends with the page.
_PAGE = (
    "SELECT {columns} FROM requests WHERE {conditions}"
    " ORDER BY received_at DESC, usage_id DESC{once}"
    " LIMIT {{limit:UInt32}} OFFSET {{offset:UInt32}} SETTINGS max_threads = 1"
)
# Of rows with one key, the first of the log.
_ONCE = ", log_offset LIMIT 1 BY received_at, usage_id"
_COUNT = "SELECT count() FROM requests FINAL WHERE "

# Rows that a page may hold more than once before that is the engine's business.
_REPEATS = 8

# Unix milliseconds of `received_at`, and the usage id.
Key = tuple[int, str]
Row = TypeVar("Row", RequestRow, RequestLine)


@dataclass(frozen=True, slots=True)
class Shape(Generic[Row]):
    """What is read of each request."""

    columns: str
    make: Callable[[Sequence[Any]], Row]


def _shape(names: Sequence[str], make: Callable[[Sequence[Any]], Row]) -> Shape[Row]:
    columns = (
        f"toUnixTimestamp64Milli({name}) AS {name}_ms" if name in _TIMES else name for name in names
    )
    return Shape(", ".join(columns), make)


WHOLE: Shape[RequestRow] = _shape(COLUMNS, lambda values: RequestRow._make(map(_frozen, values)))
LINE: Shape[RequestLine] = _shape(RequestLine._fields, RequestLine._make)


class Asked(TypedDict, total=False):
    """Which page: how many rows (0: the default), what the page before gave as the next, or how
    many rows to pass over; and whether to count all.
    """

    page_size: int
    page_token: str
    offset: int
    with_total: bool


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Rows newest first, where the next page begins ("" on the last), and how many there are in
    all if asked for.
    """

    rows: list[Row]
    next_page_token: str
    total: int | None = None


class UsageViews:
    """Lists, look-ups and walks of the request log."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader

    async def list_requests(
        self, scope: Scope, wanted: RequestFilter, **asked: Unpack[Asked]
    ) -> Page[RequestRow]:
        """One page, newest first. Raises InvalidArgument for a page that cannot be."""
        return await self._page(WHOLE, scope, wanted, asked=asked)

    async def list_lines(
        self, scope: Scope, wanted: RequestFilter, **asked: Unpack[Asked]
    ) -> Page[RequestLine]:
        """The same page, a line of each request."""
        return await self._page(LINE, scope, wanted, asked=asked)

    async def get_request(self, scope: Scope, request_or_usage_id: str) -> RequestRow:
        """The newest request with that id. Raises NotFound, also where it is not in the log yet."""
        rows = await self._rows_of_id(scope, request_or_usage_id, limit=1)
        if not rows:
            raise NotFound(f"no request {request_or_usage_id} in the log")
        return rows[0]

    async def requests_of_id(self, scope: Scope, request_or_usage_id: str) -> list[RequestRow]:
        """Every request that shares the request id of the one named, oldest first; NotFound where
        there is none.
        """
        named = await self.get_request(scope, request_or_usage_id)
        if not named.request_id:
            return [named]
        rows = await self._rows_of_id(scope, named.request_id, limit=ATTEMPTS_MAX)
        return [row for row in reversed(rows) if row.request_id == named.request_id]

    async def _rows_of_id(self, scope: Scope, wanted_id: str, *, limit: int) -> list[RequestRow]:
        if not wanted_id:
            raise InvalidArgument.of("request_id", "is empty")
        conditions, parameters = where(scope, RequestFilter())
        conditions += " AND (request_id = {id:String} OR usage_id = {id:String})"
        return await self._rows(WHOLE, conditions, parameters | {"id": wanted_id}, limit=limit)

    async def _page(
        self, shape: Shape[Row], scope: Scope, wanted: RequestFilter, *, asked: Asked
    ) -> Page[Row]:
        size = _page_size(asked.get("page_size", 0))
        offset, page_token = asked.get("offset", 0), asked.get("page_token", "")
        if offset > OFFSET_MAX:
            raise InvalidArgument.of("offset", f"is at most {OFFSET_MAX:,}")
        if offset and page_token:
            raise InvalidArgument.of("offset", "excludes page.page_token")
        conditions, parameters = where(scope, wanted)
        with_total = asked.get("with_total", False)
        total = await self._total(conditions, parameters) if with_total else None
        if page_token:
            conditions, parameters = behind(conditions, parameters, key_from_token(page_token))
        rows = await self._rows(shape, conditions, parameters, limit=size + 1, offset=offset)
        next_token = token_of(_key_of(rows[size - 1])) if len(rows) > size else ""
        return Page(rows[:size], next_token, total)

    async def _total(self, conditions: str, parameters: dict[str, Any]) -> int:
        rows = await self._reader.query(_COUNT + conditions + FINAL_BY_MONTH, parameters)
        return int(rows[0][0])

    async def _rows(
        self,
        shape: Shape[Row],
        conditions: str,
        parameters: dict[str, Any],
        *,
        limit: int,
        offset: int = 0,
    ) -> list[Row]:
        """Rows newest first, each once. Duplicates are rare: only where there are more of them than
        a few is the store asked to drop them, which costs it several times as much.
        """
        some = limit + offset + _REPEATS
        page = parameters | {"limit": some, "offset": 0}
        rows = await self._read(shape, conditions, page)
        distinct = _first_of_each(rows)
        if len(distinct) > limit + offset or len(rows) < some:
            return distinct[offset : offset + limit]
        return await self._read(
            shape, conditions, parameters | {"limit": limit, "offset": offset}, once=_ONCE
        )

    async def _read(
        self, shape: Shape[Row], conditions: str, parameters: dict[str, Any], *, once: str = ""
    ) -> list[Row]:
        sql = _PAGE.format(columns=shape.columns, conditions=conditions, once=once)
        return [shape.make(values) for values in await self._reader.query(sql, parameters)]


def _first_of_each(rows: list[Row]) -> list[Row]:
    """The rows in their order, of those with one key the first of the log."""
    found: dict[Key, Row] = {}
    for row in rows:
        key = _key_of(row)
        if key not in found or row.log_offset < found[key].log_offset:
            found[key] = row
    return list(found.values())


def _key_of(row: RequestRow | RequestLine) -> Key:
    return row.received_at, row.usage_id


def _frozen(value: object) -> object:
    """Lists as the tuples that rows hold."""
    return tuple(value) if isinstance(value, list) else value


def _page_size(asked: int) -> int:
    if asked > PAGE_SIZE_MAX:
        raise InvalidArgument.of("page.page_size", f"is at most {PAGE_SIZE_MAX:,}")
    return asked or PAGE_SIZE_DEFAULT


def token_of(key: Key) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def key_from_token(token: str) -> Key:
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
            return received_at, usage_id
        case _:
            raise InvalidArgument.of("page.page_token", "is not a token of this list")
