"""What the catalog answers: plain SQL over the read tables."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from services.catalog import rows as sql
from services.catalog.domain.model import Model
from services.catalog.domain.provider import Provider
from services.common.errors import ModelNotFound
from services.common.ids import ModelId, ProviderId
from services.common.money import Price
from services.common.postgres import translated


@dataclass(frozen=True, slots=True)
class ModelView:
    """A model with the price in force and whether it is served, both as of the question."""

    model: Model
    price: Price | None
    available: bool


@dataclass(frozen=True, slots=True)
class ProviderView:
    """A provider with what people may see of its credential, empty where it has none."""

    provider: Provider
    masked_credential: str


class CatalogViews:
    """Reads; times are Unix milliseconds."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def models(self, now_ms: int, *, include_unavailable: bool = False) -> list[ModelView]:
        """By id."""
        with translated():
            async with self._pool.acquire() as connection, connection.transaction(readonly=True):
                known = await _providers(connection)
                loaded = await sql.read_models(connection)
        views = [_view(at.state, known, now_ms) for at in loaded if at.state is not None]
        return [view for view in views if view.available or include_unavailable]

    async def model(self, model_id: ModelId, now_ms: int) -> ModelView:
        """Raises ModelNotFound; a model that is not available is found and says so."""
        with translated():
            async with self._pool.acquire() as connection, connection.transaction(readonly=True):
                known = await _providers(connection)
                loaded = await sql.read_models(connection, "model_id = $1", model_id)
        if not loaded or loaded[0].state is None:
            raise ModelNotFound(f"there is no model {model_id!r}")
        return _view(loaded[0].state, known, now_ms)

    async def providers(self) -> list[ProviderView]:
        """By id."""
        with translated():
            rows = await self._pool.fetch(
                "SELECT p.*, coalesce(c.masked, '') AS masked FROM providers p"
                " LEFT JOIN provider_credentials c USING (provider_id) ORDER BY provider_id"
            )
        return [ProviderView(sql.provider_from(row), row["masked"]) for row in rows]

    async def masked_credential(self, provider_id: ProviderId) -> str:
        """Empty where there is none."""
        with translated():
            found = await self._pool.fetchval(
                "SELECT masked FROM provider_credentials WHERE provider_id = $1", provider_id
            )
        return found or ""


async def _providers(connection: sql.Connection) -> dict[ProviderId, Provider]:
    rows = await connection.fetch("SELECT * FROM providers")
    return {provider.provider_id: provider for provider in map(sql.provider_from, rows)}


def _view(model: Model, known: dict[ProviderId, Provider], now_ms: int) -> ModelView:
    provider = known.get(model.settings.provider_id)
    return ModelView(model, model.price_at(now_ms), model.available(provider, now_ms))
