"""The checked request of each operation, from its body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from services.gateway.chat_messages import PARTS_MAX, TEXT_MAX, PromptParts
from services.gateway.chat_request import ChatRequest, Operation, chat_request_from_body
from services.gateway.checks import (
    Check,
    Faults,
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
from services.gateway.ports import KeySettings

INPUTS_MAX = 2_048
MODERATION_MODEL = "omni-moderation-latest"
_TOKEN_ID = integer(0, 2**31 - 1)
_INPUT_TEXT = text(TEXT_MAX, length_min=1)
_URL = fields({"url": text(TEXT_MAX, length_min=1)}, required=("url",))
_PART = fields(
    {
        "type": one_of("text", "image_url", "video_url"),
        "text": text(TEXT_MAX),
        "image_url": _URL,
        "video_url": _URL,
    },
    required=("type",),
)
_OWN: Mapping[str, Check] = {
    "model": text(256, length_min=1),
    "timeout": number(0, 86_400, above=True),
    "session_id": text(256),
    "end_user_id": text(256),
    "tags": text_map(entries_max=32, key_max=64, value_max=256),
}
_EMBEDDINGS_UPSTREAM: Mapping[str, Check] = {
    "input": either(
        listed(_TOKEN_ID, items_max=1_000_000, items_min=1),
        listed(
            listed(_TOKEN_ID, items_max=1_000_000, items_min=1), items_max=INPUTS_MAX, items_min=1
        ),
        listed(_PART, items_max=PARTS_MAX, items_min=1),
        listed(_INPUT_TEXT, items_max=INPUTS_MAX, items_min=1),
        _INPUT_TEXT,
    ),
    "dimensions": integer(1, 1_000_000),
    "encoding_format": one_of("float", "base64"),
    "input_type": text(64),
    "user": text(256),
    "instructions": text(1 << 20),
    "sparse_embedding": mapping,
}
_MODERATIONS_UPSTREAM: Mapping[str, Check] = {
    "input": either(
        listed(_PART, items_max=PARTS_MAX, items_min=1),
        listed(text(TEXT_MAX), items_max=INPUTS_MAX, items_min=1),
        text(TEXT_MAX),
    ),
}


def request_from_body(
    operation: Operation,
    body: Mapping[str, Any],  # Any: JSON
    settings: KeySettings,
) -> ChatRequest:
    """The checked request, the key's defaults beneath it where it is a conversation.

    Raises InvalidArgument with every fault found, NotImplementedHere for what this gateway does not
    do.
    """
    if operation == "chat":
        return chat_request_from_body(
            body, default_model=settings.default_model, default_params=settings.default_params
        )
    if operation == "embeddings":
        return _piece(body, operation, _EMBEDDINGS_UPSTREAM, model=settings.default_model)
    return _piece(body, operation, _MODERATIONS_UPSTREAM, model=MODERATION_MODEL)


def _piece(
    body: Mapping[str, Any],  # Any: JSON
    operation: Operation,
    upstream: Mapping[str, Check],
    *,
    model: str,
) -> ChatRequest:
    faults = Faults()
    for name, rule in (*_OWN.items(), *upstream.items()):
        if body.get(name) is not None:
            rule(faults, ("body", name), body[name])
    if body.get("input") is None:
        faults.add(("body", "input"), "missing", "Field required")
    if not (body.get("model") or model):
        faults.add(("body", "model"), "missing", "Field required: no model in request or key")
    faults.raise_if_any()
    return ChatRequest(
        models=(body.get("model") or model,),
        stream=False,
        upstream={name: body[name] for name in upstream if name in body},
        prompt=_prompt(body["input"]),
        output_tokens_max=None,
        choices=1,
        wants_audio=False,
        timeout_s=float(body["timeout"]) if "timeout" in body else None,
        session_id=body.get("session_id", ""),
        end_user_id=body.get("end_user_id", ""),
        tags=body.get("tags", {}),
        operation=operation,
    )


def _prompt(given: Any) -> PromptParts:  # Any: JSON, checked
    prompt = PromptParts()
    for entry in given if isinstance(given, list) else [given]:
        match entry:
            case str():
                prompt.texts.append(entry)
            case int():
                prompt.token_ids += 1
            case list():
                prompt.token_ids += len(entry)
            case {"type": "text"}:
                prompt.texts.append(entry.get("text", ""))
            case {"type": "image_url"}:
                prompt.images += 1
            case _:
                prompt.videos += 1
    return prompt


def body_bytes(body: Mapping[str, Any]) -> bytes:  # Any: JSON
    """The body of a call that the gateway makes to its own pipeline."""
    return orjson.dumps(body)
