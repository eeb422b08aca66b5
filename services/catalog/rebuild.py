"""Proves that the read tables are nothing but the fold of the events: drops, folds again, compares.

The credentials are not a fold of anything and stay. Run it while the service is stopped:
`python -m services.catalog.rebuild`.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from dataclasses import dataclass

import asyncpg

from services.catalog import rows as sql
from services.catalog import template_rows
from services.catalog.adapters.templates_pb import template_event_from
from services.catalog.adapters.translation_pb import model_event_from, provider_event_from
from services.catalog.config import CatalogSettings
from services.catalog.domain import model as models
from services.catalog.domain import provider as providers
from services.catalog.domain import template as templates
from services.catalog.domain.model import Model
from services.catalog.domain.provider import Provider
from services.catalog.domain.template import Template
from services.common.config import load_settings
from services.common.postgres import EventStore, migrate, open_pool, translated

_TABLES = (
    ("providers", sql.PROVIDER_COLUMNS, "provider_id"),
    ("models", sql.MODEL_COLUMNS, "model_id"),
    ("prices", sql.PRICE_COLUMNS, "model_id, valid_from_ms"),
    ("templates", template_rows.TEMPLATE_COLUMNS, "template_id"),
)
_NAMES = ", ".join(name for name, _, _ in _TABLES)


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """Hashes of the read tables before and after, hexadecimal, and how many events were folded."""

    events: int
    hash_before: str
    hash_after: str

    @property
    def equal(self) -> bool:
        return self.hash_before == self.hash_after


async def rebuild(pool: asyncpg.Pool) -> RebuildReport:
    """Drops the read tables and folds the events again, in one transaction."""
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            # Whoever writes now waits, and its events come after those that are folded here.
            await connection.execute(f"LOCK TABLE {_NAMES} IN ACCESS EXCLUSIVE MODE")
            before = await table_hash(connection)
            folded = await _fold(EventStore(pool))
            await connection.execute(f"TRUNCATE {_NAMES}")
            await _write(connection, folded)
            after = await table_hash(connection)
    return RebuildReport(folded.events, before, after)


async def table_hash(connection: sql.Connection) -> str:
    """SHA-256 over every row of the read tables, in order; `announced_at_ms` is not part of it."""
    digest = hashlib.sha256()
    for table, columns, order in _TABLES:
        query = f"SELECT {', '.join(columns)} FROM {table} ORDER BY {order}"  # noqa: S608 - constants
        for row in await connection.fetch(query):
            digest.update(repr((table, *row.values())).encode())
    return digest.hexdigest()


@dataclass(slots=True)
class _Folded:
    providers: dict[str, tuple[Provider, int]]
    models: dict[str, tuple[Model, int]]
    # With the versions of their streams: a deletion is an event, and no version of the content.
    templates: dict[str, tuple[Template, int]]
    events: int = 0


async def _fold(store: EventStore) -> _Folded:
    folded = _Folded({}, {}, {})
    async for record in store.read_all():
        kind, _, key = record.stream_id.partition(":")
        version = record.stream_version
        if kind == "provider":
            provider = folded.providers.get(key)
            assert version == (provider[1] if provider else 0) + 1, record.stream_id
            event = provider_event_from(record)
            folded.providers[key] = (
                providers.evolve(provider[0] if provider else None, event),
                version,
            )
        elif kind == "template":
            template = folded.templates.get(key)
            assert version == (template[1] if template else 0) + 1, record.stream_id
            step = template_event_from(record)
            folded.templates[key] = (
                templates.evolve(template[0] if template else None, step),
                version,
            )
        else:
            model = folded.models.get(key)
            assert version == (model[1] if model else 0) + 1, record.stream_id
            change = model_event_from(record)
            folded.models[key] = (models.evolve(model[0] if model else None, change), version)
        folded.events += 1
    return folded


async def _write(connection: sql.Connection, folded: _Folded) -> None:
    await connection.executemany(
        sql.PUT_PROVIDER, [sql.provider_row(*loaded) for loaded in folded.providers.values()]
    )
    await connection.executemany(
        sql.PUT_MODEL, [sql.model_row(*loaded) for loaded in folded.models.values()]
    )
    await connection.executemany(
        sql.INSERT_PRICE,
        [sql.price_row(price) for model, _ in folded.models.values() for price in model.prices],
    )
    await connection.executemany(
        template_rows.PUT_TEMPLATE,
        [
            template_rows.template_row(template)
            for template, _ in folded.templates.values()
            if not template.deleted
        ],
    )


async def main() -> int:
    """Exits 1 where the tables differed from the events."""
    settings = load_settings(CatalogSettings)
    pool = await open_pool(settings.dsn.get_secret_value(), size_max=2)
    try:
        await migrate(pool, "services.catalog")
        report = await rebuild(pool)
    finally:
        await pool.close()
    verdict = "equal" if report.equal else "DIFFERENT"
    print(f"catalog: {report.events} events folded, {verdict}: {report.hash_after}")
    return 0 if report.equal else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
