"""Counting tokens without asking anyone: exact where the model's tokenizer is known, by o200k_base
where not.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Literal

from services.gateway.chat_messages import PromptParts

if TYPE_CHECKING:
    from bpe_openai import Encoding

EXACT_TOKENIZERS = ("cl100k_base", "o200k_base")
_STAND_IN: Literal["o200k_base"] = "o200k_base"

# Longer texts than this are counted in a thread, in pieces of this size, so that the loop gets its
# turns.
INLINE_CHARACTERS_MAX = 100_000
_PIECE_CHARACTERS = 65_536

# The wrapping that OpenAI's models put around each message, and before the answer.
_TOKENS_PER_MESSAGE = 4
_TOKENS_PER_ANSWER = 3

# Upper ends of what one picture, one second of speech (64 kbit/s) and one clip cost at the large
# providers.
_TOKENS_PER_IMAGE = 2_000
_AUDIO_BYTES_PER_TOKEN = 400
_TOKENS_PER_VIDEO = 20_000


@cache
def _encoding(name: str) -> Encoding:
    with warnings.catch_warnings():
        # The package opens its data in a way that Python 3.11 calls deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        from bpe_openai import get_encoding

        return get_encoding(name)


def warm_up() -> None:
    """Loads both vocabularies (about half a second), so that no request has to."""
    for name in EXACT_TOKENIZERS:
        _encoding(name)


def is_exact(tokenizer: str) -> bool:
    """True where this tokenizer is the model's own and here."""
    return tokenizer in EXACT_TOKENIZERS


async def count_text(texts: Sequence[str], tokenizer: str) -> int:
    """Tokens of the texts, each for itself."""
    encoding = _encoding(tokenizer if is_exact(tokenizer) else _STAND_IN)
    if sum(map(len, texts)) <= INLINE_CHARACTERS_MAX:
        return _count(encoding, texts)
    return await asyncio.to_thread(_count, encoding, texts)


def count_inline(texts: Sequence[str], tokenizer: str) -> int:
    """The same at once: for at most `INLINE_CHARACTERS_MAX` characters."""
    return _count(_encoding(tokenizer if is_exact(tokenizer) else _STAND_IN), texts)


async def count_prompt(parts: PromptParts, tokenizer: str) -> int:
    """Tokens of a whole prompt, with the wrapping of its messages and what pictures and sound come
    to.
    """
    counted = await count_text(parts.texts, tokenizer)
    return (
        counted
        + parts.token_ids
        + parts.messages * _TOKENS_PER_MESSAGE
        + (_TOKENS_PER_ANSWER if parts.messages else 0)
        + parts.images * _TOKENS_PER_IMAGE
        + -(-parts.audio_bytes // _AUDIO_BYTES_PER_TOKEN)
        + parts.videos * _TOKENS_PER_VIDEO
    )


def _count(encoding: Encoding, texts: Sequence[str]) -> int:
    return sum(len(encoding.encode_ordinary(piece)) for text in texts for piece in _pieces(text))


def _pieces(text: str) -> Sequence[str]:
    """The text cut at spaces where it can be, which costs no more than a token a cut."""
    if len(text) <= _PIECE_CHARACTERS:
        return (text,)
    pieces = []
    start = 0
    while start < len(text):
        end = start + _PIECE_CHARACTERS
        space = text.rfind(" ", start + 1, end) if end < len(text) else -1
        end = space if space > start else end
        pieces.append(text[start:end])
        start = end
    return pieces
