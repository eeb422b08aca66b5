"""Server-sent events, as every route writes them that pushes to an open page."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing

import orjson
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from services.common.clock import Clock
from services.common.errors import AppError

# How long a stream lasts; the page connects again by itself, and the session is checked again.
STREAM_LIFE_S = 300.0
HEARTBEAT_S = 15.0
STILL_HERE = b": still here\n\n"
# What a page waits before it connects again, and what is written at once so that it knows.
BEGINNING = b"retry: 1000\n: connected\n\n"
# A topic whose service is away is asked for again after this long.
AGAIN_AFTER_S = 3.0
# Of a page that reads slowly, before its topics wait for it.
FRAMES_WAITING_MAX = 64

Messages = AsyncGenerator[BaseModel, None]


class AwayOut(BaseModel):
    """Says that a topic is not there for a while, while the others go on."""

    topic: str


def event(message: BaseModel, topic: str) -> bytes:
    """One event of a topic, whose data is the message as JSON."""
    return b"event: %s\ndata: %s\n\n" % (topic.encode(), orjson.dumps(message.model_dump()))


def event_stream(frames: AsyncIterator[bytes]) -> StreamingResponse:
    """The answer that sends these frames as they come."""
    return StreamingResponse(
        frames,
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


async def merged(
    sources: Mapping[str, Callable[[], Messages]], clock: Clock
) -> AsyncIterator[bytes]:
    """Frames of several topics as one stream; one that ends, or is away, is opened again."""
    frames: asyncio.Queue[bytes] = asyncio.Queue(FRAMES_WAITING_MAX)

    async def pump(topic: str, source: Callable[[], Messages]) -> None:
        while True:
            try:
                async with aclosing(source()) as messages:
                    async for message in messages:
                        await frames.put(event(message, topic))
            except AppError:
                await frames.put(event(AwayOut(topic=topic), "away"))
            await clock.sleep(AGAIN_AFTER_S)

    pumps = [asyncio.create_task(pump(topic, source)) for topic, source in sources.items()]
    frame = asyncio.create_task(frames.get())
    ends_s = time.monotonic() + STREAM_LIFE_S
    try:
        yield BEGINNING
        while time.monotonic() < ends_s:
            done, _ = await asyncio.wait(
                {frame, *pumps}, timeout=HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done.intersection(pumps):
                task.result()  # raises: it only ends by what nobody foresaw
            if frame in done:
                yield frame.result()
                frame = asyncio.create_task(frames.get())
            else:
                yield STILL_HERE
    finally:
        for unfinished in (frame, *pumps):
            unfinished.cancel()
        await asyncio.gather(frame, *pumps, return_exceptions=True)
