"""Server-sent events, as every route writes them that pushes to an open page."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

# How long a stream lasts; the page connects again by itself, and the session is checked again.
STREAM_LIFE_S = 300.0
HEARTBEAT_S = 15.0
STILL_HERE = b": still here\n\n"


def event(message: BaseModel) -> bytes:
    """One event whose data is the message as JSON."""
    return b"data: " + orjson.dumps(message.model_dump()) + b"\n\n"


def event_stream(frames: AsyncIterator[bytes]) -> StreamingResponse:
    """The answer that sends these frames as they come."""
    return StreamingResponse(
        frames,
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )
