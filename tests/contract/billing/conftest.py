"""Both stores of the ledger, so that one suite holds for the twin and for PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.billing.adapters.ledger_memory import MemoryLedger
from services.billing.adapters.ledger_postgres import PostgresLedger
from services.billing.ports import LedgerStore
from services.common.postgres import migrate, open_pool
from tests.fixtures.engines import PostgresServer


@pytest.fixture(params=["memory", "postgres"])
async def store(
    request: pytest.FixtureRequest, postgres_dsn: PostgresServer
) -> AsyncIterator[LedgerStore]:
    """An empty ledger."""
    if request.param == "memory":
        yield MemoryLedger()
        return
    pool = await open_pool(postgres_dsn("billing"))
    await migrate(pool, "services.billing")
    yield PostgresLedger(pool, unit_timeout_s=10.0)
    await pool.close()
