"""Messages of the compacted topics to what the request path works with.

Everything here raises UndecodableEvent for what it cannot take: the reader counts it, logs it and
reads on, so that one bad message never stops a gateway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson
from google.protobuf.message import Message

from services.common import scopes
from services.common.events import EventRecord, UndecodableEvent
from services.common.ids import AccountId, KeyId, ModelId, ProviderId, UserId
from services.common.pb.mesh.events.v1 import accounts_pb2, catalog_pb2
from services.common.pricing_pb import price_from_pb
from services.gateway.entries import DEFAULT_CREDENTIAL
from services.gateway.ports import (
    Deployment,
    KeyPrincipal,
    KeySettings,
    ModelCapabilities,
    ModelEntry,
    ProviderEntry,
    ProviderKind,
)
from services.gateway.routing_policy import RoutingPolicy, policy_from_json
from services.gateway.scoped import Scoped, ScopeRates

_KINDS: dict[catalog_pb2.ProviderKind.ValueType, ProviderKind] = {
    catalog_pb2.PROVIDER_KIND_OPENAI_COMPATIBLE: "openai_compatible",
    catalog_pb2.PROVIDER_KIND_ANTHROPIC: "anthropic",
    catalog_pb2.PROVIDER_KIND_GEMINI: "gemini",
    catalog_pb2.PROVIDER_KIND_BEDROCK: "bedrock",
    catalog_pb2.PROVIDER_KIND_AZURE_OPENAI: "azure_openai",
}


def message_from_bytes(raw: bytes) -> Message:
    """The message in an envelope."""
    return EventRecord.from_bytes(raw).message()


def principal_from_state(state: accounts_pb2.KeyState) -> KeyPrincipal:
    """The key of a KeyState."""
    if not (state.account_id and state.key_id):
        raise UndecodableEvent("a key without an id or an account")
    limits = (state.expires_at_ms, state.settings.expires_at_ms)
    return KeyPrincipal(
        account_id=AccountId(state.account_id),
        key_id=KeyId(state.key_id),
        user_id=UserId(state.user_id),
        key_version=state.version,
        settings=_settings_from_pb(state.settings),
        suspended=state.suspended,
        account_suspended=state.account_suspended,
        expires_at_ms=min((limit for limit in limits if limit), default=0),
        scoped=_scoped_from_state(state),
    )


def model_from_state(state: catalog_pb2.ModelState) -> ModelEntry:
    """The model of a ModelState."""
    settings = state.settings
    if not state.model_id:
        raise UndecodableEvent("a model without an id")
    try:
        prices = tuple(price_from_pb(price) for price in state.prices)
    except ValueError as error:
        raise UndecodableEvent(f"{state.model_id}: {error}") from error
    return ModelEntry(
        model_id=ModelId(state.model_id),
        name=settings.name,
        provider_id=ProviderId(settings.provider_id),
        upstream_model=settings.upstream_model,
        context_length=settings.context_length,
        max_output_tokens=settings.max_output_tokens,
        tokenizer=settings.tokenizer,
        prices=tuple(sorted(prices, key=lambda price: price.valid_from_ms)),
        available=state.available,
        capabilities=_capabilities_from_pb(settings.capabilities),
        description=settings.description,
        brand=settings.brand,
        model_type=settings.model_type or "text",
        input_modalities=tuple(settings.input_modalities),
        output_modalities=tuple(settings.output_modalities),
        created_at_ms=state.created_at_ms,
        deployments=tuple(
            Deployment(
                provider_id=ProviderId(place.provider_id),
                upstream_model=place.upstream_model,
                priority=place.priority,
                weight=max(1, place.weight),
            )
            for place in settings.deployments
        ),
    )


def credentials_of(state: catalog_pb2.ProviderState) -> Sequence[catalog_pb2.ProviderCredential]:
    """The credentials that are in force, in the order in which they are tried."""
    if state.credentials or not state.credential_version:
        return sorted(state.credentials, key=lambda one: one.priority)
    # Of a catalogue that knew of one credential alone.
    return [
        catalog_pb2.ProviderCredential(
            credential_id=DEFAULT_CREDENTIAL, credential_version=state.credential_version, weight=1
        )
    ]


def provider_from_state(
    state: catalog_pb2.ProviderState, secrets: Mapping[str, str | None]
) -> ProviderEntry:
    """The provider of a ProviderState with the credentials that are known for it, by their ids."""
    settings = state.settings
    kind = _KINDS.get(settings.kind)
    if not state.provider_id or kind is None:
        raise UndecodableEvent(f"a provider without an id or of no known kind: {settings.kind}")
    bare = ProviderEntry(
        provider_id=ProviderId(state.provider_id),
        name=settings.name,
        kind=kind,
        base_url=settings.base_url,
        enabled=settings.enabled,
        timeout_ms=settings.timeout_ms,
        credential_required=settings.credential_required,
        region=settings.region,
        api_version=settings.api_version,
    )
    usable = [one for one in credentials_of(state) if secrets.get(one.credential_id) is not None]
    # Among themselves: the first are as good as a provider's only one.
    ranks = sorted({one.priority for one in usable})
    known = [
        replace(
            bare,
            credential=secrets[one.credential_id],
            credential_id=one.credential_id,
            rank=ranks.index(one.priority),
            weight=max(1, one.weight),
        )
        for one in usable
    ]
    if not known:
        return bare
    return replace(known[0], variants=tuple(known) if len(known) > 1 else ())


def _settings_from_pb(settings: accounts_pb2.KeySettings) -> KeySettings:
    return KeySettings(
        label=settings.label,
        spend_cap_nanousd=_set(settings, "spend_cap_nanousd"),
        rpm_limit=_set(settings, "rpm_limit"),
        rpd_limit=_set(settings, "rpd_limit"),
        tpm_limit=_set(settings, "tpm_limit"),
        default_model=settings.default_model,
        default_params=_params(settings.default_params_json),
        allowed_models=frozenset(settings.allowed_models),
        routing=_routing(settings.routing_policy_json),
        api_version=settings.api_version,
        response_cache_disabled=settings.response_cache_disabled,
        content_stored=settings.content_stored,
    )


def _set(settings: accounts_pb2.KeySettings | accounts_pb2.Limits, name: str) -> int | None:
    """A limit; absent is none, and 0 allows nothing."""
    if not settings.HasField(name):  # type: ignore[arg-type]  # the stub wants one literal a call
        return None
    return int(getattr(settings, name))


def _scoped_from_state(state: accounts_pb2.KeyState) -> Scoped:
    """The scopes in a key's state; limits of a model apart, under its name."""
    shared, models = list[ScopeRates](), dict[str, list[ScopeRates]]()
    for model in state.settings.model_limits:
        scope = scopes.key_model(state.key_id, model.model_id)
        models.setdefault(model.model_id, []).append(_rates(scope, model.limits))
    for one in state.scopes:
        rates = _rates(scopes.Scope(one.scope), one.limits)
        if scopes.kind_of(one.scope) == "account_model":
            models.setdefault(scopes.model_of(one.scope), []).append(rates)
        else:
            shared.append(rates)
    return Scoped(
        state.settings.team_id,
        tuple(shared),
        {model_id: tuple(found) for model_id, found in models.items()},
    )


def _rates(scope: scopes.Scope, limits: accounts_pb2.Limits) -> ScopeRates:
    return ScopeRates(
        scope,
        _set(limits, "rpm_limit"),
        _set(limits, "rpd_limit"),
        _set(limits, "tpm_limit"),
        limits.HasField("spend_cap_nanousd"),
    )


def _routing(text: str) -> RoutingPolicy | None:
    try:
        return policy_from_json(text)
    except ValueError as error:
        raise UndecodableEvent("routing_policy_json is no JSON object") from error


def _params(text: str) -> dict[str, Any]:  # Any: values are free JSON
    if not text:
        return {}
    try:
        params = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UndecodableEvent("default_params_json is no JSON") from error
    if not isinstance(params, dict):
        raise UndecodableEvent("default_params_json is no object")
    return params


def _capabilities_from_pb(message: catalog_pb2.ModelCapabilities) -> ModelCapabilities:
    return ModelCapabilities(
        streaming=message.streaming,
        tools=message.tools,
        structured_output=message.structured_output,
        system_prompt=message.system_prompt,
        reasoning=message.reasoning,
        embeddings=message.embeddings,
    )
