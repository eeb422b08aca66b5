"""The Responses API through both SDKs, unchanged."""

from __future__ import annotations

import openai
import pytest
from meshapi import AsyncMeshAPI, MeshAPIError
from meshapi._types import ResponsesFunctionTool, ResponsesParams

from services.common.pb.mesh.events.v1 import usage_pb2
from tests.fixtures.gateway import USD, GatewayHarness
from tests.fixtures.upstream import WORDS

QUESTION = "What is the capital of France?"
COST = (16 * 2 + 4 * 1 + 7 * 8) * USD // 1_000_000


def _openai(gateway: GatewayHarness) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0)


def _mesh(gateway: GatewayHarness) -> AsyncMeshAPI:
    return AsyncMeshAPI(base_url=gateway.url, token=gateway.key, max_retries=0)


async def test_the_openai_sdk_gets_a_whole_response(gateway: GatewayHarness) -> None:
    async with _openai(gateway) as client:
        response = await client.responses.create(
            model="vendor/ok",
            instructions="Be brief.",
            input=QUESTION,
            max_output_tokens=50,
            temperature=0.5,
        )
    assert response.output_text == "".join(WORDS)
    assert (response.status, response.model) == ("completed", "vendor/ok")
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (20, 7)
    assert response.usage.output_tokens_details.reasoning_tokens == 2
    sent = gateway.upstream.requests[-1]
    assert sent["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": QUESTION},
    ]
    assert (sent["max_tokens"], sent["temperature"]) == (50, 0.5)
    event = await gateway.event()
    assert (event.route, event.cost_nanousd) == ("/v1/responses", COST)


async def test_the_openai_sdk_gets_every_event_of_a_stream(gateway: GatewayHarness) -> None:
    kinds, words, numbers = [], "", []
    async with _openai(gateway) as client:
        async with client.responses.stream(model="vendor/ok", input=QUESTION) as stream:
            async for event in stream:
                kinds.append(event.type)
                numbers.append(event.sequence_number)
                if event.type == "response.output_text.delta":
                    words += event.delta
            final = await stream.get_final_response()
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    assert numbers == sorted(numbers)
    assert words == final.output_text == "".join(WORDS)
    assert final.usage is not None
    assert final.usage.total_tokens == 27
    assert (await gateway.event()).cost_nanousd == COST


async def test_the_mesh_sdk_gets_whole_and_streamed_responses(gateway: GatewayHarness) -> None:
    params = ResponsesParams(model="vendor/ok", input=QUESTION)
    whole = await _mesh(gateway).responses.create(params)
    assert whole.output is not None
    assert whole.output[0]["content"][0]["text"] == "".join(WORDS)
    assert whole.usage is not None
    assert whole.usage.total_tokens == 27
    events = [event async for event in _mesh(gateway).responses.stream(params)]
    assert all((event.type or "").startswith("response.") for event in events)
    assert events[-1].type == "response.completed"
    assert events[-1].response is not None
    assert events[-1].response["output"][0]["content"] == whole.output[0]["content"]
    assert (await gateway.event(2)).cost_nanousd == COST


@pytest.mark.parametrize("streamed", [False, True])
async def test_function_calls_come_and_their_outputs_go(
    gateway: GatewayHarness, streamed: bool
) -> None:
    tool = ResponsesFunctionTool(name="weather", parameters={"type": "object"})
    params = ResponsesParams(model="vendor/two-tools", input=QUESTION, tools=[tool])
    if streamed:
        events = [event async for event in _mesh(gateway).responses.stream(params)]
        assert events[-1].response is not None
        output = events[-1].response["output"]
    else:
        output = (await _mesh(gateway).responses.create(params)).output
    assert output is not None
    assert [item["type"] for item in output] == ["message", "function_call", "function_call"]
    assert [(item["call_id"], item["arguments"]) for item in output[1:]] == [
        ("call_Paris", '{"city":"Paris"}'),
        ("call_Rome", '{"city":"Rome"}'),
    ]
    results = [
        {"type": "function_call_output", "call_id": item["call_id"], "output": "21"}
        for item in output[1:]
    ]
    again = [{"role": "user", "content": QUESTION}, *output, *results]
    await _mesh(gateway).responses.create(ResponsesParams(model="vendor/ok", input=again))
    sent = gateway.upstream.requests[-1]["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "tool"]
    assert [call["id"] for call in sent[1]["tool_calls"]] == ["call_Paris", "call_Rome"]


async def test_an_answer_cut_short_is_incomplete(gateway: GatewayHarness) -> None:
    async with _openai(gateway) as client:
        response = await client.responses.create(model="vendor/length", input=QUESTION)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


async def test_a_structured_format_is_spelt_as_chat_spells_it(gateway: GatewayHarness) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    shape = {"type": "json_schema", "name": "place", "schema": schema, "strict": True}
    params = ResponsesParams(model="vendor/ok", input=QUESTION, text={"format": shape})
    await _mesh(gateway).responses.create(params)
    assert gateway.upstream.requests[-1]["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "place", "schema": schema, "strict": True},
    }


async def test_what_is_not_served_is_told_in_the_callers_words(gateway: GatewayHarness) -> None:
    mesh = _mesh(gateway).responses
    with pytest.raises(MeshAPIError) as odd:
        await mesh.create(ResponsesParams(model="vendor/ok", input=[{"type": "odd"}]))
    assert (odd.value.status, odd.value.error_code) == (422, "validation_error")
    assert "input.0" in str(odd.value)
    builtin = [{"type": "web_search_preview"}]
    with pytest.raises(MeshAPIError) as missing:
        await mesh.create(ResponsesParams(model="vendor/ok", input="x", tools=builtin))
    assert (missing.value.status, missing.value.error_code) == (501, "not_implemented")
    assert (await gateway.event(2)).failure_stage == "template"


async def test_a_stream_that_breaks_off_raises_in_both_sdks(gateway: GatewayHarness) -> None:
    async def read_openai() -> None:
        async with _openai(gateway) as client:
            stream = await client.responses.create(
                model="vendor/close", input=QUESTION, stream=True
            )
            async for _ in stream:
                pass

    async def read_mesh() -> None:
        params = ResponsesParams(model="vendor/close", input=QUESTION)
        async for _ in _mesh(gateway).responses.stream(params):
            pass

    with pytest.raises(openai.APIError):
        await read_openai()
    with pytest.raises(MeshAPIError) as broken:
        await read_mesh()
    assert broken.value.error_code == "upstream_error"
    event = await gateway.event(2)
    assert event.outcome == usage_pb2.REQUEST_OUTCOME_UPSTREAM_ERROR
    assert event.cost_nanousd > 0
