"""What is answered about templates: plain SQL over the read table, as the asking account's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from services.catalog import template_rows as sql
from services.catalog.domain.template import Template, is_template_id
from services.catalog.rows import Connection
from services.common.errors import NotFound
from services.common.ids import AccountId, TemplateId
from services.common.postgres import translated


class TemplateViews:
    """Reads of one account: its own templates and the global ones."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def template(self, account_id: AccountId, template_id: TemplateId) -> Template:
        """Raises NotFound, for what is no id at all too."""
        if not is_template_id(template_id):
            raise NotFound(f"there is no template {template_id!r}")
        async with self._as_tenant(account_id) as connection:
            row = await connection.fetchrow(
                "SELECT * FROM templates WHERE account_id IN ($1, '') AND template_id = $2",
                account_id,
                template_id,
            )
        if row is None:
            raise NotFound(f"there is no template {template_id!r}")
        return sql.template_from(row)

    async def templates(
        self, account_id: AccountId, *, team_id: str = "", owner_user_id: str = ""
    ) -> list[Template]:
        """Newest first; empty filters mean all."""
        async with self._as_tenant(account_id) as connection:
            rows = await connection.fetch(
                "SELECT * FROM templates WHERE account_id IN ($1, '')"
                " AND $2 IN ('', team_id) AND $3 IN ('', owner_user_id)"
                " ORDER BY created_at_ms DESC, template_id DESC",
                account_id,
                team_id,
                owner_user_id,
            )
        return [sql.template_from(row) for row in rows]

    @asynccontextmanager
    async def _as_tenant(self, account_id: AccountId) -> AsyncIterator[Connection]:
        """A read-only transaction in the role whose row policy lets it see this account alone."""
        with translated():
            async with self._pool.acquire() as connection, connection.transaction(readonly=True):
                await connection.execute(
                    "SELECT set_config('role', 'mesh_catalog_tenant', true),"
                    " set_config('mesh.account_id', $1, true)",
                    account_id,
                )
                yield connection
