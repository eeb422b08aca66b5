"""Conversations on their way to providers: nothing that both sides can say is lost."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.ports import ProviderKind
from services.gateway.providers.formats import FORMATS
from tests.fixtures.attempts import attempt

Json = dict[str, Any]  # Any: JSON
KINDS: list[ProviderKind] = ["anthropic", "bedrock", "gemini"]
PIXEL = "iVBORw0KGgo="

_SAID = st.text(min_size=1, max_size=10)
_NAME = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
_PART = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, _SAID),
    st.just({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}),
)
_ARGUMENTS = st.dictionaries(_NAME, st.integers(0, 9) | _SAID, max_size=2)


@st.composite
def conversations(draw: st.DrawFn) -> list[Json]:
    """System prompts, then turns of users, answers, tool calls and their results."""
    messages: list[Json] = [
        {"role": draw(st.sampled_from(["system", "developer"])), "content": text}
        for text in draw(st.lists(_SAID, max_size=2))
    ]
    for turn in range(draw(st.integers(1, 4))):
        messages.append({"role": "user", "content": draw(_SAID | st.lists(_PART, min_size=1))})
        calls: list[Json] = [
            {
                "id": f"toolu_{turn}_{place}",
                "type": "function",
                "function": {"name": name, "arguments": orjson.dumps(arguments).decode()},
            }
            for place, (name, arguments) in enumerate(
                draw(st.lists(st.tuples(_NAME, _ARGUMENTS), max_size=2))
            )
        ]
        answer: Json = {"role": "assistant", "content": draw(_SAID | st.none())}
        if calls:
            answer["tool_calls"] = calls
        messages.append(answer)
        for call in calls:
            result: Json = {"role": "tool", "tool_call_id": call["id"], "content": draw(_SAID)}
            messages.append(result)
    return messages


def _said(messages: list[Json]) -> Iterator[tuple[str, ...]]:
    """Who said what, in order."""
    for message in messages:
        role = message["role"]
        speaker = "system" if role in ("system", "developer") else role
        content = message["content"] or []
        if role == "tool":
            yield ("result", message["tool_call_id"], str(content))
            continue
        parts: list[Json] = (
            [{"type": "text", "text": content}] if isinstance(content, str) else content
        )
        for part in parts:
            yield (speaker, part.get("text") or part["image_url"]["url"].partition(",")[2])
        for call in message.get("tool_calls") or ():
            arguments = orjson.loads(call["function"]["arguments"])
            yield ("call", call["id"], call["function"]["name"], repr(arguments))


def _anthropic_said(body: Json) -> Iterator[tuple[str, ...]]:
    for block in body.get("system", ()):
        yield ("system", block["text"])
    for message in body["messages"]:
        for block in message["content"]:
            match block:
                case {"type": "text", "text": text}:
                    yield (message["role"], text)
                case {"type": "image", "source": source}:
                    yield (message["role"], source["data"])
                case {"type": "tool_use", "id": call_id, "name": name, "input": arguments}:
                    yield ("call", call_id, name, repr(arguments))
                case {"type": "tool_result", "tool_use_id": call_id, "content": text}:
                    yield ("result", call_id, text)


def _bedrock_said(body: Json) -> Iterator[tuple[str, ...]]:
    for block in body.get("system", ()):
        yield ("system", block["text"])
    for message in body["messages"]:
        for block in message["content"]:
            match block:
                case {"text": text}:
                    yield (message["role"], text)
                case {"image": image}:
                    yield (message["role"], image["source"]["bytes"])
                case {"toolUse": used}:
                    yield ("call", used["toolUseId"], used["name"], repr(used["input"]))
                case {"toolResult": result}:
                    yield ("result", result["toolUseId"], result["content"][0]["text"])


def _gemini_said(body: Json) -> Iterator[tuple[str, ...]]:
    for part in body.get("systemInstruction", {}).get("parts", ()):
        yield ("system", part["text"])
    for content in body["contents"]:
        speaker = {"user": "user", "model": "assistant"}[content["role"]]
        for part in content["parts"]:
            match part:
                case {"text": text}:
                    yield (speaker, text)
                case {"inlineData": media}:
                    yield (speaker, media["data"])
                case {"functionCall": used}:
                    yield ("call", used["id"], used["name"], repr(used["args"]))
                case {"functionResponse": result}:
                    response = result["response"]
                    text = response.get("output", None)
                    said = orjson.dumps(response).decode() if text is None else text
                    yield ("result", result["id"], said)


SAID = {"anthropic": _anthropic_said, "bedrock": _bedrock_said, "gemini": _gemini_said}


def _body(kind: ProviderKind, payload: Json, **facts: Any) -> Json:  # Any: see `attempt`
    body: Json = orjson.loads(FORMATS[kind].request(attempt(kind, payload, **facts)).body)
    return body


@pytest.mark.parametrize("kind", KINDS)
@given(messages=conversations())
def test_a_conversation_loses_nothing_on_its_way(kind: ProviderKind, messages: list[Json]) -> None:
    body = _body(kind, {"messages": messages})
    assert list(SAID[kind](body)) == list(_said(messages))
    spoken = body["contents"] if kind == "gemini" else body["messages"]
    roles = [message["role"] for message in spoken]
    assert all(one != other for one, other in pairwise(roles))
    assert roles[0] == "user"
