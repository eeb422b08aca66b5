"""The service runs on a database of its own, without being a superuser of the server."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg
import pytest

from services.accounts.views import AccountsViews
from services.common.errors import NotFound
from services.common.ids import AccountId, ulid
from services.common.postgres import migrate, open_pool


def as_user(dsn: str, user: str) -> str:
    """The same database for another user, whose password is the name."""
    parts = urlsplit(dsn)
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(user)}:{quote(user)}@{place}"))


async def test_an_owner_who_is_no_superuser_migrates_and_reads_as_a_tenant(
    postgres_dsn: Callable[[str], str],
) -> None:
    dsn = postgres_dsn("accounts")
    owner = f"owner_{ulid()}".lower()
    admin = await asyncpg.connect(dsn)
    await admin.execute(f"CREATE ROLE {owner} LOGIN CREATEROLE PASSWORD '{owner}'")
    # It belongs to the whole server, where earlier tests may have made it. The grant is what the
    # maker of a role gets.
    await admin.execute(
        "DO $$ BEGIN CREATE ROLE mesh_accounts_tenant NOLOGIN;"
        " EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    )
    await admin.execute(f"GRANT mesh_accounts_tenant TO {owner} WITH ADMIN TRUE, SET FALSE")
    await admin.execute(f"GRANT ALL ON SCHEMA public TO {owner}")
    pool = await open_pool(as_user(dsn, owner), size_max=2)
    try:
        await migrate(pool, "services.accounts")
        with pytest.raises(NotFound):
            await AccountsViews(pool).account(AccountId("acc_none"))
    finally:
        await pool.close()
        await admin.close()
