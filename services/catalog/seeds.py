"""What a seed is: providers and models as a source of prices knows them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from services.catalog.domain.settings import ModelSettings, ProviderSettings
from services.common.ids import ModelId, PriceVersionId, ProviderId, ulid_from_bytes
from services.common.money import Price


@dataclass(frozen=True, slots=True)
class SeedProvider:
    """A provider and its settings as first registered."""

    provider_id: ProviderId
    settings: ProviderSettings


@dataclass(frozen=True, slots=True)
class SeedModel:
    """A model with its dated prices, ascending; the first, undated one is valid from 0."""

    model_id: ModelId
    settings: ModelSettings
    prices: tuple[Price, ...]


@dataclass(frozen=True, slots=True)
class Seeds:
    """What a source offers, and what it had to leave out: how many models for which reason."""

    providers: tuple[SeedProvider, ...] = ()
    models: tuple[SeedModel, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=Counter)


def price_version_id(price: Price) -> PriceVersionId:
    """The id of these figures for this model from this moment, the same wherever computed."""
    digest = hashlib.sha256(f"{price.model_id}\n{price.valid_from_ms}\n".encode())
    digest.update(f"{price.request_fee_nanousd}\n".encode())
    for kind, rate in sorted(price.rates.items()):
        tiers = ",".join(f"{t.from_prompt_tokens}:{t.nanousd_per_million}" for t in rate.tiers)
        digest.update(f"{int(kind)}={rate.nanousd_per_million};{tiers}\n".encode())
    return PriceVersionId(f"pv_{ulid_from_bytes(digest.digest()[:16])}")


def identified(price: Price) -> Price:
    """The price under the id of its own content."""
    return replace(price, price_version_id=price_version_id(price))


def same_figures(one: Price, other: Price) -> bool:
    """True where every request costs the same under both."""
    return one.request_fee_nanousd == other.request_fee_nanousd and dict(one.rates) == dict(
        other.rates
    )
