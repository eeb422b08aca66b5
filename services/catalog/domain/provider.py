"""A provider: where models are served, and whether it can be used now.

Of its credential the aggregate knows only the version: the credential itself is never part of a
state or an event.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import assert_never

from services.catalog.domain.settings import (
    ProviderSettings,
    checked_provider,
    checked_provider_id,
)
from services.common.errors import InvalidArgument, NotFound
from services.common.ids import ProviderId

CREDENTIAL_LENGTH_MAX = 4096


@dataclass(frozen=True, slots=True)
class Provider:
    """`credential_version` is 0 where there is none; the last version is never given again."""

    provider_id: ProviderId
    settings: ProviderSettings
    created_at_ms: int
    credential_version: int = 0
    last_credential_version: int = 0

    @property
    def usable(self) -> bool:
        """Enabled, and with a credential where one is required."""
        has_what_it_needs = self.credential_version > 0 or not self.settings.credential_required
        return self.settings.enabled and has_what_it_needs


@dataclass(frozen=True, slots=True)
class PutProvider:
    provider_id: ProviderId
    settings: ProviderSettings
    at_ms: int


@dataclass(frozen=True, slots=True)
class SetCredential:
    """That a new credential was given; what it is goes to the vault alone."""

    provider_id: ProviderId
    at_ms: int


@dataclass(frozen=True, slots=True)
class RemoveCredential:
    provider_id: ProviderId
    at_ms: int


ProviderCommand = PutProvider | SetCredential | RemoveCredential


@dataclass(frozen=True, slots=True)
class ProviderRegistered:
    provider_id: ProviderId
    settings: ProviderSettings
    at_ms: int


@dataclass(frozen=True, slots=True)
class ProviderChanged:
    provider_id: ProviderId
    settings: ProviderSettings
    at_ms: int


@dataclass(frozen=True, slots=True)
class ProviderCredentialSet:
    provider_id: ProviderId
    credential_version: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class ProviderCredentialRemoved:
    """`credential_version` is the version that was removed."""

    provider_id: ProviderId
    credential_version: int
    at_ms: int


ProviderEvent = (
    ProviderRegistered | ProviderChanged | ProviderCredentialSet | ProviderCredentialRemoved
)


def decide(state: Provider | None, command: ProviderCommand) -> list[ProviderEvent]:
    """What happens; nothing where it is so already. Raises InvalidArgument, NotFound."""
    match command:
        case PutProvider(provider_id, settings, at_ms):
            settings = checked_provider(settings)
            if state is None:
                return [ProviderRegistered(checked_provider_id(provider_id), settings, at_ms)]
            if state.settings == settings:
                return []
            return [ProviderChanged(provider_id, settings, at_ms)]
        case SetCredential(provider_id, at_ms):
            known = _existing(state, provider_id)
            version = known.last_credential_version + 1
            return [ProviderCredentialSet(provider_id, version, at_ms)]
        case RemoveCredential(provider_id, at_ms):
            known = _existing(state, provider_id)
            if known.credential_version == 0:
                return []
            return [ProviderCredentialRemoved(provider_id, known.credential_version, at_ms)]
        case _:
            assert_never(command)


def evolve(state: Provider | None, event: ProviderEvent) -> Provider:
    """The provider after the event."""
    match event:
        case ProviderRegistered(provider_id, settings, at_ms):
            assert state is None
            return Provider(provider_id, settings, at_ms)
        case ProviderChanged(_, settings):
            assert state is not None
            return replace(state, settings=settings)
        case ProviderCredentialSet(_, version):
            assert state is not None
            assert version > state.last_credential_version
            return replace(state, credential_version=version, last_credential_version=version)
        case ProviderCredentialRemoved():
            assert state is not None
            return replace(state, credential_version=0)
        case _:
            assert_never(event)


def checked_credential(text: str) -> str:
    """The credential without surrounding space; InvalidArgument (without the text) if unusable."""
    stripped = text.strip()
    if not 1 <= len(stripped) <= CREDENTIAL_LENGTH_MAX:
        raise InvalidArgument.of("credential", f"must have 1 to {CREDENTIAL_LENGTH_MAX} characters")
    if not stripped.isascii() or not stripped.isprintable() or " " in stripped:
        raise InvalidArgument.of("credential", "must be printable ASCII without spaces")
    return stripped


def masked(credential: str) -> str:
    """First and last characters, for people; of a short credential nothing is shown."""
    return f"{credential[:3]}…{credential[-4:]}" if len(credential) >= 16 else "…"


def _existing(state: Provider | None, provider_id: ProviderId) -> Provider:
    if state is None:
        raise NotFound(f"there is no provider {provider_id!r}")
    return state
