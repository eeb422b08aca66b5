"""A body of Anthropic's Messages API as a chat body; faults are said in the caller's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from services.common.errors import InvalidArgument
from services.gateway.chat_messages import MESSAGES_MAX, PARTS_MAX, TEXT_MAX
from services.gateway.chat_request import OUTPUT_TOKENS_MAX
from services.gateway.checks import (
    Check,
    Faults,
    boolean,
    either,
    fields,
    integer,
    listed,
    mapping,
    number,
    one_of,
    text,
)
from services.gateway.dialects.port import Json

_BLOCK = fields({"type": text(64)}, required=("type",))
_CONTENT = either(listed(_BLOCK, items_max=PARTS_MAX), text(TEXT_MAX))
_MESSAGE = fields(
    {"role": one_of("user", "assistant", "system"), "content": _CONTENT},
    required=("role", "content"),
)
_TOOL = fields(
    {"name": text(256, length_min=1), "description": text(1 << 20), "input_schema": mapping},
    required=("name",),
)
_FIELDS: Mapping[str, Check] = {
    "model": text(256, length_min=1),
    "max_tokens": integer(1, OUTPUT_TOKENS_MAX),
    "messages": listed(_MESSAGE, items_max=MESSAGES_MAX, items_min=1),
    "system": _CONTENT,
    "stream": boolean,
    "stop_sequences": listed(text(1024), items_max=16),
    "temperature": number(0, 1),
    "top_p": number(0, 1),
    "top_k": integer(0, None),
    "tools": listed(_TOOL, items_max=1024),
    "tool_choice": fields(
        {"type": one_of("auto", "any", "tool", "none"), "name": text(256)}, required=("type",)
    ),
    "metadata": fields({"user_id": text(256)}),
    "thinking": fields({"type": text(32), "budget_tokens": integer(1, OUTPUT_TOKENS_MAX)}),
}
# Fields that mean the same in both formats; the last ones are Mesh's own.
_SAME = ("model", "stream", "temperature", "top_p", "max_tokens")
_OWN = ("models", "session_id", "end_user_id", "tags", "timeout", "cache", "weight_profile")
_TOOL_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
# Up to how many tokens of thinking an effort means, where only efforts can be asked for.
_EFFORTS = ((4_096, "low"), (16_384, "medium"))


def chat_body_from_messages(body: Json) -> Json:
    """The chat body. Raises InvalidArgument with every fault found."""
    faults = Faults()
    for name in ("max_tokens", "messages"):
        if name not in body:
            faults.add(("body", name), "missing", "Field required")
    for name, rule in _FIELDS.items():
        if name in body:
            rule(faults, ("body", name), body[name])
    faults.raise_if_any()
    chat = {name: body[name] for name in (*_SAME, *_OWN) if name in body}
    chat["messages"] = [*_system(body.get("system")), *_turns(body["messages"])]
    if body.get("stop_sequences"):
        chat["stop"] = body["stop_sequences"]
    if body.get("metadata", {}).get("user_id"):
        chat["user"] = body["metadata"]["user_id"]
    _add_tools(chat, body)
    thinking = body.get("thinking", {})
    if thinking.get("type") == "enabled":
        budget = thinking.get("budget_tokens") or 0
        effort = next((name for most, name in _EFFORTS if budget <= most), "high")
        chat["reasoning"] = {"effort": effort}
    return chat


def _add_tools(chat: Json, body: Json) -> None:
    tools = [_tool(place, tool) for place, tool in enumerate(body.get("tools", ()))]
    if not tools:
        return
    chat["tools"] = tools
    choice = body.get("tool_choice")
    if choice is None:
        return
    if choice["type"] == "tool":
        if not choice.get("name"):
            raise InvalidArgument.of("tool_choice.name", "is required where the type is tool")
        chat["tool_choice"] = {"type": "function", "function": {"name": choice["name"]}}
    else:
        chat["tool_choice"] = _TOOL_CHOICES[choice["type"]]
    if choice.get("disable_parallel_tool_use") is True:
        chat["parallel_tool_calls"] = False


def _tool(place: int, tool: Json) -> Json:
    if tool.get("type") not in (None, "custom"):
        raise InvalidArgument.of(
            f"tools.{place}.type", "only tools of your own (custom) are served here"
        )
    function = {"name": tool["name"], "parameters": tool.get("input_schema") or {"type": "object"}}
    if tool.get("description"):
        function["description"] = tool["description"]
    return {"type": "function", "function": function}


def _system(system: Any) -> list[Json]:  # Any: JSON, checked
    if not system:
        return []
    if isinstance(system, str):
        return [{"role": "system", "content": system}]
    parts = [_part("system", place, block) for place, block in enumerate(system)]
    return [{"role": "system", "content": parts}]


def _turns(messages: list[Json]) -> list[Json]:
    turns: list[Json] = []
    for place, message in enumerate(messages):
        content = message["content"]
        if isinstance(content, str):
            turns.append({"role": message["role"], "content": content})
        elif message["role"] == "assistant":
            turns.append(_assistant(f"messages.{place}.content", content))
        else:
            turns += _asked(f"messages.{place}.content", content, role=message["role"])
    return turns


def _assistant(where: str, blocks: list[Json]) -> Json:
    parts: list[Json] = []
    calls: list[Json] = []
    thoughts: list[Json] = []
    for place, block in enumerate(blocks):
        match block:
            case {"type": "tool_use", "id": str(), "name": str()}:
                arguments = orjson.dumps(block.get("input") or {}).decode()
                function = {"name": block["name"], "arguments": arguments}
                calls.append({"id": block["id"], "type": "function", "function": function})
            case {"type": "thinking" | "redacted_thinking"}:
                thoughts.append(block)
            case _:
                parts.append(_part(where, place, block))
    turn: Json = {"role": "assistant", "content": parts or None}
    if calls:
        turn["tool_calls"] = calls
    if thoughts:
        # For providers that want their own thoughts back; others are not sent them.
        turn["reasoning_details"] = thoughts
    return turn


def _asked(where: str, blocks: list[Json], *, role: str) -> list[Json]:
    """Results of tools are messages of their own, and come before what is said beside them."""
    results: list[Json] = []
    parts: list[Json] = []
    for place, block in enumerate(blocks):
        if block["type"] == "tool_result":
            results.append(_result(f"{where}.{place}", block, beside=parts))
        else:
            parts.append(_part(where, place, block))
    return [*results, {"role": role, "content": parts}] if parts or not results else results


def _result(where: str, block: Json, *, beside: list[Json]) -> Json:
    """One tool message; pictures in it go into the message that follows, as no tool message may
    have them.
    """
    if not isinstance(block.get("tool_use_id"), str):
        raise InvalidArgument.of(f"{where}.tool_use_id", "Input should be a valid string")
    content = block.get("content") or ""
    said = content
    if not isinstance(content, str):
        _CONTENT(faults := Faults(), ("body", where, "content"), content)
        faults.raise_if_any()
        parts = [_part(f"{where}.content", n, entry) for n, entry in enumerate(content)]
        beside += [part for part in parts if part["type"] != "text"]
        said = "\n".join(part["text"] for part in parts if part["type"] == "text")
    if block.get("is_error") is True:
        said = f"Error: {said}"
    return {"role": "tool", "tool_call_id": block["tool_use_id"], "content": said}


def _part(where: str, place: int, block: Json) -> Json:
    match block:
        case {"type": "text", "text": str()}:
            part = {"type": "text", "text": block["text"]}
            if isinstance(block.get("cache_control"), dict):
                part["cache_control"] = block["cache_control"]
            return part
        case {"type": "image", "source": {"type": "base64", "media_type": str(), "data": str()}}:
            source = block["source"]
            url = f"data:{source['media_type']};base64,{source['data']}"
            return {"type": "image_url", "image_url": {"url": url}}
        case {"type": "image", "source": {"type": "url", "url": str()}}:
            return {"type": "image_url", "image_url": {"url": block["source"]["url"]}}
        case {"type": "document", "source": {"type": "text", "data": str()}}:
            return {"type": "text", "text": block["source"]["data"]}
        case _:
            raise InvalidArgument.of(
                f"{where}.{place}", f"a block of type {block['type']!r} is not served in this place"
            )
