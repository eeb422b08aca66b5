"""Anthropic's own SDK against the gateway, unchanged: any model answers in its format."""

from __future__ import annotations

import aiohttp
import anthropic
import pytest
from anthropic.types import Base64ImageSourceParam, Message, MessageParam, ToolParam

from services.common.money import TokenKind
from services.common.pb.mesh.events.v1 import usage_pb2
from services.gateway.dialects.messages_body import chat_body_from_messages
from services.gateway.providers.parts import claude_thoughts
from tests.fixtures.gateway import USD, GatewayHarness, short_of_money, tokens_of
from tests.fixtures.upstream import WORDS

QUESTION: list[MessageParam] = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER: ToolParam = {
    "name": "weather",
    "description": "How warm it is.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def _client(gateway: GatewayHarness, key: str | None = None) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=gateway.url, api_key=key or gateway.key, max_retries=0)


async def test_a_whole_message_has_its_text_and_its_tokens(gateway: GatewayHarness) -> None:
    async with _client(gateway) as client:
        message = await client.messages.create(
            model="vendor/ok", max_tokens=100, system="Be brief.", messages=QUESTION
        )
    assert [block.type for block in message.content] == ["text"]
    assert message.content[0].type == "text"
    assert message.content[0].text == "".join(WORDS)
    assert (message.role, message.model, message.stop_reason) == (
        "assistant",
        "vendor/ok",
        "end_turn",
    )
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (16, 4, 7)
    sent = gateway.upstream.requests[-1]
    assert sent["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is the capital of France?"},
    ]
    assert sent["max_tokens"] == 100
    event = await gateway.event()
    assert event.route == "/v1/messages"
    assert event.outcome == usage_pb2.REQUEST_OUTCOME_SUCCESS
    assert event.cost_nanousd == (16 * 2 + 4 * 1 + 7 * 8) * USD // 1_000_000


async def test_a_streamed_message_is_the_same_and_is_metered_the_same(
    gateway: GatewayHarness,
) -> None:
    async with _client(gateway) as client:
        kinds = []
        async with client.messages.stream(
            model="vendor/ok", max_tokens=100, messages=QUESTION
        ) as stream:
            async for piece in stream:
                kinds.append(piece.type)
            message = await stream.get_final_message()
    assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
    assert message.content[0].type == "text"
    assert message.content[0].text == "".join(WORDS)
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens == 7
    assert message.usage.input_tokens == 16
    event = await gateway.event()
    assert event.stream
    assert event.cost_nanousd == (16 * 2 + 4 * 1 + 7 * 8) * USD // 1_000_000


@pytest.mark.parametrize("streamed", [False, True])
async def test_interleaved_tool_calls_come_out_as_blocks_of_their_own(
    gateway: GatewayHarness, streamed: bool
) -> None:
    message: Message
    async with _client(gateway) as client:
        if streamed:
            async with client.messages.stream(
                model="vendor/two-tools", max_tokens=100, messages=QUESTION, tools=[WEATHER]
            ) as stream:
                message = await stream.get_final_message()
        else:
            message = await client.messages.create(
                model="vendor/two-tools", max_tokens=100, messages=QUESTION, tools=[WEATHER]
            )
    assert message.stop_reason == "tool_use"
    assert [block.type for block in message.content] == ["text", "tool_use", "tool_use"]
    calls = [block for block in message.content if block.type == "tool_use"]
    assert [(call.id, call.name, call.input) for call in calls] == [
        ("call_Paris", "weather", {"city": "Paris"}),
        ("call_Rome", "weather", {"city": "Rome"}),
    ]
    function = gateway.upstream.requests[-1]["tools"][0]["function"]
    assert function["parameters"] == WEATHER["input_schema"]


async def test_tool_results_and_pictures_reach_the_provider(gateway: GatewayHarness) -> None:
    picture: Base64ImageSourceParam = {
        "type": "base64",
        "media_type": "image/png",
        "data": "iVBORw0KGgo=",
    }
    async with _client(gateway) as client:
        await client.messages.create(
            model="vendor/ok",
            max_tokens=100,
            tools=[WEATHER],
            tool_choice={"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "How warm is it here?"},
                        {"type": "image", "source": picture},
                    ],
                },
                {
                    "role": "assistant",
                    "content": [
                        {"type": "text", "text": "Let me look."},
                        {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "P"}},
                    ],
                },
                {
                    "role": "user",
                    "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "21"}],
                },
            ],
        )
    sent = gateway.upstream.requests[-1]
    url = "data:image/png;base64,iVBORw0KGgo="
    assert sent["messages"][0]["content"][1] == {"type": "image_url", "image_url": {"url": url}}
    call = sent["messages"][1]["tool_calls"][0]
    assert (call["id"], call["function"]["arguments"]) == ("t1", '{"city":"P"}')
    assert sent["messages"][2] == {"role": "tool", "tool_call_id": "t1", "content": "21"}
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert sent["parallel_tool_calls"] is False


async def test_thoughts_come_before_the_answer(gateway: GatewayHarness) -> None:
    async with _client(gateway) as client:
        async with client.messages.stream(
            model="vendor/thinks", max_tokens=100, messages=QUESTION
        ) as stream:
            message = await stream.get_final_message()
    assert [block.type for block in message.content] == ["thinking", "text"]


