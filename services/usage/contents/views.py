"""Reads of stored prompts and answers: plain SQL, every one scoped to one account, nothing that it
has erased.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from services.common.errors import InvalidArgument, NotFound
from services.usage.conditions import behind
from services.usage.contents.erasures import Erasures
from services.usage.contents.search_index import SearchIndex, words_of
from services.usage.domain.content_row import CONTENT_COLUMNS, ContentRow
from services.usage.ports import LogReader
from services.usage.views import key_from_token, token_of

PAGE_SIZE_DEFAULT = 20
PAGE_SIZE_MAX = 100
WORDS_LENGTH_MAX = 200
_COLUMNS_SQL = ", ".join(
    "toUnixTimestamp64Milli(received_at) AS received_at_ms" if name == "received_at" else name
    for name in CONTENT_COLUMNS
)


@dataclass(frozen=True, slots=True)
class ContentPage:
    """Rows newest first, and where the next page begins ("" on the last)."""

    rows: list[ContentRow]
    next_page_token: str


class ContentViews:
    """Look-ups and searches."""

    def __init__(self, reader: LogReader, erasures: Erasures, index: SearchIndex) -> None:
        self._reader = reader
        self._index = index
        self._erasures = erasures

    async def get(self, account_id: str, usage_id: str) -> ContentRow:
        """What is stored of one request. Raises NotFound."""
        if not usage_id:
            raise InvalidArgument.of("usage_id", "is empty")
        rows = await self._rows(account_id, " AND usage_id = {id:String}", {"id": usage_id}, size=1)
        if not rows:
            raise NotFound(f"no prompt is stored of request {usage_id}")
        return rows[0]

    async def search(
        self,
        account_id: str,
        words: str,
        *,
        since_ms: int = 0,
        until_ms: int = 0,
        page_size: int = 0,
        page_token: str = "",
    ) -> ContentPage:
        """Those in which every word occurs. Raises InvalidArgument for what cannot be searched."""
        found = words_of(words)
        if not found:
            raise InvalidArgument.of("words", "names no word")
        if len(words) > WORDS_LENGTH_MAX:
            raise InvalidArgument.of("words", f"has more than {WORDS_LENGTH_MAX} characters")
        if page_size > PAGE_SIZE_MAX:
            raise InvalidArgument.of("page.page_size", f"is at most {PAGE_SIZE_MAX}")
        size = page_size or PAGE_SIZE_DEFAULT
        condition, parameters = await self._index.condition(found)
        conditions = f" AND {condition}"
        if since_ms:
            conditions += " AND received_at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')"
            parameters["since"] = since_ms
        if until_ms:
            conditions += " AND received_at < fromUnixTimestamp64Milli({until_ms:Int64}, 'UTC')"
            parameters["until_ms"] = until_ms
        if page_token:
            conditions, parameters = behind(conditions, parameters, key_from_token(page_token))
        rows = await self._rows(account_id, conditions, parameters, size=size + 1)
        if len(rows) <= size:
            return ContentPage(rows, "")
        last = rows[size - 1]
        return ContentPage(rows[:size], token_of((last.received_at, last.usage_id)))

    async def _rows(
        self, account_id: str, conditions: str, parameters: dict[str, Any], *, size: int
    ) -> list[ContentRow]:
        if not account_id:
            raise InvalidArgument.of("principal", "names no account")
        answer = await self._reader.query(
            f"SELECT {_COLUMNS_SQL} FROM request_contents"  # noqa: S608 - our own columns
            " WHERE account_id = {account_id:String}"
            " AND received_at > fromUnixTimestamp64Milli({erased_until:Int64}, 'UTC')"
            f"{conditions} ORDER BY received_at DESC, usage_id DESC, log_offset"
            " LIMIT 1 BY received_at, usage_id LIMIT {size:UInt32}",
            parameters
            | {
                "account_id": account_id,
                "erased_until": await self._erasures.until(account_id),
                "size": size,
            },
        )
        return [ContentRow._make(values) for values in answer]
