"""A model and its dated prices.

Prices are immutable and ascend by the moment from which they are valid. None begins in the past,
because what was billed since then would no longer agree with it. The one exception is the history
a model is imported with before it has any price: nothing can have been billed by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import assert_never

from services.catalog.domain.provider import Provider
from services.catalog.domain.settings import (
    FREE_SUFFIX,
    ModelSettings,
    checked_model,
    checked_model_id,
)
from services.common.errors import Conflict, InvalidArgument, ModelNotFound
from services.common.ids import ModelId
from services.common.money import Price, Rate

# A million dollars per million tokens, a thousand dollars per request: far above any real price,
# low enough that no cost of a real request leaves 64 bits.
RATE_NANOUSD_MAX = 10**15
REQUEST_FEE_NANOUSD_MAX = 10**12
TIERS_MAX = 16


@dataclass(frozen=True, slots=True)
class Model:
    """A model with the whole history of its prices, ascending by `valid_from_ms`."""

    model_id: ModelId
    settings: ModelSettings
    created_at_ms: int
    prices: tuple[Price, ...] = ()

    def price_at(self, now_ms: int) -> Price | None:
        """The version in force, or None."""
        return next((p for p in reversed(self.prices) if p.valid_from_ms <= now_ms), None)

    def prices_from(self, now_ms: int) -> tuple[Price, ...]:
        """The version in force and those that will be, ascending."""
        in_force = self.price_at(now_ms)
        coming = tuple(p for p in self.prices if p.valid_from_ms > now_ms)
        return coming if in_force is None else (in_force, *coming)

    def available(self, provider: Provider | None, now_ms: int) -> bool:
        """Enabled, priced, and its provider usable; of a model with several places gateways see
        which can be used.
        """
        served = bool(self.settings.deployments) or (provider is not None and provider.usable)
        return self.settings.enabled and served and self.price_at(now_ms) is not None


@dataclass(frozen=True, slots=True)
class PutModel:
    model_id: ModelId
    settings: ModelSettings
    at_ms: int


@dataclass(frozen=True, slots=True)
class ImportModel:
    """A model with the history of its prices, ascending; some may lie in the past."""

    model_id: ModelId
    settings: ModelSettings
    prices: tuple[Price, ...]
    at_ms: int


@dataclass(frozen=True, slots=True)
class PublishPrice:
    """`price.valid_from_ms` 0 means now."""

    price: Price
    at_ms: int


ModelCommand = PutModel | ImportModel | PublishPrice


@dataclass(frozen=True, slots=True)
class ModelRegistered:
    model_id: ModelId
    settings: ModelSettings
    at_ms: int


@dataclass(frozen=True, slots=True)
class ModelChanged:
    model_id: ModelId
    settings: ModelSettings
    at_ms: int


@dataclass(frozen=True, slots=True)
class PricePublished:
    price: Price
    at_ms: int


ModelEvent = ModelRegistered | ModelChanged | PricePublished


def decide(state: Model | None, command: ModelCommand) -> list[ModelEvent]:
    """What happens. Raises InvalidArgument, Conflict, ModelNotFound."""
    match command:
        case PutModel(model_id, settings, at_ms):
            return _put(state, model_id, settings, at_ms=at_ms)
        case ImportModel(model_id, settings, prices, at_ms):
            if state is not None and state.prices:
                raise Conflict(f"{model_id} has prices already")
            history = [_checked_price(price, model_id) for price in prices]
            _ascending(history)
            events = _put(state, model_id, settings, at_ms=at_ms)
            return [*events, *(PricePublished(price, at_ms) for price in history)]
        case PublishPrice(price, at_ms):
            return [PricePublished(_next_price(state, price, at_ms), at_ms)]
        case _:
            assert_never(command)


def evolve(state: Model | None, event: ModelEvent) -> Model:
    """The model after the event."""
    match event:
        case ModelRegistered(model_id, settings, at_ms):
            assert state is None
            return Model(model_id, settings, at_ms)
        case ModelChanged(_, settings):
            assert state is not None
            return replace(state, settings=settings)
        case PricePublished(price):
            assert state is not None
            assert not state.prices or price.valid_from_ms > state.prices[-1].valid_from_ms
            return replace(state, prices=(*state.prices, price))
        case _:
            assert_never(event)


def _put(
    state: Model | None, model_id: ModelId, settings: ModelSettings, *, at_ms: int
) -> list[ModelEvent]:
    settings = checked_model(settings)
    if state is None:
        return [ModelRegistered(checked_model_id(model_id), settings, at_ms)]
    return [] if state.settings == settings else [ModelChanged(model_id, settings, at_ms)]


def _next_price(state: Model | None, price: Price, now_ms: int) -> Price:
    if state is None:
        raise ModelNotFound(f"there is no model {price.model_id!r}")
    if price.valid_from_ms == 0:
        price = replace(price, valid_from_ms=now_ms)
    if price.valid_from_ms < now_ms:
        raise InvalidArgument.of("valid_from_ms", "must not be in the past")
    _ascending([*state.prices[-1:], price])
    return _checked_price(price, state.model_id)


def _ascending(prices: Sequence[Price]) -> None:
    for earlier, later in pairwise(prices):
        if later.valid_from_ms <= earlier.valid_from_ms:
            raise InvalidArgument.of(
                "valid_from_ms", f"must be after {earlier.valid_from_ms}, the newest version's"
            )


def _checked_price(price: Price, model_id: ModelId) -> Price:
    if price.model_id != model_id:
        raise InvalidArgument.of("model_id", f"the price is of another model than {model_id}")
    if not price.price_version_id:
        raise InvalidArgument.of("price_version_id", "must not be empty")
    # An empty price would make the model free without anyone having said so.
    if not price.rates:
        raise InvalidArgument.of("rates", "must name at least one rate, if only of 0")
    if not 0 <= price.request_fee_nanousd <= REQUEST_FEE_NANOUSD_MAX:
        raise InvalidArgument.of("request_fee_nanousd", f"must be 0 to {REQUEST_FEE_NANOUSD_MAX}")
    for kind, rate in price.rates.items():
        _checked_rate(f"rates.{kind.name.lower()}", rate)
    if model_id.endswith(FREE_SUFFIX) and not price.is_free:
        raise InvalidArgument.of("rates", f"a model that ends in {FREE_SUFFIX} must cost nothing")
    return price


def _checked_rate(where: str, rate: Rate) -> None:
    amounts = [rate.nanousd_per_million, *(tier.nanousd_per_million for tier in rate.tiers)]
    if not all(0 <= amount <= RATE_NANOUSD_MAX for amount in amounts):
        raise InvalidArgument.of(where, f"must be 0 to {RATE_NANOUSD_MAX} nano-dollars a million")
    starts = [tier.from_prompt_tokens for tier in rate.tiers]
    if len(starts) > TIERS_MAX or any(start < 1 for start in starts):
        raise InvalidArgument.of(where, f"must have at most {TIERS_MAX} tiers, each from 1 or more")
    if any(later <= earlier for earlier, later in pairwise(starts)):
        raise InvalidArgument.of(where, "the tiers must ascend")
