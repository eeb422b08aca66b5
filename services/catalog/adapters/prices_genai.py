"""Seeds from the `genai-prices` package: decimal dollars become integers of nano-dollars, exactly.

A model is left out, and counted, where our price could not say what the package says: an amount
finer than a nano-dollar, a rate that depends on the time of day, a unit that is not a token.
Nothing is rounded. Two differences of form are translated: the package applies a tier when the
prompt has MORE tokens than its start, ours from a number of tokens ON; and a modality whose tokens
we do not count apart but that has a price of its own is taken from what the model is offered for.

The package's standard price is meant, without its variants for batches or service tiers, and
without what a request must ask for explicitly (web or file searches, a cache of one hour).
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from services.catalog.adapters import known_providers, model_traits
from services.catalog.adapters.known_providers import KNOWN_PROVIDERS, KnownProvider
from services.catalog.domain.settings import FREE_SUFFIX, ModelSettings, is_model_id
from services.catalog.seeds import SeedModel, SeedProvider, Seeds, identified, same_figures
from services.common.ids import ModelId
from services.common.money import Price, Rate, RateTier, TokenKind

if TYPE_CHECKING:
    # Its data takes most of a second to import, so it is only imported when something has changed.
    from genai_prices import types as theirs

KIND_BY_PRICE_KEY: Mapping[str, TokenKind] = {
    "input_mtok": TokenKind.PROMPT,
    "cache_read_mtok": TokenKind.CACHED_PROMPT,
    "cache_write_mtok": TokenKind.CACHE_WRITE,
    "output_mtok": TokenKind.COMPLETION,
    "output_reasoning_mtok": TokenKind.REASONING,
    "input_audio_mtok": TokenKind.AUDIO_PROMPT,
    "output_audio_mtok": TokenKind.AUDIO_COMPLETION,
}
REQUEST_FEE_KEY = "requests_kcount"
# Charged only to a request that asks for it in a way the gateway does not pass on.
ONLY_WHEN_ASKED_FOR = frozenset(
    {"cache_write_1h_mtok", "web_searches_kcount", "storage_searches_kcount"}
)
# Price key -> which modality's tokens it prices, and the rate they would be billed at by us.
MODALITY_KEYS: Mapping[str, tuple[str, str, TokenKind]] = {
    "input_image_mtok": ("input", "image", TokenKind.PROMPT),
    "input_video_mtok": ("input", "video", TokenKind.PROMPT),
    "output_image_mtok": ("output", "image", TokenKind.COMPLETION),
    "output_video_mtok": ("output", "video", TokenKind.COMPLETION),
    "cache_image_read_mtok": ("input", "image", TokenKind.CACHED_PROMPT),
    "cache_audio_read_mtok": ("input", "audio", TokenKind.CACHED_PROMPT),
}
UNDERSTOOD_KEYS = (
    frozenset({REQUEST_FEE_KEY}) | KIND_BY_PRICE_KEY.keys() | MODALITY_KEYS.keys()
) | ONLY_WHEN_ASKED_FOR
_FREE = {TokenKind.PROMPT: Rate(0), TokenKind.COMPLETION: Rate(0)}


class NotRepresentable(Exception):
    """Our price cannot say exactly what the package's says; the text is the reason, to count by."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One price of the package in our units, and the modalities it cannot be offered for."""

    rates: Mapping[TokenKind, Rate]
    request_fee_nanousd: int = 0
    without: frozenset[tuple[str, str]] = frozenset()


class GenaiPrices:
    """A `SeedSource` over the installed package."""

    name = "genai-prices"

    def fingerprint(self) -> str:
        """Changes whenever the seeds may: with the package and with the tables they are made by."""
        digest = hashlib.sha256(version("genai-prices").encode())
        for module in (__file__, known_providers.__file__, model_traits.__file__):
            digest.update(Path(module).read_bytes())
        return digest.hexdigest()

    def read(self) -> Seeds:
        """Every known provider with those of its models whose price is exact."""
        from genai_prices import data

        by_id = {provider.id: provider for provider in data.providers}
        models: list[SeedModel] = []
        skipped: Counter[str] = Counter()
        for known in KNOWN_PROVIDERS:
            for info in by_id[known.provider_id].models:
                try:
                    models.append(seed_model(known, info))
                except NotRepresentable as reason:
                    skipped[str(reason)] += 1
        providers = (SeedProvider(known.provider_id, known.settings) for known in KNOWN_PROVIDERS)
        return Seeds(tuple(providers), tuple(models), skipped)


