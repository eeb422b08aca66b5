"""What the native formats need of OpenAI-shaped messages: parts, data URLs, tool arguments."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from services.gateway.errors import InvalidRequest
from services.gateway.providers.port import AttemptFailed
from services.gateway.providers.wire import Json

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w.=+-]+)*;base64,", re.ASCII)
# How many places of a prompt may be marked for the provider's cache; the last ones count.
CACHE_MARKS_MAX = 4
# Reasoning as `reasoning_details` carries it, by whose format it is in.
ANTHROPIC_REASONING = "anthropic-claude-v1"
GEMINI_REASONING = "google-gemini-v1"

_AUDIO_TYPES = {"m4a": "audio/mp4", "pcm16": "audio/pcm", "pcm24": "audio/pcm"}
_ENDINGS = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "heic": "image/heic",
    "mp4": "video/mp4",
    "mov": "video/quicktime",
    "webm": "video/webm",
    "mpeg": "video/mpeg",
}


@dataclass(frozen=True, slots=True)
class Media:
    """A picture, sound or clip: its bytes in base 64, or where they are."""

    mime_type: str
    data: str = ""
    url: str = ""


def unusable(what: str) -> AttemptFailed:
    """The failure of a request that no provider could take."""
    return AttemptFailed(InvalidRequest(what), stage="upstream_submit")


def parts_of(message: Json) -> Iterator[Json]:
    """The parts of a message, a plain text as one; empty texts are left out."""
    content = message.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    for part in content or ():
        kind = part["type"]
        if kind == "refusal":
            part = {"type": "text", "text": part["refusal"]}
        if kind not in ("text", "refusal") or part["text"]:
            yield part


def text_of(message: Json) -> str:
    """All text of a message; other parts are left out."""
    return "".join(part["text"] for part in parts_of(message) if part["type"] == "text")


def alternating(
    messages: Iterable[Json],
    *,
    system_blocks: Callable[[Json], Iterator[Json]],
    blocks_of: Callable[[Json], Iterator[Json]],
) -> tuple[list[Json], list[Json]]:
    """System blocks, and messages of alternating roles, for formats whose messages are blocks."""
    system: list[Json] = []
    turns: list[Json] = []
    for message in messages:
        role = message["role"]
        if role in ("system", "developer"):
            system += system_blocks(message)
            continue
        blocks = list(blocks_of(message))
        speaker = "assistant" if role == "assistant" else "user"
        if not blocks:
            # Such formats know no empty message; neighbours that it parted become one.
            continue
        if turns and turns[-1]["role"] == speaker:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": speaker, "content": blocks})
    if not turns and system:
        # Instructions alone: they are the question.
        return [], [{"role": "user", "content": system}]
    return system, turns


def image_of(part: Json) -> Media:
    """The picture of an `image_url` part."""
    return media_from_url(part["image_url"]["url"], "image/jpeg")


def video_of(part: Json) -> Media:
    """The clip of a `video_url` part."""
    return media_from_url(part["video_url"]["url"], "video/mp4")


def audio_of(part: Json) -> Media:
    """The sound of an `input_audio` part. Raises AttemptFailed where it has neither data nor
    address.
    """
    sound = part["input_audio"]
    ending = sound.get("format") or "wav"
    mime_type = _AUDIO_TYPES.get(ending, f"audio/{ending}")
    if sound.get("data"):
        return Media(mime_type, data=_checked_base64(sound["data"]))
    address = sound.get("url") or sound.get("uri")
    if not isinstance(address, str):
        raise unusable("input_audio: give data or url")
    return Media(mime_type, url=address)


def media_from_url(url: str, default_type: str) -> Media:
    """What is at a data URL, or where an http(s) URL points. Raises AttemptFailed."""
    if url.startswith("data:"):
        found = _DATA_URL.match(url)
        if found is None:
            raise unusable("a data URL must be of the form data:<type>;base64,<data>")
        return Media(found[1] or default_type, data=_checked_base64(url[found.end() :]))
    if not url.startswith(("http://", "https://")):
        raise unusable("an address must be a data URL or begin with https://")
    ending = url.partition("?")[0].partition("#")[0].rpartition(".")[2].lower()
    return Media(_ENDINGS.get(ending, default_type), url=url)


def bytes_of(media: Media) -> bytes:
    """The bytes of media that have data."""
    return base64.b64decode(media.data)


def arguments_of(call: Json) -> Json:
    """A tool call's arguments as an object. Raises AttemptFailed where they are none."""
    text = call["function"]["arguments"]
    try:
        arguments = orjson.loads(text) if text.strip() else {}
    except orjson.JSONDecodeError:
        arguments = None
    if not isinstance(arguments, dict):
        raise unusable(f"tool_calls: the arguments of {call['function']['name']!r} are no object")
    return arguments


def stops_of(payload: Json) -> list[str]:
    """The stop sequences, one or many, without empty ones."""
    stop = payload.get("stop")
    stops = [stop] if isinstance(stop, str) else stop or []
    return [text for text in stops if text]


def details_of(message: Json, form: str) -> list[Json]:
    """The reasoning of an earlier answer that was given in this format."""
    details: list[Any] = message.get("reasoning_details") or []  # Any: JSON
    return [detail for detail in details if detail.get("format") == form]


def claude_thoughts(message: Json) -> Iterator[tuple[str | None, str]]:
    """Earlier thinking of Claude's: a text (it may be empty) with its signature, or None with
    what was hidden. Thinking without proof is left out, the provider would refuse it.

    Callers of `/v1/messages` bring it back as blocks of that format, others as details of ours.
    """
    for detail in message.get("reasoning_details") or ():
        match detail:
            case {"type": "thinking", "thinking": str(text), "signature": str(proof)} if proof:
                yield text, proof
            case {"type": "redacted_thinking", "data": str(data)}:
                yield None, data
            case {"format": form} if form != ANTHROPIC_REASONING:
                pass
            case {"type": "reasoning.text", "text": str(text), "signature": str(proof)} if proof:
                yield text, proof
            case {"type": "reasoning.encrypted", "data": str(data), "format": str()}:
                yield None, data


def schema_of(payload: Json) -> Json | None:
    """The schema that the answer must follow; None where none was asked for."""
    wanted = payload.get("response_format") or {}
    if wanted.get("type") != "json_schema":
        return None
    found: Json = (wanted.get("json_schema") or {}).get("schema") or {"type": "object"}
    return found


def _checked_base64(data: str) -> str:
    """The data; a sample of it must be base 64, the provider looks at the rest."""
    try:
        base64.b64decode(data[:4096], validate=True)
    except (binascii.Error, ValueError) as error:
        raise unusable("media data must be base 64") from error
    if not data:
        raise unusable("media data must not be empty")
    return data
