"""A chat request from bytes: what may be asked for, within which bounds, and what of it goes
upstream.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from services.common.errors import BadRequest
from services.gateway.chat_messages import PromptParts, check_messages, clean_messages
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
from services.gateway.errors import CapabilityNotSupported, NotImplementedHere

# What is asked of a model: an answer to a conversation, vectors, or verdicts.
Operation = Literal["chat", "embeddings", "moderations"]

NESTING_MAX = 128
OUTPUT_TOKENS_MAX = 10_000_000
CHOICES_MAX = 16
_INT64 = 2**63

_FUNCTION = fields(
    {"name": text(256, length_min=1), "description": text(1 << 20), "parameters": mapping},
    required=("name",),
)
_TOOL = fields({"type": one_of("function"), "function": _FUNCTION}, required=("type", "function"))
_TOOL_CHOICE = either(
    fields(
        {"type": one_of("function"), "function": fields({"name": text(256)}, required=("name",))},
        required=("type", "function"),
    ),
    one_of("auto", "none", "required"),
)
_RESPONSE_FORMAT = fields(
    {
        "type": one_of("text", "json_object", "json_schema"),
        "json_schema": fields(
            {"name": text(256), "schema": mapping, "strict": boolean}, required=("name",)
        ),
    },
    required=("type",),
)
_EFFORT = one_of("high", "medium", "low", "none")
_REASONING = fields(
    {
        "effort": _EFFORT,
        "max_tokens": integer(1, OUTPUT_TOKENS_MAX),
        "exclude": boolean,
        "enabled": boolean,
    }
)
_IMAGE = fields(
    {
        "n": integer(1, 10),
        "size": text(32),
        "quality": text(32),
        "response_format": one_of("url", "b64_json"),
    }
)
_AUDIO = fields({"voice": text(128), "format": one_of("wav", "mp3", "flac", "opus", "pcm16")})

# Fields that go upstream as they came. What stands in neither table is dropped without a word.
UPSTREAM_FIELDS: Mapping[str, Check] = {
    "temperature": number(0, 2),
    "top_p": number(0, 1),
    "frequency_penalty": number(-2, 2),
    "presence_penalty": number(-2, 2),
    "stop": either(text(1024), listed(text(1024), items_max=16)),
    "seed": integer(-_INT64, _INT64 - 1),
    "reasoning_effort": _EFFORT,
    "tools": listed(_TOOL, items_max=1024),
    "tool_choice": _TOOL_CHOICE,
    "parallel_tool_calls": boolean,
    "response_format": _RESPONSE_FORMAT,
    "user": text(256),
    "modalities": listed(one_of("text", "audio", "image"), items_max=3),
    "audio": _AUDIO,
    "n": integer(1, CHOICES_MAX),
    "logprobs": boolean,
    "top_logprobs": integer(0, 20),
    "logit_bias": mapping,
}
# Fields that are ours, or that are rewritten before they go upstream.
OWN_FIELDS: Mapping[str, Check] = {
    "model": text(256, length_min=1),
    "models": listed(text(256, length_min=1), items_max=16),
    "stream": boolean,
    "stream_options": mapping,
    "max_tokens": integer(1, OUTPUT_TOKENS_MAX),
    "max_completion_tokens": integer(1, OUTPUT_TOKENS_MAX),
    "template": text(256),
    "variables": text_map(entries_max=256, key_max=256, value_max=1 << 20),
    "session_id": text(256),
    "end_user_id": text(256),
    "tags": text_map(entries_max=32, key_max=64, value_max=256),
    "reasoning": _REASONING,
    "transforms": listed(text(64), items_max=16),
    "modality": one_of("text", "image"),
    "image": _IMAGE,
    "async_mode": boolean,
    "timeout": number(0, 86_400, above=True),
    "cache": boolean,
    "service_tier": one_of("auto", "default", "flex"),
    # An unknown profile means the balanced one.
    "weight_profile": text(64),
}
_ALL_FIELDS: Mapping[str, Check] = {**UPSTREAM_FIELDS, **OWN_FIELDS}
_OUTPUT_LIMITS = ("max_tokens", "max_completion_tokens")


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One checked request. `upstream` has everything that a provider is sent but model and output
    limit.
    """

    models: tuple[str, ...]
    stream: bool
    upstream: dict[str, Any]  # Any: JSON as the caller wrote it, checked
    prompt: PromptParts
    # In tokens for each choice; None where the caller set no limit.
    output_tokens_max: int | None
    choices: int
    wants_audio: bool
    timeout_s: float | None
    session_id: str
    end_user_id: str
    tags: Mapping[str, str]
    operation: Operation = "chat"
    # For model "auto": what the caller wants most.
    weight_profile: str = ""
    # False: neither answered out of the response cache nor kept there.
    cache: bool = True

    @property
    def streams_upstream(self) -> bool:
        """False where the answer can only be had in one piece."""
        return self.stream or (self.operation == "chat" and not self.wants_audio)


def body_from_bytes(raw: bytes | bytearray) -> dict[str, Any]:  # Any: JSON
    """The JSON object of a body, nulls left out. Raises BadRequest where it is none or nested too
    deeply.
    """
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from error
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    if raw.count(b"[") + raw.count(b"{") > NESTING_MAX and _depth(body) > NESTING_MAX:
        raise BadRequest(f"the body is nested more than {NESTING_MAX} levels deep")
    return {name: value for name, value in body.items() if value is not None}


