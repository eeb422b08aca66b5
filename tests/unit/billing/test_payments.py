"""Payments, refunds and disputes: what the state of a payment at the gateway changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.billing.domain.book import Book
from services.billing.domain.payment_events import RefundRequested, TopUpStarted
from services.billing.domain.payment_seen import (
    CASH,
    DISPUTES,
    REFUNDS,
    TAX,
    DisputeSeen,
    PaymentSeen,
    RefundSeen,
)
from services.billing.domain.payments import (
    TopUpRules,
    checked_charge,
    decide_checkout,
    decide_seen,
    decide_top_up,
)
from services.billing.domain.state import Wallet
from services.billing.domain.takings import decide_refund, decide_refused_refund
from services.billing.payments.work import record_steps
from services.common.errors import Conflict, InvalidArgument, NotFound
from services.common.ids import AccountId
from tests.fixtures.payments import USD, paid

ACCOUNT = AccountId("acc_1")
NOW_MS = 1_767_225_600_000


def begun(dollars: int = 20) -> Book:
    """A book with one top-up that waits to be paid."""
    book = Book(wallets={ACCOUNT: Wallet(ACCOUNT)})
    started = TopUpStarted("top_1", ACCOUNT, dollars * USD, True, "usr_1")
    record_steps(book, decide_top_up(book.payments, started), now_ms=NOW_MS)
    return book


def see(book: Book, seen: PaymentSeen) -> int:
    """Books a state; how many events that made."""
    before = len(book.recorded)
    record_steps(book, decide_seen(book.payments, seen, now_ms=NOW_MS), now_ms=NOW_MS)
    return len(book.recorded) - before


def status_of(book: Book) -> str:
    """Where the top-up stands."""
    return book.payments.top_up["top_1"].status


def balances(book: Book) -> dict[str, int]:
    """What stands at each ledger account, without those at zero."""
    return {name: amount for (_, name), amount in book.totals.items() if amount}


PAID = paid(ACCOUNT, top_up_id="top_1")


def test_a_payment_credits_its_wallet_once_however_often_it_is_seen() -> None:
    book = begun()
    assert see(book, PAID) > 0
    assert see(book, PAID) == 0
    assert balances(book) == {"wallet:acc_1": 20 * USD, CASH: -20 * USD}
    assert book.payments.top_up["top_1"].status == "paid"
    assert book.payments.account(ACCOUNT).payment_method_id == "pm_1"


def test_a_state_from_before_the_payment_changes_nothing_after_it() -> None:
    book = begun()
    see(book, PAID)
    for status in ("waiting", "processing", "failed", "canceled"):
        assert see(book, replace(PAID, status=status, received_nanousd=0)) == 0


def test_a_payment_that_nothing_of_ours_asked_for_is_refused() -> None:
    with pytest.raises(NotFound):
        see(begun(), replace(PAID, top_up_id="top_other"))
    with pytest.raises(NotFound):
        see(begun(), replace(PAID, account_id=AccountId("acc_2")))


def test_a_payment_in_another_currency_is_refused() -> None:
    with pytest.raises(Conflict, match="eur"):
        see(begun(), replace(PAID, currency="eur"))


def test_tax_is_no_money_of_the_wallet_and_a_full_refund_gives_exactly_both_back() -> None:
    book = begun()
    seen = replace(PAID, received_nanousd=21_990_000_000)
    see(book, seen)
    assert balances(book)["wallet:acc_1"] == 20 * USD
    assert balances(book)[TAX] == 1_990_000_000
    see(book, replace(seen, refunds=(RefundSeen("re_1", "", 21_990_000_000, "made"),)))
    assert balances(book) == {}


def test_a_processing_payment_that_fails_ends_its_top_up() -> None:
    book = begun()
    see(book, replace(PAID, status="processing", received_nanousd=0))
    assert status_of(book) == "processing"
    see(book, replace(PAID, status="failed", received_nanousd=0, failure_code="no"))
    assert status_of(book) == "failed"
    assert balances(book) == {}


def test_an_expired_page_that_was_paid_at_the_last_moment_is_paid() -> None:
    book = begun()
    steps = decide_checkout(book.payments, "top_1", status="expired", session_id="cs_1")
    record_steps(book, steps, now_ms=NOW_MS)
    see(book, PAID)
    assert book.payments.top_up["top_1"].status == "paid"
    assert decide_checkout(book.payments, "top_1", status="expired", session_id="cs_1") == []


def test_a_dispute_holds_the_money_and_then_takes_it_or_gives_it_back() -> None:
    for status, left in (("lost", 20 - 7), ("won", 20)):
        book = begun()
        see(book, PAID)
        dispute = DisputeSeen("dp_1", 7 * USD, "open", "fraudulent")
        see(book, replace(PAID, disputes=(dispute,)))
        assert balances(book)[DISPUTES] == 7 * USD
        assert balances(book)["wallet:acc_1"] == 13 * USD
        ended = replace(PAID, disputes=(replace(dispute, status=status),))  # type: ignore[arg-type]  # both are
        assert see(book, ended) == 2
        assert see(book, replace(PAID, disputes=(dispute,))) == 0
        assert balances(book) == {"wallet:acc_1": left * USD, CASH: -left * USD}


def refund_of(book: Book, dollars: int, number: int = 1) -> None:
    wallet = book.wallets[ACCOUNT]
    asked = RefundRequested(f"rfn_{number}", ACCOUNT, "pi_1", dollars * USD, 0, "", "op")
    steps = decide_refund(book.payments, asked, available_nanousd=wallet.available_nanousd)
    record_steps(book, steps, now_ms=NOW_MS)


def test_a_refund_is_reserved_first_and_leaves_when_the_gateway_made_it() -> None:
    book = begun()
    see(book, PAID)
    refund_of(book, 8)
    assert balances(book) == {"wallet:acc_1": 12 * USD, REFUNDS: 8 * USD, CASH: -20 * USD}
    see(book, replace(PAID, refunds=(RefundSeen("re_1", "rfn_1", 8 * USD, "made"),)))
    assert balances(book) == {"wallet:acc_1": 12 * USD, CASH: -12 * USD}


def test_a_refused_refund_comes_back_and_one_made_all_the_same_is_booked() -> None:
    book = begun()
    see(book, PAID)
    refund_of(book, 8)
    record_steps(book, decide_refused_refund(book.payments, "rfn_1", "no"), now_ms=NOW_MS)
    assert balances(book) == {"wallet:acc_1": 20 * USD, CASH: -20 * USD}
    see(book, replace(PAID, refunds=(RefundSeen("re_1", "rfn_1", 8 * USD, "made"),)))
    assert balances(book) == {"wallet:acc_1": 12 * USD, CASH: -12 * USD}


def test_no_more_is_refunded_than_was_paid_or_is_available() -> None:
    book = begun()
    see(book, PAID)
    refund_of(book, 15)
    with pytest.raises(Conflict, match="left to refund"):
        refund_of(book, 6, 2)
    spent = begun()
    see(spent, PAID)
    wallet = spent.wallets[ACCOUNT]
    spent.wallets[ACCOUNT] = replace(wallet, granted_nanousd=19 * USD)
    with pytest.raises(Conflict, match="available"):
        refund_of(spent, 2)


@given(
    tax=st.integers(0, 500),
    parts=st.lists(st.integers(1, 1_500), min_size=1, max_size=6),
    failing=st.sets(st.integers(0, 5)),
    order=st.randoms(use_true_random=False),
)
def test_refunds_come_to_the_same_whatever_is_seen_when(
    tax: int, parts: list[int], failing: set[int], order: object
) -> None:
    """Cents; the wallet's part of what was taken back is its share of the running total."""
    total = 2_000 + tax
    while sum(parts) > total:
        parts.pop()
    cent = USD // 100
    seen = replace(PAID, received_nanousd=total * cent)
    book = begun()
    refunds: list[RefundSeen] = []
    for number, part in enumerate(parts):
        refunds.append(RefundSeen(f"re_{number}", "", part * cent, "made"))
        see(book, replace(seen, refunds=tuple(refunds)))
        if number in failing:
            refunds[number] = replace(refunds[number], status="failed")
            see(book, replace(seen, refunds=tuple(refunds)))
        assert see(book, replace(seen, refunds=tuple(refunds))) == 0
    kept = sum(part for number, part in enumerate(parts) if number not in failing) * cent
    found = balances(book)
    assert -found.get(CASH, 0) == total * cent - kept
    assert sum(found.values()) == 0
    share = (total * cent - kept) * 2_000
    assert abs(found.get("wallet:acc_1", 0) * total - share) <= total * (len(parts) + 1)


def test_amounts_are_whole_cents_within_the_rules() -> None:
    rules = TopUpRules()
    assert checked_charge("amount_nanousd", 5 * USD, rules) == 5 * USD
    for wrong in (0, -USD, 5 * USD - 1, 5 * USD + 1, 10_001 * USD):
        with pytest.raises(InvalidArgument, match="amount_nanousd"):
            checked_charge("amount_nanousd", wrong, rules)
