"""The catalog on the wire: settings, events and states to and from their protobuf messages."""

from __future__ import annotations

from typing import assert_never

from google.protobuf.message import Message

from services.catalog.domain import model as models
from services.catalog.domain import provider as providers
from services.catalog.domain.model import Model, ModelEvent
from services.catalog.domain.provider import DEFAULT, Provider, ProviderEvent, Slot
from services.catalog.domain.settings import (
    Deployment,
    ModelCapabilities,
    ModelSettings,
    ProviderKind,
    ProviderSettings,
)
from services.common.errors import InvalidArgument
from services.common.events import EventRecord
from services.common.ids import ModelId, ProviderId
from services.common.pb.mesh.events.v1 import catalog_pb2 as pb
from services.common.pricing_pb import price_from_pb, price_to_pb

_KIND_TO_PB = {
    ProviderKind.OPENAI_COMPATIBLE: pb.PROVIDER_KIND_OPENAI_COMPATIBLE,
    ProviderKind.ANTHROPIC: pb.PROVIDER_KIND_ANTHROPIC,
    ProviderKind.GEMINI: pb.PROVIDER_KIND_GEMINI,
    ProviderKind.BEDROCK: pb.PROVIDER_KIND_BEDROCK,
    ProviderKind.AZURE_OPENAI: pb.PROVIDER_KIND_AZURE_OPENAI,
}
_KIND_FROM_PB = {theirs: ours for ours, theirs in _KIND_TO_PB.items()}


class UnexpectedEvent(Exception):
    """A stream of the catalog holds an event that is none of its own."""


def provider_settings_to_pb(settings: ProviderSettings) -> pb.ProviderSettings:
    return pb.ProviderSettings(
        name=settings.name,
        kind=_KIND_TO_PB[settings.kind],
        base_url=settings.base_url,
        enabled=settings.enabled,
        credential_required=settings.credential_required,
        timeout_ms=settings.timeout_ms,
        region=settings.region,
        api_version=settings.api_version,
    )


def provider_settings_from_pb(message: pb.ProviderSettings) -> ProviderSettings:
    """Raises InvalidArgument where the kind is none that this build knows."""
    kind = _KIND_FROM_PB.get(message.kind)
    if kind is None:
        raise InvalidArgument.of("settings.kind", "must be one of the known kinds")
    return ProviderSettings(
        name=message.name,
        kind=kind,
        base_url=message.base_url,
        enabled=message.enabled,
        credential_required=message.credential_required,
        timeout_ms=message.timeout_ms,
        region=message.region,
        api_version=message.api_version,
    )


def model_settings_to_pb(settings: ModelSettings) -> pb.ModelSettings:
    able = settings.capabilities
    return pb.ModelSettings(
        name=settings.name,
        description=settings.description,
        brand=settings.brand,
        provider_id=settings.provider_id,
        upstream_model=settings.upstream_model,
        context_length=settings.context_length,
        max_output_tokens=settings.max_output_tokens,
        input_modalities=settings.input_modalities,
        output_modalities=settings.output_modalities,
        capabilities=pb.ModelCapabilities(
            streaming=able.streaming,
            tools=able.tools,
            structured_output=able.structured_output,
            system_prompt=able.system_prompt,
            reasoning=able.reasoning,
            embeddings=able.embeddings,
        ),
        enabled=settings.enabled,
        model_type=settings.model_type,
        tokenizer=settings.tokenizer,
        deployments=[
            pb.Deployment(
                provider_id=place.provider_id,
                upstream_model=place.upstream_model,
                priority=place.priority,
                weight=place.weight,
            )
            for place in settings.deployments
        ],
    )


def model_settings_from_pb(message: pb.ModelSettings) -> ModelSettings:
    able = message.capabilities
    return ModelSettings(
        name=message.name,
        description=message.description,
        brand=message.brand,
        provider_id=ProviderId(message.provider_id),
        upstream_model=message.upstream_model,
        context_length=message.context_length,
        max_output_tokens=message.max_output_tokens,
        input_modalities=tuple(message.input_modalities),
        output_modalities=tuple(message.output_modalities),
        capabilities=ModelCapabilities(
            streaming=able.streaming,
            tools=able.tools,
            structured_output=able.structured_output,
            system_prompt=able.system_prompt,
            reasoning=able.reasoning,
            embeddings=able.embeddings,
        ),
        enabled=message.enabled,
        model_type=message.model_type,
        tokenizer=message.tokenizer,
        deployments=tuple(
            Deployment(
                provider_id=ProviderId(place.provider_id),
                upstream_model=place.upstream_model,
                priority=place.priority,
                # A message that says nothing of weights means equal ones.
                weight=place.weight or 1,
            )
            for place in message.deployments
        ),
    )


