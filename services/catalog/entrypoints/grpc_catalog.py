"""CatalogService over gRPC: who may call what, messages to commands, results to messages."""

from __future__ import annotations

from collections.abc import Mapping

import grpc

from services.catalog import handlers
from services.catalog.adapters.translation_pb import (
    model_settings_from_pb,
    model_settings_to_pb,
    provider_settings_from_pb,
    provider_settings_to_pb,
    slot_to_pb,
)
from services.catalog.domain.model import PublishPrice, PutModel
from services.catalog.domain.provider import (
    DEFAULT,
    AddCredential,
    ChangeCredential,
    Provider,
    PutProvider,
    RemoveCredential,
    SetCredential,
    Slot,
)
from services.catalog.handlers import Context
from services.catalog.views import CatalogViews, ModelView, ProviderView
from services.common.errors import Forbidden, InvalidArgument
from services.common.grpc import Access, identity
from services.common.ids import ModelId, ProviderId, new_id
from services.common.money import Price
from services.common.pb.mesh.catalog.v1 import catalog_pb2 as pb
from services.common.pb.mesh.catalog.v1 import catalog_pb2_grpc
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pricing_pb import price_to_pb, rates_from_pb

SERVICE = "mesh.catalog.v1.CatalogService"

_READERS = Access(frozenset({"dashboard", "gateway", "cli"}), "none")
_OPERATORS = Access(frozenset({"dashboard", "cli"}), "operator")
_GATEWAYS = Access(frozenset({"gateway"}), "none")

POLICIES: Mapping[str, Access] = {
    f"/{SERVICE}/{method}": access
    for access, methods in (
        (_READERS, ("ListModels", "GetModel", "ListPrices")),
        (
            _OPERATORS,
            (
                "PutModel",
                "PublishPrice",
                "ListProviders",
                "PutProvider",
                "SetProviderCredential",
                "AddProviderCredential",
                "ChangeProviderCredential",
                "RemoveProviderCredential",
                "TestProvider",
            ),
        ),
        (_GATEWAYS, ("GetProviderCredential",)),
    )
    for method in methods
}

# grpc's own context class; generic in messages that no method of ours uses.
CallContext = grpc.aio.ServicerContext[object, object]


