"""Prompt templates at inference: compiled once, found by name or id, rendered, laid beneath a
request.

Pure: every route that takes `template` and `variables` calls it before it checks its request.
`{{ name }}` is a slot, white space inside the braces aside; a name is letters, digits and
underscores, and anything else between braces is plain text. Slots are filled in the system prompt
and in the content of the template's own messages, never in what the caller sent, and what fills
them is not looked at again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from services.common.errors import FieldError, InvalidArgument, NotFound
from services.common.ids import AccountId, TemplateId
from services.gateway.checks import Faults, text, text_map
from services.gateway.errors import UnprocessableEntity
from services.gateway.ports import KeyPrincipal, KeySettings

# Characters of a rendered template, so that a slot that stands in many places cannot be used to
# blow a small request up.
RENDERED_CHARS_MAX = 4 * 1024 * 1024
OUTPUT_LIMITS = ("max_tokens", "max_completion_tokens")

_SLOT = re.compile(r"\{\{\s*([A-Za-z0-9_]+)\s*\}\}", re.ASCII)
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# What a template can not set for its callers.
_NOT_PARAMS = frozenset({"messages", "input", "model", "models", "stream", "template", "variables"})
_NAME = text(256)
_VARIABLES = text_map(entries_max=256, key_max=256, value_max=1 << 20)

Message = dict[str, Any]  # Any: JSON of a chat message
Variables = Mapping[str, str]


class SlottedText:
    """A text cut at its slots: plain pieces at even places, names of slots at odd ones."""

    __slots__ = ("_pieces", "slots")

    def __init__(self, source: str) -> None:
        self._pieces = tuple(_SLOT.split(source))
        self.slots = frozenset(self._pieces[1::2])

    def length(self, variables: Variables) -> int:
        """Of what `render` gives, without making it."""
        return sum(
            len(variables[piece]) if place % 2 else len(piece)
            for place, piece in enumerate(self._pieces)
        )

    def render(self, variables: Variables) -> str:
        """The text with every slot filled; `variables` must have them all."""
        if len(self._pieces) == 1:
            return self._pieces[0]
        return "".join(
            variables[piece] if place % 2 else piece for place, piece in enumerate(self._pieces)
        )


@dataclass(frozen=True, slots=True)
class SlottedMessage:
    """A message of a template. `texts` are its content, or the texts of its parts, None for parts
    of another kind.
    """

    message: Message
    texts: tuple[SlottedText | None, ...]

    @classmethod
    def of(cls, message: Message) -> SlottedMessage:
        content = message.get("content")
        if isinstance(content, str):
            return cls(message, (SlottedText(content),))
        parts = content if isinstance(content, list) else []
        return cls(message, tuple(_text_of(part) for part in parts))

    def render(self, variables: Variables) -> Message:
        content = self.message.get("content")
        if isinstance(content, str):
            whole = self.texts[0]
            assert whole is not None
            return {**self.message, "content": whole.render(variables)}
        if not isinstance(content, list):
            return dict(self.message)
        parts = [
            part if slotted is None else {**part, "text": slotted.render(variables)}
            for part, slotted in zip(content, self.texts, strict=True)
        ]
        return {**self.message, "content": parts}


@dataclass(frozen=True, slots=True)
class CompiledTemplate:
    """A template ready to be rendered; an empty account means that it is global."""

    template_id: TemplateId
    account_id: AccountId
    name: str
    model: str
    # A JSON object; not to be changed by a reader.
    params: Mapping[str, Any]  # Any: values are free JSON
    messages: tuple[SlottedMessage, ...]

    @property
    def slots(self) -> frozenset[str]:
        """The names of all its slots."""
        return frozenset(name for slotted in self._texts() for name in slotted.slots)

    def _texts(self) -> Iterator[SlottedText]:
        for message in self.messages:
            yield from (slotted for slotted in message.texts if slotted is not None)

    def render(self, variables: Variables) -> list[Message]:
        """Its messages, the system prompt first. Raises UnprocessableEntity that names what is
        missing.
        """
        missing = sorted(self.slots - variables.keys())
        if missing:
            details = [
                FieldError(("body", "variables", name), "Field required by the template", "missing")
                for name in missing
            ]
            names = ", ".join(missing)
            raise UnprocessableEntity(
                f"variables: the template {self.name!r} also needs {names}", details=details
            )
        if sum(slotted.length(variables) for slotted in self._texts()) > RENDERED_CHARS_MAX:
            raise InvalidArgument.of(
                "body.variables", f"the rendered template is over {RENDERED_CHARS_MAX} characters"
            )
        return [message.render(variables) for message in self.messages]


class TemplateDirectory(Protocol):
    """Every template of every account, in memory."""

    def by_id(self, template_id: str) -> CompiledTemplate | None:
        """Of whatever account: an id is shared on purpose."""

    def by_name(self, account_id: AccountId, name: str) -> CompiledTemplate | None:
        """The account's own of that name; None where there is none. Of the empty account: global
        ones.
        """


@dataclass(frozen=True, slots=True)
class RenderedTemplate:
    """What a request gets from its template: all beneath what the request and the key say."""

    model: str
    params: Mapping[str, Any]  # Any: values are free JSON
    messages: list[Message]


def compile_template(
    *,
    template_id: TemplateId,
    account_id: AccountId,
    name: str,
    system: str = "",
    messages: list[Message] | None = None,
    model: str = "",
    params: Mapping[str, Any] | None = None,  # Any: values are free JSON
) -> CompiledTemplate:
    """The template, its texts cut at their slots."""
    whole: list[Message] = [{"role": "system", "content": system}] if system else []
    whole += messages or []
    kept = {key: value for key, value in (params or {}).items() if key not in _NOT_PARAMS}
    return CompiledTemplate(
        template_id=template_id,
        account_id=account_id,
        name=name,
        model=model,
        params={key: value for key, value in kept.items() if value is not None},
        messages=tuple(SlottedMessage.of(message) for message in whole),
    )


def find_template(
    directory: TemplateDirectory, account_id: AccountId, named: str
) -> CompiledTemplate:
    """By id whoever owns it; by name the account's own, then a global one. Raises NotFound."""
    if _UUID.fullmatch(named):
        found = directory.by_id(named.lower())
    else:
        found = directory.by_name(account_id, named) or directory.by_name(AccountId(""), named)
    if found is None:
        raise NotFound(f"template: there is no template {named[:256]!r}")
    return found


