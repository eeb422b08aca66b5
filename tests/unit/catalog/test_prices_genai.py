"""What we charge for a seeded model is what the price package calculates, to the nano-dollar."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from functools import cache

import pytest
from genai_prices import Usage, data
from genai_prices.types import ModelInfo, ModelPrice, Provider, Tier, TieredPrices
from hypothesis import given, settings
from hypothesis import strategies as st

from services.catalog.adapters.known_providers import KNOWN_PROVIDERS
from services.catalog.adapters.prices_genai import (
    GenaiPrices,
    NotRepresentable,
    figures_of,
    rate_of,
)
from services.catalog.domain.model import ImportModel, Model, decide
from services.catalog.domain.provider import PutProvider
from services.catalog.domain.provider import decide as decide_provider
from services.catalog.seeds import SeedModel, Seeds
from services.common.ids import ModelId
from services.common.money import Price, Rate, RateTier, TokenKind, cost_nanousd

Quantities = Mapping[TokenKind, int]
FIRST_MS = int(datetime(2022, 1, 1, tzinfo=UTC).timestamp()) * 1000
LAST_MS = int(datetime(2030, 1, 1, tzinfo=UTC).timestamp()) * 1000
BEFORE_ALL = datetime(2001, 1, 1, tzinfo=UTC)
EVERY_KIND: Quantities = {
    TokenKind.PROMPT: 1_003,
    TokenKind.CACHED_PROMPT: 20_011,
    TokenKind.CACHE_WRITE: 707,
    TokenKind.AUDIO_PROMPT: 33,
    TokenKind.COMPLETION: 4_999,
    TokenKind.REASONING: 1_001,
    TokenKind.AUDIO_COMPLETION: 77,
}


@cache
def seeds() -> Seeds:
    return GenaiPrices().read()


@cache
def theirs() -> dict[str, tuple[Provider, ModelInfo]]:
    """The package's provider and model behind every seed, by our model id."""
    by_id = {provider.id: provider for provider in data.providers}
    prefixes = {known.provider_id: known.upstream_prefix for known in KNOWN_PROVIDERS}
    found: dict[str, tuple[Provider, ModelInfo]] = {}
    for seed in seeds().models:
        provider = by_id[seed.settings.provider_id]
        name = seed.settings.upstream_model.removeprefix(prefixes[seed.settings.provider_id])
        found[seed.model_id] = (provider, next(m for m in provider.models if m.id == name))
    return found


def their_cost_nanousd(model_id: str, quantities: Quantities, at: datetime) -> int:
    def tokens(*kinds: TokenKind) -> int:
        return sum(quantities.get(kind, 0) for kind in kinds)

    provider, model = theirs()[model_id]
    usage = Usage(
        input_tokens=tokens(
            TokenKind.PROMPT,
            TokenKind.CACHED_PROMPT,
            TokenKind.CACHE_WRITE,
            TokenKind.AUDIO_PROMPT,
        ),
        cache_read_tokens=tokens(TokenKind.CACHED_PROMPT),
        cache_write_tokens=tokens(TokenKind.CACHE_WRITE),
        input_audio_tokens=tokens(TokenKind.AUDIO_PROMPT),
        cache_audio_read_tokens=0,
        output_tokens=tokens(TokenKind.COMPLETION, TokenKind.REASONING, TokenKind.AUDIO_COMPLETION),
        output_reasoning_tokens=tokens(TokenKind.REASONING),
        output_audio_tokens=tokens(TokenKind.AUDIO_COMPLETION),
    )
    found = model.calc_price(usage, provider, genai_request_timestamp=at)
    return int((found.total_price * 10**9).quantize(Decimal(1), rounding=ROUND_HALF_UP))


def boundaries(seed: SeedModel) -> list[int]:
    """Prompt lengths on both sides of every tier of the model."""
    starts = {
        tier.from_prompt_tokens
        for price in seed.prices
        for rate in price.rates.values()
        for tier in rate.tiers
    }
    return sorted({0, 1, 999_983, *starts, *(start - 1 for start in starts)})


def begun(price: Price) -> datetime:
    return (
        datetime.fromtimestamp(price.valid_from_ms / 1000, UTC)
        if price.valid_from_ms
        else (BEFORE_ALL)
    )


