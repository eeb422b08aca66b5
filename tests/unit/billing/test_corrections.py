"""Reversals and re-ratings: given a journal, when it is corrected, then this is booked."""

from __future__ import annotations

import pytest

from services.billing.domain.corrections import (
    Rerating,
    decide_rerate,
    decide_reversal,
    standing,
    stands,
)
from services.billing.domain.events import Quantities, TransactionPosted
from services.billing.domain.ledger import Draft, post, transfer, wallet_account, wallet_change
from services.billing.domain.state import Wallet
from services.common.errors import Conflict, InvalidArgument
from services.common.ids import AccountId, KeyId, TransactionId, UsageId
from services.common.money import Price, Rate, TokenKind

ACCOUNT = AccountId("acc_1")
TOKENS: Quantities = ((TokenKind.COMPLETION, 100),)


def price(version: str, rate: int) -> Price:
    """So many nano-dollars for each completion token."""
    return Price(version, {TokenKind.COMPLETION: Rate(rate * 1_000_000)})


class Journal:
    """One usage transaction of 100 tokens at one nano-dollar, and what is booked on top of it."""

    def __init__(self, quantities: Quantities = TOKENS) -> None:
        self.wallet = Wallet(ACCOUNT)
        self.corrections: list[TransactionPosted] = []
        self.serial = 0
        self.usage = self.book(
            Draft(
                self.next_id(),
                ACCOUNT,
                "usage:use_1",
                "usage",
                transfer(100, source=wallet_account(ACCOUNT), target="revenue"),
                1_000,
                2_000,
                key_id=KeyId("key_1"),
                usage_id=UsageId("use_1"),
                request_id="req_1",
                model_id="a/b",
                price_version_id="pv_1",
                quantities=quantities,
            )
        )

    @property
    def cost(self) -> int:
        """What the journal charges in all."""
        everything = [self.usage, *self.corrections]
        return -sum(wallet_change(ACCOUNT, one.entries) for one in everything)

    def next_id(self) -> TransactionId:
        self.serial += 1
        return TransactionId(f"tx_{self.serial}")

    def book(self, draft: Draft) -> TransactionPosted:
        posted = post(self.wallet, draft)
        self.wallet = Wallet(ACCOUNT, sequence=posted.sequence, hash=posted.hash)
        return posted

    def reverse(self, target: TransactionPosted) -> TransactionPosted:
        draft = decide_reversal(
            target,
            self.corrections,
            transaction_id=self.next_id(),
            reason="wrong",
            booked_at_ms=3_000,
        )
        self.corrections.append(self.book(draft))
        return self.corrections[-1]

    def look(self, wrong: str, correct: Price) -> Rerating | None:
        return decide_rerate(
            self.usage,
            self.corrections,
            wrong_price_version_id=wrong,
            price=correct,
            transaction_id=self.next_id(),
            booked_at_ms=3_000,
        )

    def rerate(self, wrong: str, correct: Price) -> TransactionPosted:
        result = self.look(wrong, correct)
        assert result is not None
        assert result.draft is not None
        self.corrections.append(self.book(result.draft))
        return self.corrections[-1]


def test_a_reversal_takes_every_entry_back_at_the_moment_of_the_original() -> None:
    journal = Journal()
    reversal = journal.reverse(journal.usage)
    assert journal.cost == 0
    assert (reversal.occurred_at_ms, reversal.booked_at_ms) == (1_000, 3_000)
    assert reversal.corrects_transaction_id == journal.usage.transaction_id
    assert reversal.idempotency_key == f"reversal:{journal.usage.transaction_id}"
    assert (reversal.key_id, reversal.request_id) == ("key_1", "req_1")
    # It is neither usage of its own nor spent under the grant.
    assert (reversal.usage_id, reversal.grant_id) == ("", "")


def test_a_reversal_may_be_taken_back_and_then_everything_stands_again() -> None:
    journal = Journal()
    back = journal.reverse(journal.reverse(journal.usage))
    assert journal.cost == 100
    assert stands(journal.usage.transaction_id, journal.corrections)
    journal.reverse(back)
    assert journal.cost == 0
    assert not stands(journal.usage.transaction_id, journal.corrections)


def test_only_the_uppermost_correction_that_stands_can_be_taken_away() -> None:
    journal = Journal()
    first = journal.rerate("pv_1", price("pv_2", 3))
    second = journal.rerate("pv_2", price("pv_3", 2))
    for below in (journal.usage, first):
        with pytest.raises(Conflict, match=second.transaction_id):
            journal.reverse(below)
    journal.reverse(second)
    journal.reverse(first)
    assert journal.cost == 100
    journal.reverse(journal.usage)
    assert journal.cost == 0


def test_a_rerating_that_was_taken_back_is_not_put_in_force_again() -> None:
    journal = Journal()
    reversal = journal.reverse(journal.rerate("pv_1", price("pv_2", 3)))
    with pytest.raises(Conflict, match="rate again"):
        journal.reverse(reversal)
    result = journal.look("pv_1", price("pv_2", 3))
    assert result is not None
    assert result.problem
    assert journal.rerate("pv_1", price("pv_4", 3)).sequence == journal.wallet.sequence
    assert journal.cost == 300


@pytest.mark.parametrize(("rate", "cost"), [(0, 0), (1, 100), (2, 200), (7, 700)])
def test_a_rerating_books_the_signed_difference_to_what_stands(rate: int, cost: int) -> None:
    journal = Journal()
    posted = journal.rerate("pv_1", price("pv_2", rate))
    assert journal.cost == cost
    assert wallet_change(ACCOUNT, posted.entries) == 100 - cost
    assert posted.idempotency_key == f"rerate:{journal.usage.transaction_id}:pv_2"
    assert posted.quantities == TOKENS
    now = standing(journal.usage, journal.corrections)
    assert (now.cost_nanousd, now.price_version_id) == (cost, "pv_2")


def test_the_same_rerating_again_gives_the_same_figures_and_nothing_to_book() -> None:
    journal = Journal()
    posted = journal.rerate("pv_1", price("pv_2", 3))
    journal.rerate("pv_2", price("pv_3", 4))
    again = journal.look("pv_1", price("pv_2", 3))
    assert again == Rerating(journal.usage, 100, 300, posted)


def test_a_price_version_with_other_rates_under_the_same_id_is_a_conflict() -> None:
    journal = Journal()
    journal.rerate("pv_1", price("pv_2", 3))
    with pytest.raises(Conflict, match="new one"):
        journal.look("pv_1", price("pv_2", 4))


def test_usage_that_does_not_stand_under_the_wrong_price_is_left_alone() -> None:
    journal = Journal()
    assert journal.look("pv_9", price("pv_2", 3)) is None
    journal.rerate("pv_1", price("pv_2", 3))
    assert journal.look("pv_1", price("pv_3", 3)) is None


def test_an_entry_without_quantities_is_told_and_not_rated() -> None:
    result = Journal(quantities=()).look("pv_1", price("pv_2", 3))
    assert result is not None
    assert (result.draft, result.problem) == (None, "its entry has no quantities")


def test_usage_that_was_reversed_is_told_and_not_rated() -> None:
    journal = Journal()
    journal.reverse(journal.usage)
    result = journal.look("pv_1", price("pv_2", 3))
    assert result is not None
    assert (result.draft, result.problem) == (None, "it was reversed")


def test_a_price_at_which_a_request_costs_the_impossible_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="correct_price"):
        Journal().look("pv_1", price("pv_2", 10**14))
