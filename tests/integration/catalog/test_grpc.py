"""CatalogService over gRPC on loopback, on real PostgreSQL."""

from __future__ import annotations

import asyncio

import pytest

from services.common.errors import (
    ConcurrencyConflict,
    Conflict,
    Forbidden,
    InvalidArgument,
    ModelNotFound,
    NotFound,
    Unauthorized,
)
from services.common.pb.mesh.catalog.v1 import catalog_pb2 as pb
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import catalog_pb2 as events_pb
from tests.integration.catalog.conftest import OPERATOR, USER, Running
from tests.unit.catalog.builders import CREDENTIAL, GPT, NOW_MS, OPENAI

PROVIDER = events_pb.ProviderSettings(
    name="OpenAI",
    kind=events_pb.PROVIDER_KIND_OPENAI_COMPATIBLE,
    base_url="https://api.openai.com/v1/",
    enabled=True,
    credential_required=True,
    timeout_ms=60_000,
)
MODEL = events_pb.ModelSettings(
    name="GPT-4o",
    provider_id=OPENAI,
    upstream_model="gpt-4o",
    context_length=128_000,
    input_modalities=["text", "image"],
    output_modalities=["text"],
    capabilities=events_pb.ModelCapabilities(streaming=True, tools=True),
    enabled=True,
    model_type="text",
    tokenizer="o200k_base",
)


def rate(amount: int) -> common_pb2.Rate:
    return common_pb2.Rate(kind=common_pb2.TOKEN_KIND_PROMPT, nanousd_per_million=amount)


async def put_everything(running: Running) -> None:
    cli, stub = running.channel("cli"), running.stub("cli")
    provider = pb.PutProviderRequest(provider_id=OPENAI, settings=PROVIDER)
    await cli.call(stub.PutProvider, provider, principal=OPERATOR)
    model = pb.PutModelRequest(model_id=GPT, settings=MODEL)
    await cli.call(stub.PutModel, model, principal=OPERATOR)
    await publish(running, 2_500_000_000)


async def publish(running: Running, amount: int, at_ms: int = 0) -> common_pb2.PriceVersion:
    request = pb.PublishPriceRequest(
        model_id=GPT, valid_from_ms=at_ms, rates=[rate(amount)], source="a test"
    )
    cli = running.channel("cli")
    return await cli.call(running.stub("cli").PublishPrice, request, principal=OPERATOR)


async def set_credential(running: Running, credential: str) -> pb.Provider:
    request = pb.SetProviderCredentialRequest(provider_id=OPENAI, credential=credential)
    cli = running.channel("cli")
    return await cli.call(running.stub("cli").SetProviderCredential, request, principal=OPERATOR)


async def test_an_operator_sets_up_a_model_and_a_gateway_uses_it(running: Running) -> None:
    await put_everything(running)
    provider = await set_credential(running, CREDENTIAL)
    assert provider.usable
    assert provider.credential_version == 1
    assert provider.masked_credential == "sk-…ghij"
    assert provider.settings.base_url == "https://api.openai.com/v1"
    gateway, stub = running.channel("gateway"), running.stub("gateway")
    (model,) = (await gateway.call(stub.ListModels, pb.ListModelsRequest())).models
    assert model.available
    assert model.settings == MODEL
    assert model.price.valid_from_ms == NOW_MS
    assert list(model.price.rates) == [rate(2_500_000_000)]
    request = pb.GetProviderCredentialRequest(provider_id=OPENAI)
    opened = await gateway.call(stub.GetProviderCredential, request)
    assert (opened.credential, opened.credential_version) == (CREDENTIAL, 1)


async def test_a_removed_credential_takes_its_models_away(running: Running) -> None:
    await put_everything(running)
    await set_credential(running, CREDENTIAL)
    cli, stub = running.channel("cli"), running.stub("cli")
    request = pb.RemoveProviderCredentialRequest(provider_id=OPENAI)
    provider = await cli.call(stub.RemoveProviderCredential, request, principal=OPERATOR)
    assert (provider.credential_version, provider.masked_credential) == (0, "")
    assert not (await cli.call(stub.ListModels, pb.ListModelsRequest())).models
    every = pb.ListModelsRequest(include_unavailable=True)
    (model,) = (await cli.call(stub.ListModels, every, principal=OPERATOR)).models
    assert not model.available
    gateway = running.channel("gateway")
    with pytest.raises(NotFound):
        await gateway.call(
            running.stub("gateway").GetProviderCredential,
            pb.GetProviderCredentialRequest(provider_id=OPENAI),
        )