@pytest.mark.parametrize("stream", [True, False])
async def test_thoughts_without_proof_have_an_empty_signature_and_stay_here(
    gateway: GatewayHarness, *, stream: bool
) -> None:
    async with _client(gateway) as client:
        message = await _asked(client, "vendor/thinks", stream=stream)
        thought = message.content[0]
        assert thought.type == "thinking"
        assert (thought.thinking, thought.signature) == ("Where is France?", "")
        await client.messages.create(
            model="vendor/ok", max_tokens=100, messages=_next_turn(message)
        )
    sent = gateway.upstream.requests[-1]["messages"]
    assert [turn["role"] for turn in sent] == ["user", "assistant", "user"]


@pytest.mark.parametrize("stream", [True, False])
async def test_proven_and_hidden_thoughts_come_and_go_back_unchanged(
    gateway: GatewayHarness, *, stream: bool
) -> None:
    async with _client(gateway) as client:
        message = await _asked(client, "vendor/proves", stream=stream)
        first, second, hidden, said = message.content
        assert first.type == second.type == "thinking"
        assert (first.thinking, first.signature) == ("Where is France?", "sig-1")
        assert (second.thinking, second.signature) == ("In Europe.", "sig-2")
        assert hidden.type == "redacted_thinking"
        assert (hidden.data, said.type) == ("hidden-1", "text")
    # The blocks as the SDK sends them back, and what Claude gets of them.
    blocks = [block.model_dump(exclude_unset=True) for block in message.content]
    turn = {"role": "assistant", "content": blocks}
    body = {"model": "m", "max_tokens": 9, "messages": [*QUESTION, turn]}
    assert list(claude_thoughts(chat_body_from_messages(body)["messages"][1])) == [
        ("Where is France?", "sig-1"),
        ("In Europe.", "sig-2"),
        (None, "hidden-1"),
    ]


async def _asked(client: anthropic.AsyncAnthropic, model: str, *, stream: bool) -> Message:
    if not stream:
        return await client.messages.create(model=model, max_tokens=100, messages=QUESTION)
    async with client.messages.stream(model=model, max_tokens=100, messages=QUESTION) as events:
        return await events.get_final_message()


def _next_turn(message: Message) -> list[MessageParam]:
    """What a client asks next: it sends the answer's blocks back as they came."""
    answered: MessageParam = {"role": "assistant", "content": message.content}
    return [*QUESTION, answered, {"role": "user", "content": "And of Italy?"}]


async def test_errors_come_in_the_formats_own_envelope(gateway: GatewayHarness) -> None:
    async with _client(gateway, "rsk_INVALID_TOKEN") as stranger:
        with pytest.raises(anthropic.AuthenticationError) as refused:
            await stranger.messages.create(model="vendor/ok", max_tokens=5, messages=QUESTION)
    body = refused.value.response.json()
    assert (body["type"], body["error"]["type"]) == ("error", "authentication_error")
    assert body["request_id"].startswith("req_")
    assert gateway.events() == []
    async with _client(gateway) as client:
        with pytest.raises(anthropic.NotFoundError):
            await client.messages.create(model="vendor/none", max_tokens=5, messages=QUESTION)
        with short_of_money(gateway, 0):
            with pytest.raises(anthropic.APIStatusError) as poor:
                await client.messages.create(model="vendor/ok", max_tokens=5, messages=QUESTION)
        assert poor.value.status_code == 402
        with pytest.raises(anthropic.APIStatusError):
            await client.messages.create(model="vendor/500", max_tokens=5, messages=QUESTION)
    event = await gateway.event(3)
    assert (event.failure_stage, event.cost_nanousd) == ("upstream_submit", 0)


async def test_a_bad_body_is_a_400_that_names_the_field(gateway: GatewayHarness) -> None:
    bad: dict[str, object] = {
        "model": "vendor/ok",
        "messages": [{"role": "user", "content": [{"type": "odd"}]}],
    }
    async with aiohttp.ClientSession() as session:
        headers = {"x-api-key": gateway.key, "anthropic-version": "2023-06-01"}
        async with session.post(
            f"{gateway.url}/v1/messages", json=bad, headers=headers
        ) as response:
            assert response.status == 400
            error = (await response.json())["error"]
            assert error["type"] == "invalid_request_error"
            assert "max_tokens" in error["message"]
        bad["max_tokens"] = 5
        async with session.post(
            f"{gateway.url}/v1/messages", json=bad, headers=headers
        ) as response:
            assert response.status == 400
            assert "messages.0.content.0" in (await response.json())["error"]["message"]
    event = await gateway.event(2)
    assert event.failure_stage == "template"


async def test_a_stream_that_breaks_off_raises_and_bills_what_came(gateway: GatewayHarness) -> None:
    async def read() -> None:
        async with _client(gateway) as client:
            async with client.messages.stream(
                model="vendor/close", max_tokens=100, messages=QUESTION
            ) as stream:
                async for _ in stream:
                    pass

    with pytest.raises(anthropic.APIStatusError):
        await read()
    event = await gateway.event()
    assert event.failure_stage == "upstream_stream"
    assert tokens_of(event)[TokenKind.COMPLETION] == 3
