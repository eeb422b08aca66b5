"""Analysts in ClickHouse's table `analysts`; on a server each is a user of it besides."""

from __future__ import annotations

from dataclasses import astuple, fields

from services.usage.adapters.analyst_access import Bounds, server_grants, server_revocation
from services.usage.adapters.analyst_views import base_tables
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.domain.analyst import Analyst

_COLUMNS = tuple(field.name for field in fields(Analyst))


class ClickHouseAnalystStore:
    """An AnalystStore. The views are in `database`."""

    def __init__(self, clickhouse: ClickHouse, *, database: str, bounds: Bounds) -> None:
        self._clickhouse = clickhouse
        self._database = database
        self._bounds = bounds

    async def analysts(self) -> list[Analyst]:
        names = ", ".join(_COLUMNS)
        rows = await self._clickhouse.query(f"SELECT {names} FROM analysts FINAL")  # noqa: S608
        return [Analyst(*row) for row in rows]

    async def save(self, analyst: Analyst) -> None:
        row = [[value] for value in astuple(analyst)]
        await self._clickhouse.insert("analysts", _COLUMNS, row)
        if not self._clickhouse.embedded:
            for statement in await self._statements(analyst):
                await self._clickhouse.command(statement)

    async def _statements(self, analyst: Analyst) -> list[str]:
        base = self._clickhouse.database
        rows = await self._clickhouse.query(
            "SELECT name FROM system.tables WHERE database = currentDatabase()"
        )
        tables = sorted({name for (name,) in rows} & set(base_tables()))
        if analyst.revoked_at_ms:
            return server_revocation(analyst.analyst_id, base=base, tables=tables)
        return server_grants(
            analyst_id=analyst.analyst_id,
            account_id=analyst.account_id,
            token_sha256=analyst.token_sha256,
            valid_until_ms=analyst.expires_at_ms,
            base=base,
            tables=tables,
            database=self._database,
            bounds=self._bounds,
        )
