"""Prices keep every figure when they go through a message and come back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.money import INT64_MAX, Price, Rate, RateTier, TokenKind, cost_nanousd
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pricing_pb import price_from_pb, price_to_pb, rates_from_pb

amounts = st.integers(min_value=0, max_value=INT64_MAX)
tiers = st.dictionaries(st.integers(min_value=1, max_value=10**9), amounts, max_size=4).map(
    lambda by_start: tuple(RateTier(start, by_start[start]) for start in sorted(by_start))
)
rates = st.dictionaries(st.sampled_from(TokenKind), st.builds(Rate, amounts, tiers))
prices = st.builds(
    Price,
    price_version_id=st.text(max_size=30),
    rates=rates,
    request_fee_nanousd=amounts,
    model_id=st.text(max_size=30),
    valid_from_ms=amounts,
    source=st.text(max_size=30),
)


@given(prices)
def test_a_price_comes_back_from_its_bytes_unchanged(price: Price) -> None:
    raw = price_to_pb(price).SerializeToString()
    back = price_from_pb(common_pb2.PriceVersion.FromString(raw))
    assert back == price
    assert back.source == price.source


@given(prices)
def test_the_message_of_a_price_does_not_depend_on_the_order_of_its_rates(price: Price) -> None:
    turned = Price(
        price_version_id=price.price_version_id,
        rates=dict(reversed(list(price.rates.items()))),
        request_fee_nanousd=price.request_fee_nanousd,
        model_id=price.model_id,
        valid_from_ms=price.valid_from_ms,
        source=price.source,
    )
    assert price_to_pb(turned).SerializeToString() == price_to_pb(price).SerializeToString()


@given(prices, st.dictionaries(st.sampled_from(TokenKind), st.integers(0, 10**7)))
def test_a_price_that_was_sent_costs_the_same(
    price: Price, quantities: dict[TokenKind, int]
) -> None:
    assert cost_nanousd(quantities, price_from_pb(price_to_pb(price))) == cost_nanousd(
        quantities, price
    )


def test_every_kind_of_token_has_the_number_of_the_contract() -> None:
    ours = {f"TOKEN_KIND_{kind.name}": kind.value for kind in TokenKind}
    assert {**ours, "TOKEN_KIND_UNSPECIFIED": 0} == dict(common_pb2.TokenKind.items())


@pytest.mark.parametrize(
    "messages",
    [
        [common_pb2.Rate(kind=common_pb2.TOKEN_KIND_UNSPECIFIED)],
        [common_pb2.Rate(kind=common_pb2.TOKEN_KIND_PROMPT)] * 2,
        [
            common_pb2.Rate(
                kind=common_pb2.TOKEN_KIND_PROMPT,
                tiers=[common_pb2.RateTier(from_prompt_tokens=5)] * 2,
            )
        ],
    ],
    ids=["unknown kind", "kind twice", "tiers not ascending"],
)
def test_rates_that_contradict_themselves_are_refused(messages: list[common_pb2.Rate]) -> None:
    with pytest.raises(ValueError):
        rates_from_pb(messages)
