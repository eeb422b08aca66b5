"""From the models that were asked for to the places that serve them: pure, over the catalogue."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from services.common.errors import AppError, ModelNotFound, ProviderNotAvailable
from services.common.ids import ProviderId
from services.common.money import Price
from services.gateway.chat_request import Operation
from services.gateway.errors import CapabilityNotSupported, NotImplementedHere
from services.gateway.ports import Catalogue, KeySettings, ModelEntry, ProviderEntry, ProviderKind


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes, at the price that is pinned for it."""

    model: ModelEntry
    provider: ProviderEntry
    price: Price
    # How much of the traffic it should have, beside others of its priority.
    weight: float = 1

    @property
    def place(self) -> tuple[str, str, str]:
        """What its health is known by: provider, model there, credential."""
        provider = self.provider
        return provider.provider_id, self.model.upstream_model, provider.credential_id


@dataclass(frozen=True, slots=True)
class Router:
    """Finds them among the models of the catalogue; `kinds` are the providers that there is an
    adapter for.
    """

    catalogue: Catalogue
    kinds: Collection[ProviderKind]

    def tiers(
        self,
        names: Sequence[str],
        settings: KeySettings,
        now_ms: int,
        *,
        operation: Operation = "chat",
    ) -> list[list[Route]]:
        """Every place that can serve one of the names: by the order of the names, then by priority.
        Those of one list are as good as one another.

        Raises what is wrong with the first name where none can: ModelNotFound for one that is
        unknown, switched off, without a price or not for this key; CapabilityNotSupported for one
        that does something else; ProviderNotAvailable where its provider cannot be used now.
        """
        tiers: list[list[Route]] = []
        faults: list[AppError] = []
        for name in names:
            try:
                tiers += self._tiers(name, settings, now_ms, operation=operation)
            except (ModelNotFound, CapabilityNotSupported, ProviderNotAvailable) as fault:
                faults.append(fault)
        if not tiers:
            raise faults[0] if faults else ModelNotFound("no model was asked for")
        return tiers

    def _tiers(
        self, name: str, settings: KeySettings, now_ms: int, *, operation: Operation
    ) -> list[list[Route]]:
        model = self._model(name, operation)
        price = model.price_at(now_ms) if model is not None else None
        if (
            model is None
            or price is None
            or not model.available
            or not settings.allows(model.model_id)
        ):
            raise ModelNotFound(f"there is no model {name!r} for this key")
        if not can_do(model, operation):
            raise CapabilityNotSupported(f"{name} does not answer {operation} requests")
        found: dict[tuple[int, int], list[Route]] = {}
        for priority, place in self._places(model, price):
            for route in _with_each_credential(place):
                found.setdefault((priority, route.provider.rank), []).append(route)
        if not found:
            raise ProviderNotAvailable(f"{name} cannot be reached at the moment")
        return [found[priority] for priority in sorted(found)]

    def _places(self, model: ModelEntry, price: Price) -> Iterator[tuple[int, Route]]:
        """Where the model can be had now, with each place's priority."""
        provider = self._usable(model.provider_id)
        if provider is not None:
            yield 0, Route(model, provider, price)
        for place in model.deployments:
            provider = self._usable(place.provider_id)
            if provider is not None:
                there = replace(
                    model, provider_id=place.provider_id, upstream_model=place.upstream_model
                )
                yield place.priority, Route(there, provider, price, place.weight)

    def _usable(self, provider_id: ProviderId) -> ProviderEntry | None:
        provider = self.catalogue.provider(provider_id)
        known = provider is not None and provider.usable and provider.kind in self.kinds
        return provider if known else None

    def _model(self, name: str, operation: Operation) -> ModelEntry | None:
        """The model of that id; a moderation model also by its provider's own name for it, which
        is all that SDKs know.
        """
        found = self.catalogue.model(name)
        if found is not None or operation != "moderations":
            return found
        able = [model for model in self.catalogue.models() if can_do(model, operation)]
        if not able:
            raise NotImplementedHere("no provider here offers moderation")
        return next((model for model in able if model.upstream_model == name), None)


def _with_each_credential(place: Route) -> Sequence[Route]:
    """The place with every credential that its provider has; together they have its share."""
    variants = place.provider.variants
    if not variants:
        return (place,)
    whole: dict[int, int] = {}
    for one in variants:
        whole[one.rank] = whole.get(one.rank, 0) + one.weight
    return [
        replace(place, provider=one, weight=place.weight * one.weight / whole[one.rank])
        for one in variants
    ]


def can_do(model: ModelEntry, operation: Operation) -> bool:
    """True where this is the kind of model for it."""
    match operation:
        case "chat":
            return model.model_type == "text"
        case "embeddings":
            return model.model_type == "embedding" or model.capabilities.embeddings
        case "moderations":
            return model.model_type == "moderation"
        case _:
            assert_never(operation)