def seed_model(known: KnownProvider, info: theirs.ModelInfo) -> SeedModel:
    """The model with its dated prices; raises NotRepresentable."""
    model_id = ModelId(f"{known.provider_id}/{info.id.removeprefix(f'{known.provider_id}/')}")
    if not is_model_id(model_id) or re.fullmatch(known.serves, info.id) is None:
        raise NotRepresentable("not a name that the endpoint serves")
    if re.fullmatch(known.searches, info.id):
        raise NotRepresentable("searches on its own, which is charged by the search")
    dated = [(start_ms, figures_of(price, info.id)) for start_ms, price in dated_prices(info)]
    hears = TokenKind.AUDIO_PROMPT in dated[-1][1].rates
    traits = model_traits.traits_of(info.id, hears=hears)
    without = frozenset().union(*(figures.without for _, figures in dated))
    if ("output", traits.model_type) in without or ("input", traits.model_type) in without:
        raise NotRepresentable("tokens of its modality have a rate of their own")
    settings = ModelSettings(
        name=info.name or info.id,
        description=info.description or "",
        brand=info.id.partition("/")[0].lstrip("~") if "/" in info.id else known.provider_id,
        provider_id=known.provider_id,
        upstream_model=f"{known.upstream_prefix}{info.id}",
        context_length=info.context_window or 0,
        input_modalities=_kept("input", traits.input_modalities, without),
        output_modalities=_kept("output", traits.output_modalities, without),
        capabilities=traits.capabilities,
        model_type=traits.model_type,
        tokenizer=traits.tokenizer,
    )
    return SeedModel(model_id, settings, tuple(_versions(model_id, dated)))


def dated_prices(info: theirs.ModelInfo) -> list[tuple[int, theirs.ModelPrice]]:
    """The package's prices with the Unix milliseconds from which each is valid, 0 for the first."""
    from genai_prices.types import ModelPrice, StartDateConstraint

    if isinstance(info.prices, ModelPrice):
        return [(0, info.prices)]
    starts: set[date] = set()
    for conditional in info.prices:
        if isinstance(conditional.constraint, StartDateConstraint):
            starts.add(conditional.constraint.start_date)
        elif conditional.constraint is not None:
            raise NotRepresentable("depends on the time of day")
    moments = [datetime.combine(start, time(), UTC) for start in sorted(starts)]
    before = info.get_prices(datetime.min.replace(tzinfo=UTC))
    later = [(int(at.timestamp()) * 1000, info.get_prices(at)) for at in moments]
    return [(0, before), *later]


def figures_of(price: theirs.ModelPrice, upstream_id: str) -> Figures:
    """One price in our units; raises NotRepresentable."""
    given: dict[str, Decimal | theirs.TieredPrices] = {
        key: value for key, value in vars(price).items() if value is not None
    }
    if not given and upstream_id.endswith(FREE_SUFFIX):
        return Figures(_FREE)
    for key in given:
        if key not in UNDERSTOOD_KEYS:
            raise NotRepresentable(f"charged by another unit: {key}")
    rates = {kind: rate_of(given[key]) for key, kind in KIND_BY_PRICE_KEY.items() if key in given}
    if not rates:
        raise NotRepresentable("no price is known")
    if upstream_id.endswith(FREE_SUFFIX) and any(rate != Rate(0) for rate in rates.values()):
        raise NotRepresentable("called free but has a price")
    billed = Price("", rates)
    without = frozenset(
        (direction, modality)
        for key, (direction, modality, kind) in MODALITY_KEYS.items()
        if key in given and rate_of(given[key]) != _billed_rate(billed, kind)
    )
    fee = given.get(REQUEST_FEE_KEY, Decimal(0))
    if not isinstance(fee, Decimal):
        raise NotRepresentable("a fee in tiers")
    return Figures(rates, _whole(fee.scaleb(6)), without)


def rate_of(value: Decimal | theirs.TieredPrices) -> Rate:
    """USD per million tokens as nano-dollars per million; raises NotRepresentable."""
    if isinstance(value, Decimal):
        return Rate(_whole(value.scaleb(9)))
    # Of tiers with one start the package takes the last.
    tiers = {tier.start + 1: _whole(tier.price.scaleb(9)) for tier in value.tiers}
    ordered = tuple(RateTier(start, tiers[start]) for start in sorted(tiers))
    return Rate(_whole(value.base.scaleb(9)), ordered)


def _whole(amount_nanousd: Decimal) -> int:
    if not amount_nanousd.is_finite() or amount_nanousd < 0:
        raise NotRepresentable("not an amount")
    if amount_nanousd != amount_nanousd.to_integral_value():
        raise NotRepresentable("finer than a nano-dollar")
    return int(amount_nanousd)


def _billed_rate(price: Price, kind: TokenKind) -> Rate | None:
    fallback = TokenKind.PROMPT if kind is TokenKind.CACHED_PROMPT else kind
    return price.rates.get(kind, price.rates.get(fallback))


def _kept(
    direction: str, modalities: tuple[str, ...], without: frozenset[tuple[str, str]]
) -> tuple[str, ...]:
    return tuple(modality for modality in modalities if (direction, modality) not in without)


def _versions(model_id: ModelId, dated: list[tuple[int, Figures]]) -> Iterator[Price]:
    source = f"{GenaiPrices.name} {version(GenaiPrices.name)}"
    before: Price | None = None
    for start_ms, figures in dated:
        price = Price(
            price_version_id="",
            rates=figures.rates,
            request_fee_nanousd=figures.request_fee_nanousd,
            model_id=model_id,
            valid_from_ms=start_ms,
            source=source,
        )
        if before is None or not same_figures(before, price):
            yield identified(price)
            before = price
