"""`mesh admin models` and `providers`: what is served, from where, at which price."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from cyclopts.validators import Number

from services.cli.admin.common import Count, CountOrNone, Options, call, run
from services.cli.context import Services
from services.cli.output import Row, moment, show_one, show_rows, usd
from services.common.errors import InvalidArgument
from services.common.money import nanousd_from_field
from services.common.pb.mesh.catalog.v1 import catalog_pb2
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import catalog_pb2 as events_pb2

models = App(name="models", help="Models and their prices.")
providers = App(name="providers", help="Providers and their credentials.")
# A day; on the wire it is milliseconds.
Timeout = Annotated[int, Parameter(validator=Number(gte=1, lte=86_400))]
Kind = Literal["openai_compatible", "anthropic", "gemini", "bedrock", "azure_openai"]


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class CloudOptions:
    """What the endpoints of clouds need beside their address."""

    region: Annotated[str, Parameter(help="For bedrock, where its address does not say.")] = ""
    api_version: Annotated[
        str, Parameter(help="For azure_openai: the dated API; empty means the undated one.")
    ] = ""


def command(name: str, request: Any) -> Any:  # Any: protobuf messages
    """Calls the CatalogService method `name`."""

    async def work(found: Services) -> Any:  # Any: a protobuf message
        method = getattr(found.catalog, name)
        return await call(found, "catalog", method=method, request=request)

    return run(work)


def rate_usd(price: common_pb2.PriceVersion, kind: int) -> str:
    """Dollars per million tokens of a kind; tiers are marked with a plus."""
    for rate in price.rates:
        if rate.kind == kind:
            return usd(rate.nanousd_per_million) + ("+" if rate.tiers else "")
    return ""


def model_row(model: catalog_pb2.Model) -> Row:
    return {
        "model_id": model.model_id,
        "provider_id": model.settings.provider_id,
        "available": model.available,
        "context": model.settings.context_length,
        "prompt_per_1m_usd": rate_usd(model.price, common_pb2.TOKEN_KIND_PROMPT),
        "completion_per_1m_usd": rate_usd(model.price, common_pb2.TOKEN_KIND_COMPLETION),
    }


@models.command(name="list")
def list_models(
    search: str = "",
    *,
    every: Annotated[bool, Parameter(name="--all", negative="", help="Unavailable too.")] = False,
    options: Options = Options(),
) -> None:
    """Models with their prices per million tokens."""
    answer = command("ListModels", catalog_pb2.ListModelsRequest(include_unavailable=every))
    rows = [model_row(m) for m in answer.models if search.lower() in m.model_id.lower()]
    show_rows(rows, as_json=options.json)


@models.command
def prices(model_id: str, *, options: Options = Options()) -> None:
    """The history of a model's price versions."""
    answer = command("ListPrices", catalog_pb2.ListPricesRequest(model_id=model_id))
    rows = [
        {
            "price_version_id": p.price_version_id,
            "valid_from": moment(p.valid_from_ms),
            "prompt_per_1m_usd": rate_usd(p, common_pb2.TOKEN_KIND_PROMPT),
            "cached_per_1m_usd": rate_usd(p, common_pb2.TOKEN_KIND_CACHED_PROMPT),
            "completion_per_1m_usd": rate_usd(p, common_pb2.TOKEN_KIND_COMPLETION),
            "request_usd": usd(p.request_fee_nanousd),
            "source": p.source,
        }
        for p in answer.prices
    ]
    show_rows(rows, as_json=options.json)


@models.command
def set_price(
    model_id: str,
    *,
    prompt: Annotated[str, Parameter(help="USD per million prompt tokens.")],
    completion: Annotated[str, Parameter(help="USD per million completion tokens.")],
    cached_prompt: str | None = None,
    request_fee: str = "0",
    source: str = "operator",
    options: Options = Options(),
) -> None:
    """A new price version, in force from now on."""
    wanted = {
        common_pb2.TOKEN_KIND_PROMPT: ("prompt", prompt),
        common_pb2.TOKEN_KIND_COMPLETION: ("completion", completion),
        common_pb2.TOKEN_KIND_CACHED_PROMPT: ("cached_prompt", cached_prompt),
    }
    rates = [
        common_pb2.Rate(kind=kind, nanousd_per_million=nanousd_from_field(name, value))
        for kind, (name, value) in wanted.items()
        if value is not None
    ]
    request = catalog_pb2.PublishPriceRequest(
        model_id=model_id,
        rates=rates,
        request_fee_nanousd=nanousd_from_field("request_fee", request_fee),
        source=source,
    )
    price = command("PublishPrice", request)
    row = {"price_version_id": price.price_version_id, "valid_from": moment(price.valid_from_ms)}
    show_one(row, as_json=options.json)


def switch_model(model_id: str, *, enabled: bool) -> Row:
    settings = command("GetModel", catalog_pb2.GetModelRequest(model_id=model_id)).settings
    settings.enabled = enabled
    request = catalog_pb2.PutModelRequest(model_id=model_id, settings=settings)
    return model_row(command("PutModel", request))


