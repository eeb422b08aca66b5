"""The index that searches in prompts and answers go through: words, wherever the engine has a text
index, else a Bloom filter of words, which finds the same and reads more.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from services.common.errors import InternalError, Unavailable
from services.usage.adapters.clickhouse import ClickHouse

Kind = Literal["text", "tokenbf_v1"]

_TEXT = "concat(prompt, ' ', answer)"
_LOWER = f"lowerUTF8({_TEXT})"
_INDEXES: dict[Kind, str] = {
    # Without an expression of its own the index would not be found by `hasAllTokens` over the text.
    "text": f"{_TEXT} TYPE text(tokenizer = 'splitByNonAlpha', preprocessor = {_LOWER})",
    "tokenbf_v1": f"{_LOWER} TYPE tokenbf_v1(65536, 3, 0) GRANULARITY 1",
}
_KNOWN = """
SELECT type FROM system.data_skipping_indices
WHERE database = currentDatabase() AND table = 'request_contents' AND name = 'by_words'
"""
_ADD = "ALTER TABLE request_contents ADD INDEX IF NOT EXISTS by_words"
# As the engine splits: what is no letter or digit of ASCII parts words, everything beyond is one.
_WORD = re.compile(r"[0-9a-zA-Z\u0080-\U0010ffff]+")


class SearchIndex:
    """The index of one store; `open` makes it where it is missing."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse
        self._kind: Kind | None = None

    async def open(self, kinds: tuple[Kind, ...] = ("text", "tokenbf_v1")) -> Kind:
        """Makes the best of these that the engine knows; returns which there is. Raises
        Unavailable.
        """
        known = await self._find()
        for kind in kinds if known is None else ():
            try:
                await self._clickhouse.command(f"{_ADD} {_INDEXES[kind]}")
            except (InternalError, Unavailable):
                if kind == kinds[-1]:
                    raise
            else:
                break
        self._kind = known or await self._find()
        if self._kind is None:
            raise Unavailable("the index of words is not there")
        return self._kind

    async def condition(self, words: list[str]) -> tuple[str, dict[str, Any]]:
        """That each of the words, which are in lower case, occurs; and the parameters."""
        if (self._kind or await self._find()) == "text":
            return f"hasAllTokens({_TEXT}, {{words:Array(String)}})", {"words": words}
        parameters = {f"word_{number}": word for number, word in enumerate(words)}
        conditions = [f"hasToken({_LOWER}, {{{name}:String}})" for name in parameters]
        return " AND ".join(conditions), parameters

    async def _find(self) -> Kind | None:
        rows = await self._clickhouse.query(_KNOWN)
        if rows:
            self._kind = "text" if rows[0][0] == "text" else "tokenbf_v1"
        return self._kind


def words_of(text: str) -> list[str]:
    """The words to look for, each once, in lower case."""
    return list(dict.fromkeys(_WORD.findall(text.lower())))
