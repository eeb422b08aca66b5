"""What a wire format is: how an attempt becomes a request, and how an answer's bytes become chunks.

A format knows no connection. `http.py` carries its requests and hands its reader what arrives, so
that time limits, disconnects and failures have one path for all providers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
from yarl import URL

from services.common.errors import UpstreamError
from services.gateway.errors import CapabilityNotSupported
from services.gateway.providers.port import AttemptFailed, UpstreamAttempt
from services.gateway.providers.sse import EventTooLong, SseDecoder

Json = dict[str, Any]  # Any: JSON


@dataclass(frozen=True, slots=True)
class WireRequest:
    """One POST as it goes out."""

    url: URL
    body: bytes
    headers: Mapping[str, str]


class AnswerReader(Protocol):
    """Reads one answer. Chunks are OpenAI's `chat.completion.chunk`, as far as the provider says
    them; `answer.ChunkNormaliser` makes them uniform.

    Failures are AttemptFailed with the stage `upstream_stream`; what was read before one has been
    added to `chunks` by then.
    """

    # The provider said that this was all.
    complete: bool
    # Nothing that may follow is of interest.
    ended: bool

    def feed(self, data: bytes, chunks: list[Any]) -> None:  # Any: JSON
        """Adds what the bytes of a stream complete."""

    def whole(self, body: bytes) -> list[Any]:  # Any: JSON
        """The chunks that an answer in one piece stands for."""


class WireFormat(Protocol):
    """One way of writing requests and reading answers."""

    @property
    def stream_types(self) -> tuple[str, ...]:
        """Parts of the content types of its streams."""

    def request(self, attempt: UpstreamAttempt) -> WireRequest:
        """What to send. Raises AttemptFailed where the format cannot say what was asked for."""

    def reader(self, attempt: UpstreamAttempt) -> AnswerReader:
        """For the answer of this attempt."""


def cannot_say(attempt: UpstreamAttempt, what: str) -> AttemptFailed:
    """The failure of a request that the provider's format has no words for: another model may."""
    said = f"{attempt.model.model_id} does not support {what}"
    return AttemptFailed(CapabilityNotSupported(said), stage="upstream_submit")


def require_chat(attempt: UpstreamAttempt) -> None:
    """Raises AttemptFailed for what is no conversation, which this format has no words for."""
    if attempt.operation != "chat":
        raise cannot_say(attempt, attempt.operation)


def bad_answer(message: str) -> AttemptFailed:
    """The failure of an answer that is none."""
    return AttemptFailed(UpstreamError(message), stage="upstream_stream", http_status=200)


def json_of(data: bytes) -> Any:  # Any: JSON
    """The JSON of an event or a body. Raises AttemptFailed."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise bad_answer("the upstream provider sent something that is not JSON") from error


def choice_chunk(delta: Json, *, finish: str | None = None, index: int = 0) -> Json:
    """A chunk of one choice."""
    return {"choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


def usage_chunk(usage: Json) -> Json:
    """A chunk that says what was used; `metering.usage_from_wire` reads it."""
    return {"choices": [], "usage": usage}


def count_of(usage: Any, name: str) -> int:  # Any: JSON
    """A count of a usage object; 0 where it has none that could be one."""
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int and value > 0 else 0


def sse_events(decoder: SseDecoder, data: bytes) -> list[bytes]:
    """The events that the bytes complete. Raises AttemptFailed where one is too long."""
    try:
        return decoder.feed(data)
    except EventTooLong as error:
        raise AttemptFailed(error, stage="upstream_stream", http_status=200) from error
