"""For staff: providers, switched on and off, and their credentials.

A credential goes in and never comes out: the API knows only its first and last characters. What is
changed is in force in every gateway within a second, by the compacted topic of the catalogue.
"""

from __future__ import annotations

from fastapi import APIRouter

from services.common.errors import NotFound
from services.common.pb.mesh.catalog.v1 import catalog_pb2
from services.common.pb.mesh.events.v1 import catalog_pb2 as events_pb2
from services.dashboard.api import operator_models as models
from services.dashboard.api.parts import short
from services.dashboard.api.session import PathId
from services.dashboard.api.staff import Operator, OperatorDep
from services.dashboard.api.translate import moment

router = APIRouter(prefix="/operator/providers", tags=["operator"])
# A provider is asked for up to ten seconds.
TEST_TIMEOUT_S = 20.0


def credential_out(credential: catalog_pb2.Credential) -> models.CredentialOut:
    settings = credential.settings
    return models.CredentialOut(
        credential_id=settings.credential_id,
        label=settings.label,
        priority=settings.priority,
        weight=settings.weight,
        enabled=settings.enabled,
        version=settings.credential_version,
        masked=credential.masked,
        set_at=moment(credential.set_at_ms),
    )


def provider_out(provider: catalog_pb2.Provider) -> models.ProviderOut:
    settings = provider.settings
    return models.ProviderOut(
        provider_id=provider.provider_id,
        name=settings.name,
        kind=short(events_pb2.ProviderKind.Name, settings.kind, "PROVIDER_KIND_"),
        base_url=settings.base_url,
        enabled=settings.enabled,
        usable=provider.usable,
        credential_required=settings.credential_required,
        credentials=[credential_out(one) for one in provider.credentials],
    )


async def _all(operator: Operator) -> list[catalog_pb2.Provider]:
    answer = await operator.backends.catalog_channel.call(
        operator.backends.catalog.ListProviders,
        catalog_pb2.ListProvidersRequest(),
        principal=operator.acting(),
    )
    return list(answer.providers)


@router.get("")
async def list_providers(operator: OperatorDep) -> list[models.ProviderOut]:
    """Providers with their credentials, and whether they can be used."""
    return [provider_out(one) for one in await _all(operator)]


@router.put("/{provider_id}/enabled")
async def switch_provider(
    provider_id: PathId, body: models.Switch, *, operator: OperatorDep
) -> models.ProviderOut:
    """Switches a provider on or off; while it is off its models are not served there."""
    known = {one.provider_id: one for one in await _all(operator)}
    if provider_id not in known:
        raise NotFound(f"there is no provider {provider_id!r}")
    settings = known[provider_id].settings
    settings.enabled = body.enabled
    await operator.note("provider.enable" if body.enabled else "provider.disable", provider_id)
    provider = await operator.backends.catalog_channel.call(
        operator.backends.catalog.PutProvider,
        catalog_pb2.PutProviderRequest(provider_id=provider_id, settings=settings),
        principal=operator.acting(),
    )
    return provider_out(provider)


@router.post("/{provider_id}/test")
async def try_provider(
    provider_id: PathId, operator: OperatorDep, *, credential_id: str = ""
) -> models.ProviderTested:
    """Whether the provider answers and takes this credential, or the one used first, now."""
    found = await operator.backends.catalog_channel.call(
        operator.backends.catalog.TestProvider,
        catalog_pb2.TestProviderRequest(provider_id=provider_id, credential_id=credential_id),
        principal=operator.acting(),
        timeout_s=TEST_TIMEOUT_S,
    )
    return models.ProviderTested(
        ok=found.ok,
        http_status=found.http_status,
        message=found.message,
        latency_ms=found.latency_ms,
    )


@router.post("/{provider_id}/credentials", status_code=201)
async def add_credential(
    provider_id: PathId, body: models.NewCredential, *, operator: OperatorDep
) -> models.ProviderOut:
    """One more credential beside those that there are, stored encrypted."""
    await operator.note("provider.add_credential", provider_id, body.label)
    provider = await operator.backends.catalog_channel.call(
        operator.backends.catalog.AddProviderCredential,
        catalog_pb2.AddProviderCredentialRequest(
            provider_id=provider_id,
            label=body.label,
            credential=body.credential,
            priority=body.priority,
            weight=body.weight,
        ),
        principal=operator.acting(),
    )
    return provider_out(provider)


@router.put("/{provider_id}/credentials/{credential_id}")
async def change_credential(
    provider_id: PathId,
    credential_id: PathId,
    body: models.CredentialSettings,
    *,
    operator: OperatorDep,
) -> models.ProviderOut:
    """Its label, priority, weight, and whether it is used."""
    note = f"priority {body.priority}, weight {body.weight}, {'on' if body.enabled else 'off'}"
    await operator.note("provider.change_credential", f"{provider_id}:{credential_id}", note)
    provider = await operator.backends.catalog_channel.call(
        operator.backends.catalog.ChangeProviderCredential,
        catalog_pb2.ChangeProviderCredentialRequest(
            provider_id=provider_id,
            credential_id=credential_id,
            label=body.label,
            priority=body.priority,
            weight=body.weight,
            enabled=body.enabled,
        ),
        principal=operator.acting(),
    )
    return provider_out(provider)


@router.put("/{provider_id}/credentials/{credential_id}/secret")
async def rotate_credential(
    provider_id: PathId, credential_id: PathId, body: models.Secret, *, operator: OperatorDep
) -> models.ProviderOut:
    """Stores another credential in place of this one; `default` need not be there before."""
    await operator.note("provider.set_credential", f"{provider_id}:{credential_id}")
    provider = await operator.backends.catalog_channel.call(
        operator.backends.catalog.SetProviderCredential,
        catalog_pb2.SetProviderCredentialRequest(
            provider_id=provider_id, credential_id=credential_id, credential=body.credential
        ),
        principal=operator.acting(),
    )
    return provider_out(provider)


@router.delete("/{provider_id}/credentials/{credential_id}")
async def remove_credential(
    provider_id: PathId, credential_id: PathId, *, operator: OperatorDep
) -> models.ProviderOut:
    """Forgets a credential; without any the models are no longer served where one is needed."""
    await operator.note("provider.remove_credential", f"{provider_id}:{credential_id}")
    provider = await operator.backends.catalog_channel.call(
        operator.backends.catalog.RemoveProviderCredential,
        catalog_pb2.RemoveProviderCredentialRequest(
            provider_id=provider_id, credential_id=credential_id
        ),
        principal=operator.acting(),
    )
    return provider_out(provider)
