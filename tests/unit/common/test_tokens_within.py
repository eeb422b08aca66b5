"""How many tokens an amount is enough for: the inverse of what they cost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.common.money import Price, Rate, RateTier, TokenKind, cost_nanousd, tokens_within
from services.common.pricing_pb import PriceMessages, price_from_pb

_RATES = st.one_of(st.just(0), st.integers(1, 10), st.integers(1, 10**12))


@given(
    prompt_rate=_RATES,
    rate=_RATES,
    tier=_RATES,
    fee=st.integers(0, 1_000_000),
    prompt=st.integers(0, 200_000),
    amount=st.integers(0, 10**13),
)
def test_one_token_more_would_cost_more_than_the_amount(
    prompt_rate: int, rate: int, tier: int, *, fee: int, prompt: int, amount: int
) -> None:
    tiers = (RateTier(100_000, tier),)
    rates = {TokenKind.PROMPT: Rate(prompt_rate), TokenKind.COMPLETION: Rate(rate, tiers)}
    price, most = Price("pv", rates, request_fee_nanousd=fee), 1 << 40
    beside = {TokenKind.PROMPT: prompt}

    def cost(tokens: int) -> int:
        return cost_nanousd({**beside, TokenKind.COMPLETION: tokens}, price)

    tokens = tokens_within(amount, price, kind=TokenKind.COMPLETION, beside=beside, most=most)
    assert 0 <= tokens <= most
    assert tokens == 0 or cost(tokens) <= amount
    assert tokens == most or cost(tokens + 1) > amount


def test_a_price_that_is_written_again_is_the_same_message_and_another_price_another() -> None:
    known = PriceMessages(prices_max=2)
    prices = [Price(f"pv_{n}", {TokenKind.PROMPT: Rate(n)}) for n in range(5)]
    for price in [*prices, *prices]:
        assert price_from_pb(known.of(price)) == price
        assert known.of(price) is known.of(price)
