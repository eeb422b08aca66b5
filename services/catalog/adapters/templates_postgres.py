"""Templates in PostgreSQL: events, read table and outbox in one transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg

from services.catalog import template_rows as sql
from services.catalog.adapters.templates_pb import (
    template_event_from,
    template_record,
    template_state_record,
)
from services.catalog.domain.template import Template, TemplateEvent, evolve, folded
from services.catalog.template_ports import TemplateTransaction
from services.common.errors import Conflict
from services.common.ids import AccountId, TemplateId
from services.common.postgres import EventStore, Transaction
from services.common.topics import CATALOG, TEMPLATES


class PostgresTemplateTransaction:
    """`TemplateTransaction` over one transaction of the event store."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._connection: asyncpg.Connection = transaction.connection

    async def events(self, template_id: TemplateId) -> list[TemplateEvent]:
        records = await self._transaction.load(_stream(template_id))
        return [template_event_from(record) for record in records]

    async def count(self, account_id: AccountId) -> int:
        found = await self._connection.fetchval(
            "SELECT count(*) FROM templates WHERE account_id = $1", account_id
        )
        return int(found)

    async def append(
        self, template_id: TemplateId, version: int, events: Sequence[TemplateEvent]
    ) -> Template:
        state = folded(await self.events(template_id))
        for event in events:
            state = evolve(state, event)
        assert state is not None
        placed = await self._transaction.append(
            _stream(template_id), version, [template_record(event) for event in events]
        )
        await self._put(state)
        rows = [(CATALOG, str(template_id), record.to_bytes()) for record in placed]
        value = None if state.deleted else template_state_record(state).to_bytes()
        await self._transaction.publish_many([*rows, (TEMPLATES, template_id, value)])
        return state

    async def _put(self, state: Template) -> None:
        if state.deleted:
            await self._connection.execute(
                "DELETE FROM templates WHERE template_id = $1", state.template_id
            )
            return
        try:
            await self._connection.execute(sql.PUT_TEMPLATE, *sql.template_row(state))
        except asyncpg.UniqueViolationError as error:
            if error.constraint_name != "templates_name":
                raise
            raise Conflict(f"there is a template named {state.content.name!r} already") from error


class PostgresTemplates:
    """`TemplateStore` over the event store of the service."""

    def __init__(self, events: EventStore) -> None:
        self._events = events

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[TemplateTransaction]:
        async with self._events.transaction() as transaction:
            yield PostgresTemplateTransaction(transaction)


def _stream(template_id: TemplateId) -> str:
    return f"template:{template_id}"
