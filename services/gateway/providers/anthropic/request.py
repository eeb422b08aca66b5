"""From a chat request to a Messages request.

Conversations are told apart differently: the system prompt stands beside the messages, tool results
are the user's, neighbours of one role are one message. What the format cannot say at all (sound,
clips, several choices) is a failure of the attempt, which may move on to another model.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import orjson
from yarl import URL

from services.gateway.providers.anthropic.answer import AnthropicReader
from services.gateway.providers.anthropic.reasoning import takes_sampling, thinking_of
from services.gateway.providers.openai_compatible import json_headers
from services.gateway.providers.parts import (
    CACHE_MARKS_MAX,
    alternating,
    arguments_of,
    claude_thoughts,
    image_of,
    parts_of,
    schema_of,
    stops_of,
)
from services.gateway.providers.port import UpstreamAttempt
from services.gateway.providers.wire import Json, WireRequest, cannot_say, require_chat

API_VERSION = "2023-06-01"
# The format demands a limit; this one where neither caller, catalogue nor hold gives one.
OUTPUT_TOKENS_DEFAULT = 4_096
_CHOICES = {"auto": {"type": "auto"}, "none": {"type": "none"}, "required": {"type": "any"}}


class AnthropicFormat:
    """`POST .../messages`."""

    stream_types = ("event-stream",)

    def request(self, attempt: UpstreamAttempt) -> WireRequest:
        """See `WireFormat.request`."""
        headers = json_headers(attempt.stream)
        headers["anthropic-version"] = attempt.provider.api_version or API_VERSION
        if attempt.provider.credential:
            headers["x-api-key"] = attempt.provider.credential
        url = messages_url(attempt.provider.base_url)
        return WireRequest(url, orjson.dumps(messages_payload(attempt)), headers)

    def reader(self, attempt: UpstreamAttempt) -> AnthropicReader:
        """See `WireFormat.reader`."""
        return AnthropicReader(attempt)


@lru_cache(maxsize=1024)
def messages_url(base_url: str) -> URL:
    """The route under a base address; an address without a path means the one under `/v1`."""
    base = URL(base_url.rstrip("/"))
    root = base / "v1" if base.path in ("", "/") else base
    return root / "messages"


def messages_payload(attempt: UpstreamAttempt) -> Json:
    """The body of the request. Raises AttemptFailed where it cannot be said."""
    asked, name = attempt.payload, attempt.model.upstream_model
    require_chat(attempt)
    _refuse_what_cannot_be_said(attempt)
    limit = attempt.output_tokens_max or attempt.model.max_output_tokens or OUTPUT_TOKENS_DEFAULT
    system, messages = conversation_of(attempt)
    payload: Json = {"model": name, "max_tokens": limit, "stream": attempt.stream}
    payload["messages"] = messages
    if system:
        payload["system"] = system
    if stops := stops_of(asked):
        payload["stop_sequences"] = stops
    if asked.get("user"):
        payload["metadata"] = {"user_id": asked["user"]}
    _add_tools(payload, asked)
    if attempt.model.capabilities.reasoning and _may_think(payload):
        payload |= thinking_of(asked, name, limit)
    if "thinking" not in payload and takes_sampling(name):
        if "temperature" in asked:
            payload["temperature"] = min(asked["temperature"], 1)
        if "top_p" in asked:
            payload["top_p"] = asked["top_p"]
    schema = schema_of(asked)
    if schema is not None and attempt.model.capabilities.structured_output:
        wanted = {"type": "json_schema", "schema": schema}
        payload["output_config"] = {**payload.get("output_config", {}), "format": wanted}
    _bound_cache_marks(payload)
    return payload


def conversation_of(attempt: UpstreamAttempt) -> tuple[list[Json], list[Json]]:
    """System blocks, and messages of alternating roles."""
    return alternating(
        attempt.payload["messages"],
        system_blocks=lambda message: _blocks(message, attempt),
        blocks_of=lambda message: _blocks_of_role(message, attempt),
    )


def _blocks_of_role(message: Json, attempt: UpstreamAttempt) -> Iterator[Json]:
    match message["role"]:
        case "tool":
            result: Json = {"type": "tool_result", "tool_use_id": message["tool_call_id"]}
            if blocks := list(_blocks(message, attempt)):
                # Content is one text where it can be, as most that read it expect.
                plain = len(blocks) == 1 and blocks[0].keys() == {"type", "text"}
                result["content"] = blocks[0]["text"] if plain else blocks
            yield result
        case "assistant":
            yield from _thinking(message)
            yield from _blocks(message, attempt)
            for call in message.get("tool_calls") or ():
                name = call["function"]["name"]
                used = {"id": call["id"], "name": name, "input": arguments_of(call)}
                yield {"type": "tool_use", **used}
        case _:
            yield from _blocks(message, attempt)


def _blocks(message: Json, attempt: UpstreamAttempt) -> Iterator[Json]:
    for part in parts_of(message):
        match part["type"]:
            case "text":
                block: Json = {"type": "text", "text": part["text"]}
            case "image_url":
                media = image_of(part)
                source = (
                    {"type": "base64", "media_type": media.mime_type, "data": media.data}
                    if media.data
                    else {"type": "url", "url": media.url}
                )
                block = {"type": "image", "source": source}
            case kind:
                raise cannot_say(attempt, f"{kind} parts")
        if isinstance(part.get("cache_control"), dict):
            # Without the longer life that could be asked for: it has a price of its own.
            block["cache_control"] = {"type": "ephemeral"}
        yield block


def _thinking(message: Json) -> Iterator[Json]:
    """Earlier thinking goes back with its signature, or not at all."""
    for text, proof in claude_thoughts(message):
        if text is not None:
            yield {"type": "thinking", "thinking": text, "signature": proof}
        else:
            yield {"type": "redacted_thinking", "data": proof}


def _add_tools(payload: Json, asked: Json) -> None:
    tools = asked.get("tools")
    if not tools:
        return
    payload["tools"] = [_tool(tool["function"]) for tool in tools]
    chosen = asked.get("tool_choice", "auto")
    if isinstance(chosen, dict):
        choice: Json = {"type": "tool", "name": chosen["function"]["name"]}
    else:
        choice = dict(_CHOICES[chosen])
    if asked.get("parallel_tool_calls") is False and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    if choice != _CHOICES["auto"]:
        payload["tool_choice"] = choice


def _tool(function: Json) -> Json:
    tool: Json = {
        "name": function["name"],
        "input_schema": {"type": "object", **(function.get("parameters") or {})},
    }
    if function.get("description"):
        tool["description"] = function["description"]
    if function.get("strict") is True:
        tool["strict"] = True
    return tool


def _may_think(payload: Json) -> bool:
    """False where the format forbids it: a forced tool, or tool calls without their thinking."""
    if payload.get("tool_choice", {}).get("type") in ("any", "tool"):
        return False
    said = next((m for m in reversed(payload["messages"]) if m["role"] == "assistant"), None)
    if said is None or not any(block["type"] == "tool_use" for block in said["content"]):
        return True
    return said["content"][0]["type"] in ("thinking", "redacted_thinking")


def _bound_cache_marks(payload: Json) -> None:
    """The last marks stay: they cover what the earlier ones do."""
    blocks = [*payload.get("system", ())]
    for message in payload["messages"]:
        blocks += message["content"]
    marked = [block for block in blocks if "cache_control" in block]
    for block in marked[:-CACHE_MARKS_MAX]:
        del block["cache_control"]


def _refuse_what_cannot_be_said(attempt: UpstreamAttempt) -> None:
    asked = attempt.payload
    if asked.get("n", 1) != 1:
        raise cannot_say(attempt, "several choices")
    if "audio" in asked.get("modalities", ()):
        raise cannot_say(attempt, "spoken answers")
    if asked.get("logprobs"):
        raise cannot_say(attempt, "logprobs")
