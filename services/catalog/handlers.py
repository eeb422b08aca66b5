"""What the catalog does on command: load, decide, append, announce; one unit of work each.

A credential passes through here on its way to the cipher. It is never logged, and no event has it.
A unit of work takes the provider before its models, so that two of them never wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from services.catalog.domain import model as models
from services.catalog.domain import provider as providers
from services.catalog.domain.model import ImportModel, Model, ModelCommand, PublishPrice, PutModel
from services.catalog.domain.probe import Verdict, probe_request, verdict
from services.catalog.domain.provider import (
    DEFAULT,
    ChangeCredential,
    CredentialGiven,
    Provider,
    PutProvider,
    RemoveCredential,
    checked_credential,
)
from services.catalog.ports import (
    CatalogStore,
    CatalogTransaction,
    CredentialCipher,
    ProviderProbe,
    SealedCredential,
)
from services.common.clock import Clock
from services.common.errors import InvalidArgument, ModelNotFound, NotFound
from services.common.ids import ModelId, ProviderId
from services.common.money import Price


@dataclass(frozen=True, slots=True)
class Context:
    """What handlers work with."""

    store: CatalogStore
    cipher: CredentialCipher
    clock: Clock
    probe: ProviderProbe


@dataclass(frozen=True, slots=True)
class OpenedCredential:
    """A plain credential on its way to a gateway."""

    credential: str = field(repr=False)
    credential_version: int


async def put_provider(context: Context, command: PutProvider) -> Provider:
    """Registers or changes a provider; what gateways know of its models is announced anew."""
    async with context.store.transaction() as work:
        provider, _ = await _decided(work, command)
        return provider


async def set_credential(context: Context, command: CredentialGiven, credential: str) -> Provider:
    """Seals and stores the credential; the one that is stored already changes nothing."""
    credential = checked_credential(credential)
    provider_id, credential_id = command.provider_id, command.credential_id
    async with context.store.transaction() as work:
        at = await work.provider(provider_id, change=True)
        stored = await work.credential(provider_id, credential_id)
        if at.state is not None and _is_sealed(context.cipher, stored, credential):
            return at.state
        events = providers.decide(at.state, command)
        (provider,) = await work.append_providers([(provider_id, at, events)])
        slot = provider.slot(credential_id)
        assert slot is not None
        sealed = context.cipher.seal(provider_id, slot.version, credential)
        await work.put_credential(replace(sealed, credential_id=credential_id), command.at_ms)
        await _announce(work, provider, command.at_ms)
        return provider


async def change_credential(context: Context, command: ChangeCredential) -> Provider:
    """Changes all of a credential but itself. Raises NotFound, InvalidArgument."""
    async with context.store.transaction() as work:
        provider, _ = await _decided(work, command)
        return provider


async def remove_credential(context: Context, command: RemoveCredential) -> Provider:
    """Forgets the credential, and with the last one the availability of the provider's models."""
    async with context.store.transaction() as work:
        provider, changed = await _decided(work, command)
        if changed:
            await work.delete_credential(command.provider_id, command.credential_id)
        return provider


async def _decided(
    work: CatalogTransaction, command: PutProvider | ChangeCredential | RemoveCredential
) -> tuple[Provider, bool]:
    """The provider after the command, appended and announced, and whether it changed."""
    at = await work.provider(command.provider_id, change=True)
    events = providers.decide(at.state, command)
    if not events:
        assert at.state is not None
        return at.state, False
    (provider,) = await work.append_providers([(command.provider_id, at, events)])
    await _announce(work, provider, command.at_ms)
    return provider, True


async def get_credential(
    context: Context, provider_id: ProviderId, credential_id: str = DEFAULT
) -> OpenedCredential:
    """The plain credential. Raises NotFound where there is none."""
    async with context.store.transaction() as work:
        sealed = await work.credential(provider_id, credential_id)
    if sealed is None:
        raise NotFound(f"the provider {provider_id!r} has no credential")
    return OpenedCredential(context.cipher.open(sealed), sealed.credential_version)


async def try_provider(
    context: Context, provider_id: ProviderId, credential_id: str = ""
) -> Verdict:
    """Whether the provider answers and takes this credential, or the one that would be used first.

    Raises NotFound, InvalidArgument.
    """
    async with context.store.transaction() as work:
        provider = (await work.provider(provider_id, change=False)).state
        if provider is None:
            raise NotFound(f"there is no provider {provider_id!r}")
        if credential_id and provider.slot(credential_id) is None:
            raise NotFound(f"the provider {provider_id!r} has no credential {credential_id!r}")
        first = next((one.credential_id for one in provider.slots_in_use), DEFAULT)
        sealed = await work.credential(provider_id, credential_id or first)
    if sealed is None and provider.settings.credential_required:
        return Verdict(False, 0, "It has no credential yet.", 0)
    credential = context.cipher.open(sealed) if sealed is not None else ""
    return verdict(await context.probe.ask(probe_request(provider.settings, credential)))


async def put_model(context: Context, command: PutModel | ImportModel) -> Model:
    """Registers or changes a model. Raises InvalidArgument where its provider is not known."""
    async with context.store.transaction() as work:
        provider = (await work.provider(command.settings.provider_id, change=False)).state
        if provider is None:
            raise InvalidArgument.of("settings.provider_id", "there is no such provider")
        for place in sorted({place.provider_id for place in command.settings.deployments}):
            if (await work.provider(place, change=False)).state is None:
                raise InvalidArgument.of("settings.deployments", f"there is no provider {place!r}")
        return await _change_model(work, command.model_id, command, provider=provider)


async def publish_price(context: Context, command: PublishPrice) -> Price:
    """A new version from its moment on. Raises ModelNotFound, InvalidArgument."""
    model_id = ModelId(command.price.model_id)
    async with context.store.transaction() as work:
        known = (await work.model(model_id)).state
        if known is None:
            raise ModelNotFound(f"there is no model {model_id!r}")
        provider = (await work.provider(known.settings.provider_id, change=False)).state
        model = await _change_model(work, model_id, command, provider=provider)
        return model.prices[-1]


async def announce_due_prices(context: Context) -> int:
    """Announces models whose next price has come into force; returns how many."""
    now_ms = context.clock.now_ms()
    async with context.store.transaction() as work:
        due = await work.models_due(now_ms)
        for provider_id in sorted({model.settings.provider_id for model in due}):
            provider = (await work.provider(provider_id, change=False)).state
            theirs = [model for model in due if model.settings.provider_id == provider_id]
            await work.announce_models([(model, provider) for model in theirs], now_ms)
    return len(due)


def _is_sealed(cipher: CredentialCipher, stored: SealedCredential | None, credential: str) -> bool:
    """False for one that was sealed with a former key: it cannot be compared and is replaced."""
    if stored is None or stored.key_id != cipher.key_id:
        return False
    return cipher.open(stored) == credential


async def _change_model(
    work: CatalogTransaction,
    model_id: ModelId,
    command: ModelCommand,
    *,
    provider: Provider | None,
) -> Model:
    at = await work.model(model_id)
    events: Sequence[models.ModelEvent] = models.decide(at.state, command)
    if not events:
        assert at.state is not None
        return at.state
    (model,) = await work.append_models([(model_id, at, events)])
    await work.announce_models([(model, provider)], command.at_ms)
    return model


async def _announce(work: CatalogTransaction, provider: Provider, now_ms: int) -> None:
    """The provider's state and, because `available` depends on it, that of all its models."""
    await work.announce_providers([provider], now_ms)
    owned = await work.models_of([provider.provider_id])
    await work.announce_models([(model, provider) for model in owned], now_ms)
