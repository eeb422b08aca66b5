"""From a chat request to a GenerateContent request.

The format has two speakers, `user` and `model`; results of tools are told by the function's name,
which is looked up by the id of the call that they answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import orjson
from yarl import URL

from services.gateway.providers.gemini.answer import MADE_UP_ID, GeminiReader
from services.gateway.providers.openai_compatible import json_headers
from services.gateway.providers.parts import (
    GEMINI_REASONING,
    Media,
    arguments_of,
    audio_of,
    details_of,
    image_of,
    parts_of,
    schema_of,
    stops_of,
    text_of,
    unusable,
    video_of,
)
from services.gateway.providers.port import UpstreamAttempt
from services.gateway.providers.wire import Json, WireRequest, cannot_say, require_chat

_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
_BUDGETS = {"none": 0, "low": 1_024, "medium": 8_192, "high": 24_576}
# From the third generation on a level is asked for, and calls must bring back their signature.
_GENERATION = re.compile(r"gemini-(\d+)")
# What Google documents for calls that were not made by the model, as after a change of models.
_NO_SIGNATURE = "skip_thought_signature_validator"
_PLAIN = {
    "temperature": "temperature",
    "top_p": "topP",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "n": "candidateCount",
    "logprobs": "responseLogprobs",
    "top_logprobs": "logprobs",
}


class GeminiFormat:
    """`POST .../models/{model}:streamGenerateContent?alt=sse`."""

    stream_types = ("event-stream",)

    def request(self, attempt: UpstreamAttempt) -> WireRequest:
        """See `WireFormat.request`."""
        headers = json_headers(attempt.stream)
        if attempt.provider.credential:
            headers["x-goog-api-key"] = attempt.provider.credential
        url = generate_url(
            attempt.provider.base_url, attempt.model.upstream_model, stream=attempt.stream
        )
        return WireRequest(url, orjson.dumps(generate_payload(attempt)), headers)

    def reader(self, attempt: UpstreamAttempt) -> GeminiReader:
        """See `WireFormat.reader`."""
        return GeminiReader(attempt)


@lru_cache(maxsize=1024)
def generate_url(base_url: str, upstream_model: str, *, stream: bool) -> URL:
    """The model's route under a base address; one without a path means the one under `/v1beta`."""
    base = URL(base_url.rstrip("/"))
    root = base / "v1beta" if base.path in ("", "/") else base
    name = upstream_model.removeprefix("models/")
    if stream:
        url = root / "models" / f"{name}:streamGenerateContent"
        return url.with_query({"alt": "sse"})
    return root / "models" / f"{name}:generateContent"


def generate_payload(attempt: UpstreamAttempt) -> Json:
    """The body of the request. Raises AttemptFailed where it cannot be said."""
    require_chat(attempt)
    asked = attempt.payload
    if "audio" in asked.get("modalities", ()):
        raise cannot_say(attempt, "spoken answers")
    system, contents = conversation_of(attempt)
    payload: Json = {"contents": contents}
    if system:
        payload["systemInstruction"] = {"parts": system}
    _add_tools(payload, asked)
    config = _generation_config(attempt)
    if config:
        payload["generationConfig"] = config
    return payload


def conversation_of(attempt: UpstreamAttempt) -> tuple[list[Json], list[Json]]:
    """Parts of the system instruction, and contents of alternating roles."""
    system: list[Json] = []
    contents: list[Json] = []
    names: dict[str, str] = {}
    for message in attempt.payload["messages"]:
        role = message["role"]
        if role in ("system", "developer"):
            system += _parts(message, attempt)
            continue
        for call in message.get("tool_calls") or ():
            names[call["id"]] = call["function"]["name"]
        speaker = "model" if role == "assistant" else "user"
        if role == "tool":
            parts = _result_parts(message, names, attempt)
        elif role == "assistant":
            parts = [*_parts(message, attempt), *_thought_parts(message)]
            parts += _call_parts(message, attempt.model.upstream_model)
        else:
            parts = list(_parts(message, attempt))
        if not parts:
            continue
        if contents and contents[-1]["role"] == speaker:
            contents[-1]["parts"] += parts
        else:
            contents.append({"role": speaker, "parts": parts})
    if not contents and system:
        # Instructions alone: they are the question.
        return [], [{"role": "user", "parts": system}]
    return system, contents


def _parts(message: Json, attempt: UpstreamAttempt) -> Iterator[Json]:
    for part in parts_of(message):
        match part["type"]:
            case "text":
                yield {"text": part["text"]}
            case "image_url":
                yield _media_part(image_of(part))
            case "input_audio":
                yield _media_part(audio_of(part))
            case "video_url":
                clip = _media_part(video_of(part))
                if part.get("fps"):
                    clip["videoMetadata"] = {"fps": _fps(part["fps"])}
                yield clip
            case kind:
                raise cannot_say(attempt, f"{kind} parts")


