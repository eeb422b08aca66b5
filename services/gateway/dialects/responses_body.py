"""A body of the Responses API as a chat body; what is wrong is said in the caller's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.common.errors import InvalidArgument
from services.gateway.chat_messages import MESSAGES_MAX, PARTS_MAX, ROLES, TEXT_MAX
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
    text_map,
)
from services.gateway.dialects.port import Json
from services.gateway.errors import NotImplementedHere

_ITEM = fields({"type": text(64), "role": one_of(*ROLES)})
_TOOL = fields(
    {"type": text(64), "name": text(256), "description": text(1 << 20), "parameters": mapping}
)
_FORMAT = fields({"type": one_of("text", "json_object", "json_schema")}, required=("type",))
_FIELDS: Mapping[str, Check] = {
    "input": either(
        listed(_ITEM, items_max=MESSAGES_MAX, items_min=1), text(TEXT_MAX, length_min=1)
    ),
    "instructions": text(TEXT_MAX),
    "previous_response_id": text(64),
    "background": boolean,
    "store": boolean,
    "stream": boolean,
    "text": fields({"format": _FORMAT}),
    "max_output_tokens": integer(1, OUTPUT_TOKENS_MAX),
    "max_tool_calls": integer(1, 10),
    "temperature": number(0, 2),
    "top_p": number(0, 1),
    "tools": listed(_TOOL, items_max=1024),
    "tool_choice": either(
        fields({"type": text(64), "name": text(256)}, required=("type",)),
        one_of("auto", "none", "required"),
    ),
    "reasoning": fields({"effort": one_of("high", "medium", "low", "none")}),
    "metadata": text_map(entries_max=16, key_max=64, value_max=512),
    "include": listed(text(128), items_max=32),
}
# Fields that mean the same in both formats, checked there.
_SAME = (
    "model", "models", "stream", "temperature", "top_p", "seed", "user", "timeout", "template",
    "variables", "session_id", "end_user_id", "tags", "cache", "service_tier", "weight_profile",
    "parallel_tool_calls", "response_format", "top_logprobs",
)  # fmt: skip


def chat_body_from_responses(body: Json, before: list[Json]) -> Json:
    """The chat body; `before` are the messages of the conversation that goes on.

    Raises InvalidArgument with every fault found, NotImplementedHere for built-in tools.
    """
    faults = Faults()
    if "input" not in body:
        faults.add(("body", "input"), "missing", "Field required")
    for name, rule in _FIELDS.items():
        if name in body:
            rule(faults, ("body", name), body[name])
    faults.raise_if_any()
    chat = {name: body[name] for name in _SAME if name in body}
    messages = [*before, *messages_from_input(body["input"])]
    if body.get("instructions"):
        messages.insert(0, {"role": "system", "content": body["instructions"]})
    chat["messages"] = messages
    if "max_output_tokens" in body:
        chat["max_tokens"] = body["max_output_tokens"]
    if body.get("reasoning", {}).get("effort"):
        chat["reasoning"] = {"effort": body["reasoning"]["effort"]}
    shape = body.get("text", {}).get("format")
    if shape is not None:
        chat["response_format"] = _format(shape)
    _add_tools(chat, body)
    return chat


def messages_from_input(given: Any) -> list[Json]:  # Any: JSON, checked
    """The input's items as messages; calls of one turn are gathered in one message."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    messages: list[Json] = []
    for place, item in enumerate(given):
        where = f"input.{place}"
        match item.get("type", "message"):
            case "message":
                messages.append(_message(where, item))
            case "function_call":
                _add_call(messages, where, item)
            case "function_call_output":
                messages.append(_output(where, item))
            case "reasoning":
                # A model's thoughts are its provider's; they cannot be given back in this format.
                continue
            case kind:
                raise InvalidArgument.of(f"{where}.type", f"items of type {kind!r} are not served")
    if not messages:
        raise InvalidArgument.of("input", "has no message")
    return messages


