"""A provider: where models are served, and whether it can be used now.

Of its credentials the aggregate knows versions, labels and shares: what they are is never part of a
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
# The credential that is there without being added: of the environment, and of the first days.
DEFAULT = "default"
CREDENTIALS_MAX = 32
LABEL_LENGTH_MAX = 60
PRIORITY_MAX = 100
WEIGHT_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Slot:
    """A credential's place: all that may be known of it. Of those with the lowest priority each has
    its share by weight; the others are turned to where these fail.
    """

    credential_id: str
    version: int
    label: str = ""
    priority: int = 0
    weight: int = 1
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Provider:
    """The last version of a credential is never given again, whichever it was of."""

    provider_id: ProviderId
    settings: ProviderSettings
    created_at_ms: int
    # In the order in which they came.
    slots: tuple[Slot, ...] = ()
    last_credential_version: int = 0

    @property
    def credential_version(self) -> int:
        """Of the credential `default`; 0 where there is none."""
        slot = self.slot(DEFAULT)
        return slot.version if slot is not None else 0

    @property
    def slots_in_use(self) -> tuple[Slot, ...]:
        """Those that are switched on, in the order in which they are tried."""
        return tuple(sorted((one for one in self.slots if one.enabled), key=lambda s: s.priority))

    @property
    def usable(self) -> bool:
        """Enabled, and with a credential where one is required."""
        has_what_it_needs = bool(self.slots_in_use) or not self.settings.credential_required
        return self.settings.enabled and has_what_it_needs

    def slot(self, credential_id: str) -> Slot | None:
        return next((one for one in self.slots if one.credential_id == credential_id), None)


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
    credential_id: str = DEFAULT


@dataclass(frozen=True, slots=True)
class AddCredential:
    """One more; its id is new."""

    provider_id: ProviderId
    credential_id: str
    label: str
    at_ms: int
    priority: int = 0
    weight: int = 1


@dataclass(frozen=True, slots=True)
class ChangeCredential:
    """All of it but the credential itself."""

    provider_id: ProviderId
    credential_id: str
    label: str
    at_ms: int
    priority: int = 0
    weight: int = 1
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class RemoveCredential:
    provider_id: ProviderId
    at_ms: int
    credential_id: str = DEFAULT


CredentialGiven = SetCredential | AddCredential
ProviderCommand = PutProvider | CredentialGiven | ChangeCredential | RemoveCredential


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
    credential_id: str = DEFAULT


@dataclass(frozen=True, slots=True)
class ProviderCredentialAdded:
    provider_id: ProviderId
    slot: Slot
    at_ms: int


@dataclass(frozen=True, slots=True)
class ProviderCredentialChanged:
    provider_id: ProviderId
    slot: Slot
    at_ms: int


@dataclass(frozen=True, slots=True)
class ProviderCredentialRemoved:
    """`credential_version` is the version that was removed."""

    provider_id: ProviderId
    credential_version: int
    at_ms: int
    credential_id: str = DEFAULT


ProviderEvent = (
    ProviderRegistered
    | ProviderChanged
    | ProviderCredentialSet
    | ProviderCredentialAdded
    | ProviderCredentialChanged
    | ProviderCredentialRemoved
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
        case SetCredential(provider_id, at_ms, credential_id):
            known = _existing(state, provider_id)
            if credential_id != DEFAULT:
                _existing_slot(known, credential_id)
            version = known.last_credential_version + 1
            return [ProviderCredentialSet(provider_id, version, at_ms, credential_id)]
        case AddCredential(provider_id, credential_id):
            known = _existing(state, provider_id)
            if len(known.slots) >= CREDENTIALS_MAX:
                raise InvalidArgument.of("provider_id", f"has {CREDENTIALS_MAX} credentials")
            assert known.slot(credential_id) is None
            slot = Slot(
                credential_id,
                known.last_credential_version + 1,
                command.label,
                command.priority,
                command.weight,
            )
            return [ProviderCredentialAdded(provider_id, checked_slot(slot), command.at_ms)]
        case ChangeCredential(provider_id, credential_id):
            known = _existing(state, provider_id)
            before = _existing_slot(known, credential_id)
            changed = replace(
                before,
                label=command.label,
                priority=command.priority,
                weight=command.weight,
                enabled=command.enabled,
            )
            slot = checked_slot(changed)
            if slot == before:
                return []
            return [ProviderCredentialChanged(provider_id, slot, command.at_ms)]
        case RemoveCredential(provider_id, at_ms, credential_id):
            known = _existing(state, provider_id)
            removed = known.slot(credential_id)
            if removed is None:
                return []
            return [ProviderCredentialRemoved(provider_id, removed.version, at_ms, credential_id)]
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
        case ProviderCredentialSet(_, version, _, credential_id):
            assert state is not None
            assert version > state.last_credential_version
            known = state.slot(credential_id)
            slot = replace(known, version=version) if known else Slot(credential_id, version)
            return replace(_with_slot(state, slot), last_credential_version=version)
        case ProviderCredentialAdded(_, slot):
            assert state is not None
            assert slot.version > state.last_credential_version
            return replace(_with_slot(state, slot), last_credential_version=slot.version)
        case ProviderCredentialChanged(_, slot):
            assert state is not None
            return _with_slot(state, slot)
        case ProviderCredentialRemoved(_, _, _, credential_id):
            assert state is not None
            left = tuple(one for one in state.slots if one.credential_id != credential_id)
            return replace(state, slots=left)
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


def checked_slot(slot: Slot) -> Slot:
    """The slot with its label tidied. Raises InvalidArgument naming the field."""
    label = " ".join(slot.label.split())
    if len(label) > LABEL_LENGTH_MAX or not label.isprintable():
        raise InvalidArgument.of(
            "label", f"must be at most {LABEL_LENGTH_MAX} printable characters"
        )
    if not label and slot.credential_id != DEFAULT:
        raise InvalidArgument.of("label", "is needed, to tell it from the others")
    if not 0 <= slot.priority <= PRIORITY_MAX:
        raise InvalidArgument.of("priority", f"must be 0 to {PRIORITY_MAX}")
    if not 1 <= slot.weight <= WEIGHT_MAX:
        raise InvalidArgument.of("weight", f"must be 1 to {WEIGHT_MAX}")
    return replace(slot, label=label)


def masked(credential: str) -> str:
    """First and last characters, for people; of a short credential nothing is shown."""
    return f"{credential[:3]}…{credential[-4:]}" if len(credential) >= 16 else "…"


def _existing(state: Provider | None, provider_id: ProviderId) -> Provider:
    if state is None:
        raise NotFound(f"there is no provider {provider_id!r}")
    return state


def _existing_slot(provider: Provider, credential_id: str) -> Slot:
    slot = provider.slot(credential_id)
    if slot is None:
        raise NotFound(f"the provider {provider.provider_id!r} has no credential {credential_id!r}")
    return slot


def _with_slot(state: Provider, slot: Slot) -> Provider:
    """With the slot in its place, or behind the others where it is new."""
    if state.slot(slot.credential_id) is None:
        return replace(state, slots=(*state.slots, slot))
    kept = (slot if one.credential_id == slot.credential_id else one for one in state.slots)
    return replace(state, slots=tuple(kept))
