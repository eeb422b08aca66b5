"""Commands on the catalog: what is stored, what is announced to gateways, what stays secret."""

from __future__ import annotations

import pytest

from services.catalog import handlers
from services.catalog.adapters.store_memory import MemoryCatalog
from services.catalog.domain.model import PublishPrice, PutModel
from services.catalog.domain.provider import (
    AddCredential,
    ChangeCredential,
    PutProvider,
    RemoveCredential,
    SetCredential,
)
from services.catalog.handlers import Context
from services.common.clock import FakeClock
from services.common.errors import InvalidArgument, ModelNotFound, NotFound
from services.common.ids import ProviderId
from services.common.pb.mesh.events.v1 import catalog_pb2
from services.common.topics import CATALOG, MODELS
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


async def priced_model(context: Context) -> None:
    await handlers.put_provider(context, PutProvider(OPENAI, provider_settings(), NOW_MS))
    await handlers.put_model(context, PutModel(GPT, model_settings(), NOW_MS))
    await handlers.publish_price(context, PublishPrice(price(), NOW_MS))


def model_states(store: MemoryCatalog) -> list[catalog_pb2.ModelState]:
    messages = [
        record.message() for topic, _, record in store.contents.outbox if topic == MODELS.name
    ]
    return [message for message in messages if isinstance(message, catalog_pb2.ModelState)]


def provider_states(store: MemoryCatalog) -> list[catalog_pb2.ProviderState]:
    messages = [
        record.message() for topic, _, record in store.contents.outbox if topic == MODELS.name
    ]
    return [message for message in messages if isinstance(message, catalog_pb2.ProviderState)]


async def test_each_event_goes_to_the_catalog_topic_under_the_id_of_its_aggregate() -> None:
    context, store = memory_context()
    await priced_model(context)
    outbox = store.contents.outbox
    assert [(key, r.type) for topic, key, r in outbox if topic == CATALOG.name] == [
        (OPENAI, "catalog.ProviderRegistered"),
        (GPT, "catalog.ModelRegistered"),
        (GPT, "catalog.PricePublished"),
    ]
    assert {record.account_id for _, _, record in outbox} == {""}
    assert {key for topic, key, _ in outbox if topic == MODELS.name} == {
        "provider:openai",
        "model:openai/gpt-4o",
    }


async def test_a_credential_makes_the_models_of_its_provider_available_and_back() -> None:
    context, store = memory_context()
    await priced_model(context)
    await handlers.set_credential(context, SetCredential(OPENAI, NOW_MS), CREDENTIAL)
    await handlers.remove_credential(context, RemoveCredential(OPENAI, NOW_MS))
    assert [state.available for state in model_states(store)] == [False, False, True, False]


async def test_a_disabled_provider_makes_its_models_unavailable() -> None:
    context, store = memory_context()
    await priced_model(context)
    await handlers.set_credential(context, SetCredential(OPENAI, NOW_MS), CREDENTIAL)
    off = PutProvider(OPENAI, provider_settings(enabled=False), NOW_MS)
    await handlers.put_provider(context, off)
    assert [state.available for state in model_states(store)][-2:] == [True, False]


async def test_the_same_command_twice_changes_and_announces_nothing() -> None:
    context, store = memory_context()
    await priced_model(context)
    await handlers.set_credential(context, SetCredential(OPENAI, NOW_MS), CREDENTIAL)
    before = len(store.contents.outbox)
    await handlers.put_provider(context, PutProvider(OPENAI, provider_settings(), NOW_MS))
    await handlers.put_model(context, PutModel(GPT, model_settings(), NOW_MS))
    provider = await handlers.set_credential(context, SetCredential(OPENAI, NOW_MS), CREDENTIAL)
    assert provider.credential_version == 1
    assert len(store.contents.outbox) == before


async def test_a_gateway_gets_the_plain_credential_and_its_version() -> None:
    context, _ = memory_context()
    await priced_model(context)
    await handlers.set_credential(context, SetCredential(OPENAI, NOW_MS), CREDENTIAL)
    await handlers.set_credential(context, SetCredential(OPENAI, NOW_MS), f" {CREDENTIAL}2\n")
    opened = await handlers.get_credential(context, OPENAI)
    assert (opened.credential, opened.credential_version) == (f"{CREDENTIAL}2", 2)
    assert CREDENTIAL not in repr(opened)


