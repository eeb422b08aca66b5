"""The catalog in PostgreSQL: events, read tables and outbox in one transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

import asyncpg

from services.catalog import rows as sql
from services.catalog.adapters.translation_pb import (
    event_to_pb,
    model_event_from,
    model_state_to_pb,
    provider_event_from,
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
from services.common.events import EventRecord, record_of
from services.common.ids import ModelId, ProviderId
from services.common.postgres import EventStore, Transaction
from services.common.topics import CATALOG, MODELS, Topic

_DUE = """
EXISTS (
    SELECT FROM prices p WHERE p.model_id = models.model_id
    AND p.valid_from_ms > models.announced_at_ms AND p.valid_from_ms <= $1
)
"""


class PostgresCatalogTransaction:
    """`CatalogTransaction` over one transaction of the event store."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._connection: asyncpg.Connection = transaction.connection

    async def provider(self, provider_id: ProviderId, *, change: bool) -> Loaded[Provider]:
        lock = "FOR UPDATE" if change else "FOR SHARE"
        await self._connection.execute(
            f"SELECT FROM providers WHERE provider_id = $1 {lock}",
            provider_id,
        )
        state: Provider | None = None
        records = await self._transaction.load(f"provider:{provider_id}")
        for record in records:
            state = providers.evolve(state, provider_event_from(record))
        return Loaded(state, len(records))

    async def model(self, model_id: ModelId) -> Loaded[Model]:
        state: Model | None = None
        records = await self._transaction.load(f"model:{model_id}")
        for record in records:
            state = models.evolve(state, model_event_from(record))
        return Loaded(state, len(records))

    async def snapshot(self) -> Snapshot:
        rows = await self._connection.fetch("SELECT * FROM providers ORDER BY provider_id")
        loaded = await sql.read_models(self._connection)
        return Snapshot(
            {row["provider_id"]: Loaded(sql.provider_from(row), row["version"]) for row in rows},
            {at.state.model_id: at for at in loaded if at.state is not None},
        )

    async def models_of(self, provider_ids: Collection[ProviderId]) -> list[Model]:
        found = await sql.read_models(self._connection, "provider_id = ANY($1)", list(provider_ids))
        return [at.state for at in found if at.state is not None]

    async def models_due(self, now_ms: int) -> list[Model]:
        found = await sql.read_models(self._connection, _DUE, now_ms)
        return [at.state for at in found if at.state is not None]

    async def append_providers(self, changes: Sequence[ProviderChange]) -> list[Provider]:
        after: list[Provider] = []
        rows: list[tuple[object, ...]] = []
        for _, at, events in changes:
            state = at.state
            for event in events:
                state = providers.evolve(state, event)
            assert state is not None
            after.append(state)
            rows.append(sql.provider_row(state, at.version + len(events)))
        await self._append([(f"provider:{key}", at.version, e) for key, at, e in changes])
        await self._connection.executemany(sql.PUT_PROVIDER, rows)
        return after

    async def append_models(self, changes: Sequence[ModelChange]) -> list[Model]:
        after: list[Model] = []
        rows: list[tuple[object, ...]] = []
        prices: list[tuple[object, ...]] = []
        for _, at, events in changes:
            state = at.state
            for event in events:
                state = models.evolve(state, event)
                if isinstance(event, models.PricePublished):
                    prices.append(sql.price_row(event.price))
            assert state is not None
            after.append(state)
            rows.append(sql.model_row(state, at.version + len(events)))
        await self._append([(f"model:{key}", at.version, e) for key, at, e in changes])
        await self._connection.executemany(sql.PUT_MODEL, rows)
        await self._connection.executemany(sql.INSERT_PRICE, prices)
        return after

    async def announce_providers(self, states: Sequence[Provider], now_ms: int) -> None:
        await self._publish(
            MODELS,
            [
                (
                    f"provider:{provider.provider_id}",
                    record_of(provider_state_to_pb(provider), account_id="", occurred_at_ms=now_ms),
                )
                for provider in states
            ],
        )

    async def announce_models(self, served: Sequence[Served], now_ms: int) -> None:
        rows = [
            (
                f"model:{model.model_id}",
                record_of(
                    model_state_to_pb(model, provider, now_ms),
                    account_id="",
                    occurred_at_ms=now_ms,
                ),
            )
            for model, provider in served
        ]
        await self._publish(MODELS, rows)
        await self._connection.execute(
            "UPDATE models SET announced_at_ms = $2 WHERE model_id = ANY($1)",
            [model.model_id for model, _ in served],
            now_ms,
        )

    async def credential(
        self, provider_id: ProviderId, credential_id: str = DEFAULT
    ) -> SealedCredential | None:
        row = await self._connection.fetchrow(
            "SELECT * FROM provider_credentials WHERE provider_id = $1 AND credential_id = $2",
            provider_id,
            credential_id,
        )
        if row is None:
            return None
        return SealedCredential(
            provider_id=ProviderId(row["provider_id"]),
            credential_version=row["credential_version"],
            key_id=row["key_id"],
            nonce=row["nonce"],
            ciphertext=row["ciphertext"],
            masked=row["masked"],
            credential_id=row["credential_id"],
        )

    async def put_credential(self, sealed: SealedCredential, at_ms: int) -> None:
        await self._connection.execute(
            sql.PUT_CREDENTIAL,
            sealed.provider_id,
            sealed.credential_id,
            sealed.credential_version,
            sealed.key_id,
            sealed.nonce,
            sealed.ciphertext,
            sealed.masked,
            at_ms,
        )

    async def delete_credential(
        self, provider_id: ProviderId, credential_id: str = DEFAULT
    ) -> None:
        await self._connection.execute(
            "DELETE FROM provider_credentials WHERE provider_id = $1 AND credential_id = $2",
            provider_id,
            credential_id,
        )

    async def seed_mark(self) -> str:
        found = await self._connection.fetchval("SELECT fingerprint FROM seed_mark")
        return "" if found is None else str(found)

    async def put_seed_mark(self, fingerprint: str, at_ms: int) -> None:
        await self._connection.execute(
            "INSERT INTO seed_mark (fingerprint, applied_at_ms) VALUES ($1, $2)"
            " ON CONFLICT (only_row) DO UPDATE"
            " SET fingerprint = excluded.fingerprint, applied_at_ms = excluded.applied_at_ms",
            fingerprint,
            at_ms,
        )

    async def _append(
        self, changes: Sequence[tuple[str, int, Sequence[ProviderEvent] | Sequence[ModelEvent]]]
    ) -> None:
        appends = [
            (
                stream_id,
                version,
                [
                    record_of(event_to_pb(event), account_id="", occurred_at_ms=event.at_ms)
                    for event in events
                ],
            )
            for stream_id, version, events in changes
        ]
        placed = await self._transaction.append_many(appends)
        await self._publish(CATALOG, [(r.stream_id.partition(":")[2], r) for r in placed])

    async def _publish(self, topic: Topic, rows: Sequence[tuple[str, EventRecord]]) -> None:
        await self._transaction.publish_many(
            [(topic, key, record.to_bytes()) for key, record in rows]
        )


class PostgresCatalog:
    """`CatalogStore` over the event store of the service."""

    def __init__(self, events: EventStore) -> None:
        self._events = events

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[CatalogTransaction]:
        async with self._events.transaction() as transaction:
            yield PostgresCatalogTransaction(transaction)
