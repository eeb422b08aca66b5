"""Answers that come in one piece: vectors and verdicts, checked, tallied and made uniform."""

from __future__ import annotations

import base64
import struct
import sys
from array import array
from typing import Any

from services.common.ids import new_id
from services.gateway.answer import BadUpstreamAnswer, Chunk, Piece
from services.gateway.chat_request import ChatRequest
from services.gateway.metering import Usage, UsageTally, token_count


class WholeAnswer:
    """The one piece of an answer, as the relay takes chunks and as it folds them."""

    def __init__(self, request: ChatRequest, model_id: str) -> None:
        self._request = request
        self._model_id = model_id
        self._answer: dict[str, Any] | None = None  # Any: JSON
        self.tally = UsageTally()
        self.finish_reasons: dict[int, str] = {}

    @property
    def finished(self) -> bool:
        """True once the answer is there."""
        return self._answer is not None

    started = finished

    def words(self, _: Any) -> None:  # Any: JSON
        """There are none."""

    def take(self, raw: Any) -> Chunk | None:  # Any: JSON
        """Checks the answer and notes its usage. Raises BadUpstreamAnswer."""
        embeds = self._request.operation == "embeddings"
        items = raw.get("data" if embeds else "results") if isinstance(raw, dict) else None
        if not isinstance(items, list) or self._answer is not None:
            raise BadUpstreamAnswer("the upstream sent something that is no answer to this")
        if embeds:
            self._answer = {"object": "list", "data": self._vectors(items)}
        else:
            if not all(isinstance(item, dict) and "flagged" in item for item in items):
                raise BadUpstreamAnswer("the upstream sent verdicts without their outcome")
            self._answer = {"id": new_id("modr").replace("_", "-", 1), "results": items}
        self._answer["model"] = self._model_id
        self.tally.answered = True
        usage = raw.get("usage")
        if isinstance(usage, dict):
            prompt = token_count(usage, "prompt_tokens") or token_count(usage, "total_tokens")
            self.tally.reported = Usage(prompt, 0) if prompt else None
        return self._answer

    def usage_chunk(self, _: dict[str, Any]) -> Chunk:  # Any: JSON
        """Such an answer is never streamed."""
        raise AssertionError("a whole answer has no chunks")

    def add(self, chunk: Piece) -> None:
        """The piece is the fold already."""

    def whole(self, usage: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
        """The answer with what it used. Raises BadUpstreamAnswer where none came."""
        if self._answer is None:
            raise BadUpstreamAnswer("the upstream answered nothing")
        if self._request.operation != "embeddings":
            return self._answer
        counted = {name: usage[name] for name in ("prompt_tokens", "total_tokens")}
        return {**self._answer, "usage": counted}

    def _vectors(self, items: list[Any]) -> list[dict[str, Any]]:  # Any: JSON
        """In the order of the inputs, in the encoding that was asked for, whatever came."""
        if not items:
            raise BadUpstreamAnswer("the upstream sent no vectors")
        found: dict[int, Any] = {}  # Any: JSON
        for place, item in enumerate(items):
            if not isinstance(item, dict):
                raise BadUpstreamAnswer("the upstream sent a vector that is no object")
            index = item.get("index")
            found[index if type(index) is int else place] = item.get("embedding")
        if sorted(found) != list(range(len(items))):
            raise BadUpstreamAnswer("the upstream sent vectors out of place")
        wants_base64 = self._request.upstream.get("encoding_format") == "base64"
        encode = _as_base64 if wants_base64 else _as_floats
        return [
            {"object": "embedding", "index": index, "embedding": encode(found[index])}
            for index in range(len(items))
        ]


def _as_floats(vector: Any) -> list[float]:  # Any: JSON
    if isinstance(vector, list):
        return vector
    if not isinstance(vector, str):
        raise BadUpstreamAnswer("the upstream sent a vector without numbers")
    try:
        numbers = array("f", base64.b64decode(vector, validate=True))
    except ValueError as error:
        raise BadUpstreamAnswer("the upstream sent a vector that cannot be read") from error
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()


def _as_base64(vector: Any) -> str:  # Any: JSON
    if isinstance(vector, str):
        return vector
    if not isinstance(vector, list):
        raise BadUpstreamAnswer("the upstream sent a vector without numbers")
    try:
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
    except (struct.error, OverflowError) as error:
        raise BadUpstreamAnswer("the upstream sent a vector that is no numbers") from error
