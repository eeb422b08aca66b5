"""Templates in memory: the twin of the PostgreSQL store. One unit of work is open at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from services.catalog.adapters.templates_pb import template_record, template_state_record
from services.catalog.domain.template import Template, TemplateEvent, folded
from services.catalog.template_ports import TemplateTransaction
from services.common.errors import ConcurrencyConflict, Conflict
from services.common.events import EventRecord
from services.common.ids import AccountId, TemplateId
from services.common.topics import CATALOG, TEMPLATES


@dataclass(slots=True)
class TemplateContents:
    """All that is stored; `outbox` holds topic, key and record (None: a tombstone) in order."""

    streams: dict[TemplateId, list[TemplateEvent]] = field(default_factory=dict)
    outbox: list[tuple[str, str, EventRecord | None]] = field(default_factory=list)

    def copy(self) -> TemplateContents:
        """A copy whose lists and mappings are its own."""
        return TemplateContents(
            {key: list(events) for key, events in self.streams.items()}, list(self.outbox)
        )

    def living(self) -> list[Template]:
        """Every template that is not deleted."""
        states = (folded(events) for events in self.streams.values())
        return [state for state in states if state is not None and not state.deleted]


class MemoryTemplateTransaction:
    """`TemplateTransaction` over the contents of one unit of work."""

    def __init__(self, contents: TemplateContents) -> None:
        self._contents = contents

    async def events(self, template_id: TemplateId) -> list[TemplateEvent]:
        return list(self._contents.streams.get(template_id, []))

    async def count(self, account_id: AccountId) -> int:
        return sum(one.account_id == account_id for one in self._contents.living())

    async def append(
        self, template_id: TemplateId, version: int, events: Sequence[TemplateEvent]
    ) -> Template:
        stream = self._contents.streams.setdefault(template_id, [])
        if len(stream) != version:
            raise ConcurrencyConflict(f"{template_id} is at version {len(stream)}, not {version}")
        stream += events
        state = folded(stream)
        assert state is not None
        for other in self._contents.living():
            same = (other.account_id, other.content.name) == (state.account_id, state.content.name)
            if same and other.template_id != template_id and not state.deleted:
                raise Conflict(f"there is a template named {state.content.name!r} already")
        outbox = self._contents.outbox
        outbox += [(CATALOG.name, template_id, template_record(event)) for event in events]
        value = None if state.deleted else template_state_record(state)
        outbox.append((TEMPLATES.name, template_id, value))
        return state


class MemoryTemplates:
    """`TemplateStore` in memory."""

    def __init__(self) -> None:
        self.contents = TemplateContents()
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[TemplateTransaction]:
        async with self._turn:
            changed = self.contents.copy()
            yield MemoryTemplateTransaction(changed)
            self.contents = changed