def _media_part(media: Media) -> Json:
    if media.data:
        return {"inlineData": {"mimeType": media.mime_type, "data": media.data}}
    return {"fileData": {"mimeType": media.mime_type, "fileUri": media.url}}


def _fps(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise unusable("video_url: fps must be a number") from error


def _thought_parts(message: Json) -> Iterator[Json]:
    """Signatures of earlier texts; those of calls travel with the calls."""
    for detail in details_of(message, GEMINI_REASONING):
        match detail:
            case {"type": "reasoning.encrypted", "data": str(data)}:
                yield {"text": "", "thoughtSignature": data}


def _call_parts(message: Json, upstream_model: str) -> list[Json]:
    parts: list[Json] = []
    for call in message.get("tool_calls") or ():
        used: Json = {"name": call["function"]["name"], "args": arguments_of(call)}
        if not call["id"].startswith(MADE_UP_ID):
            used["id"] = call["id"]
        part: Json = {"functionCall": used}
        if call.get("thought_signature"):
            part["thoughtSignature"] = call["thought_signature"]
        elif not parts and generation_of(upstream_model) >= 3:
            part["thoughtSignature"] = _NO_SIGNATURE
        parts.append(part)
    return parts


def _result_parts(message: Json, names: dict[str, str], attempt: UpstreamAttempt) -> list[Json]:
    call_id = message["tool_call_id"]
    name = names.get(call_id) or message.get("name")
    if not name:
        raise unusable(f"messages: no tool call has the id {call_id!r} that a tool message answers")
    result: Json = {"name": name, "response": _result(text_of(message))}
    if not call_id.startswith(MADE_UP_ID):
        result["id"] = call_id
    media = [part for part in _parts(message, attempt) if "text" not in part]
    return [{"functionResponse": result}, *media]


def _result(text: str) -> Json:
    """An object, which is what the format takes; a plain text is its `output`."""
    try:
        found: Any = orjson.loads(text)  # Any: JSON
    except orjson.JSONDecodeError:
        found = None
    return found if isinstance(found, dict) else {"output": text}


def _add_tools(payload: Json, asked: Json) -> None:
    tools = asked.get("tools")
    if not tools:
        return
    payload["tools"] = [{"functionDeclarations": [_declaration(t["function"]) for t in tools]}]
    chosen = asked.get("tool_choice", "auto")
    if isinstance(chosen, dict):
        config: Json = {"mode": "ANY", "allowedFunctionNames": [chosen["function"]["name"]]}
    else:
        config = {"mode": _MODES[chosen]}
    if config["mode"] != "AUTO":
        payload["toolConfig"] = {"functionCallingConfig": config}


def _declaration(function: Json) -> Json:
    declaration: Json = {"name": function["name"]}
    if function.get("description"):
        declaration["description"] = function["description"]
    if function.get("parameters"):
        declaration["parametersJsonSchema"] = function["parameters"]
    return declaration


def _generation_config(attempt: UpstreamAttempt) -> Json:
    asked = attempt.payload
    config: Json = {theirs: asked[ours] for ours, theirs in _PLAIN.items() if ours in asked}
    if attempt.output_tokens_max is not None:
        config["maxOutputTokens"] = attempt.output_tokens_max
    if stops := stops_of(asked):
        config["stopSequences"] = stops
    form = (asked.get("response_format") or {}).get("type", "text")
    if form != "text":
        config["responseMimeType"] = "application/json"
        if (schema := schema_of(asked)) is not None:
            config["responseJsonSchema"] = schema
    if thinking := _thinking(attempt):
        config["thinkingConfig"] = thinking
    return config


def _thinking(attempt: UpstreamAttempt) -> Json:
    asked, name = attempt.payload, attempt.model.upstream_model
    effort, budget = asked.get("reasoning_effort"), asked.get("reasoning_budget")
    if not attempt.model.capabilities.reasoning or (effort is None and budget is None):
        return {}
    if budget is None and generation_of(name) >= 3:
        # Thinking cannot be switched off there.
        level = "low" if effort == "none" else effort
        return {"thinkingLevel": level, "includeThoughts": effort != "none"}
    tokens = _BUDGETS[effort or "medium"] if budget is None else budget
    return {"thinkingBudget": tokens, "includeThoughts": tokens > 0}


def generation_of(upstream_model: str) -> int:
    """The generation that a name tells; 0 for names that tell none."""
    found = _GENERATION.search(upstream_model)
    return int(found[1]) if found else 0
