"""Reads of single requests: plain SQL over table `requests`, every one scoped to what the principal
may see.

A page is found in two steps, as is a request: first the keys, from the few columns that the filter
and the order need, then the whole rows of exactly those keys. A row is wide, and of most granules
that a filter goes through nothing else is needed. Duplicates that are not merged away yet have one
key and are dropped on the way.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from services.common.errors import InvalidArgument, NotFound
from services.usage.conditions import behind, where
from services.usage.domain.filter import RequestFilter, Scope
from services.usage.domain.row import COLUMNS, RequestRow
from services.usage.ports import LogReader

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 1_000
OFFSET_MAX = 10_000
# The attempts that are shown of one request id, which a client may use again and again.
ATTEMPTS_MAX = 1_000
# 2100-01-01, UTC; the sink takes no later row.
_MS_MAX = 4_102_444_800_000
_TIMES = ("received_at", "admitted_at")
_COLUMNS_SQL = ", ".join(
    f"toUnixTimestamp64Milli({name}) AS {name}_ms" if name in _TIMES else name for name in COLUMNS
)
# A page's rows lie in a handful of granules: more threads only wait for one another.
_NARROW = " SETTINGS max_threads = 1, query_plan_optimize_lazy_materialization = 0"
# A month of requests never shares a sorting key with another month, so partitions need no merging
# for FINAL.
_COUNT = "SELECT count() FROM requests FINAL WHERE "
_COUNT_SETTINGS = " SETTINGS do_not_merge_across_partitions_select_final = 1"

# Rows that a page may hold more than once before that is the engine's business.
_REPEATS = 8

# Unix milliseconds of `received_at`, and the usage id.
Key = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Page:
    """Rows newest first, where the next page begins ("" on the last), and how many there are in
    all if asked for.
    """

    rows: list[RequestRow]
    next_page_token: str
    total: int | None = None


class UsageViews:
    """Lists, look-ups and walks of the request log."""

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
        conditions, parameters = where(scope, wanted)
        total = await self._total(conditions, parameters) if with_total else None
        if page_token:
            after = key_from_token(page_token)
            conditions, parameters = behind(conditions, parameters, after)
        keys = await self._keys(conditions, parameters, limit=size + 1, offset=offset)
        rows = await self._rows(scope, keys[:size])
        return Page(rows, token_of(keys[size - 1]) if len(keys) > size else "", total)

    async def walk(
        self, scope: Scope, wanted: RequestFilter, *, chunk: int
    ) -> AsyncIterator[list[RequestRow]]:
        """All rows of a filter, newest first, `chunk` at a time; memory stays that of one chunk."""
        conditions, parameters = where(scope, wanted)
        while True:
            keys = await self._keys(conditions, parameters, limit=chunk)
            if keys:
                yield await self._rows(scope, keys)
            if len(keys) < chunk:
                return
            conditions, parameters = behind(*where(scope, wanted), keys[-1])

    async def get_request(self, scope: Scope, request_or_usage_id: str) -> RequestRow:
        """The newest request with that id. Raises NotFound, also where it is not in the log yet."""
        keys = await self._keys_of_id(scope, request_or_usage_id, limit=1)
        if not keys:
            raise NotFound(f"no request {request_or_usage_id} in the log")
        return (await self._rows(scope, keys))[0]

    async def requests_of_id(self, scope: Scope, request_or_usage_id: str) -> list[RequestRow]:
        """Every request that shares the request id of the one named, oldest first; NotFound where
        there is none.
        """
        named = await self.get_request(scope, request_or_usage_id)
        if not named.request_id:
            return [named]
        keys = await self._keys_of_id(scope, named.request_id, limit=ATTEMPTS_MAX)
        rows = await self._rows(scope, keys)
        return [row for row in reversed(rows) if row.request_id == named.request_id]

    async def _keys_of_id(self, scope: Scope, wanted_id: str, *, limit: int) -> list[Key]:
        if not wanted_id:
            raise InvalidArgument.of("request_id", "is empty")
        conditions, parameters = where(scope, RequestFilter())
        conditions += " AND (request_id = {id:String} OR usage_id = {id:String})"
        return await self._keys(conditions, parameters | {"id": wanted_id}, limit=limit)

    async def _total(self, conditions: str, parameters: dict[str, Any]) -> int:
        rows = await self._reader.query(_COUNT + conditions + _COUNT_SETTINGS, parameters)
        return int(rows[0][0])

    async def _keys(
        self, conditions: str, parameters: dict[str, Any], *, limit: int, offset: int = 0
    ) -> list[Key]:
        """The keys of a page, newest first, each once. Duplicates are rare: only where there are
        more of them than a few is the engine asked to drop them, which costs it several times as
        much.
        """
        some = limit + offset + _REPEATS
        keys = await self._keys_by("SELECT", conditions, parameters | {"limit": some, "offset": 0})
        distinct = list(dict.fromkeys(keys))
        if len(distinct) < limit + offset and len(keys) == some:
            paged = parameters | {"limit": limit, "offset": offset}
            return await self._keys_by("SELECT DISTINCT", conditions, paged)
        return distinct[offset : offset + limit]

    async def _keys_by(self, select: str, conditions: str, parameters: dict[str, Any]) -> list[Key]:
        answer = await self._reader.query(
            f"{select} toUnixTimestamp64Milli(received_at) AS at, usage_id FROM requests"
            f" WHERE {conditions} ORDER BY received_at DESC, usage_id DESC"
            " LIMIT {limit:UInt32} OFFSET {offset:UInt32}",
            parameters,
        )
        return [(at, usage_id) for at, usage_id in answer]

    async def _rows(self, scope: Scope, keys: Sequence[Key]) -> list[RequestRow]:
        """The rows of the keys, newest first; of two with one key the first of the log."""
        if not keys:
            return []
        answer = await self._reader.query(
            f"SELECT {_COLUMNS_SQL} FROM requests"  # noqa: S608 - our own columns
            " WHERE account_id = {account_id:String}"
            " AND received_at BETWEEN fromUnixTimestamp64Milli({first:Int64}, 'UTC')"
            " AND fromUnixTimestamp64Milli({last:Int64}, 'UTC') AND usage_id IN {ids:Array(String)}"
            " ORDER BY received_at DESC, usage_id DESC, log_offset" + _NARROW,
            {
                "account_id": scope.account_id,
                "first": keys[-1][0],
                "last": keys[0][0],
                "ids": [usage_id for _, usage_id in keys],
            },
        )
        wanted = set(keys)
        found: dict[Key, RequestRow] = {}
        for values in answer:
            row = RequestRow._make(map(_frozen, values))
            key = (row.received_at, row.usage_id)
            if key in wanted:
                found.setdefault(key, row)
        return list(found.values())


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
