"""One call of a comparison: what came of it, and the ends by which the pipeline drives it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from services.common.errors import AppError
from services.common.ids import RequestId
from services.gateway.answer import Chunk
from services.gateway.dialects.chat import ChatDialect
from services.gateway.dialects.port import Json
from services.gateway.envelope import Ending
from services.gateway.ports import QuotaMeter
from services.gateway.usage_entry import UsageEntry

Headers = Sequence[tuple[bytes, bytes]]


class Member(ChatDialect):
    """A call's dialect: keeps the answer, and makes frames of its text where it streams."""

    def __init__(self, model: str, request_id: RequestId, text_frame: Callable[[str], bytes]):
        super().__init__()
        self.model = model
        self.request_id = request_id
        self.answer: Json | None = None
        self.usage: Json | None = None
        self.error: AppError | None = None
        self.entry: UsageEntry | None = None
        self.finish_reason: str | None = None
        self._text_frame = text_frame
        self._texts: list[str] = []

    @property
    def content(self) -> str | None:
        """What the model said; None where it said nothing."""
        if self.answer is not None:
            said = self.answer["choices"][0]["message"].get("content")
            return said if isinstance(said, str) else None
        return "".join(self._texts) or None

    @property
    def latency_ms(self) -> int:
        """From the arrival of the comparison to the end of this call."""
        return self.entry.latency_ms if self.entry is not None else 0

    @property
    def tokens(self) -> int:
        """Those that count under the comparison's ticket: all, but of a call with its own."""
        if self.entry is None or self.entry.ticket is not None:
            return 0
        return sum(self.entry.quantities.values())

    def frames(self, chunks: Sequence[Chunk]) -> bytes:
        said: list[str] = []
        for chunk in chunks:
            for choice in chunk["choices"]:
                piece = choice["delta"].get("content")
                if choice["index"] == 0 and isinstance(piece, str) and piece:
                    said.append(piece)
                if choice["index"] == 0 and choice["finish_reason"]:
                    self.finish_reason = choice["finish_reason"]
        self._texts += said
        return self._text_frame("".join(said)) if said else b""

    def around_words(self, _: Chunk) -> None:
        """Of no use here: see `frames`."""

    def last(self, usage_chunk: Chunk) -> bytes:
        self.usage = usage_chunk["usage"]
        return b""

    def whole(self, answer: Json) -> bytes:
        self.answer, self.usage = answer, answer["usage"]
        self.finish_reason = answer["choices"][0]["finish_reason"]
        return b""

    def refusal(self, error: AppError, _: RequestId, /) -> Ending:
        self.error = error
        return Ending(error.http_status, b"")

    def broken(self, error: AppError, _: RequestId, /) -> bytes:
        self.error = error
        return b""

    def result(self) -> Json:
        """The entry of `results`; a failure is told in words as well as by its code."""
        return {
            "model": self.model,
            "response_body": self.answer,
            "content": self.content,
            "latency_ms": self.latency_ms,
            "error": self.error.message if self.error else None,
            "error_code": self.error.code if self.error else None,
            "usage": self.usage,
            "request_id": self.request_id,
        }

    def frame_facts(self) -> Json:
        """The same for a frame, without `error`: SDKs take a stream that says it for broken."""
        facts = {
            name: value
            for name, value in self.result().items()
            if name not in ("error", "response_body") and value is not None
        }
        facts["finish_reason"] = self.finish_reason
        if self.error is not None:
            facts["error_message"] = self.error.message
        return facts


class MemberReply:
    """The way back of one call: headers to the comparison's head, frames to its stream."""

    def __init__(
        self,
        announce: Callable[[Sequence[QuotaMeter]], None],
        write: Callable[[bytes], Awaitable[None]],
    ) -> None:
        self._announce = announce
        self._write = write

    def announce(self, meters: Sequence[QuotaMeter]) -> None:
        self._announce(meters)

    def add_headers(self, headers: Headers) -> None:
        """What one call says of itself is not the comparison's."""

    async def begin_stream(self) -> None:
        """The comparison begins its stream with its first frame."""

    async def write(self, data: bytes) -> None:
        await self._write(data)

    async def finish(self, ending: Ending) -> None:
        """The dialect has kept what there is to know."""
