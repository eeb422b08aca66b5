"""The catalog in memory: the twin of the PostgreSQL store, for tests and the simulator.

A unit of work writes to a copy that replaces the original when it ends without an error. Only one
is open at a time, which is stricter than PostgreSQL, so there is nothing left to lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from services.catalog.adapters.translation_pb import (
    event_to_pb,
    model_state_to_pb,
    provider_state_to_pb,
)
from services.catalog.domain import model as models
from services.catalog.domain import provider as providers
from services.catalog.domain.model import Model, ModelEvent
from services.catalog.domain.provider import DEFAULT, Provider, ProviderEvent
from services.catalog.ports import (
    CatalogTransaction,
    Loaded,
    ModelChange,
    ProviderChange,
    SealedCredential,
    Served,
    Snapshot,
)
from services.common.errors import ConcurrencyConflict
from services.common.events import EventRecord, record_of
from services.common.ids import ModelId, ProviderId
from services.common.topics import CATALOG, MODELS


@dataclass(slots=True)
class Contents:
    """All that is stored; `outbox` holds topic, key and record in the order of publication."""

    providers: dict[ProviderId, list[ProviderEvent]] = field(default_factory=dict)
    models: dict[ModelId, list[ModelEvent]] = field(default_factory=dict)
    announced_at_ms: dict[ModelId, int] = field(default_factory=dict)
    credentials: dict[tuple[ProviderId, str], SealedCredential] = field(default_factory=dict)
    outbox: list[tuple[str, str, EventRecord]] = field(default_factory=list)
    seed_mark: str = ""

    def copy(self) -> Contents:
        """A copy whose lists and mappings are its own; what they hold is immutable."""
        return Contents(
            {key: list(events) for key, events in self.providers.items()},
            {key: list(events) for key, events in self.models.items()},
            dict(self.announced_at_ms),
            dict(self.credentials),
            list(self.outbox),
            self.seed_mark,
        )


class MemoryCatalogTransaction:
    """`CatalogTransaction` over the contents of one unit of work."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents

    async def provider(self, provider_id: ProviderId, *, change: bool) -> Loaded[Provider]:
        del change
        return _provider(self._contents.providers.get(provider_id, []))

    async def model(self, model_id: ModelId) -> Loaded[Model]:
        return _model(self._contents.models.get(model_id, []))

    async def snapshot(self) -> Snapshot:
        return Snapshot(
            {key: _provider(events) for key, events in sorted(self._contents.providers.items())},
            {key: _model(events) for key, events in sorted(self._contents.models.items())},
        )

    async def models_of(self, provider_ids: Collection[ProviderId]) -> list[Model]:
        return [model for model in self._models() if model.settings.provider_id in provider_ids]

    async def models_due(self, now_ms: int) -> list[Model]:
        announced = self._contents.announced_at_ms
        return [
            model
            for model in self._models()
            if any(
                announced.get(model.model_id, 0) < price.valid_from_ms <= now_ms
                for price in model.prices
            )
        ]

    async def append_providers(self, changes: Sequence[ProviderChange]) -> list[Provider]:
        after: list[Provider] = []
        for provider_id, at, events in changes:
            stream = self._contents.providers.setdefault(provider_id, [])
            _expect(provider_id, at.version, len(stream))
            stream += events
            self._record(provider_id, events)
            state = _provider(stream).state
            assert state is not None
            after.append(state)
        return after

    async def append_models(self, changes: Sequence[ModelChange]) -> list[Model]:
        after: list[Model] = []
        for model_id, at, events in changes:
            stream = self._contents.models.setdefault(model_id, [])
            _expect(model_id, at.version, len(stream))
            stream += events
            self._record(model_id, events)
            state = _model(stream).state
            assert state is not None
            after.append(state)
        return after

    async def announce_providers(self, states: Sequence[Provider], now_ms: int) -> None:
        for provider in states:
            record = record_of(provider_state_to_pb(provider), account_id="", occurred_at_ms=now_ms)
            self._contents.outbox.append((MODELS.name, f"provider:{provider.provider_id}", record))

    async def announce_models(self, served: Sequence[Served], now_ms: int) -> None:
        for model, provider in served:
            state = model_state_to_pb(model, provider, now_ms)
            record = record_of(state, account_id="", occurred_at_ms=now_ms)
            self._contents.outbox.append((MODELS.name, f"model:{model.model_id}", record))
            self._contents.announced_at_ms[model.model_id] = now_ms

    async def credential(
        self, provider_id: ProviderId, credential_id: str = DEFAULT
    ) -> SealedCredential | None:
        return self._contents.credentials.get((provider_id, credential_id))

    async def put_credential(self, sealed: SealedCredential, at_ms: int) -> None:
        del at_ms
        self._contents.credentials[sealed.provider_id, sealed.credential_id] = sealed

    async def delete_credential(
        self, provider_id: ProviderId, credential_id: str = DEFAULT
    ) -> None:
        self._contents.credentials.pop((provider_id, credential_id), None)

    async def seed_mark(self) -> str:
        return self._contents.seed_mark

    async def put_seed_mark(self, fingerprint: str, at_ms: int) -> None:
        del at_ms
        self._contents.seed_mark = fingerprint

    def _models(self) -> list[Model]:
        found = (_model(events).state for _, events in sorted(self._contents.models.items()))
        return [model for model in found if model is not None]

    def _record(self, key: str, events: Sequence[ProviderEvent] | Sequence[ModelEvent]) -> None:
        for event in events:
            record = record_of(event_to_pb(event), account_id="", occurred_at_ms=event.at_ms)
            self._contents.outbox.append((CATALOG.name, key, record))


class MemoryCatalog:
    """`CatalogStore` in memory."""

    def __init__(self) -> None:
        self.contents = Contents()
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[CatalogTransaction]:
        async with self._turn:
            changed = self.contents.copy()
            yield MemoryCatalogTransaction(changed)
            self.contents = changed


def _provider(events: Sequence[ProviderEvent]) -> Loaded[Provider]:
    state: Provider | None = None
    for event in events:
        state = providers.evolve(state, event)
    return Loaded(state, len(events))


def _model(events: Sequence[ModelEvent]) -> Loaded[Model]:
    state: Model | None = None
    for event in events:
        state = models.evolve(state, event)
    return Loaded(state, len(events))


def _expect(key: str, expected: int, actual: int) -> None:
    if expected != actual:
        raise ConcurrencyConflict(f"{key} is at version {actual}, not {expected}")
