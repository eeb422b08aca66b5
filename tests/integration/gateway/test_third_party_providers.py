"""Every format against a simulator that someone else wrote, through the whole gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from services.common.ids import ModelId, ProviderId
from services.common.money import TokenKind
from services.common.pb.mesh.events.v1 import usage_pb2
from services.gateway.ports import ProviderKind
from tests.fixtures.attempts import ABLE
from tests.fixtures.gateway import GatewayHarness, running_gateway, scripted_model, tokens_of
from tests.fixtures.simulators import aimock
from tests.fixtures.wire import Answer, ask

Json = dict[str, Any]  # Any: JSON
# The name behind each kind, and where under the simulator's address it is served.
SERVED: dict[ProviderKind, tuple[str, str]] = {
    "openai_compatible": ("gpt-4o", "/v1"),
    "azure_openai": ("gpt-4o", ""),
    "anthropic": ("claude-haiku-4-5", ""),
    "gemini": ("gemini-2.5-pro", ""),
    "bedrock": ("anthropic.claude-haiku-4-5-20251001-v1:0", ""),
}
KINDS = sorted(SERVED)
SAID = "The capital of France is Paris, a city on the Seine."
TOOL: Json = {"type": "function", "function": {"name": "weather", "parameters": {}}}


@pytest.fixture(scope="module")
async def simulator() -> AsyncIterator[str]:
    async with aimock() as address:
        yield address


@pytest.fixture
async def gateway(tmp_path: Path, simulator: str) -> AsyncIterator[GatewayHarness]:
    async with running_gateway(tmp_path) as harness:
        for kind, (name, path) in SERVED.items():
            provider = harness.catalogue.providers["prv_script"]
            harness.catalogue.providers[kind] = replace(
                provider,
                provider_id=ProviderId(kind),
                kind=kind,
                base_url=simulator + path,
                region="eu-central-1",
                api_version="2024-10-21" if kind == "azure_openai" else "",
                credential="AKID:secret" if kind == "bedrock" else "sk-aimock-test",
            )
            harness.catalogue.add(
                scripted_model(
                    "ok",
                    model_id=ModelId(f"vendor/{kind}"),
                    provider_id=ProviderId(kind),
                    upstream_model=name,
                    capabilities=ABLE if kind not in ("openai_compatible", "azure_openai")
                    else replace(ABLE, reasoning=False),
                )
            )  # fmt: skip
        yield harness


def asking(kind: str, text: str, **more: Any) -> Json:  # Any: JSON
    return {"model": f"vendor/{kind}", "messages": [{"role": "user", "content": text}], **more}


def message_of(answer: Answer, *, stream: bool) -> Json:
    """The message of an answer in either form."""
    if not stream:
        message: Json = answer.json["choices"][0]["message"]
        return message
    content, reasoning, calls = "", "", dict[int, Json]()
    for chunk in answer.frames:
        for choice in chunk["choices"]:
            delta = choice["delta"]
            content += delta.get("content") or ""
            reasoning += delta.get("reasoning_content") or ""
            for piece in delta.get("tool_calls") or ():
                call = calls.setdefault(piece["index"], {"name": "", "arguments": ""})
                for name, value in piece["function"].items():
                    call[name] += value
    functions = [{"function": calls[index]} for index in sorted(calls)]
    return {"content": content, "reasoning_content": reasoning, "tool_calls": functions}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_comes_through(gateway: GatewayHarness, kind: str, stream: bool) -> None:
    answer = await ask(gateway, asking(kind, "What is the capital of France?", stream=stream))
    assert answer.status == 200, answer.body
    message = message_of(answer, stream=stream)
    assert message["content"] == SAID
    if kind != "openai_compatible" and kind != "azure_openai":
        assert message["reasoning_content"] == "France, so Paris."
    event = await gateway.event()
    assert event.outcome == usage_pb2.REQUEST_OUTCOME_SUCCESS
    assert (event.finish_reason, event.provider_id) == ("stop", kind)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_tool_call_comes_through_and_its_result_goes_back(
    gateway: GatewayHarness, kind: str, stream: bool
) -> None:
    asked = asking(kind, "What is the weather?", stream=stream, tools=[TOOL])
    answer = await ask(gateway, asked)
    assert answer.status == 200, answer.body
    (call,) = message_of(answer, stream=stream)["tool_calls"]
    assert call["function"]["name"] == "weather"
    assert orjson.loads(call["function"]["arguments"]) == {"city": "Paris", "days": [1, 2]}
    assert (await gateway.event()).finish_reason == "tool_calls"
    if stream:
        return
    result = {"role": "tool", "tool_call_id": call["id"], "content": "sunny"}
    told = {"role": "assistant", "content": None, "tool_calls": [call]}
    question = {"role": "user", "content": "And the capital?"}
    asked["messages"] = [*asked["messages"], told, result, question]
    answer = await ask(gateway, asked)
    assert message_of(answer, stream=False)["content"] == SAID


@pytest.mark.parametrize("kind", KINDS)
async def test_a_provider_that_throttles_is_heard(gateway: GatewayHarness, kind: str) -> None:
    answer = await ask(gateway, asking(kind, "throttle"))
    assert (answer.status, answer.code) == (429, "upstream_rate_limit_error")
    assert (await gateway.event()).cost_nanousd == 0


async def test_an_overloaded_provider_is_not_available(gateway: GatewayHarness) -> None:
    answer = await ask(gateway, asking("anthropic", "overload"))
    assert (answer.status, answer.code) == (503, "provider_not_available")


@pytest.mark.parametrize("stream", [True, False])
async def test_what_the_provider_counted_is_billed(gateway: GatewayHarness, stream: bool) -> None:
    answer = await ask(gateway, asking("anthropic", "counted", stream=stream))
    assert answer.status == 200, answer.body
    assert tokens_of(await gateway.event()) == {
        TokenKind.PROMPT: 31,
        TokenKind.COMPLETION: 5,
    }