def rendered_template(
    given: Mapping[str, Any],  # Any: JSON
    principal: KeyPrincipal,
    directory: TemplateDirectory,
) -> RenderedTemplate | None:
    """The template that a request or its key's defaults name, rendered; None where none is named.

    Raises InvalidArgument where `template` or `variables` are malformed, NotFound,
    UnprocessableEntity where a variable is missing.
    """
    defaults = principal.settings.default_params
    named = given.get("template", defaults.get("template"))
    if named is None or named == "":
        return None
    variables = given.get("variables", defaults.get("variables") or {})
    faults = Faults()
    _NAME(faults, ("body", "template"), named)
    _VARIABLES(faults, ("body", "variables"), variables)
    faults.raise_if_any()
    found = find_template(directory, principal.account_id, named)
    return RenderedTemplate(found.model, found.params, found.render(variables))


def beneath(
    given: Mapping[str, Any],  # Any: JSON
    rendered: RenderedTemplate,
    settings: KeySettings,
) -> dict[str, Any]:  # Any: JSON
    """The request with what the template sets and neither the request nor the key does.

    Messages are left alone: where they go is the route's affair.
    """
    said = {name for name, value in settings.default_params.items() if value is not None}
    said |= given.keys()
    if any(name in said for name in OUTPUT_LIMITS):
        # Either spelling replaces both.
        said |= set(OUTPUT_LIMITS)
    added = {name: value for name, value in rendered.params.items() if name not in said}
    named = "models" in said or "model" in said or settings.default_model
    if rendered.model and not named:
        added["model"] = rendered.model
    return {**added, **given}


def with_template(
    given: Mapping[str, Any],  # Any: JSON
    principal: KeyPrincipal,
    directory: TemplateDirectory,
) -> tuple[Mapping[str, Any], int]:  # Any: JSON
    """A chat-shaped request over its template, and how many of its messages are the template's.

    Those come first: the system prompt, the template's messages, then the caller's. Raises as
    `rendered_template` does.
    """
    rendered = rendered_template(given, principal, directory)
    if rendered is None:
        return given, 0
    body = beneath(given, rendered, principal.settings)
    own = given.get("messages")
    if not isinstance(own, list):
        # Absent or malformed: the check of the request says so.
        return body, 0
    body["messages"] = [*rendered.messages, *own]
    return body, len(rendered.messages)


def _text_of(part: Any) -> SlottedText | None:  # Any: JSON
    if isinstance(part, dict) and isinstance(part.get("text"), str):
        return SlottedText(part["text"])
    return None
