"""Estimates, tallies and the split into disjoint kinds."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.ids import ModelId, ProviderId
from services.common.money import Price, Rate, RateTier, TokenKind, cost_nanousd
from services.gateway.chat_request import ChatRequest, chat_request_from_body
from services.gateway.errors import ContextWindowExceeded
from services.gateway.metering import (
    Estimate,
    EstimateRules,
    UsageTally,
    affordable_output,
    estimate,
    usage_from_wire,
)
from services.gateway.ports import ModelEntry
from services.gateway.tokens import count_text

RULES = EstimateRules()
PRICE = Price(
    "pv", {TokenKind.PROMPT: Rate(2_000_000_000), TokenKind.COMPLETION: Rate(8_000_000_000)}
)
MODEL = ModelEntry(
    model_id=ModelId("m"), name="M", provider_id=ProviderId("p"), upstream_model="m",
    context_length=1_000, max_output_tokens=500, tokenizer="o200k_base", prices=(PRICE,),
    available=True,
)  # fmt: skip


def _request(**more: object) -> ChatRequest:
    return chat_request_from_body(
        {"model": "m", "messages": [{"role": "user", "content": "Hello there"}], **more}
    )


def _guess(price: Price = PRICE, model: ModelEntry = MODEL, **more: object) -> Estimate:
    return asyncio.run(estimate(_request(**more), model, price, rules=RULES))


def test_the_output_is_bounded_by_the_least_of_all_bounds() -> None:
    assert _guess().output_tokens == 500
    assert _guess(max_tokens=70).output_tokens == 70
    assert _guess(max_tokens=70_000).output_tokens == 500
    assert _guess(model=replace(MODEL, max_output_tokens=0)).output_tokens == 1_000 - 9
    assert _guess(max_tokens=70, n=3).output_tokens == 210


def test_the_least_is_the_prompt_and_a_short_answer() -> None:
    guess = _guess()
    assert guess.prompt_tokens == 9
    assert guess.full_nanousd == 9 * 2_000 + 500 * 8_000
    assert guess.least_nanousd == 9 * 2_000 + 16 * 8_000
    assert _guess(max_tokens=3).least_nanousd == 9 * 2_000 + 3 * 8_000


def test_the_hold_covers_the_dearest_kind_a_token_may_turn_out_to_be() -> None:
    rates = {
        **PRICE.rates,
        TokenKind.CACHE_WRITE: Rate(2_500_000_000),
        TokenKind.REASONING: Rate(9_000_000_000),
    }
    guess = _guess(price=Price("pv", rates))
    assert guess.full_nanousd == 9 * 2_500 + 500 * 9_000


def test_a_long_prompt_is_held_at_its_own_tier() -> None:
    tiered = Price("pv", {TokenKind.PROMPT: Rate(1_000_000, (RateTier(5, 4_000_000),))})
    assert _guess(price=tiered).full_nanousd == 9 * 4


def test_a_prompt_that_does_not_fit_is_refused_even_where_it_is_free() -> None:
    free = Price("pv", {TokenKind.PROMPT: Rate(0)})
    small = replace(MODEL, context_length=5)
    for price in (PRICE, free):
        with pytest.raises(ContextWindowExceeded):
            _guess(price=price, model=small)
    assert _guess(price=free).full_nanousd == 0


@given(amount=st.integers(0, 10_000_000), limit=st.integers(1, 500))
def test_the_clamp_spends_no_more_than_the_amount_and_leaves_no_token_out(
    amount: int, limit: int
) -> None:
    guess = _guess(max_tokens=limit)
    tokens = affordable_output(guess, PRICE, amount)

    def cost(output: int) -> int:
        return cost_nanousd({TokenKind.PROMPT: 9, TokenKind.COMPLETION: output}, PRICE)

    assert tokens == 0 or cost(tokens) <= amount
    assert tokens == limit or cost(tokens + 1) > amount


_COUNT = st.one_of(
    st.integers(-5, 10**6), st.none(), st.booleans(), st.text(max_size=3), st.floats()
)


@given(
    prompt=st.integers(0, 10**6), completion=st.integers(0, 10**6),
    details=st.lists(_COUNT, min_size=5, max_size=5),
)  # fmt: skip
def test_kinds_are_disjoint_never_negative_and_sum_to_the_totals(
    prompt: int, completion: int, details: list[object]
) -> None:
    names = ("cached_tokens", "cache_write_tokens", "audio_tokens")
    usage = usage_from_wire(
        {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": dict(zip(names, details[:3], strict=True)),
            "completion_tokens_details": {
                "reasoning_tokens": details[3], "audio_tokens": details[4],
            },
        }
    )  # fmt: skip
    assert usage is not None
    quantities = usage.quantities()
    assert all(tokens > 0 for tokens in quantities.values())
    wire = usage.to_wire()
    assert sum(quantities.values()) == wire["total_tokens"]
    assert wire["prompt_tokens"] == prompt
    assert wire["completion_tokens"] >= completion


def test_reasoning_that_is_counted_beside_the_completion_is_added_to_it() -> None:
    usage = usage_from_wire(
        {
            "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 35,
            "completion_tokens_details": {"reasoning_tokens": 20},
        }
    )  # fmt: skip
    assert usage is not None
    assert usage.quantities() == {
        TokenKind.PROMPT: 10, TokenKind.REASONING: 20, TokenKind.COMPLETION: 5,
    }  # fmt: skip


def _wire(prompt: object) -> dict[str, object]:
    return {"prompt_tokens": prompt, "completion_tokens": 1}


@pytest.mark.parametrize(
    "wire",
    [None, [], {}, {"prompt_tokens": 1}, *map(_wire, (-1, 1.5, True, 10**11, "3", None))],
)
def test_usage_that_makes_no_sense_is_none(wire: object) -> None:
    assert usage_from_wire(wire) is None


async def test_nothing_produced_is_nothing_used() -> None:
    usage, basis = await UsageTally().settle(_request(), "o200k_base")
    assert (usage.quantities(), basis) == ({}, "none")


async def test_reasoning_text_is_counted_as_reasoning() -> None:
    tally = UsageTally(texts=["Hello", " there"], reasoning_texts=["Let me think"])
    usage, basis = await tally.settle(_request(), "o200k_base")
    assert basis == "tokenizer"
    assert usage.quantities() == {
        TokenKind.PROMPT: 9, TokenKind.REASONING: 3, TokenKind.COMPLETION: 2,
    }  # fmt: skip


async def test_a_huge_text_is_counted_in_pieces_that_change_little() -> None:
    words = "the quick brown fox jumps " * 20_000
    counted = await count_text([words], "o200k_base")
    assert abs(counted - 100_001) <= len(words) // 65_536 + 1


async def test_special_tokens_in_a_prompt_are_plain_text() -> None:
    assert await count_text(["<|endoftext|>"], "cl100k_base") > 1