async def test_a_provider_has_several_credentials_each_with_its_place(running: Running) -> None:
    await put_everything(running)
    await set_credential(running, CREDENTIAL)
    cli, stub = running.channel("cli"), running.stub("cli")
    asked = pb.AddProviderCredentialRequest(
        provider_id=OPENAI, label="Batch", credential=f"{CREDENTIAL}2", priority=1, weight=3
    )
    provider = await cli.call(stub.AddProviderCredential, asked, principal=OPERATOR)
    first, second = (one.settings for one in provider.credentials)
    assert (first.credential_id, first.credential_version, first.enabled) == ("default", 1, True)
    assert (second.label, second.priority, second.weight, second.credential_version) == (
        "Batch", 1, 3, 2,
    )  # fmt: skip
    assert [one.masked for one in provider.credentials] == ["sk-…ghij", "sk-…hij2"]
    assert all(one.set_at_ms == NOW_MS for one in provider.credentials)
    added = second.credential_id
    assert added.startswith("crd_")
    rotate = pb.SetProviderCredentialRequest(
        provider_id=OPENAI, credential_id=added, credential=f"{CREDENTIAL}3"
    )
    provider = await cli.call(stub.SetProviderCredential, rotate, principal=OPERATOR)
    assert provider.credentials[1].settings.credential_version == 3
    change = pb.ChangeProviderCredentialRequest(
        provider_id=OPENAI, credential_id=added, label="Batch", priority=1, weight=3, enabled=False
    )
    provider = await cli.call(stub.ChangeProviderCredential, change, principal=OPERATOR)
    assert not provider.credentials[1].settings.enabled
    gateway = running.channel("gateway")
    for credential_id, secret in (("", CREDENTIAL), (added, f"{CREDENTIAL}3")):
        request = pb.GetProviderCredentialRequest(provider_id=OPENAI, credential_id=credential_id)
        opened = await gateway.call(running.stub("gateway").GetProviderCredential, request)
        assert opened.credential == secret
    gone = pb.RemoveProviderCredentialRequest(provider_id=OPENAI)
    provider = await cli.call(stub.RemoveProviderCredential, gone, principal=OPERATOR)
    # The one that is left is switched off.
    assert ([one.settings.credential_id for one in provider.credentials], provider.usable) == (
        [added], False,
    )  # fmt: skip
    listed = await cli.call(stub.ListProviders, pb.ListProvidersRequest(), principal=OPERATOR)
    assert provider in listed.providers
    unknown = pb.TestProviderRequest(provider_id=OPENAI, credential_id="crd_none")
    with pytest.raises(NotFound, match="crd_none"):
        await cli.call(stub.TestProvider, unknown, principal=OPERATOR)


async def test_the_price_in_force_changes_with_the_clock(running: Running) -> None:
    await put_everything(running)
    await publish(running, 9, NOW_MS + 1000)
    stub, dashboard = running.stub("dashboard"), running.channel("dashboard")
    request = pb.GetModelRequest(model_id=GPT)
    before = await dashboard.call(stub.GetModel, request, principal=USER)
    await running.clock.advance(1)
    after = await dashboard.call(stub.GetModel, request, principal=USER)
    assert before.price.rates[0].nanousd_per_million == 2_500_000_000
    assert after.price.rates[0].nanousd_per_million == 9
    listed = await dashboard.call(stub.ListPrices, pb.ListPricesRequest(model_id=GPT))
    assert [p.valid_from_ms - NOW_MS for p in listed.prices] == [0, 1000]


async def test_wrong_input_is_refused_by_the_name_of_its_field(running: Running) -> None:
    await put_everything(running)
    with pytest.raises(InvalidArgument, match="valid_from_ms"):
        await publish(running, 1, NOW_MS - 1)
    with pytest.raises(InvalidArgument, match="rates"):
        await publish(running, -1, NOW_MS + 1)
    cli, stub = running.channel("cli"), running.stub("cli")
    wrong = events_pb.ProviderSettings()
    wrong.CopyFrom(PROVIDER)
    wrong.kind = events_pb.PROVIDER_KIND_UNSPECIFIED
    request = pb.PutProviderRequest(provider_id=OPENAI, settings=wrong)
    with pytest.raises(InvalidArgument, match=r"settings\.kind"):
        await cli.call(stub.PutProvider, request, principal=OPERATOR)
    with pytest.raises(ModelNotFound):
        await cli.call(stub.GetModel, pb.GetModelRequest(model_id="openai/none"))


async def test_only_operators_write_and_only_gateways_see_a_credential(running: Running) -> None:
    await put_everything(running)
    await set_credential(running, CREDENTIAL)
    credential = pb.GetProviderCredentialRequest(provider_id=OPENAI)
    for service in ("cli", "dashboard", "billing", "catalog"):
        with pytest.raises(Forbidden):
            await running.channel(service).call(
                running.stub(service).GetProviderCredential, credential, principal=OPERATOR
            )
    dashboard, stub = running.channel("dashboard"), running.stub("dashboard")
    put = pb.PutModelRequest(model_id=GPT, settings=MODEL)
    with pytest.raises(Forbidden):
        await dashboard.call(stub.PutModel, put, principal=USER)
    with pytest.raises(Unauthorized):
        await dashboard.call(stub.PutModel, put)
    with pytest.raises(Forbidden):
        await dashboard.call(stub.ListProviders, pb.ListProvidersRequest(), principal=USER)
    every = pb.ListModelsRequest(include_unavailable=True)
    for principal in (USER, None):
        with pytest.raises(Forbidden):
            await dashboard.call(stub.ListModels, every, principal=principal)
    with pytest.raises(Forbidden):
        await running.channel("usage").call(
            running.stub("usage").ListModels, pb.ListModelsRequest()
        )


async def test_of_writers_at_the_same_time_each_succeeds_or_is_told_to_try_again(
    running: Running,
) -> None:
    await put_everything(running)
    results = await asyncio.gather(
        *(set_credential(running, f"{CREDENTIAL}{number}") for number in range(4)),
        *(publish(running, number, NOW_MS + number) for number in range(1, 5)),
        return_exceptions=True,
    )
    refused = [result for result in results if isinstance(result, BaseException)]
    assert all(isinstance(r, ConcurrencyConflict | InvalidArgument | Conflict) for r in refused), (
        refused
    )
    versions = sorted(r.credential_version for r in results if isinstance(r, pb.Provider))
    assert versions == list(range(1, len(versions) + 1))
    assert len(versions) == 4
