"""The store in memory and in PostgreSQL, and a look at what each has stored."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

import pytest

from services.accounts.adapters.recording import AuditRow
from services.accounts.adapters.store_memory import MemoryAccountsStore
from services.accounts.adapters.store_postgres import PostgresAccountsStore
from services.accounts.ports import AccountsStore
from services.common.clock import FakeClock
from services.common.postgres import EventStore, migrate, open_pool

OutboxRow = tuple[str, str, bytes | None]


class StoreUnderTest(Protocol):
    """A store, and what it has committed besides the states."""

    @property
    def store(self) -> AccountsStore: ...

    async def outbox(self) -> list[OutboxRow]: ...

    async def audit(self) -> list[AuditRow]: ...


@dataclass(frozen=True, slots=True)
class InMemory:
    store: MemoryAccountsStore

    async def outbox(self) -> list[OutboxRow]:
        return [(topic.name, key, value) for topic, key, value in self.store.tables.outbox]

    async def audit(self) -> list[AuditRow]:
        return list(self.store.tables.audit)


@dataclass(frozen=True, slots=True)
class InPostgres:
    store: PostgresAccountsStore
    events: EventStore

    async def outbox(self) -> list[OutboxRow]:
        async with self.events.transaction() as tx:
            rows = await tx.connection.fetch("SELECT * FROM outbox ORDER BY position")
        return [(row["topic"], row["key"], row["value"]) for row in rows]

    async def audit(self) -> list[AuditRow]:
        async with self.events.transaction() as tx:
            rows = await tx.connection.fetch(
                "SELECT event_id, account_id, type, actor, subject, occurred_at_ms,"
                " details::text AS details_json FROM audit_events ORDER BY position"
            )
        return [AuditRow(**dict(row)) for row in rows]


@pytest.fixture(params=["memory", "postgres"])
async def kept(request: pytest.FixtureRequest) -> AsyncIterator[StoreUnderTest]:
    """An empty store of each kind."""
    clock = FakeClock()
    if request.param == "memory":
        yield InMemory(MemoryAccountsStore(clock))
        return
    new_database: Callable[[str], str] = request.getfixturevalue("postgres_dsn")
    pool = await open_pool(new_database("accounts"), size_max=8)
    await migrate(pool, "services.accounts")
    events = EventStore(pool)
    yield InPostgres(PostgresAccountsStore(events, clock), events)
    await pool.close()
