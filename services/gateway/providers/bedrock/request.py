"""From a chat request to a Converse request, which all of Bedrock's conversing models take."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import quote

import orjson
from yarl import URL

from services.gateway.providers.anthropic.reasoning import takes_sampling, thinking_of
from services.gateway.providers.anthropic.request import OUTPUT_TOKENS_DEFAULT
from services.gateway.providers.bedrock.answer import BedrockReader
from services.gateway.providers.bedrock.signing import region_of, signed
from services.gateway.providers.parts import (
    CACHE_MARKS_MAX,
    Media,
    alternating,
    arguments_of,
    claude_thoughts,
    image_of,
    parts_of,
    stops_of,
    video_of,
)
from services.gateway.providers.port import UpstreamAttempt
from services.gateway.providers.wire import Json, WireRequest, cannot_say, require_chat

_CHOICES: dict[str, Json] = {"required": {"any": {}}}
_CACHE_POINT: Json = {"cachePoint": {"type": "default"}}


class BedrockFormat:
    """`POST .../model/{id}/converse-stream`."""

    stream_types = ("application/vnd.amazon.eventstream",)

    def request(self, attempt: UpstreamAttempt) -> WireRequest:
        """See `WireFormat.request`."""
        url = converse_url(
            attempt.provider.base_url, attempt.model.upstream_model, stream=attempt.stream
        )
        body = orjson.dumps(converse_payload(attempt))
        headers = {"Content-Type": "application/json"}
        if attempt.provider.credential:
            region = region_of(attempt.provider.region, url.host or "")
            signed(str(url), body, headers, credential=attempt.provider.credential, region=region)
        return WireRequest(url, body, headers)

    def reader(self, attempt: UpstreamAttempt) -> BedrockReader:
        """See `WireFormat.reader`."""
        return BedrockReader(attempt)


@lru_cache(maxsize=1024)
def converse_url(base_url: str, upstream_model: str, *, stream: bool) -> URL:
    """The model's route. Ids have colons and ARNs slashes, which are part of one segment."""
    route = "converse-stream" if stream else "converse"
    name = quote(upstream_model, safe="")
    return URL(f"{base_url.rstrip('/')}/model/{name}/{route}", encoded=True)


def converse_payload(attempt: UpstreamAttempt) -> Json:
    """The body of the request. Raises AttemptFailed where it cannot be said."""
    require_chat(attempt)
    asked, name = attempt.payload, attempt.model.upstream_model
    for field, what in (("logprobs", "logprobs"), ("audio", "spoken answers")):
        if asked.get(field):
            raise cannot_say(attempt, what)
    if asked.get("n", 1) != 1:
        raise cannot_say(attempt, "several choices")
    system, messages = conversation_of(attempt)
    payload: Json = {"messages": messages}
    if system:
        payload["system"] = system
    _add_tools(payload, attempt)
    config: Json = {}
    if attempt.output_tokens_max is not None:
        config["maxTokens"] = attempt.output_tokens_max
    if stops := stops_of(asked):
        config["stopSequences"] = stops
    claude = "anthropic.claude" in name
    thinking: Json = {}
    if claude and attempt.model.capabilities.reasoning and _may_think(payload):
        limit = attempt.output_tokens_max or attempt.model.max_output_tokens
        thinking = thinking_of(asked, name, limit or OUTPUT_TOKENS_DEFAULT)
    if thinking:
        payload["additionalModelRequestFields"] = thinking
    elif not claude or takes_sampling(name):
        if "temperature" in asked:
            config["temperature"] = min(asked["temperature"], 1)
        if "top_p" in asked:
            config["topP"] = asked["top_p"]
    if config:
        payload["inferenceConfig"] = config
    _bound_cache_points(payload)
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
            content = [block for block in _blocks(message, attempt) if block != _CACHE_POINT]
            result = {"toolUseId": message["tool_call_id"], "content": content or [{"text": " "}]}
            yield {"toolResult": result}
        case "assistant":
            yield from _thinking(message)
            yield from _blocks(message, attempt)
            for call in message.get("tool_calls") or ():
                name = call["function"]["name"]
                used = {"toolUseId": call["id"], "name": name, "input": arguments_of(call)}
                yield {"toolUse": used}
        case _:
            yield from _blocks(message, attempt)


def _blocks(message: Json, attempt: UpstreamAttempt) -> Iterator[Json]:
    for part in parts_of(message):
        match part["type"]:
            case "text":
                yield {"text": part["text"]}
            case "image_url":
                yield {"image": _media(image_of(part), attempt, "pictures by their address")}
            case "video_url":
                yield {"video": _media(video_of(part), attempt, "clips by their address")}
            case kind:
                raise cannot_say(attempt, f"{kind} parts")
        if isinstance(part.get("cache_control"), dict):
            yield _CACHE_POINT


def _media(media: Media, attempt: UpstreamAttempt, what: str) -> Json:
    if not media.data:
        raise cannot_say(attempt, what)
    # JSON carries bytes in base 64, which is what a data URL has.
    kind = media.mime_type.rpartition("/")[2]
    return {
        "format": {"jpg": "jpeg", "quicktime": "mov"}.get(kind, kind),
        "source": {"bytes": media.data},
    }


def _thinking(message: Json) -> Iterator[Json]:
    for text, proof in claude_thoughts(message):
        if text is not None:
            yield {"reasoningContent": {"reasoningText": {"text": text, "signature": proof}}}
        else:
            yield {"reasoningContent": {"redactedContent": proof}}


def _add_tools(payload: Json, attempt: UpstreamAttempt) -> None:
    asked = attempt.payload
    tools = asked.get("tools")
    if not tools:
        return
    chosen = asked.get("tool_choice", "auto")
    if chosen == "none":
        # There is no such choice; without tools none is called, unless earlier calls need them.
        if any("toolUse" in block for m in payload["messages"] for block in m["content"]):
            raise cannot_say(attempt, "tool_choice none after tool calls")
        return
    config: Json = {"tools": [{"toolSpec": _spec(tool["function"])} for tool in tools]}
    if isinstance(chosen, dict):
        config["toolChoice"] = {"tool": {"name": chosen["function"]["name"]}}
    elif chosen in _CHOICES:
        config["toolChoice"] = _CHOICES[chosen]
    payload["toolConfig"] = config


def _spec(function: Json) -> Json:
    schema = {"type": "object", **(function.get("parameters") or {})}
    spec: Json = {"name": function["name"], "inputSchema": {"json": schema}}
    if function.get("description"):
        spec["description"] = function["description"]
    return spec


def _may_think(payload: Json) -> bool:
    """False where a tool is forced, and after tool calls whose thinking did not come back."""
    if payload.get("toolConfig", {}).get("toolChoice"):
        return False
    said = next((m for m in reversed(payload["messages"]) if m["role"] == "assistant"), None)
    if said is None or not any("toolUse" in block for block in said["content"]):
        return True
    return "reasoningContent" in said["content"][0]


def _bound_cache_points(payload: Json) -> None:
    """The last points stay: they cover what the earlier ones do."""
    left = CACHE_MARKS_MAX
    holders = [message["content"] for message in payload["messages"]]
    for blocks in reversed([payload.get("system", []), *holders]):
        for place in range(len(blocks) - 1, -1, -1):
            if blocks[place] == _CACHE_POINT:
                left -= 1
                if left < 0:
                    del blocks[place]
