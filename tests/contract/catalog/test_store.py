"""What every catalog store does: the twin in memory and PostgreSQL pass the same tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from services.catalog.adapters.cipher_aesgcm import AesGcmCipher
from services.catalog.adapters.store_memory import MemoryCatalog
from services.catalog.adapters.store_postgres import PostgresCatalog
from services.catalog.domain.model import ModelChanged, ModelEvent, ModelRegistered, PricePublished
from services.catalog.domain.provider import (
    Provider,
    ProviderCredentialAdded,
    ProviderCredentialChanged,
    ProviderCredentialRemoved,
    ProviderCredentialSet,
    ProviderEvent,
    ProviderRegistered,
    Slot,
)
from services.catalog.domain.settings import Deployment
from services.catalog.ports import CatalogStore, Loaded
from services.common.errors import ConcurrencyConflict
from services.common.ids import ModelId, ProviderId
from services.common.money import Price, Rate, RateTier, TokenKind
from services.common.postgres import EventStore, migrate, open_pool
from tests.fixtures.engines import PostgresServer
from tests.unit.catalog.builders import (
    CREDENTIAL,
    GPT,
    KEY,
    NOW_MS,
    OPENAI,
    model_settings,
    price,
    provider_settings,
)

NEW: Loaded[Provider] = Loaded(None, 0)
REGISTERED = ProviderRegistered(OPENAI, provider_settings(), NOW_MS)
MODEL = ModelRegistered(GPT, model_settings(), NOW_MS)
RICH = Price(
    "pv_rich",
    {
        TokenKind.PROMPT: Rate(5, (RateTier(1000, 9), RateTier(2000, 2**40))),
        TokenKind.AUDIO_COMPLETION: Rate(0),
    },
    request_fee_nanousd=7,
    model_id=GPT,
    valid_from_ms=NOW_MS,
    source="a test",
)


@pytest.fixture(params=["memory", "postgres"])
async def store(
    request: pytest.FixtureRequest, postgres_dsn: PostgresServer
) -> AsyncIterator[CatalogStore]:
    if request.param == "memory":
        yield MemoryCatalog()
        return
    pool = await open_pool(postgres_dsn("catalog"), size_max=4)
    try:
        await migrate(pool, "services.catalog")
        yield PostgresCatalog(EventStore(pool))
    finally:
        await pool.close()


async def with_a_model(store: CatalogStore) -> None:
    async with store.transaction() as work:
        await work.append_providers([(OPENAI, NEW, [REGISTERED])])
        priced: list[ModelEvent] = [MODEL, PricePublished(RICH, NOW_MS)]
        await work.append_models([(GPT, Loaded(None, 0), priced)])


async def test_what_is_not_there_has_no_state_and_version_0(store: CatalogStore) -> None:
    async with store.transaction() as work:
        assert await work.provider(OPENAI, change=True) == Loaded(None, 0)
        assert await work.model(GPT) == Loaded(None, 0)
        assert await work.credential(OPENAI) is None
        assert await work.seed_mark() == ""


async def test_aggregates_come_back_by_id_and_as_a_whole(store: CatalogStore) -> None:
    await with_a_model(store)
    removed: list[ProviderEvent] = [
        ProviderCredentialSet(OPENAI, 1, NOW_MS),
        ProviderCredentialAdded(OPENAI, Slot("crd_2", 2, "Batch", 1, 3), NOW_MS),
        ProviderCredentialChanged(OPENAI, Slot("crd_2", 2, "Nightly", 2, 4, enabled=False), NOW_MS),
        ProviderCredentialRemoved(OPENAI, 1, NOW_MS),
    ]
    rich = model_settings(
        description="d", brand="b", max_output_tokens=9, input_modalities=("text", "image"),
        enabled=False, tokenizer="o200k_base",
        deployments=(Deployment(OPENAI, "gpt-4o-mini", priority=2, weight=5),),
    )  # fmt: skip
    async with store.transaction() as work:
        at = await work.provider(OPENAI, change=True)
        assert at.version == 1
        (after,) = await work.append_providers([(OPENAI, at, removed)])
        await work.append_models([(GPT, await work.model(GPT), [ModelChanged(GPT, rich, 5)])])
    async with store.transaction() as work:
        snapshot = await work.snapshot()
        provider, model = await work.provider(OPENAI, change=False), await work.model(GPT)
        assert snapshot.providers == {OPENAI: provider}
        assert snapshot.models == {GPT: model}
        assert provider == Loaded(after, 5)
        assert after.last_credential_version == 2
        assert after.slots == (Slot("crd_2", 2, "Nightly", 2, 4, enabled=False),)
        assert model.version == 3
        assert model.state is not None
        assert model.state.settings == rich
        assert model.state.prices == (RICH,)
        assert await work.models_of([OPENAI]) == [model.state]
        assert await work.models_of([ProviderId("other")]) == []


async def test_a_unit_of_work_that_fails_leaves_nothing(store: CatalogStore) -> None:
    async def fail() -> None:
        async with store.transaction() as work:
            await work.append_providers([(OPENAI, NEW, [REGISTERED])])
            await work.put_seed_mark("mark", NOW_MS)
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        await fail()
    async with store.transaction() as work:
        assert await work.provider(OPENAI, change=False) == Loaded(None, 0)
        assert await work.seed_mark() == ""


async def test_the_later_of_two_writers_is_refused(store: CatalogStore) -> None:
    await with_a_model(store)
    with pytest.raises(ConcurrencyConflict):
        async with store.transaction() as work:
            await work.append_providers([(OPENAI, NEW, [REGISTERED])])
    async with store.transaction() as work:
        stale = replace(await work.model(GPT), version=1)
    changed = ModelChanged(GPT, model_settings(name="n"), NOW_MS)
    with pytest.raises(ConcurrencyConflict):
        async with store.transaction() as work:
            await work.append_models([(GPT, stale, [changed])])


async def test_credentials_are_kept_replaced_and_deleted(store: CatalogStore) -> None:
    cipher = AesGcmCipher(KEY)
    first, second = (cipher.seal(OPENAI, version, CREDENTIAL) for version in (1, 2))
    for sealed in (first, second):
        async with store.transaction() as work:
            await work.put_credential(sealed, NOW_MS)
    async with store.transaction() as work:
        assert await work.credential(OPENAI) == second
        other = replace(second, credential_id="crd_2", credential_version=3)
        await work.put_credential(other, NOW_MS)
        assert await work.credential(OPENAI, "crd_2") == other
        assert await work.credential(OPENAI) == second
        assert await work.credential(ProviderId("other")) is None
        await work.delete_credential(OPENAI)
    async with store.transaction() as work:
        assert await work.credential(OPENAI) is None


async def test_the_mark_of_the_seed_is_the_last_one(store: CatalogStore) -> None:
    for mark in ("one", "two"):
        async with store.transaction() as work:
            await work.put_seed_mark(mark, NOW_MS)
    async with store.transaction() as work:
        assert await work.seed_mark() == "two"


async def test_a_model_is_due_from_a_price_on_until_it_is_announced(store: CatalogStore) -> None:
    await with_a_model(store)
    coming = price(valid_from_ms=NOW_MS + 10)
    async with store.transaction() as work:
        at = await work.model(GPT)
        (model,) = await work.append_models([(GPT, at, [PricePublished(coming, NOW_MS)])])
        await work.announce_models([(model, None)], NOW_MS)
    async with store.transaction() as work:
        assert await work.models_due(NOW_MS + 9) == []
        assert await work.models_due(NOW_MS + 10) == [model]
        await work.announce_models([(model, None)], NOW_MS + 10)
        assert await work.models_due(NOW_MS + 11) == []


async def test_many_aggregates_are_appended_at_once(store: CatalogStore) -> None:
    ids = [ModelId(f"openai/model-{number:03}") for number in range(300)]
    async with store.transaction() as work:
        await work.append_models(
            [(key, Loaded(None, 0), [ModelRegistered(key, model_settings(), 1)]) for key in ids]
        )
    async with store.transaction() as work:
        assert list((await work.snapshot()).models) == ids