@models.command(name="put")
def put_model(
    model_id: str,
    *,
    provider: str,
    upstream_model: str,
    context: Annotated[Count, Parameter(help="In tokens.")],
    max_output: Annotated[CountOrNone, Parameter(help="In tokens; 0: not known.")] = 0,
    name: str = "",
    description: str = "",
    options: Options = Options(),
) -> None:
    """Registers a text model of a provider, or changes one; it is served once it has a price."""
    settings = events_pb2.ModelSettings(
        name=name or model_id,
        description=description,
        brand=model_id.split("/", 1)[0],
        provider_id=provider,
        upstream_model=upstream_model,
        context_length=context,
        max_output_tokens=max_output,
        input_modalities=["text"],
        output_modalities=["text"],
        capabilities=events_pb2.ModelCapabilities(streaming=True, system_prompt=True),
        enabled=True,
        model_type="text",
    )
    request = catalog_pb2.PutModelRequest(model_id=model_id, settings=settings)
    show_one(model_row(command("PutModel", request)), as_json=options.json)


@models.command
def add_place(
    model_id: str,
    *,
    provider: str,
    upstream_model: str,
    priority: Annotated[CountOrNone, Parameter(help="Lower ones are tried first.")] = 0,
    weight: Annotated[Count, Parameter(help="Its share, among those of one priority.")] = 1,
    options: Options = Options(),
) -> None:
    """Serves the model at another provider too, at its one price; its own place has priority 0."""
    settings = command("GetModel", catalog_pb2.GetModelRequest(model_id=model_id)).settings
    without_place(settings, provider, upstream_model)
    settings.deployments.add(
        provider_id=provider, upstream_model=upstream_model, priority=priority, weight=weight
    )
    put_places(model_id, settings, options)


@models.command
def remove_place(
    model_id: str, *, provider: str, upstream_model: str, options: Options = Options()
) -> None:
    """Serves the model there no longer."""
    settings = command("GetModel", catalog_pb2.GetModelRequest(model_id=model_id)).settings
    if not without_place(settings, provider, upstream_model):
        raise InvalidArgument.of("upstream_model", "the model has no such place")
    put_places(model_id, settings, options)


@models.command
def places(model_id: str, *, options: Options = Options()) -> None:
    """Where the model is served."""
    model = command("GetModel", catalog_pb2.GetModelRequest(model_id=model_id))
    show_rows(place_rows(model.settings), as_json=options.json)


def without_place(settings: events_pb2.ModelSettings, provider: str, upstream_model: str) -> bool:
    """Takes the place out; False where there was none."""
    left = [
        place
        for place in settings.deployments
        if (place.provider_id, place.upstream_model) != (provider, upstream_model)
    ]
    found = len(left) < len(settings.deployments)
    del settings.deployments[:]
    settings.deployments.extend(left)
    return found


def put_places(model_id: str, settings: events_pb2.ModelSettings, options: Options) -> None:
    request = catalog_pb2.PutModelRequest(model_id=model_id, settings=settings)
    show_rows(place_rows(command("PutModel", request).settings), as_json=options.json)


def place_rows(settings: events_pb2.ModelSettings) -> list[Row]:
    """The model's own place and the others, in the order in which they are tried."""
    own = events_pb2.Deployment(
        provider_id=settings.provider_id, upstream_model=settings.upstream_model, weight=1
    )
    ordered = sorted([own, *settings.deployments], key=lambda place: place.priority)
    return [
        {
            "provider_id": place.provider_id,
            "upstream_model": place.upstream_model,
            "priority": place.priority,
            "weight": place.weight,
        }
        for place in ordered
    ]


@models.command
def enable(model_id: str, *, options: Options = Options()) -> None:
    """Serves the model, if its provider is usable and it has a price."""
    show_one(switch_model(model_id, enabled=True), as_json=options.json)


@models.command
def disable(model_id: str, *, options: Options = Options()) -> None:
    """Serves the model no longer."""
    show_one(switch_model(model_id, enabled=False), as_json=options.json)


def provider_row(provider: catalog_pb2.Provider) -> Row:
    kind = events_pb2.ProviderKind.Name(provider.settings.kind)
    return {
        "provider_id": provider.provider_id,
        "name": provider.settings.name,
        "kind": kind.removeprefix("PROVIDER_KIND_").lower(),
        "base_url": provider.settings.base_url,
        "usable": provider.usable,
        "credential": provider.masked_credential,
    }


@providers.command(name="list")
def list_providers(*, options: Options = Options()) -> None:
    """Providers, and whether they can be used."""
    answer = command("ListProviders", catalog_pb2.ListProvidersRequest())
    show_rows([provider_row(p) for p in answer.providers], as_json=options.json)


@providers.command
def put(
    provider_id: str,
    *,
    base_url: str,
    name: str = "",
    kind: Kind = "openai_compatible",
    credential_required: bool = True,
    timeout_s: Timeout = 300,
    cloud: CloudOptions = CloudOptions(),
    options: Options = Options(),
) -> None:
    """Registers a provider or changes one."""
    settings = events_pb2.ProviderSettings(
        name=name or provider_id,
        kind=events_pb2.ProviderKind.Value(f"PROVIDER_KIND_{kind.upper()}"),
        base_url=base_url,
        enabled=True,
        credential_required=credential_required,
        timeout_ms=timeout_s * 1000,
        region=cloud.region,
        api_version=cloud.api_version,
    )
    request = catalog_pb2.PutProviderRequest(provider_id=provider_id, settings=settings)
    show_one(provider_row(command("PutProvider", request)), as_json=options.json)
