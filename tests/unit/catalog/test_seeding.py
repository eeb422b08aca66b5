"""The seed brings in what is new, once, and leaves alone what people changed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from services.catalog import handlers, seeding
from services.catalog.adapters.local_model import PROVIDER_ID, local_seeds
from services.catalog.domain.model import Model, PublishPrice, PutModel
from services.catalog.domain.provider import PutProvider
from services.catalog.handlers import Context
from services.catalog.seeds import SeedModel, SeedProvider, Seeds, identified
from services.common.clock import FakeClock
from services.common.errors import InvalidArgument
from services.common.ids import ModelId, ProviderId
from services.common.money import Price
from tests.unit.catalog.builders import (
    CREDENTIAL,
    GPT,
    NOW_MS,
    OPENAI,
    memory_context,
    model_settings,
    price,
    provider_settings,
)

NAME = "a source"


@dataclass
class FixedSource:
    """Seeds that a test changes."""

    seeds: Seeds
    revision: str = "1"
    reads: int = 0
    name: str = NAME

    def fingerprint(self) -> str:
        return self.revision

    def read(self) -> Seeds:
        self.reads += 1
        return self.seeds


def offered(*prices: Price) -> Seeds:
    given = tuple(identified(replace(p, source=f"{NAME} 1.0")) for p in prices)
    return Seeds(
        (SeedProvider(OPENAI, provider_settings()),),
        (SeedModel(GPT, model_settings(), given),),
        {"finer than a nano-dollar": 3},
    )


async def stored(context: Context) -> Model:
    async with context.store.transaction() as work:
        found = (await work.model(GPT)).state
    assert found is not None
    return found


async def test_everything_is_new_the_first_time_with_its_history() -> None:
    context, store = memory_context()
    source = FixedSource(offered(price(1), price(2, valid_from_ms=NOW_MS - 5)))
    report = await seeding.seed(context, source)
    assert report == seeding.SeedReport(1, 1, 2, {"finer than a nano-dollar": 3})
    assert [p.valid_from_ms for p in (await stored(context)).prices] == [0, NOW_MS - 5]
    assert len(store.contents.outbox) == 4 + 2


async def test_the_second_start_reads_nothing() -> None:
    context, store = memory_context()
    source = FixedSource(offered(price()))
    await seeding.seed(context, source)
    before = len(store.contents.outbox)
    assert await seeding.seed(context, source) is None
    assert source.reads == 1
    assert len(store.contents.outbox) == before


async def test_a_new_revision_with_the_same_figures_publishes_nothing() -> None:
    context, store = memory_context()
    source = FixedSource(offered(price()))
    await seeding.seed(context, source)
    before = len(store.contents.outbox)
    source.revision = "2"
    assert await seeding.seed(context, source) == seeding.SeedReport(0, 0, 0, source.seeds.skipped)
    assert len(store.contents.outbox) == before


async def test_a_changed_figure_is_a_new_version_from_now_on() -> None:
    clock = FakeClock(NOW_MS)
    context, _ = memory_context(clock)
    await seeding.seed(context, FixedSource(offered(price(1))))
    await clock.advance(60)
    changed = offered(price(2), price(3, valid_from_ms=NOW_MS + 90_000))
    await seeding.seed(context, FixedSource(changed, "2"))
    versions = (await stored(context)).prices
    assert [p.valid_from_ms - NOW_MS for p in versions] == [-NOW_MS, 60_000, 90_000]
    assert len({p.price_version_id for p in versions}) == 3
    await seeding.seed(context, FixedSource(changed, "3"))
    assert (await stored(context)).prices == versions


async def test_the_price_and_the_settings_of_a_person_stay() -> None:
    context, _ = memory_context()
    await seeding.seed(context, FixedSource(offered(price(1))))
    await handlers.publish_price(context, PublishPrice(price(7), NOW_MS))
    other = model_settings(enabled=False)
    await handlers.put_model(context, PutModel(GPT, other, NOW_MS))
    moved = provider_settings(base_url="https://proxy.example/v1")
    await handlers.put_provider(context, PutProvider(OPENAI, moved, NOW_MS))
    await seeding.seed(context, FixedSource(offered(price(2)), "2"))
    model = await stored(context)
    assert len(model.prices) == 2
    assert model.settings == other
    async with context.store.transaction() as work:
        provider = (await work.provider(OPENAI, change=False)).state
    assert provider is not None
    assert provider.settings == moved


async def test_a_model_that_a_person_made_gets_the_history_it_has_not() -> None:
    context, _ = memory_context()
    mine = model_settings(name="Mine")
    await handlers.put_provider(context, PutProvider(OPENAI, provider_settings(), NOW_MS))
    await handlers.put_model(context, PutModel(GPT, mine, NOW_MS))
    await seeding.seed(context, FixedSource(offered(price())))
    model = await stored(context)
    assert model.settings == mine
    assert len(model.prices) == 1


async def test_the_local_models_are_there_at_once_and_follow_their_address() -> None:
    context, store = memory_context()
    for url in ("http://127.0.0.1:8300/v1", "http://127.0.0.1:8300/v1", "http://127.0.0.1:9/v1"):
        await seeding.seed_environment(context, local_seeds(url))
    async with context.store.transaction() as work:
        provider = (await work.provider(PROVIDER_ID, change=False)).state
        free = (await work.model(ModelId("local/smollm2-135m:free"))).state
        paid = (await work.model(ModelId("local/smollm2-135m"))).state
    assert provider is not None
    assert free is not None
    assert paid is not None
    assert provider.usable
    assert provider.settings.base_url == "http://127.0.0.1:9/v1"
    assert free.prices[0].is_free
    assert not paid.prices[0].is_free
    assert all(model.available(provider, NOW_MS) for model in (free, paid))
    assert len(store.contents.providers[PROVIDER_ID]) == 2
    assert len(store.contents.models[free.model_id]) == 2


async def test_a_credential_of_the_environment_gets_a_version_only_when_it_changed() -> None:
    context, store = memory_context()
    await handlers.put_provider(context, PutProvider(OPENAI, provider_settings(), NOW_MS))
    for credential in (CREDENTIAL, CREDENTIAL, f"{CREDENTIAL}2"):
        await seeding.set_credentials(context, {OPENAI: credential})
    assert store.contents.credentials[OPENAI, "default"].credential_version == 2


async def test_a_credential_that_cannot_be_one_is_named_by_its_provider_alone() -> None:
    context, store = memory_context()
    await handlers.put_provider(context, PutProvider(OPENAI, provider_settings(), NOW_MS))
    with pytest.raises(InvalidArgument, match="openai") as refused:
        await seeding.set_credentials(context, {OPENAI: "two words"})
    assert "two words" not in str(refused.value)
    await seeding.set_credentials(context, {ProviderId("nobody"): CREDENTIAL})
    assert store.contents.credentials == {}
