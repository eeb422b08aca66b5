"""What the templates' handlers need from outside; the store has a twin in memory."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from services.catalog.domain.template import Template, TemplateEvent
from services.common.ids import AccountId, TemplateId


class TemplateTransaction(Protocol):
    """One unit of work: everything in it happens or nothing does."""

    async def events(self, template_id: TemplateId) -> list[TemplateEvent]:
        """Every event of the template in order; empty where there never was one."""

    async def count(self, account_id: AccountId) -> int:
        """How many templates the account has; of the empty account: the global ones."""

    async def append(
        self, template_id: TemplateId, version: int, events: Sequence[TemplateEvent]
    ) -> Template:
        """Appends after `version` events, changes the read table and announces the new state.

        Goes to `mesh.catalog.v1` and `mesh.templates.v1`. Raises Conflict where another template
        of the same account has that name, ConcurrencyConflict where another writer was first.
        """


class TemplateStore(Protocol):
    """Opens units of work."""

    def transaction(self) -> AbstractAsyncContextManager[TemplateTransaction]: ...
