"""Prompts and answers as text of bounded size, without pictures, sound and secrets.

A prompt is read only as far as it is kept, so that a long one costs no more than a short one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from services.common.security.secret_text import OURS, THEIRS
from services.gateway.chat_request import ChatRequest

REMOVED = "[removed]"
_SECRETS = re.compile(rf"{OURS}|{THEIRS}|(?i:\bbearer\s+)[A-Za-z0-9._~+/-]{{16,}}=*")


def without_secrets(text: str) -> str:
    """The text with a mark in place of everything that looks like a key or a token."""
    return _SECRETS.sub(REMOVED, text)


def bounded(pieces: Iterable[str], bytes_max: int) -> tuple[str, bool]:
    """The pieces as one text of at most so many bytes of UTF-8, and whether something is missing.

    Of the pieces no more is taken than the text needs.
    """
    taken: list[str] = []
    room = bytes_max
    for piece in pieces:
        if not piece:
            continue
        # No character is less than a byte: what does not fit as characters does not fit at all.
        taken.append(piece[: room + 1])
        room -= len(piece)
        if room < 0:
            break
    raw = "".join(taken).encode(errors="replace")
    if len(raw) <= bytes_max:
        return raw.decode(), False
    return raw[:bytes_max].decode(errors="ignore"), True


def prompt_pieces(request: ChatRequest) -> Iterator[str]:
    """What was asked, for people: each message under its role, what is no text by its kind."""
    if request.operation != "chat":
        yield from _input(request.upstream.get("input"))
        return
    for place, message in enumerate(request.upstream.get("messages", ())):
        yield f"{chr(10) * 2 if place else ''}[{message['role']}]\n"
        yield from _content(message.get("content"))
        for call in message.get("tool_calls") or ():
            function = call.get("function") or {}
            yield f"[tool_call {function.get('name', '')}] "
            yield str(function.get("arguments", ""))


def _content(content: Any) -> Iterator[str]:  # Any: JSON, checked
    if isinstance(content, str):
        yield content
    elif isinstance(content, Sequence):
        for part in content:
            kind = part.get("type", "")
            yield part.get(kind, "") if kind in ("text", "refusal") else f"[{kind}]"


def _input(given: Any) -> Iterator[str]:  # Any: JSON, checked
    for entry in given if isinstance(given, list) else [given]:
        match entry:
            case str():
                yield entry
            case {"type": "text"}:
                yield entry.get("text", "")
            case {"type": str(kind)}:
                yield f"[{kind}]"
            case _:
                yield "[tokens]"
                return
        yield "\n"
