"""What the catalog answers: plain SQL over the read tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import asyncpg

from services.catalog import rows as sql
from services.catalog.domain.model import Model
from services.catalog.domain.provider import DEFAULT, Provider
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
    """A provider with what people may see of its credentials, by their ids: first and last
    characters, and when they were put there.
    """

    provider: Provider
    credentials: Mapping[str, tuple[str, int]]

    @property
    def masked_credential(self) -> str:
        """Of the credential `default`; empty where there is none."""
        return self.credentials.get(DEFAULT, ("", 0))[0]


_SEEN = "SELECT provider_id, credential_id, masked, set_at_ms"


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
            async with self._pool.acquire() as connection, connection.transaction(readonly=True):
                rows = await connection.fetch("SELECT * FROM providers ORDER BY provider_id")
                seen = await connection.fetch(f"{_SEEN} FROM provider_credentials")
        masked: dict[str, dict[str, tuple[str, int]]] = defaultdict(dict)
        for row in seen:
            masked[row["provider_id"]][row["credential_id"]] = row["masked"], row["set_at_ms"]
        return [ProviderView(sql.provider_from(row), masked[row["provider_id"]]) for row in rows]

    async def provider(self, provider: Provider) -> ProviderView:
        """That provider, with what may be seen of its credentials now."""
        with translated():
            seen = await self._pool.fetch(
                f"{_SEEN} FROM provider_credentials WHERE provider_id = $1", provider.provider_id
            )
        masked = {row["credential_id"]: (row["masked"], row["set_at_ms"]) for row in seen}
        return ProviderView(provider, masked)


async def _providers(connection: sql.Connection) -> dict[ProviderId, Provider]:
    rows = await connection.fetch("SELECT * FROM providers")
    return {provider.provider_id: provider for provider in map(sql.provider_from, rows)}


def _view(model: Model, known: dict[ProviderId, Provider], now_ms: int) -> ModelView:
    provider = known.get(model.settings.provider_id)
    return ModelView(model, model.price_at(now_ms), model.available(provider, now_ms))