def test_every_version_of_every_seeded_model_costs_what_the_package_says() -> None:
    wrong: list[str] = []
    for seed in seeds().models:
        for price in seed.prices:
            usages = [
                {TokenKind.PROMPT: prompt, TokenKind.COMPLETION: 12_347}
                for prompt in boundaries(seed)
            ]
            for usage in [EVERY_KIND, *usages]:
                expected = their_cost_nanousd(seed.model_id, usage, begun(price))
                if cost_nanousd(usage, price) != expected:
                    wrong.append(f"{price}: {usage}")
    assert len(seeds().models) > 1000
    assert wrong == []


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_usage_on_any_day_costs_what_the_package_says(draw: st.DataObject) -> None:
    seed = draw.draw(st.sampled_from(seeds().models), "model")
    at_ms = draw.draw(st.integers(FIRST_MS, LAST_MS), "moment")
    at = datetime.fromtimestamp(at_ms // 1000, UTC)
    usage = draw.draw(
        st.dictionaries(st.sampled_from(TokenKind), st.integers(0, 3_000_000)), "usage"
    )
    model = Model(seed.model_id, seed.settings, 0, seed.prices)
    price = model.price_at(at_ms)
    assert price is not None
    assert cost_nanousd(usage, price) == their_cost_nanousd(seed.model_id, usage, at)


def test_every_seed_is_one_that_the_domain_accepts() -> None:
    for provider in seeds().providers:
        assert decide_provider(None, PutProvider(provider.provider_id, provider.settings, 1))
    for seed in seeds().models:
        events = decide(None, ImportModel(seed.model_id, seed.settings, seed.prices, 1))
        assert len(events) == 1 + len(seed.prices) >= 2


def test_ids_are_the_same_whenever_they_are_computed_and_never_twice() -> None:
    again = GenaiPrices().read()
    ids = [price.price_version_id for seed in seeds().models for price in seed.prices]
    assert ids == [price.price_version_id for seed in again.models for price in seed.prices]
    assert len(set(ids)) == len(ids)
    assert len({seed.model_id for seed in seeds().models}) == len(seeds().models)


def test_every_model_of_a_known_provider_is_either_seeded_or_counted() -> None:
    known = {provider.provider_id for provider in KNOWN_PROVIDERS}
    offered = sum(len(provider.models) for provider in data.providers if provider.id in known)
    assert len(seeds().models) + sum(seeds().skipped.values()) == offered
    assert seeds().skipped["finer than a nano-dollar"] > 0
    assert seeds().skipped["depends on the time of day"] > 0


def test_the_base_url_of_a_known_provider_is_the_one_that_the_package_knows_it_by() -> None:
    patterns = {provider.id: provider.api_pattern for provider in data.providers}
    for known in KNOWN_PROVIDERS:
        assert re.match(patterns[known.provider_id], known.base_url), known


def test_only_models_called_free_are_free_without_the_package_naming_a_price() -> None:
    for seed in seeds().models:
        prices = theirs()[seed.model_id][1].prices
        named = not isinstance(prices, ModelPrice) or any(
            value is not None for value in vars(prices).values()
        )
        assert named or seed.model_id.endswith(":free")


def test_a_tier_applies_from_the_token_after_its_start() -> None:
    tiered = TieredPrices(base=Decimal("1.25"), tiers=[Tier(start=200_000, price=Decimal("2.5"))])
    assert rate_of(tiered) == Rate(1_250_000_000, (RateTier(200_001, 2_500_000_000),))


@pytest.mark.parametrize(
    ("price", "reason"),
    [
        (ModelPrice(input_mtok=Decimal("0.0000000001")), "finer than a nano-dollar"),
        (ModelPrice(input_mtok=Decimal("0.18000000000000002")), "finer than a nano-dollar"),
        (ModelPrice(input_mtok=Decimal("-1")), "not an amount"),
        (ModelPrice(input_mtok=Decimal("NaN")), "not an amount"),
        (ModelPrice(input_mtok=Decimal(1), requests_kcount=Decimal("0.0000001")), "finer"),
        (ModelPrice(audio_hours=Decimal(1)), "another unit: audio_hours"),
        (ModelPrice(), "no price is known"),
        (ModelPrice(requests_kcount=Decimal(5)), "no price is known"),
    ],
)
def test_what_cannot_be_said_exactly_is_left_out(price: ModelPrice, reason: str) -> None:
    with pytest.raises(NotRepresentable, match=reason):
        figures_of(price, "some-model")


def test_a_fee_for_a_thousand_requests_becomes_a_fee_for_one() -> None:
    figures = figures_of(
        ModelPrice(input_mtok=Decimal(1), requests_kcount=Decimal("5.5")), "some-model"
    )
    assert figures.request_fee_nanousd == 5_500_000


def test_a_modality_with_a_price_of_its_own_is_not_offered() -> None:
    own = ModelPrice(input_mtok=Decimal(1), input_image_mtok=Decimal(2))
    same = ModelPrice(input_mtok=Decimal(1), input_image_mtok=Decimal(1))
    assert figures_of(own, "some-model").without == {("input", "image")}
    assert figures_of(same, "some-model").without == frozenset()


def test_well_known_models_are_what_they_are_known_for() -> None:
    found = {seed.model_id: seed.settings for seed in seeds().models}
    gpt = found[ModelId("openai/gpt-4o")]
    assert gpt.context_length == 128_000
    assert gpt.tokenizer == "o200k_base"
    assert gpt.input_modalities == ("text", "image")
    assert gpt.capabilities.tools
    assert found[ModelId("openai/text-embedding-3-small")].model_type == "embedding"
    claude = found[ModelId("anthropic/claude-sonnet-4-5")]
    assert claude.capabilities.reasoning
    assert claude.tokenizer == ""
