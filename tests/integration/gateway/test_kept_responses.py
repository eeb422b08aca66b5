"""Responses that are kept, gone on from, and made in the background, through both SDKs."""

from __future__ import annotations

import openai
import pytest
from meshapi import AsyncMeshAPI, MeshAPIError
from meshapi._types import ResponsesParams, ResponsesResponse

from tests.fixtures.gateway import USD, GatewayHarness
from tests.fixtures.upstream import WORDS
from tests.fixtures.waiting import eventually_async, running

QUESTION = "What is the capital of France?"
COST = (16 * 2 + 4 * 1 + 7 * 8) * USD // 1_000_000


def _mesh(gateway: GatewayHarness, key: str = "") -> AsyncMeshAPI:
    return AsyncMeshAPI(base_url=gateway.url, token=key or gateway.key, max_retries=0)


async def _over(gateway: GatewayHarness, response_id: str) -> ResponsesResponse:
    responses = _mesh(gateway).responses

    async def over() -> bool:
        return (await responses.get(response_id)).status not in ("queued", "in_progress")

    await eventually_async(over)
    return await responses.get(response_id)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_kept_response_can_be_read_again_and_gone_on_from(
    gateway: GatewayHarness, streamed: bool
) -> None:
    async with openai.AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0
    ) as client:
        if streamed:
            async with client.responses.stream(
                model="vendor/ok", input=QUESTION, instructions="Be brief.", store=True
            ) as stream:
                first = await stream.get_final_response()
        else:
            first = await client.responses.create(  # type: ignore[assignment]  # either will do
                model="vendor/ok", input=QUESTION, instructions="Be brief.", store=True
            )
        again = await client.responses.retrieve(first.id)
        assert again.output_text == first.output_text == "".join(WORDS)
        assert again.usage == first.usage
        await client.responses.create(
            model="vendor/ok", input="And of Italy?", previous_response_id=first.id
        )
    sent = gateway.upstream.requests[-1]["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "user"]
    assert sent[0]["content"] == QUESTION
    assert sent[1]["content"] == [{"type": "text", "text": "".join(WORDS)}]
    assert (await gateway.event(2)).cost_nanousd == COST


async def test_a_response_is_kept_only_where_its_caller_says_so(gateway: GatewayHarness) -> None:
    mesh = _mesh(gateway).responses
    plain = await mesh.create(ResponsesParams(model="vendor/ok", input=QUESTION))
    assert plain.id is not None
    with pytest.raises(MeshAPIError) as forgotten:
        await mesh.get(plain.id)
    assert (forgotten.value.status, forgotten.value.error_code) == (404, "not_found")
    with pytest.raises(MeshAPIError) as nothing:
        await mesh.create(
            ResponsesParams(model="vendor/ok", input="x", previous_response_id=plain.id)
        )
    assert nothing.value.status == 404
    assert "previous_response_id" in str(nothing.value)
    kept = await mesh.create(ResponsesParams(model="vendor/ok", input=QUESTION, store=True))
    assert kept.id is not None
    with pytest.raises(MeshAPIError) as foreign:
        await _mesh(gateway, gateway.keys.issue()).responses.get(kept.id)
    assert foreign.value.status == 404


async def test_a_response_in_the_background_is_made_and_billed_once(
    gateway: GatewayHarness,
) -> None:
    mesh = _mesh(gateway).responses
    params = ResponsesParams(model="vendor/ok", input=QUESTION, background=True)
    queued = await mesh.create(params)
    assert queued.id is not None
    assert (queued.status, queued.output) == ("queued", [])
    assert (await mesh.get(queued.id)).status == "queued"
    listed = await mesh.list()
    assert [(item.id, item.status) for item in listed.data] == [(queued.id, "in_progress")]
    assert gateway.events() == []
    async with running(gateway.runner.run):
        done = await _over(gateway, queued.id)
    assert (done.id, done.status) == (queued.id, "completed")
    assert done.output is not None
    assert done.output[0]["content"][0]["text"] == "".join(WORDS)
    event = await gateway.event(1)
    assert (event.route, event.cost_nanousd) == ("/v1/responses", COST)
    assert (await mesh.list()).data[0].status == "completed"
    gone_on = ResponsesParams(model="vendor/ok", input="And?", previous_response_id=queued.id)
    await mesh.create(gone_on)
    assert len(gateway.upstream.requests[-1]["messages"]) == 3


async def test_a_response_in_the_background_that_fails_says_why(gateway: GatewayHarness) -> None:
    mesh = _mesh(gateway).responses
    params = ResponsesParams(model="vendor/400", input=QUESTION, background=True)
    queued = await mesh.create(params)
    assert queued.id is not None
    with pytest.raises(MeshAPIError) as early:
        await mesh.create(
            ResponsesParams(model="vendor/ok", input="x", previous_response_id=queued.id)
        )
    assert early.value.status == 409
    async with running(gateway.runner.run):
        failed = await _over(gateway, queued.id)
    assert failed.status == "failed"
    assert failed.model_extra is not None
    assert failed.model_extra["error"]["code"] == "invalid_request"


async def test_a_bad_body_is_refused_before_it_waits(gateway: GatewayHarness) -> None:
    mesh = _mesh(gateway).responses
    for params, status in (
        (ResponsesParams(model="vendor/ok", input=[{"type": "odd"}], background=True), 422),
        (ResponsesParams(input="x", background=True), 422),
    ):
        with pytest.raises(MeshAPIError) as refused:
            await mesh.create(params)
        assert refused.value.status == status
    assert (await mesh.list()).data == []
    for _ in range(10):
        await mesh.create(ResponsesParams(model="vendor/ok", input="x", background=True))
    with pytest.raises(MeshAPIError) as eleventh:
        await mesh.create(ResponsesParams(model="vendor/ok", input="x", background=True))
    assert (eleventh.value.status, eleventh.value.error_code) == (429, "rate_limit_exceeded")
