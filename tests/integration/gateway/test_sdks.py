"""The official SDKs against the gateway, unchanged."""

from __future__ import annotations

import openai
import pytest
from meshapi import AsyncMeshAPI, ChatCompletionParams, ChatMessage, MeshAPIError
from openai.types.chat import ChatCompletionMessageParam

from services.common.pb.mesh.events.v1 import usage_pb2
from tests.fixtures.gateway import GatewayHarness, scripted_model
from tests.fixtures.upstream import WORDS

QUESTION = "What is the capital of France?"


def _openai(gateway: GatewayHarness, key: str | None = None) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key=key or gateway.key, max_retries=0
    )


def _mesh(gateway: GatewayHarness, key: str | None = None) -> AsyncMeshAPI:
    return AsyncMeshAPI(base_url=gateway.url, token=key or gateway.key, max_retries=0)


def _params(model: str) -> ChatCompletionParams:
    return ChatCompletionParams(model=model, messages=[ChatMessage(role="user", content=QUESTION)])


async def test_the_openai_sdk_gets_a_whole_answer_with_usage(gateway: GatewayHarness) -> None:
    async with _openai(gateway) as client:
        answer = await client.chat.completions.create(
            model="vendor/ok", messages=[{"role": "user", "content": QUESTION}]
        )
    assert answer.choices[0].message.content == "".join(WORDS)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "vendor/ok"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (20, 7)
    assert answer._request_id is not None
    assert answer._request_id.startswith("req_")
    assert (await gateway.event()).request_id == answer._request_id


async def test_the_openai_sdk_gets_a_stream_that_ends_in_usage(gateway: GatewayHarness) -> None:
    async with _openai(gateway) as client:
        stream = await client.chat.completions.create(
            model="vendor/ok", messages=[{"role": "user", "content": QUESTION}], stream=True
        )
        chunks = [chunk async for chunk in stream]
    words = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(words) == "".join(WORDS)
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 27
    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    assert {chunk.model for chunk in chunks} == {"vendor/ok"}


async def test_the_openai_sdk_gets_tool_calls_in_a_whole_answer(gateway: GatewayHarness) -> None:
    async with _openai(gateway) as client:
        answer = await client.chat.completions.create(
            model="vendor/tools",
            messages=[{"role": "user", "content": "How warm is it?"}],
            tools=[{"type": "function", "function": {"name": "weather"}}],
            tool_choice="auto",
        )
    assert answer.choices[0].finish_reason == "tool_calls"
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].type == "function"
    assert (calls[0].id, calls[0].function.name) == ("call_1", "weather")
    assert calls[0].function.arguments == '{"city": "Paris"}'


async def test_the_openai_sdk_gets_tool_calls_piece_by_piece(gateway: GatewayHarness) -> None:
    arguments = ""
    async with _openai(gateway) as client:
        stream = await client.chat.completions.create(
            model="vendor/tools",
            messages=[{"role": "user", "content": "How warm is it?"}],
            tools=[{"type": "function", "function": {"name": "weather"}}],
            stream=True,
        )
        async for chunk in stream:
            for choice in chunk.choices:
                for piece in choice.delta.tool_calls or ():
                    assert piece.index == 0
                    assert piece.function is not None
                    arguments += piece.function.arguments or ""
    assert arguments == '{"city": "Paris"}'


async def test_the_mesh_sdk_gets_a_whole_answer(gateway: GatewayHarness) -> None:
    answer = await _mesh(gateway).chat.completions.create(_params("vendor/ok"))
    assert answer.choices[0].message.content == "".join(WORDS)
    assert answer.usage is not None
    assert answer.usage.total_tokens == 27


@pytest.mark.parametrize("script", ["ok", "bare", "whole", "no-usage"])
async def test_the_mesh_sdk_gets_every_frame_of_a_stream(
    gateway: GatewayHarness, script: str
) -> None:
    stream = _mesh(gateway).chat.completions.stream(_params(f"vendor/{script}"))
    chunks = [chunk async for chunk in stream]
    words = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(words) == "".join(WORDS)
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens > 0


async def test_a_bad_key_is_told_as_such_to_both_sdks(gateway: GatewayHarness) -> None:
    with pytest.raises(MeshAPIError) as refused:
        await _mesh(gateway, "rsk_INVALID_TOKEN").chat.completions.create(_params("vendor/ok"))
    assert (refused.value.status, refused.value.error_code) == (401, "unauthorized")
    assert refused.value.request_id.startswith("req_")
    async with _openai(gateway, "rsk_INVALID_TOKEN") as client:
        with pytest.raises(openai.AuthenticationError):
            await client.chat.completions.create(
                model="vendor/ok", messages=[{"role": "user", "content": QUESTION}], stream=True
            )
    with pytest.raises(MeshAPIError):
        await _mesh(gateway, "rsk_INVALID_TOKEN").models.list()
    assert gateway.events() == []


async def test_a_stream_that_breaks_off_raises_in_both_sdks(gateway: GatewayHarness) -> None:
    words: list[str] = []

    async def read_mesh() -> None:
        async for chunk in _mesh(gateway).chat.completions.stream(_params("vendor/close")):
            words.extend(choice.delta.content or "" for choice in chunk.choices)

    async def read_openai() -> None:
        async with _openai(gateway) as client:
            messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": QUESTION}]
            stream = await client.chat.completions.create(
                model="vendor/frame", messages=messages, stream=True
            )
            async for _ in stream:
                pass

    with pytest.raises(MeshAPIError) as broken:
        await read_mesh()
    assert broken.value.error_code == "upstream_error"
    assert "".join(words) == "".join(WORDS[:3])
    with pytest.raises(openai.APIError):
        await read_openai()
    event = await gateway.event(2)
    assert event.outcome == usage_pb2.REQUEST_OUTCOME_UPSTREAM_ERROR


async def test_both_sdks_list_models_each_in_its_own_shape(gateway: GatewayHarness) -> None:
    mesh = _mesh(gateway).models
    listed = await mesh.list()
    assert {model.id for model in listed} >= {"vendor/ok", "vendor/free"}
    priced = next(model for model in listed if model.id == "vendor/ok")
    assert priced.pricing is not None
    assert priced.pricing.prompt_usd_per_1m == "2.00000000"
    assert priced.is_composite is False
    assert [model.id for model in await mesh.free()] == ["vendor/free"]
    assert "vendor/free" not in [model.id for model in await mesh.paid()]
    assert [model.id for model in await mesh.list(free=True)] == ["vendor/free"]
    assert (await mesh.get("vendor/ok")).name == "Scripted ok"
    async with _openai(gateway) as client:
        page = await client.models.list()
        assert {model.id for model in page.data} == {model.id for model in listed}
        assert (await client.models.retrieve("vendor/ok")).owned_by == "vendor"


async def test_a_model_id_with_a_colon_is_found(gateway: GatewayHarness) -> None:
    gateway.catalogue.add(scripted_model("ok", model_id="vendor/ok:free"))
    assert (await _mesh(gateway).models.get("vendor/ok:free")).id == "vendor/ok:free"
    with pytest.raises(MeshAPIError) as missing:
        await _mesh(gateway).models.get("vendor/none")
    assert (missing.value.status, missing.value.error_code) == (404, "model_not_found")
