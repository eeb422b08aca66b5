"""The messages of a chat request: their shape, and what of them counts as prompt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from services.gateway.checks import Check, Faults, Loc, fields, listed, one_of, text

MESSAGES_MAX = 10_000
PARTS_MAX = 1_000
TEXT_MAX = 32 * 1024 * 1024
ROLES = ("system", "developer", "user", "assistant", "tool")

_AUDIO_FORMATS = ("wav", "mp3", "aiff", "aac", "ogg", "flac", "m4a", "pcm16", "pcm24")
_PARTS: dict[str, Check] = {
    "text": fields({"text": text(TEXT_MAX)}, required=("text",)),
    "refusal": fields({"refusal": text(TEXT_MAX)}, required=("refusal",)),
    "image_url": fields(
        {
            "image_url": fields(
                {"url": text(TEXT_MAX), "detail": one_of("auto", "low", "high")}, required=("url",)
            )
        },
        required=("image_url",),
    ),
    "input_audio": fields(
        {"input_audio": fields({"data": text(TEXT_MAX), "format": one_of(*_AUDIO_FORMATS)})},
        required=("input_audio",),
    ),
    "video_url": fields(
        {"video_url": fields({"url": text(TEXT_MAX)}, required=("url",)), "fps": text(32)},
        required=("video_url",),
    ),
}
_FUNCTION_CALL = fields(
    {"name": text(256), "arguments": text(TEXT_MAX)}, required=("name", "arguments")
)
_TOOL_CALL = fields(
    {"id": text(256), "type": one_of("function"), "function": _FUNCTION_CALL},
    required=("id", "function"),
)
_MESSAGE = fields(
    {
        "role": one_of(*ROLES),
        "name": text(256),
        "tool_call_id": text(256),
        "tool_calls": listed(_TOOL_CALL, items_max=PARTS_MAX),
        "reasoning_details": listed(fields({}), items_max=PARTS_MAX),
    },
    required=("role",),
)
_KEPT = frozenset({"role", "content", "name", "tool_call_id", "tool_calls", "reasoning_details"})


@dataclass(slots=True)
class PromptParts:
    """What the prompt's length is reckoned from."""

    texts: list[str] = field(default_factory=list)
    messages: int = 0
    images: int = 0
    audio_bytes: int = 0
    videos: int = 0
    # Tokens that the caller counted, by sending them as numbers.
    token_ids: int = 0

    @property
    def text_bytes_max(self) -> int:
        """No more than this many bytes of UTF-8, hence no more text tokens either."""
        written = sum(len(piece) * (1 if piece.isascii() else 4) for piece in self.texts)
        return written + self.token_ids


def check_messages(faults: Faults, messages: Any) -> PromptParts:  # Any: JSON
    """Checks the list and gathers what the prompt is made of; faults are noted, not raised."""
    parts = PromptParts()
    if messages is None:
        faults.add(("body", "messages"), "missing", "Field required")
    elif not isinstance(messages, list):
        faults.add(("body", "messages"), "list_type", "Input should be a valid list")
    elif not 1 <= len(messages) <= MESSAGES_MAX:
        faults.add(("body", "messages"), "too_short", f"give 1 to {MESSAGES_MAX} messages")
    else:
        for place, message in enumerate(messages):
            _check_message(faults, ("body", "messages", place), message, parts=parts)
    return parts


def clean_messages(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:  # Any: JSON
    """The messages without unknown fields and nulls; an assistant's null content stays."""
    cleaned = []
    for message in messages:
        if message.keys() <= _KEPT and None not in message.values():
            cleaned.append(message)
        else:
            cleaned.append(
                {
                    name: value
                    for name, value in message.items()
                    if name in _KEPT and (value is not None or name == "content")
                }
            )
    return cleaned


def _check_message(
    faults: Faults, loc: Loc, message: Any, *, parts: PromptParts
) -> None:  # Any: JSON
    known = faults.count
    _MESSAGE(faults, loc, message)
    if faults.count > known or not isinstance(message, dict):
        return
    parts.messages += 1
    role = message["role"]
    if role == "tool" and message.get("tool_call_id") is None:
        faults.add((*loc, "tool_call_id"), "missing", "Field required for role 'tool'")
    if message.get("name"):
        parts.texts.append(message["name"])
    for call in message.get("tool_calls") or ():
        parts.texts.append(call["function"]["name"])
        parts.texts.append(call["function"]["arguments"])
    content = message.get("content")
    if isinstance(content, str):
        parts.texts.append(content)
    elif isinstance(content, list):
        _check_parts(faults, (*loc, "content"), content, parts=parts)
    elif content is not None:
        faults.add((*loc, "content"), "string_type", "Input should be a string or a list of parts")
    elif role != "assistant":
        faults.add((*loc, "content"), "missing", f"Field required for role '{role}'")


def _check_parts(
    faults: Faults, loc: Loc, content: list[Any], *, parts: PromptParts
) -> None:  # Any: JSON
    if len(content) > PARTS_MAX:
        faults.add(loc, "too_long", f"List should have at most {PARTS_MAX} items")
        return
    for place, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        rule = _PARTS.get(kind) if isinstance(kind, str) else None
        if rule is None:
            wording = ", ".join(_PARTS)
            faults.add((*loc, place, "type"), "literal_error", f"Input should be one of {wording}")
            continue
        known = faults.count
        rule(faults, (*loc, place), part)
        if faults.count == known:
            _gather(part, parts)


def _gather(part: dict[str, Any], parts: PromptParts) -> None:  # Any: JSON
    match part["type"]:
        case "text":
            parts.texts.append(part["text"])
        case "refusal":
            parts.texts.append(part["refusal"])
        case "image_url":
            parts.images += 1
        case "input_audio":
            # Base 64 has four characters for three bytes; an address instead of data counts as a
            # minute.
            data = part["input_audio"].get("data")
            parts.audio_bytes += len(data) * 3 // 4 if data else 1_000_000
        case _:
            parts.videos += 1
