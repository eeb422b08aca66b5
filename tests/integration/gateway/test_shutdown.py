"""What a worker does when it is told to stop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import orjson
import pytest

from services.common.errors import Unavailable
from services.common.pb.mesh.events.v1 import usage_pb2
from tests.fixtures.gateway import GatewayHarness, running_gateway
from tests.fixtures.upstream import WORDS
from tests.fixtures.waiting import eventually
from tests.fixtures.wire import ask, call, chat


async def test_a_stream_under_way_finishes_and_new_connections_are_refused(
    tmp_path: Path,
) -> None:
    async with running_gateway(tmp_path, grace_s=10.0) as gateway:
        answer = asyncio.create_task(ask(gateway, chat("slow", stream=True)))
        await eventually(lambda: gateway.upstream.in_flight == 1)
        stopping = asyncio.create_task(gateway.server.stop())
        await eventually(lambda: not gateway.server.accepting)
        with pytest.raises(aiohttp.ClientConnectorError):
            await call(gateway, "GET", "/healthz")
        gateway.upstream.go_on.set()
        frames = (await answer).frames
        assert frames[-1]["usage"]["total_tokens"] == 27
        await stopping
        assert (await gateway.event()).outcome == usage_pb2.REQUEST_OUTCOME_SUCCESS


async def test_a_stream_that_outlasts_the_grace_period_is_settled_and_told(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, grace_s=1.0) as gateway:
        answer = asyncio.create_task(ask(gateway, chat("slow", stream=True)))
        await eventually(lambda: gateway.upstream.in_flight == 1)
        await gateway.server.stop()
        frames = (await answer).frames
        assert frames[-1]["error"]["code"] == "service_unavailable"
        words = [f["choices"][0]["delta"].get("content") or "" for f in frames[:-1]]
        assert "".join(words) == "".join(WORDS[:3])
        event = await gateway.event()
        assert event.outcome == usage_pb2.REQUEST_OUTCOME_UPSTREAM_ERROR
        assert event.cost_nanousd == 14 * 2_000 + 3 * 8_000
        await eventually(lambda: gateway.upstream.hung_up == 1)


async def test_a_whole_answer_that_outlasts_the_grace_period_is_not_billed(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, grace_s=1.0) as gateway:
        answer = asyncio.create_task(ask(gateway, chat("slow")))
        await eventually(lambda: gateway.upstream.in_flight == 1)
        await gateway.server.stop()
        assert ((await answer).status, (await answer).code) == (503, "service_unavailable")
        assert (await gateway.event()).cost_nanousd == 0


async def test_where_the_journal_refuses_nothing_is_sent_upstream(
    gateway: GatewayHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise Unavailable("the write-ahead file is full", retry_after_s=1)

    with monkeypatch.context() as patched:
        patched.setattr(gateway.money.wal, "admitted", full)
        answer = await ask(gateway, chat())
    assert (answer.status, answer.code) == (503, "service_unavailable")
    assert gateway.upstream.requests == []
    event = await gateway.event()
    assert (event.cost_nanousd, event.grant_id) == (0, "")


async def test_a_fault_of_ours_settles_and_says_nothing_of_itself(
    gateway: GatewayHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("services.gateway.dialects.chat.frame", broken)
    answer = await ask(gateway, chat(stream=True))
    assert answer.status == 200
    assert answer.frames[-1]["error"]["code"] == "internal_error"
    assert b"secret detail" not in answer.body
    assert (await gateway.event()).error_code == "internal_error"


async def test_chunks_that_came_together_go_out_together(gateway: GatewayHarness) -> None:
    pieces = []
    async with (
        aiohttp.ClientSession(headers=gateway.auth) as session,
        session.post(
            f"{gateway.url}/v1/chat/completions",
            data=orjson.dumps({**chat("burst"), "stream": True}),
        ) as response,
    ):
        async for piece, ended in response.content.iter_chunks():
            if ended:
                pieces.append(piece)
    # The head of the body is one write with all its words, usage and [DONE] are the other.
    assert len(pieces) == 2
    assert pieces[0].count(b"data: ") == len(WORDS) + 1