class CatalogServicer(catalog_pb2_grpc.CatalogServiceServicer):
    """Translates; decides nothing."""

    def __init__(self, context: Context, views: CatalogViews) -> None:
        self._context = context
        self._views = views

    async def ListModels(self, request: pb.ListModelsRequest, _: object) -> pb.ListModelsResponse:
        if request.include_unavailable:
            _operators_only()
        views = await self._views.models(
            self._now_ms(), include_unavailable=request.include_unavailable
        )
        return pb.ListModelsResponse(models=[_model_to_pb(view) for view in views])

    async def GetModel(self, request: pb.GetModelRequest, _: object) -> pb.Model:
        return await self._model(ModelId(request.model_id))

    async def PutModel(self, request: pb.PutModelRequest, _: object) -> pb.Model:
        model_id = ModelId(request.model_id)
        settings = model_settings_from_pb(request.settings)
        await handlers.put_model(self._context, PutModel(model_id, settings, self._now_ms()))
        return await self._model(model_id)

    async def ListPrices(self, request: pb.ListPricesRequest, _: object) -> pb.ListPricesResponse:
        view = await self._views.model(ModelId(request.model_id), self._now_ms())
        return pb.ListPricesResponse(prices=[price_to_pb(price) for price in view.model.prices])

    async def PublishPrice(
        self, request: pb.PublishPriceRequest, _: object
    ) -> common_pb2.PriceVersion:
        now_ms = self._now_ms()
        try:
            rates = rates_from_pb(request.rates)
        except ValueError as error:
            raise InvalidArgument.of("rates", str(error)) from error
        price = Price(
            price_version_id=new_id("pv", now_ms),
            rates=rates,
            request_fee_nanousd=request.request_fee_nanousd,
            model_id=request.model_id,
            valid_from_ms=request.valid_from_ms,
            source=request.source,
        )
        published = await handlers.publish_price(self._context, PublishPrice(price, now_ms))
        return price_to_pb(published)

    async def ListProviders(
        self, request: pb.ListProvidersRequest, _: object
    ) -> pb.ListProvidersResponse:
        del request
        views = await self._views.providers()
        return pb.ListProvidersResponse(providers=[_provider_to_pb(view) for view in views])

    async def PutProvider(self, request: pb.PutProviderRequest, _: object) -> pb.Provider:
        provider_id = ProviderId(request.provider_id)
        settings = provider_settings_from_pb(request.settings)
        command = PutProvider(provider_id, settings, self._now_ms())
        return await self._provider(await handlers.put_provider(self._context, command))

    async def SetProviderCredential(
        self, request: pb.SetProviderCredentialRequest, _: object
    ) -> pb.Provider:
        command = SetCredential(
            ProviderId(request.provider_id), self._now_ms(), request.credential_id or DEFAULT
        )
        return await self._provider(
            await handlers.set_credential(self._context, command, request.credential)
        )

    async def AddProviderCredential(
        self, request: pb.AddProviderCredentialRequest, _: object
    ) -> pb.Provider:
        now_ms = self._now_ms()
        command = AddCredential(
            ProviderId(request.provider_id),
            new_id("crd", now_ms),
            request.label,
            now_ms,
            priority=request.priority,
            weight=request.weight or 1,
        )
        return await self._provider(
            await handlers.set_credential(self._context, command, request.credential)
        )

    async def ChangeProviderCredential(
        self, request: pb.ChangeProviderCredentialRequest, _: object
    ) -> pb.Provider:
        command = ChangeCredential(
            ProviderId(request.provider_id),
            request.credential_id or DEFAULT,
            request.label,
            self._now_ms(),
            priority=request.priority,
            weight=request.weight or 1,
            enabled=request.enabled,
        )
        return await self._provider(await handlers.change_credential(self._context, command))

    async def RemoveProviderCredential(
        self, request: pb.RemoveProviderCredentialRequest, _: object
    ) -> pb.Provider:
        command = RemoveCredential(
            ProviderId(request.provider_id), self._now_ms(), request.credential_id or DEFAULT
        )
        return await self._provider(await handlers.remove_credential(self._context, command))

    async def TestProvider(
        self, request: pb.TestProviderRequest, _: object
    ) -> pb.TestProviderResponse:
        found = await handlers.try_provider(
            self._context, ProviderId(request.provider_id), request.credential_id
        )
        return pb.TestProviderResponse(
            ok=found.ok,
            http_status=found.http_status,
            message=found.message,
            latency_ms=found.latency_ms,
        )

    async def GetProviderCredential(
        self, request: pb.GetProviderCredentialRequest, _: object
    ) -> pb.GetProviderCredentialResponse:
        opened = await handlers.get_credential(
            self._context, ProviderId(request.provider_id), request.credential_id or DEFAULT
        )
        return pb.GetProviderCredentialResponse(
            credential=opened.credential, credential_version=opened.credential_version
        )

    def _now_ms(self) -> int:
        return self._context.clock.now_ms()

    async def _model(self, model_id: ModelId) -> pb.Model:
        return _model_to_pb(await self._views.model(model_id, self._now_ms()))

    async def _provider(self, provider: Provider) -> pb.Provider:
        return _provider_to_pb(await self._views.provider(provider))


def _operators_only() -> None:
    principal = identity().principal
    if principal is None or principal.kind != "operator":
        raise Forbidden("only an operator may see models that are not available")


def _model_to_pb(view: ModelView) -> pb.Model:
    return pb.Model(
        model_id=view.model.model_id,
        settings=model_settings_to_pb(view.model.settings),
        price=None if view.price is None else price_to_pb(view.price),
        available=view.available,
        created_at_ms=view.model.created_at_ms,
    )


def _provider_to_pb(view: ProviderView) -> pb.Provider:
    provider = view.provider
    return pb.Provider(
        provider_id=provider.provider_id,
        settings=provider_settings_to_pb(provider.settings),
        credential_version=provider.credential_version,
        masked_credential=view.masked_credential,
        usable=provider.usable,
        created_at_ms=provider.created_at_ms,
        credentials=[
            _credential_to_pb(slot, *view.credentials.get(slot.credential_id, ("", 0)))
            for slot in provider.slots
        ],
    )


def _credential_to_pb(slot: Slot, masked: str, set_at_ms: int) -> pb.Credential:
    return pb.Credential(settings=slot_to_pb(slot), masked=masked, set_at_ms=set_at_ms)
