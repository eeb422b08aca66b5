"""From the models that were asked for to the one that serves: pure, over the catalogue."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from services.common.errors import AppError, ModelNotFound, ProviderNotAvailable
from services.common.money import Price
from services.gateway.errors import CapabilityNotSupported
from services.gateway.ports import Catalogue, KeySettings, ModelEntry, ProviderEntry, ProviderKind


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes, at the price that is pinned for it."""

    model: ModelEntry
    provider: ProviderEntry
    price: Price


@dataclass(frozen=True, slots=True)
class Router:
    """Chooses among the models of the catalogue; `kinds` are the providers that there is an adapter
    for.
    """

    catalogue: Catalogue
    kinds: Collection[ProviderKind]

    def choose(self, names: Sequence[str], settings: KeySettings, now_ms: int) -> Route:
        """The first of the names that can be served.

        Raises what is wrong with the first name where none can: ModelNotFound for one that is
        unknown, switched off, without a price or not for this key; CapabilityNotSupported for one
        that does not chat; ProviderNotAvailable where its provider cannot be used now.
        """
        faults: list[AppError] = []
        for name in names:
            try:
                return self._route(name, settings, now_ms)
            except (ModelNotFound, CapabilityNotSupported, ProviderNotAvailable) as fault:
                faults.append(fault)
        raise faults[0] if faults else ModelNotFound("no model was asked for")

    def _route(self, name: str, settings: KeySettings, now_ms: int) -> Route:
        model = self.catalogue.model(name)
        price = model.price_at(now_ms) if model is not None else None
        if model is None or price is None or not model.available or not settings.allows(name):
            raise ModelNotFound(f"there is no model {name!r} for this key")
        if model.model_type != "text":
            raise CapabilityNotSupported(f"{name} does not answer chat requests")
        provider = self.catalogue.provider(model.provider_id)
        if provider is None or not provider.usable or provider.kind not in self.kinds:
            raise ProviderNotAvailable(f"{name} cannot be reached at the moment")
        return Route(model, provider, price)
