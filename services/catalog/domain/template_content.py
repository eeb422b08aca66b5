"""What a prompt template may hold, within which bounds."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any

from services.common.errors import InvalidArgument

NAME_MAX = 128
DESCRIPTION_MAX = 4_000
MODEL_MAX = 256
MESSAGES_MAX = 256
VARIABLES_MAX = 256
# Bytes of UTF-8: of the system prompt, of the messages as JSON, of the parameters as JSON.
TEXT_BYTES_MAX = 256 * 1024
PARAMS_BYTES_MAX = 16 * 1024
NESTING_MAX = 32

_ROLES = ("system", "developer", "user", "assistant", "tool")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_VARIABLE = re.compile(r"[A-Za-z0-9_]{1,128}", re.ASCII)


@dataclass(frozen=True, slots=True)
class TemplateContent:
    """One version of a template. An empty string or tuple means that the field is absent.

    `messages_json` is a JSON list of chat messages, `params_json` a JSON object of request
    parameters; both without white space, as `checked_content` writes them.
    """

    name: str
    description: str = ""
    system: str = ""
    messages_json: str = ""
    model: str = ""
    params_json: str = ""
    variables: tuple[str, ...] = ()
    team_id: str = ""


def checked_content(content: TemplateContent) -> TemplateContent:
    """The content with its JSON in one form. Raises InvalidArgument that names the field."""
    name = content.name.strip()
    if not 1 <= len(name) <= NAME_MAX:
        raise InvalidArgument.of("name", f"must have 1 to {NAME_MAX} characters")
    if not name.isprintable():
        raise InvalidArgument.of("name", "must have no control characters")
    if _UUID.fullmatch(name):
        raise InvalidArgument.of("name", "must not look like an id: templates are found by both")
    for field, most in (("description", DESCRIPTION_MAX), ("model", MODEL_MAX), ("team_id", 64)):
        if len(getattr(content, field)) > most:
            raise InvalidArgument.of(field, f"must have at most {most} characters")
        if "\x00" in getattr(content, field):
            raise InvalidArgument.of(field, "must not have the character U+0000")
    if "\x00" in content.system:
        raise InvalidArgument.of("system", "must not have the character U+0000")
    if len(content.system.encode()) > TEXT_BYTES_MAX:
        raise InvalidArgument.of("system", f"must have at most {TEXT_BYTES_MAX} bytes")
    if len(content.variables) > VARIABLES_MAX:
        raise InvalidArgument.of("variables", f"must be at most {VARIABLES_MAX}")
    for variable in content.variables:
        if not _VARIABLE.fullmatch(variable):
            raise InvalidArgument.of(
                "variables", "each must be 1 to 128 letters, digits and underscores"
            )
    return replace(
        content,
        name=name,
        messages_json=_messages(content.messages_json),
        params_json=_params(content.params_json),
    )


def _messages(text: str) -> str:
    if not text:
        return ""
    messages = _parsed("messages", text, TEXT_BYTES_MAX)
    if not isinstance(messages, list) or len(messages) > MESSAGES_MAX:
        raise InvalidArgument.of("messages", f"must be a list of at most {MESSAGES_MAX} messages")
    for place, message in enumerate(messages):
        where = f"messages.{place}"
        if not isinstance(message, dict):
            raise InvalidArgument.of(where, "must be an object with role and content")
        if message.get("role") not in _ROLES:
            raise InvalidArgument.of(f"{where}.role", f"must be one of {', '.join(_ROLES)}")
        if not isinstance(message.get("content"), str | list | None):
            raise InvalidArgument.of(f"{where}.content", "must be a text or a list of parts")
    return _written(messages) if messages else ""


def _params(text: str) -> str:
    if not text:
        return ""
    params = _parsed("params", text, PARAMS_BYTES_MAX)
    if not isinstance(params, dict):
        raise InvalidArgument.of("params", "must be an object of request parameters")
    return _written(params) if params else ""


def _parsed(field: str, text: str, bytes_max: int) -> Any:  # Any: JSON
    if len(text.encode()) > bytes_max:
        raise InvalidArgument.of(field, f"must have at most {bytes_max} bytes as JSON")
    try:
        value = json.loads(text, parse_constant=_refused)
        # A lone surrogate is written as an escape in JSON and is no text.
        _written(value).encode()
    except (ValueError, RecursionError) as error:
        raise InvalidArgument.of(field, "is not valid JSON") from error
    if _depth(value) > NESTING_MAX:
        raise InvalidArgument.of(field, f"is nested more than {NESTING_MAX} levels deep")
    return value


def _written(value: Any) -> str:  # Any: JSON
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def _depth(value: Any) -> int:  # Any: JSON
    deepest, waiting = 0, [(value, 1)]
    while waiting:
        current, level = waiting.pop()
        deepest = max(deepest, level)
        children = current.values() if isinstance(current, dict) else current
        if isinstance(current, dict | list):
            waiting.extend((child, level + 1) for child in children)
    return deepest
