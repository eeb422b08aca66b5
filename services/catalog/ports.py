"""What the handlers need from outside; the store has a twin in memory with the same tests."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from services.catalog.domain.model import Model, ModelEvent
from services.catalog.domain.probe import ProbeAnswer, ProbeRequest
from services.catalog.domain.provider import DEFAULT, Provider, ProviderEvent
from services.catalog.seeds import Seeds
from services.common.ids import ModelId, ProviderId

StateT = TypeVar("StateT")


@dataclass(frozen=True, slots=True)
class Loaded(Generic[StateT]):
    """An aggregate and the version of its stream; None and 0 where there is none."""

    state: StateT | None
    version: int


ProviderChange = tuple[ProviderId, Loaded[Provider], Sequence[ProviderEvent]]
ModelChange = tuple[ModelId, Loaded[Model], Sequence[ModelEvent]]
# A model and the provider that serves it.
Served = tuple[Model, Provider | None]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole catalog at once, for the seed."""

    providers: Mapping[ProviderId, Loaded[Provider]]
    models: Mapping[ModelId, Loaded[Model]]


@dataclass(frozen=True, slots=True)
class SealedCredential:
    """An encrypted credential as it is stored; `masked` is what people may see of it."""

    provider_id: ProviderId
    credential_version: int
    key_id: str
    nonce: bytes = field(repr=False)
    ciphertext: bytes = field(repr=False)
    masked: str
    credential_id: str = DEFAULT


class CredentialCipher(Protocol):
    """Encrypts a credential so that it opens for its own provider alone."""

    @property
    def key_id(self) -> str:
        """Which key it seals with; tells keys apart and says nothing of them."""

    def seal(self, provider_id: ProviderId, version: int, credential: str) -> SealedCredential: ...

    def open(self, sealed: SealedCredential) -> str:
        """The plain credential; raises InternalError where it was sealed with another key."""


class SeedSource(Protocol):
    """Where providers, models and prices come from."""

    @property
    def name(self) -> str:
        """What the `source` of each of its prices begins with."""

    def fingerprint(self) -> str:
        """Cheap to compute; another one whenever `read` may return something else."""

    def read(self) -> Seeds: ...


class CatalogTransaction(Protocol):
    """One unit of work: everything in it happens or nothing does.

    What is appended to a provider or a model is also applied to the read tables and put in the
    outbox for `mesh.catalog.v1`. Concurrent writers get ConcurrencyConflict.
    """

    async def provider(self, provider_id: ProviderId, *, change: bool) -> Loaded[Provider]:
        """The provider, which no other unit of work may change before this one ends.

        `change` says that this one may: several may read a provider at once, one may change it.
        """

    async def model(self, model_id: ModelId) -> Loaded[Model]: ...

    async def snapshot(self) -> Snapshot: ...

    async def models_of(self, provider_ids: Collection[ProviderId]) -> list[Model]:
        """Every model of these providers, as of this unit of work."""

    async def models_due(self, now_ms: int) -> list[Model]:
        """Models with a price that came into force since their state was last announced."""

    async def append_providers(self, changes: Sequence[ProviderChange]) -> list[Provider]:
        """All of them in a few statements, however many; gives the providers after their events."""

    async def append_models(self, changes: Sequence[ModelChange]) -> list[Model]:
        """All of them in a few statements, however many; gives the models after their events."""

    async def announce_providers(self, providers: Sequence[Provider], now_ms: int) -> None:
        """Puts their ProviderState in the outbox for `mesh.models.v1`."""

    async def announce_models(self, served: Sequence[Served], now_ms: int) -> None:
        """Puts their ModelState, with `available` as of `now_ms`, there too."""

    async def credential(
        self, provider_id: ProviderId, credential_id: str = DEFAULT
    ) -> SealedCredential | None: ...

    async def put_credential(self, sealed: SealedCredential, at_ms: int) -> None: ...

    async def delete_credential(
        self, provider_id: ProviderId, credential_id: str = DEFAULT
    ) -> None: ...

    async def seed_mark(self) -> str:
        """The fingerprint of the seeds that were last put in; empty before the first time."""

    async def put_seed_mark(self, fingerprint: str, at_ms: int) -> None: ...


class CatalogStore(Protocol):
    """Opens units of work."""

    def transaction(self) -> AbstractAsyncContextManager[CatalogTransaction]: ...


class ProviderProbe(Protocol):
    """Asks a provider one question."""

    async def ask(self, request: ProbeRequest) -> ProbeAnswer:
        """The answer's status; never raises for what the provider does. The wait is bounded."""
