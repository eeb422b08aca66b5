"""The tables in memory: changed by messages as they come, read by requests, in one loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from services.common.events import UndecodableEvent
from services.common.ids import ModelId, ProviderId
from services.common.pb.mesh.events.v1 import accounts_pb2, catalog_pb2
from services.gateway.ports import KeyPrincipal, ModelEntry, ProviderEntry
from services.gateway.state.decode import (
    credentials_of,
    message_from_bytes,
    model_from_state,
    principal_from_state,
    provider_from_state,
)


class KeyTable:
    """The `KeyDirectory`: every key by the hash of its secret."""

    def __init__(self) -> None:
        self._keys: dict[str, KeyPrincipal] = {}
        # A key has two secrets while it is being rotated.
        self._hashes: dict[str, list[str]] = {}

    def find(self, key_hash_hex: str) -> KeyPrincipal | None:
        """See `ports.KeyDirectory.find`."""
        return self._keys.get(key_hash_hex)

    def find_key(self, key_id: str) -> KeyPrincipal | None:
        """See `ports.KeyDirectory.find_key`."""
        found = [self._keys[name] for name in self._hashes.get(key_id, ())]
        return max(found, key=lambda key: key.expires_at_ms or 2**63, default=None)

    def __len__(self) -> int:
        return len(self._keys)

    def apply(self, key: str, value: bytes | None) -> None:
        """Takes one message of `mesh.keys.v1`. Raises UndecodableEvent; what was known stays."""
        if value is None:
            self._forget(key)
            return
        state = message_from_bytes(value)
        if not isinstance(state, accounts_pb2.KeyState):
            raise UndecodableEvent(f"a {type(state).__name__} among the keys")
        if state.key_hash != key:
            raise UndecodableEvent("a key under another key's hash")
        principal = principal_from_state(state)
        self._forget(key)
        self._keys[key] = principal
        self._hashes.setdefault(principal.key_id, []).append(key)

    def _forget(self, key: str) -> None:
        known = self._keys.pop(key, None)
        if known is not None:
            hashes = self._hashes[known.key_id]
            hashes.remove(key)
            if not hashes:
                del self._hashes[known.key_id]


class Credentials(Protocol):
    """What the catalogue table needs of the credential keeper."""

    def want(self, provider_id: ProviderId, versions: Mapping[str, int]) -> None: ...

    def get(self, provider_id: ProviderId, credential_id: str) -> str | None: ...


class CatalogueTable:
    """The `Catalogue`: models and providers, the latter with the credentials that are known."""

    def __init__(self) -> None:
        self._models: dict[str, ModelEntry] = {}
        self._sorted: tuple[ModelEntry, ...] | None = None
        self._states: dict[str, catalog_pb2.ProviderState] = {}
        self._providers: dict[str, ProviderEntry] = {}
        self._credentials: Credentials | None = None

    def use(self, credentials: Credentials) -> None:
        """Connects the keeper; once, before the first message."""
        self._credentials = credentials

    def model(self, model_id: str) -> ModelEntry | None:
        """See `ports.Catalogue.model`."""
        return self._models.get(model_id)

    def models(self) -> Sequence[ModelEntry]:
        """See `ports.Catalogue.models`."""
        if self._sorted is None:
            self._sorted = tuple(self._models[name] for name in sorted(self._models))
        return self._sorted

    def provider(self, provider_id: str) -> ProviderEntry | None:
        """See `ports.Catalogue.provider`."""
        return self._providers.get(provider_id)

    def apply(self, key: str, value: bytes | None) -> None:
        """Takes one message of `mesh.models.v1`. Raises UndecodableEvent; what was known stays."""
        kind, _, name = key.partition(":")
        if value is None:
            self._remove(kind, name)
            return
        state = message_from_bytes(value)
        match state:
            case catalog_pb2.ModelState() if kind == "model" and state.model_id == name:
                self._models[name] = model_from_state(state)
                self._sorted = None
            case catalog_pb2.ProviderState() if kind == "provider" and state.provider_id == name:
                self._put_provider(state)
            case _:
                raise UndecodableEvent(f"a {type(state).__name__} under the key {key}")

    def refresh(self, provider_id: ProviderId) -> None:
        """The keeper has another credential for this provider."""
        state = self._states.get(provider_id)
        if state is not None:
            known = self._credentials
            secrets = {
                one.credential_id: known.get(provider_id, one.credential_id) if known else None
                for one in credentials_of(state)
            }
            self._providers[provider_id] = provider_from_state(state, secrets)

    def _put_provider(self, state: catalog_pb2.ProviderState) -> None:
        provider_from_state(state, {})
        provider_id = ProviderId(state.provider_id)
        self._states[provider_id] = state
        if self._credentials is not None:
            in_force = {one.credential_id: one.credential_version for one in credentials_of(state)}
            self._credentials.want(provider_id, in_force)
        self.refresh(provider_id)

    def _remove(self, kind: str, name: str) -> None:
        if kind == "model" and self._models.pop(ModelId(name), None) is not None:
            self._sorted = None
        if kind == "provider" and self._states.pop(name, None) is not None:
            self._providers.pop(name, None)
            if self._credentials is not None:
                self._credentials.want(ProviderId(name), {})