def chat_request_from_body(
    given: Mapping[str, Any],  # Any: JSON
    *,
    default_model: str = "",
    default_params: Mapping[str, Any] | None = None,  # Any: JSON
) -> ChatRequest:
    """The checked request, the key's defaults beneath it.

    Raises InvalidArgument with every fault found, NotImplementedHere for what this gateway does not
    do.
    """
    body = _with_defaults(given, default_params) if default_params else given
    faults = Faults()
    for name, value in body.items():
        rule = _ALL_FIELDS.get(name)
        if rule is not None:
            rule(faults, ("body", name), value)
    prompt = check_messages(faults, body.get("messages"))
    _check_together(faults, body)
    if not (default_model or body.get("model") or body.get("models")):
        faults.add(
            ("body", "model"), "missing", "Field required: no model in request, key or template"
        )
    faults.raise_if_any()
    _refuse_what_is_missing(body)
    _count_tools(prompt, body)
    limit = next((int(body[name]) for name in reversed(_OUTPUT_LIMITS) if name in body), None)
    upstream = {name: body[name] for name in UPSTREAM_FIELDS if name in body}
    if not upstream.get("tools"):
        # Providers refuse an empty list, and a choice among no tools.
        upstream.pop("tools", None)
        upstream.pop("tool_choice", None)
        upstream.pop("parallel_tool_calls", None)
    _spell_reasoning(upstream, body.get("reasoning"))
    upstream["messages"] = clean_messages(body["messages"])
    return ChatRequest(
        models=_models(body, default_model),
        stream=bool(body.get("stream", False)),
        upstream=upstream,
        prompt=prompt,
        output_tokens_max=limit,
        choices=int(body.get("n", 1)),
        wants_audio="audio" in body.get("modalities", ()),
        timeout_s=float(body["timeout"]) if "timeout" in body else None,
        session_id=body.get("session_id", ""),
        end_user_id=body.get("end_user_id", ""),
        tags=body.get("tags", {}),
        cache=body.get("cache", True),
        weight_profile=body.get("weight_profile", ""),
    )


def _with_defaults(
    given: Mapping[str, Any],  # Any: JSON
    defaults: Mapping[str, Any],  # Any: JSON
) -> dict[str, Any]:  # Any: JSON
    """The request over the key's defaults. An output limit of either spelling replaces the default
    of both.
    """
    limited = any(name in given for name in _OUTPUT_LIMITS)
    kept = {
        name: value
        for name, value in defaults.items()
        if value is not None
        and name not in ("messages", "stream")
        and not (limited and name in _OUTPUT_LIMITS)
    }
    return {**kept, **given}


def _models(body: Mapping[str, Any], default_model: str) -> tuple[str, ...]:  # Any: JSON
    first = body.get("model")
    listed_models = [name for name in body.get("models", ()) if name != first]
    if first:
        return (first, *listed_models)
    return tuple(listed_models) or ((default_model,) if default_model else ())


def _check_together(faults: Faults, body: Mapping[str, Any]) -> None:  # Any: JSON
    """Faults that lie in two fields at once."""
    reasoning = body.get("reasoning")
    if isinstance(reasoning, dict) and reasoning.get("effort") and reasoning.get("max_tokens"):
        faults.add(
            ("body", "reasoning"), "value_error", "give either effort or max_tokens, not both"
        )
    asked = body.get("tool_choice")
    if asked is not None and asked not in ("auto", "none") and not body.get("tools"):
        faults.add(("body", "tool_choice"), "value_error", "needs tools")
    if body.get("top_logprobs") and not body.get("logprobs"):
        faults.add(("body", "top_logprobs"), "value_error", "needs logprobs to be true")


def _refuse_what_is_missing(body: Mapping[str, Any]) -> None:  # Any: JSON
    if body.get("modality") == "image" or "image" in body.get("modalities", ()):
        raise NotImplementedHere("modality: images are not generated through this route yet")
    if body.get("async_mode"):
        raise NotImplementedHere("async_mode: asynchronous answers are not served yet")
    if body.get("service_tier") == "flex":
        raise CapabilityNotSupported("service_tier: no model here offers the flex tier")


def _count_tools(prompt: PromptParts, body: Mapping[str, Any]) -> None:  # Any: JSON
    """Tool and schema definitions are prompt tokens too."""
    for name in ("tools", "response_format"):
        if name in body:
            prompt.texts.append(orjson.dumps(body[name]).decode())


def _spell_reasoning(upstream: dict[str, Any], reasoning: Any) -> None:  # Any: JSON
    """The `reasoning` object in OpenAI's spelling, as far as it has one; the older field wins where
    both are given.
    """
    if isinstance(reasoning, dict) and "reasoning_effort" not in upstream:
        if reasoning.get("enabled") is False:
            upstream["reasoning_effort"] = "none"
        elif reasoning.get("effort"):
            upstream["reasoning_effort"] = reasoning["effort"]
        elif reasoning.get("max_tokens"):
            # For the formats that know budgets; `reasoning_budget` is no field of OpenAI's.
            upstream["reasoning_budget"] = int(reasoning["max_tokens"])
        elif reasoning.get("enabled") is True:
            upstream["reasoning_effort"] = "medium"


def _depth(value: Any) -> int:  # Any: JSON
    """How deeply lists and objects are nested, without recursion."""
    deepest = 0
    waiting = [(value, 1)]
    while waiting:
        current, level = waiting.pop()
        children = current.values() if isinstance(current, dict) else current
        deepest = max(deepest, level)
        waiting.extend((child, level + 1) for child in children if isinstance(child, dict | list))
    return deepest