def event_to_pb(event: ProviderEvent | ModelEvent) -> Message:
    """The message of an event; its moment goes to the envelope."""
    match event:
        case providers.ProviderRegistered(provider_id, settings):
            return pb.ProviderRegistered(
                provider_id=provider_id, settings=provider_settings_to_pb(settings)
            )
        case providers.ProviderChanged(provider_id, settings):
            return pb.ProviderChanged(
                provider_id=provider_id, settings=provider_settings_to_pb(settings)
            )
        case providers.ProviderCredentialSet(provider_id, version, _, credential_id):
            return pb.ProviderCredentialSet(
                provider_id=provider_id,
                credential_version=version,
                credential_id=_id_to_pb(credential_id),
            )
        case providers.ProviderCredentialAdded(provider_id, slot):
            return pb.ProviderCredentialAdded(provider_id=provider_id, credential=slot_to_pb(slot))
        case providers.ProviderCredentialChanged(provider_id, slot):
            return pb.ProviderCredentialChanged(
                provider_id=provider_id, credential=slot_to_pb(slot)
            )
        case providers.ProviderCredentialRemoved(provider_id, version, _, credential_id):
            return pb.ProviderCredentialRemoved(
                provider_id=provider_id,
                credential_version=version,
                credential_id=_id_to_pb(credential_id),
            )
        case models.ModelRegistered(model_id, model_settings):
            return pb.ModelRegistered(
                model_id=model_id, settings=model_settings_to_pb(model_settings)
            )
        case models.ModelChanged(model_id, model_settings):
            return pb.ModelChanged(model_id=model_id, settings=model_settings_to_pb(model_settings))
        case models.PricePublished(price):
            return pb.PricePublished(price=price_to_pb(price))
        case _:
            assert_never(event)


def provider_event_from(record: EventRecord) -> ProviderEvent:
    """The event of a record of a provider's stream; raises UnexpectedEvent, UndecodableEvent."""
    message, at_ms = record.message(), record.occurred_at_ms
    match message:
        case pb.ProviderRegistered():
            settings = provider_settings_from_pb(message.settings)
            return providers.ProviderRegistered(ProviderId(message.provider_id), settings, at_ms)
        case pb.ProviderChanged():
            settings = provider_settings_from_pb(message.settings)
            return providers.ProviderChanged(ProviderId(message.provider_id), settings, at_ms)
        case pb.ProviderCredentialSet():
            return providers.ProviderCredentialSet(
                ProviderId(message.provider_id),
                message.credential_version,
                at_ms,
                message.credential_id or DEFAULT,
            )
        case pb.ProviderCredentialAdded():
            slot = slot_from_pb(message.credential)
            return providers.ProviderCredentialAdded(ProviderId(message.provider_id), slot, at_ms)
        case pb.ProviderCredentialChanged():
            slot = slot_from_pb(message.credential)
            return providers.ProviderCredentialChanged(ProviderId(message.provider_id), slot, at_ms)
        case pb.ProviderCredentialRemoved():
            return providers.ProviderCredentialRemoved(
                ProviderId(message.provider_id),
                message.credential_version,
                at_ms,
                message.credential_id or DEFAULT,
            )
        case _:
            raise UnexpectedEvent(f"{record.type} in {record.stream_id}")


def model_event_from(record: EventRecord) -> ModelEvent:
    """The event of a record of a model's stream; raises UnexpectedEvent, UndecodableEvent."""
    message, at_ms = record.message(), record.occurred_at_ms
    match message:
        case pb.ModelRegistered():
            settings = model_settings_from_pb(message.settings)
            return models.ModelRegistered(ModelId(message.model_id), settings, at_ms)
        case pb.ModelChanged():
            settings = model_settings_from_pb(message.settings)
            return models.ModelChanged(ModelId(message.model_id), settings, at_ms)
        case pb.PricePublished():
            return models.PricePublished(price_from_pb(message.price), at_ms)
        case _:
            raise UnexpectedEvent(f"{record.type} in {record.stream_id}")


def slot_to_pb(slot: Slot) -> pb.ProviderCredential:
    return pb.ProviderCredential(
        credential_id=slot.credential_id,
        credential_version=slot.version,
        label=slot.label,
        priority=slot.priority,
        weight=slot.weight,
        enabled=slot.enabled,
    )


def slot_from_pb(message: pb.ProviderCredential) -> Slot:
    return Slot(
        message.credential_id,
        message.credential_version,
        message.label,
        message.priority,
        message.weight,
        message.enabled,
    )


def _id_to_pb(credential_id: str) -> str:
    """Of `default` nothing is written, as in the days when there was no other."""
    return "" if credential_id == DEFAULT else credential_id


def provider_state_to_pb(provider: Provider) -> pb.ProviderState:
    in_use = provider.slots_in_use
    return pb.ProviderState(
        provider_id=provider.provider_id,
        settings=provider_settings_to_pb(provider.settings),
        credential_version=sum(s.version for s in in_use if s.credential_id == DEFAULT),
        credentials=[slot_to_pb(slot) for slot in in_use],
    )


def model_state_to_pb(model: Model, provider: Provider | None, now_ms: int) -> pb.ModelState:
    """What gateways know of a model, as of `now_ms`."""
    return pb.ModelState(
        model_id=model.model_id,
        settings=model_settings_to_pb(model.settings),
        prices=[price_to_pb(price) for price in model.prices_from(now_ms)],
        available=model.available(provider, now_ms),
        created_at_ms=model.created_at_ms,
    )
