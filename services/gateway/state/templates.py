"""The table of prompt templates in memory: fed by `mesh.templates.v1`, compiled when first used."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import orjson

from services.common.events import UndecodableEvent
from services.common.ids import AccountId, TemplateId
from services.common.pb.mesh.events.v1 import templates_pb2
from services.gateway.state.decode import message_from_bytes
from services.gateway.templates import CompiledTemplate, compile_template

# How many are kept compiled; the others are compiled again when they are used.
COMPILED_MAX = 2_048


class TemplateTable:
    """The `TemplateDirectory`: every template by id, and by account and name."""

    def __init__(self, *, compiled_max: int = COMPILED_MAX) -> None:
        self._states: dict[str, templates_pb2.TemplateState] = {}
        self._ids: dict[tuple[str, str], str] = {}
        self._compiled: OrderedDict[str, CompiledTemplate] = OrderedDict()
        self._compiled_max = compiled_max

    def by_id(self, template_id: str) -> CompiledTemplate | None:
        """See `templates.TemplateDirectory.by_id`."""
        state = self._states.get(template_id)
        if state is None:
            return None
        known = self._compiled.get(template_id)
        if known is None:
            known = self._compiled[template_id] = _compiled_from_state(state)
            if len(self._compiled) > self._compiled_max:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(template_id)
        return known

    def by_name(self, account_id: AccountId, name: str) -> CompiledTemplate | None:
        """See `templates.TemplateDirectory.by_name`."""
        found = self._ids.get((account_id, name))
        return self.by_id(found) if found is not None else None

    def __len__(self) -> int:
        return len(self._states)

    def apply(self, key: str, value: bytes | None) -> None:
        """Takes one message of `mesh.templates.v1`. Raises UndecodableEvent; what was known
        stays.
        """
        if value is None:
            self._forget(key)
            return
        state = message_from_bytes(value)
        if not isinstance(state, templates_pb2.TemplateState):
            raise UndecodableEvent(f"a {type(state).__name__} among the templates")
        if state.template_id != key or not key:
            raise UndecodableEvent("a template under another template's id")
        _compiled_from_state(state)
        self._forget(key)
        self._states[key] = state
        self._ids[state.account_id, state.content.name] = key

    def _forget(self, key: str) -> None:
        self._compiled.pop(key, None)
        state = self._states.pop(key, None)
        if state is None:
            return
        name = (state.account_id, state.content.name)
        # Partitions are read apart: the name may be another template's by now.
        if self._ids.get(name) == key:
            del self._ids[name]


def _compiled_from_state(state: templates_pb2.TemplateState) -> CompiledTemplate:
    content = state.content
    messages = _json("messages_json", content.messages_json, [])
    params = _json("params_json", content.params_json, {})
    if not all(isinstance(message, dict) for message in messages):
        raise UndecodableEvent("messages_json has what is no message")
    return compile_template(
        template_id=TemplateId(state.template_id),
        account_id=AccountId(state.account_id),
        name=content.name,
        system=content.system,
        messages=messages,
        model=content.model,
        params=params,
    )


def _json(field: str, text: str, absent: Any) -> Any:  # Any: JSON of the type of `absent`
    if not text:
        return absent
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UndecodableEvent(f"{field} is no JSON") from error
    if not isinstance(value, type(absent)):
        raise UndecodableEvent(f"{field} is no {type(absent).__name__}")
    return value
