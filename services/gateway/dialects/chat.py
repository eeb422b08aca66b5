"""The format that is the pipeline's own: OpenAI's chat completions."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from services.common.errors import AppError
from services.common.ids import RequestId
from services.gateway.answer import Chunk
from services.gateway.chat_request import Operation
from services.gateway.dialects.port import Json
from services.gateway.envelope import DONE_FRAME, Ending, error_ending, error_frames
from services.gateway.ports import KeyPrincipal


class ChatDialect:
    """What comes and goes unchanged; also for other operations that answer in one piece."""

    __slots__ = ("operation",)

    def __init__(self, operation: Operation = "chat") -> None:
        self.operation: Operation = operation

    async def chat_body(self, body: Json, _: KeyPrincipal, /) -> Json:
        return body

    def frames(self, chunks: Sequence[Chunk]) -> bytes:
        return b"".join([frame(chunk) for chunk in chunks])

    def around_words(self, chunk: Chunk) -> tuple[bytes, bytes] | None:
        # No string can look like this: in JSON its quotes would have backslashes.
        before, _, after = frame(chunk).partition(b'"content":""')
        return before + b'"content":', after

    def last(self, usage_chunk: Chunk) -> bytes:
        return frame(usage_chunk) + DONE_FRAME

    def whole(self, answer: Json) -> bytes:
        return orjson.dumps(answer)

    def refusal(self, error: AppError, request_id: RequestId, /) -> Ending:
        return error_ending(error, request_id)

    def broken(self, error: AppError, request_id: RequestId, /) -> bytes:
        return error_frames(error, request_id)


def frame(event: Json) -> bytes:
    """One event: one line of JSON and a blank line."""
    return b"data: " + orjson.dumps(event) + b"\n\n"


def named_frame(name: str, event: Json) -> bytes:
    """One event with its name on a line of its own."""
    return b"event: " + name.encode() + b"\n" + frame(event)


CHAT = ChatDialect()
