"""Billing on real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from services.billing.adapters.ledger_postgres import PostgresLedger
from services.common.postgres import migrate, open_pool
from tests.fixtures.engines import PostgresServer


@pytest.fixture
def billing_dsn(postgres_dsn: PostgresServer) -> str:
    """A new, empty database."""
    return postgres_dsn("billing")


@pytest.fixture
async def pool(billing_dsn: str) -> AsyncIterator[asyncpg.Pool]:
    """A pool on a migrated database."""
    opened = await open_pool(billing_dsn)
    await migrate(opened, "services.billing")
    yield opened
    await opened.close()


@pytest.fixture
def ledger(pool: asyncpg.Pool) -> PostgresLedger:
    """The ledger over that pool."""
    return PostgresLedger(pool, unit_timeout_s=10.0)