def _add_tools(chat: Json, body: Json) -> None:
    tools = [_tool(place, tool) for place, tool in enumerate(body.get("tools", ()))]
    if not tools:
        return
    chat["tools"] = tools
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        if choice["type"] != "function" or not choice.get("name"):
            raise InvalidArgument.of("tool_choice", "name a function of `tools`")
        choice = {"type": "function", "function": {"name": choice["name"]}}
    if choice is not None:
        chat["tool_choice"] = choice


def _tool(place: int, tool: Json) -> Json:
    kind = tool.get("type", "function")
    if kind != "function":
        raise NotImplementedHere(f"tools.{place}.type: the built-in tool {kind!r} is not served")
    if not tool.get("name"):
        raise InvalidArgument.of(f"tools.{place}.name", "Field required")
    function = {
        name: tool[name]
        for name in ("name", "description", "parameters", "strict")
        if tool.get(name) is not None
    }
    return {"type": "function", "function": function}


def _format(shape: Json) -> Json:
    if shape["type"] != "json_schema":
        return {"type": shape["type"]}
    schema = {
        name: shape[name]
        for name in ("name", "schema", "strict", "description")
        if shape.get(name) is not None
    }
    return {"type": "json_schema", "json_schema": schema}


def _message(where: str, item: Json) -> Json:
    role = item.get("role")
    if role is None:
        raise InvalidArgument.of(f"{where}.role", "Field required")
    if role == "tool":
        raise InvalidArgument.of(f"{where}.role", "results of tools are function_call_output items")
    content = item.get("content")
    if isinstance(content, str):
        return {"role": role, "content": content}
    return {"role": role, "content": _parts(f"{where}.content", content)}


def _parts(where: str, content: Any) -> list[Json]:  # Any: JSON
    if not isinstance(content, list) or not 1 <= len(content) <= PARTS_MAX:
        raise InvalidArgument.of(where, "Input should be a string or a list of parts")
    return [_part(f"{where}.{place}", part) for place, part in enumerate(content)]


def _part(where: str, part: Any) -> Json:  # Any: JSON
    match part:
        case {"type": "input_text" | "output_text" | "text", "text": str()}:
            return {"type": "text", "text": part["text"]}
        case {"type": "refusal", "refusal": str()}:
            return {"type": "text", "text": part["refusal"]}
        case {"type": "input_image", "image_url": str()}:
            image = {"url": part["image_url"]}
            if part.get("detail") in ("auto", "low", "high"):
                image["detail"] = part["detail"]
            return {"type": "image_url", "image_url": image}
        case {"type": "input_audio", "input_audio": dict()}:
            return {"type": "input_audio", "input_audio": part["input_audio"]}
        case _:
            kind = part.get("type") if isinstance(part, dict) else part
            raise InvalidArgument.of(where, f"a part of type {kind!r} is not served here")


def _add_call(messages: list[Json], where: str, item: Json) -> None:
    match item:
        case {"call_id": str(), "name": str(), "arguments": str()}:
            function = {"name": item["name"], "arguments": item["arguments"]}
        case _:
            raise InvalidArgument.of(where, "needs the strings call_id, name and arguments")
    call = {"id": item["call_id"], "type": "function", "function": function}
    if messages and messages[-1]["role"] == "assistant":
        messages[-1].setdefault("tool_calls", []).append(call)
    else:
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})


def _output(where: str, item: Json) -> Json:
    output = item.get("output")
    if not isinstance(item.get("call_id"), str):
        raise InvalidArgument.of(f"{where}.call_id", "Input should be a valid string")
    if isinstance(output, list):
        parts = _parts(f"{where}.output", output)
        if any(part["type"] != "text" for part in parts):
            raise InvalidArgument.of(f"{where}.output", "only text is served here")
        output = "\n".join(part["text"] for part in parts)
    if not isinstance(output, str):
        raise InvalidArgument.of(f"{where}.output", "Input should be a string or a list of parts")
    return {"role": "tool", "tool_call_id": item["call_id"], "content": output}