async def test_gateways_are_told_of_the_credentials_in_use_in_their_order() -> None:
    context, store = memory_context()
    await priced_model(context)
    await handlers.set_credential(context, SetCredential(OPENAI, NOW_MS), CREDENTIAL)
    more = AddCredential(OPENAI, "crd_2", "Batch", NOW_MS, weight=2)
    await handlers.set_credential(context, more, f"{CREDENTIAL}2")
    behind = ChangeCredential(OPENAI, "default", "", NOW_MS, priority=1)
    await handlers.change_credential(context, behind)
    off = ChangeCredential(OPENAI, "default", "", NOW_MS, priority=1, enabled=False)
    await handlers.change_credential(context, off)
    told = [
        ([one.credential_id for one in state.credentials], state.credential_version)
        for state in provider_states(store)
    ]
    assert told[-4:] == [
        (["default"], 1), (["default", "crd_2"], 1), (["crd_2", "default"], 1), (["crd_2"], 0),
    ]  # fmt: skip
    assert (await handlers.get_credential(context, OPENAI, "crd_2")).credential_version == 2


async def test_a_removed_credential_is_gone() -> None:
    context, store = memory_context()
    await priced_model(context)
    await handlers.set_credential(context, SetCredential(OPENAI, NOW_MS), CREDENTIAL)
    await handlers.remove_credential(context, RemoveCredential(OPENAI, NOW_MS))
    assert store.contents.credentials == {}
    with pytest.raises(NotFound):
        await handlers.get_credential(context, OPENAI)


async def test_no_event_holds_the_credential() -> None:
    context, store = memory_context()
    await priced_model(context)
    await handlers.set_credential(context, SetCredential(OPENAI, NOW_MS), CREDENTIAL)
    written = b"".join(record.to_bytes() for _, _, record in store.contents.outbox)
    assert b"openai" in written
    assert CREDENTIAL.encode() not in written
    assert CREDENTIAL[-8:].encode() not in written


async def test_a_model_of_an_unknown_provider_is_refused_and_nothing_is_stored() -> None:
    context, store = memory_context()
    with pytest.raises(InvalidArgument, match=r"settings\.provider_id"):
        await handlers.put_model(context, PutModel(GPT, model_settings(), NOW_MS))
    assert store.contents.outbox == []


async def test_unknown_models_and_providers_are_not_found() -> None:
    context, _ = memory_context()
    with pytest.raises(ModelNotFound):
        await handlers.publish_price(context, PublishPrice(price(), NOW_MS))
    with pytest.raises(NotFound):
        await handlers.set_credential(
            context, SetCredential(ProviderId("nobody"), NOW_MS), CREDENTIAL
        )


async def test_a_model_state_holds_the_price_in_force_and_those_to_come() -> None:
    context, store = memory_context()
    await priced_model(context)
    for later, now_ms in ((10, NOW_MS + 1), (20, NOW_MS + 15)):
        coming = price(later, valid_from_ms=NOW_MS + later)
        await handlers.publish_price(context, PublishPrice(coming, now_ms))
    newest = model_states(store)[-1]
    assert [p.valid_from_ms - NOW_MS for p in newest.prices] == [10, 20]


async def test_a_first_price_that_comes_into_force_is_announced_once() -> None:
    clock = FakeClock(NOW_MS)
    context, store = memory_context(clock)
    settings = provider_settings(credential_required=False)
    await handlers.put_provider(context, PutProvider(OPENAI, settings, NOW_MS))
    await handlers.put_model(context, PutModel(GPT, model_settings(), NOW_MS))
    coming = price(valid_from_ms=NOW_MS + 2000)
    await handlers.publish_price(context, PublishPrice(coming, NOW_MS))
    assert await handlers.announce_due_prices(context) == 0
    assert not model_states(store)[-1].available
    await clock.advance(2)
    assert await handlers.announce_due_prices(context) == 1
    assert model_states(store)[-1].available
    assert await handlers.announce_due_prices(context) == 0
