"""A streamed and a whole answer of the same content come to the same: tokens by kind, cost, row.

Through the whole worker: HTTP, the provider's format, metering, the hold, the write-ahead file and
the event.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common.pb.mesh.events.v1.usage_pb2 import UsageRecorded
from tests.fixtures.gateway import GatewayHarness, running_gateway, tokens_of
from tests.fixtures.wire import QUESTION, ask

Json = dict[str, Any]  # Any: JSON
# When it was, and how it was delivered; everything else of the row is the same.
_OWN = (
    "usage_id", "request_id", "trace_id", "stream", "received_at_ms", "admitted_at_ms",
    "first_token_ms", "latency_ms", "grant_id", "held_nanousd",
)  # fmt: skip
_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=12)


@dataclass(frozen=True, slots=True)
class Content:
    """What the provider answers, however it is asked: in pieces, which a whole answer joins."""

    words: tuple[str, ...]
    thoughts: tuple[str, ...]
    # The pieces of the arguments of each call.
    calls: tuple[tuple[str, ...], ...]
    usage: Json | None
    finish: str
    # Providers may answer in one piece although a stream was asked for.
    in_one_piece: bool = False

    @property
    def message(self) -> Json:
        message: Json = {"role": "assistant", "content": "".join(self.words) or None}
        if self.thoughts:
            message["reasoning_content"] = "".join(self.thoughts)
        if self.calls:
            message["tool_calls"] = [
                {**_call(number), "function": {"name": "f", "arguments": "".join(pieces)}}
                for number, pieces in enumerate(self.calls)
            ]
        return message

    def deltas(self) -> list[Json]:
        """The same in the order in which providers stream it."""
        found: list[Json] = [{"role": "assistant", "content": ""}]
        found += [{"reasoning_content": piece} for piece in self.thoughts]
        found += [{"content": piece} for piece in self.words]
        for number, pieces in enumerate(self.calls):
            first = {**_call(number), "function": {"name": "f", "arguments": ""}}
            found.append({"tool_calls": [{"index": number, **first}]})
            for piece in pieces:
                found.append({"tool_calls": [{"index": number, "function": {"arguments": piece}}]})
        return found


def _call(number: int) -> Json:
    return {"id": f"call_{number}", "type": "function"}


@st.composite
def usages(draw: st.DrawFn) -> Json:
    """Counts as providers give them: the cached are some of the prompt's, the thoughts some of the
    completion's; either may be left out.
    """
    prompt, completion = draw(st.integers(0, 5_000)), draw(st.integers(0, 5_000))
    found: Json = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    if draw(st.booleans()):
        found["prompt_tokens_details"] = {"cached_tokens": draw(st.integers(0, prompt))}
    if draw(st.booleans()):
        thought = draw(st.integers(0, completion))
        found["completion_tokens_details"] = {"reasoning_tokens": thought}
    return found


@st.composite
def contents(draw: st.DrawFn) -> Content:
    words = tuple(draw(st.lists(_TEXT, max_size=5)))
    calls = tuple(
        tuple(draw(st.sampled_from([("{}",), ('{"a"', ":1}"), ('{"city":', '"Paris', '"}')])))
        for _ in range(draw(st.integers(0, 2)))
    )
    if not calls and not "".join(words):
        words = (*words, "Yes.")
    return Content(
        words=words,
        thoughts=tuple(draw(st.lists(_TEXT.filter(bool), max_size=3))),
        calls=calls,
        usage=draw(st.none() | usages()),
        finish="tool_calls" if calls else draw(st.sampled_from(["stop", "length"])),
        in_one_piece=draw(st.booleans()),
    )


@dataclass(slots=True)
class Provider:
    """Answers what it was told to, as a stream or in one piece."""

    content: Content | None = None
    pieces: bool = True

    async def complete(self, request: web.Request) -> web.StreamResponse:
        content = self.content
        assert content is not None
        facts: Json = {"id": "x", "created": 1, "model": "build-7"}
        usage = {} if content.usage is None else {"usage": content.usage}
        if not self.pieces:
            choice = {"index": 0, "message": content.message, "finish_reason": content.finish}
            whole = {**facts, "object": "chat.completion", "choices": [choice], **usage}
            return web.json_response(whole)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        facts["object"] = "chat.completion.chunk"
        last: Json = {"index": 0, "delta": {}, "finish_reason": content.finish}
        choices = [[{"index": 0, "delta": d, "finish_reason": None}] for d in content.deltas()]
        frames = [{**facts, "choices": choice} for choice in [*choices, [last]]]
        if usage:
            frames.append({**facts, "choices": [], **usage})
        for frame in frames:
            await response.write(b"data: " + orjson.dumps(frame) + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response


@asynccontextmanager
async def _worker(directory: Path) -> AsyncIterator[tuple[GatewayHarness, Provider]]:
    provider = Provider()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", provider.complete)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        async with running_gateway(directory, provider_url=url) as gateway:
            yield gateway, provider
    finally:
        await runner.cleanup()


async def _both(
    gateway: GatewayHarness, provider: Provider, content: Content
) -> tuple[tuple[Json, UsageRecorded], tuple[Json, UsageRecorded]]:
    """What the caller was told of the usage and the event: of the stream, of the whole answer."""
    provider.content = content
    found = []
    for stream in (True, False):
        before = len(gateway.events())
        provider.pieces = stream or not content.in_one_piece
        body: Json = {"model": "vendor/ok", "messages": QUESTION, "session_id": "s"}
        answer = await ask(gateway, {**body, "max_tokens": 6_000, "stream": stream})
        assert answer.status == 200, answer.body
        told = answer.frames[-1]["usage"] if stream else answer.json["usage"]
        found.append((told, await gateway.event(before + 1)))
    return found[0], found[1]


def _row(event: UsageRecorded) -> UsageRecorded:
    row = UsageRecorded()
    row.CopyFrom(event)
    for name in _OWN:
        row.ClearField(name)  # type: ignore[arg-type]  # names of fields, checked by protobuf
    for attempt in row.attempts:
        attempt.started_at_ms = attempt.latency_ms = 0
    return row


def test_a_streamed_and_a_whole_answer_are_metered_and_settled_alike(tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        worker = _worker(tmp_path)
        gateway, provider = runner.run(worker.__aenter__())

        @given(contents())
        @settings(
            max_examples=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
        )
        def alike(content: Content) -> None:
            (told, streamed), (said, whole) = runner.run(_both(gateway, provider, content))
            assert told == said
            assert (streamed.stream, whole.stream) == (True, False)
            assert _row(streamed) == _row(whole)
            assert streamed.cost_nanousd == whole.cost_nanousd
            if content.usage is not None and content.usage["total_tokens"]:
                total = sum(tokens_of(whole).values())
                assert total == content.usage["total_tokens"]

        try:
            alike()
        finally:
            runner.run(worker.__aexit__(None, None, None))
