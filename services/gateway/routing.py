"""From the models that were asked for to the one that serves: pure, over the catalogue."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import assert_never

from services.common.errors import AppError, ModelNotFound, ProviderNotAvailable
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


@dataclass(frozen=True, slots=True)
class Router:
    """Chooses among the models of the catalogue; `kinds` are the providers that there is an adapter
    for.
    """

    catalogue: Catalogue
    kinds: Collection[ProviderKind]

    def choose(
        self,
        names: Sequence[str],
        settings: KeySettings,
        now_ms: int,
        *,
        operation: Operation = "chat",
    ) -> Route:
        """The first of the names that can be served.

        Raises what is wrong with the first name where none can: ModelNotFound for one that is
        unknown, switched off, without a price or not for this key; CapabilityNotSupported for one
        that does something else; ProviderNotAvailable where its provider cannot be used now.
        """
        faults: list[AppError] = []
        for name in names:
            try:
                return self._route(name, settings, now_ms, operation=operation)
            except (ModelNotFound, CapabilityNotSupported, ProviderNotAvailable) as fault:
                faults.append(fault)
        raise faults[0] if faults else ModelNotFound("no model was asked for")

    def _route(
        self, name: str, settings: KeySettings, now_ms: int, *, operation: Operation
    ) -> Route:
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
        provider = self.catalogue.provider(model.provider_id)
        if provider is None or not provider.usable or provider.kind not in self.kinds:
            raise ProviderNotAvailable(f"{name} cannot be reached at the moment")
        return Route(model, provider, price)

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
