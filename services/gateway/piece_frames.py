"""The frames of a stream's pieces: words are put between bytes that are made once, all else is for
the dialect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from services.gateway.answer import Chunk, ChunkNormaliser, Piece
from services.gateway.dialects.port import Dialect


class PieceFrames:
    """The frames of one answer."""

    __slots__ = ("_around", "_asked", "_chunks", "_dialect", "_fingerprint")

    def __init__(self, dialect: Dialect, chunks: ChunkNormaliser) -> None:
        self._dialect = dialect
        self._chunks = chunks
        # Of the last chunk, which the words behind it share.
        self._fingerprint: Any = None  # Any: JSON
        # What stands around words; None where there is no such thing.
        self._around: tuple[bytes, bytes] | None = None
        self._asked = False

    def of(self, pieces: Sequence[Piece]) -> bytes:
        """The frames of pieces that follow those before; empty where they say nothing."""
        frames: list[bytes] = []
        plain: list[Chunk] = []
        for piece in pieces:
            if isinstance(piece, str):
                if not self._asked:
                    empty = self._chunks.words_chunk("", self._fingerprint)
                    self._around, self._asked = self._dialect.around_words(empty), True
                if self._around is not None:
                    if plain:
                        frames.append(self._dialect.frames(plain))
                        plain = []
                    frames.append(orjson.dumps(piece).join(self._around))
                    continue
                piece = self._chunks.words_chunk(piece, self._fingerprint)
            elif piece.get("system_fingerprint") != self._fingerprint:
                self._fingerprint, self._asked = piece.get("system_fingerprint"), False
            plain.append(piece)
        if plain:
            frames.append(self._dialect.frames(plain))
        return b"".join(frames)
