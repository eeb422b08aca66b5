"""A short piece of a long text around the words that somebody looked for, in parts: what was looked
for and what stands between. No markup, so that a page cannot take text for any.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# As the search parts them: what is no letter or digit of ASCII parts words, everything beyond is
# part of one.
_WORD = re.compile(r"[0-9a-zA-Z\u0080-\U0010ffff]+")
LENGTH = 240
BEFORE = 60
CUT = "\u2026"


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of text, and whether it is a word that was looked for."""

    text: str
    marked: bool = False


def words_of(text: str) -> frozenset[str]:
    """The words of a text, in lower case."""
    return frozenset(word.lower() for word in _WORD.findall(text))


def snippet(text: str, words: frozenset[str]) -> list[Part]:
    """The neighbourhood of the first of the words; the beginning of the text where there is none.
    White space is one space; the ends say where something was left out.
    """
    plain = " ".join(text.split())
    first = next((one for one in _WORD.finditer(plain) if one[0].lower() in words), None)
    start = max(0, first.start() - BEFORE) if first else 0
    end = min(len(plain), start + LENGTH)
    parts = [Part(CUT)] if start else []
    at = start
    for found in _WORD.finditer(plain, start, end):
        if found[0].lower() not in words:
            continue
        if found.start() > at:
            parts.append(Part(plain[at : found.start()]))
        parts.append(Part(found[0], marked=True))
        at = found.end()
    if at < end:
        parts.append(Part(plain[at:end]))
    if end < len(plain):
        parts.append(Part(CUT))
    return parts
