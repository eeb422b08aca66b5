"""When the hold of an answer grows, by how much, and what it pays for."""

from __future__ import annotations

import asyncio

import pytest

from services.common.errors import SpendLimitExceeded
from services.common.ids import AccountId, GrantId, KeyId, UsageId
from services.common.money import Price, Rate, TokenKind
from services.gateway.metering import Estimate, EstimateRules, UsageTally
from services.gateway.ports import Hold, HoldRequest
from services.gateway.slices import HoldSlices

PROMPT, SLICE = 10, 100
PRICE = Price("pv", {TokenKind.PROMPT: Rate(1_000_000), TokenKind.COMPLETION: Rate(1_000_000)})
GUESS = Estimate(
    PROMPT, 4_096, PROMPT + SLICE, PROMPT + 16, TokenKind.PROMPT, TokenKind.COMPLETION,
    send_limit=False, slice_tokens=SLICE,
)  # fmt: skip


class Money:
    """A budget with so much left, which notes what it is asked for and may be told to wait."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.asked: list[tuple[int, int]] = []
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def grow(self, hold: Hold, *, more_nanousd: int, least_nanousd: int) -> None:
        self.asked.append((more_nanousd, least_nanousd))
        await self.go_on.wait()
        if self.left < least_nanousd:
            raise SpendLimitExceeded("gone", extra={"limit": "balance", "state": "gone"})
        grown = min(self.left, more_nanousd)
        self.left -= grown
        hold.amount_nanousd += grown

    async def place(self, request: HoldRequest) -> Hold:
        raise AssertionError("not here")

    def settle(self, hold: Hold, cost_nanousd: int) -> None:
        raise AssertionError("not here")

    def release(self, hold: Hold) -> None:
        raise AssertionError("not here")


def slices(money: Money, hold: Hold, tokenizer: str = "o200k_base") -> HoldSlices:
    return HoldSlices(money, hold, GUESS, price=PRICE, tokenizer=tokenizer, rules=EstimateRules())


def a_hold(amount: int = PROMPT + SLICE) -> Hold:
    return Hold(UsageId("use_1"), GrantId("gr_1"), amount, AccountId("acc"), KeyId("key"))


def words(count: int) -> UsageTally:
    """So many tokens, each a text of its own."""
    return UsageTally(texts=[" the"] * count)


async def test_nothing_is_asked_for_before_half_of_the_slice_is_used() -> None:
    money, hold = Money(10_000), a_hold()
    held = slices(money, hold)
    assert held.covers(words(49))
    await asyncio.sleep(0)
    assert money.asked == []
    assert held.covers(words(52))
    await asyncio.sleep(0)
    assert money.asked == [(SLICE, 16)]
    assert hold.amount_nanousd == PROMPT + 2 * SLICE


async def test_the_stream_goes_on_while_the_next_slice_is_on_its_way() -> None:
    money, hold = Money(10_000), a_hold()
    money.go_on.clear()
    held, tally = slices(money, hold), UsageTally()
    for count in range(1, 101):
        tally.texts.append(" the")
        assert held.covers(tally), count
        await asyncio.sleep(0)
    assert len(money.asked) == 1
    tally.texts.append(" the")
    assert not held.covers(tally)
    waiting = asyncio.ensure_future(held.fund(tally))
    await asyncio.sleep(0)
    assert not waiting.done()
    money.go_on.set()
    assert await waiting
    assert len(money.asked) == 1


async def test_what_is_left_is_used_to_its_end_and_no_further() -> None:
    money, hold = Money(37), a_hold()
    held, tally = slices(money, hold), UsageTally()
    paid = 0
    while held.covers(tally) or await held.fund(tally):
        paid = len(tally.texts)
        tally.texts.append(" the")
        await asyncio.sleep(0)
    assert paid == SLICE + 37
    assert hold.amount_nanousd == PROMPT + SLICE + 37


async def test_pieces_of_words_count_as_the_words_that_they_make() -> None:
    money, hold = Money(0), a_hold(PROMPT + 30)
    held, tally = slices(money, hold), UsageTally()
    for piece in "capital city" * 10:
        tally.texts.append(piece)
        assert held.covers(tally) or await held.fund(tally)


@pytest.mark.parametrize("text", ["日本語のテキスト" * 4, "naïve café " * 10])
async def test_what_is_not_ascii_is_bounded_by_its_bytes(text: str) -> None:
    money, hold = Money(0), a_hold(PROMPT + 5)
    held, tally = slices(money, hold), UsageTally(texts=[text])
    assert not held.covers(tally)
    assert not await held.fund(tally)


async def test_a_tokenizer_that_is_not_the_models_own_holds_more() -> None:
    money, hold = Money(0), a_hold()
    held = slices(money, hold, tokenizer="")
    assert held.covers(words(76))
    tally = words(77)
    assert not slices(money, hold, tokenizer="").covers(tally)
    assert not await held.fund(tally)


async def test_a_huge_text_is_counted_where_waiting_is_allowed() -> None:
    money, hold = Money(0), a_hold(PROMPT + 50_000)
    held, tally = slices(money, hold), UsageTally(texts=[" the" * 40_000])
    assert not held.covers(tally)
    assert await held.fund(tally)


async def test_closing_gives_up_what_is_asked_for() -> None:
    money, hold = Money(10_000), a_hold()
    money.go_on.clear()
    held = slices(money, hold)
    held.covers(words(90))
    await asyncio.sleep(0)
    held.close()
    money.go_on.set()
    await asyncio.sleep(0)
    assert hold.amount_nanousd == PROMPT + SLICE


async def test_a_price_of_nearly_nothing_pays_for_anything() -> None:
    price = Price("pv", {TokenKind.PROMPT: Rate(1), TokenKind.COMPLETION: Rate(0)})
    money, hold = Money(0), a_hold(1)
    held = HoldSlices(
        money, hold, GUESS, price=price, tokenizer="o200k_base", rules=EstimateRules()
    )
    assert held.covers(words(100_000))
