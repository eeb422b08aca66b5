"""Promotional credit: the order of its use, and what goes back when its time is over."""

from __future__ import annotations

import pytest

from services.billing.domain.book import Book
from services.billing.domain.ledger import PROMO
from services.billing.domain.payment_events import PromoGranted
from services.billing.domain.promos import decide_expiry, decide_grant
from services.billing.domain.state import Wallet
from services.billing.payments.work import record_steps
from services.common.errors import Conflict, InvalidArgument
from services.common.ids import AccountId

ACCOUNT = AccountId("acc_1")


class Promoted:
    """An account with promotional credits; `spent` is its sum of spending."""

    def __init__(self, spent: int = 0) -> None:
        self.book = Book(wallets={ACCOUNT: Wallet(ACCOUNT)})
        self.spent = spent

    def grant(self, name: str, amount: int, expires_at_ms: int, now_ms: int = 1) -> None:
        granted = PromoGranted(name, ACCOUNT, amount, expires_at_ms, "welcome")
        steps = decide_grant(self.book.payments, granted, spent_nanousd=self.spent, now_ms=now_ms)
        record_steps(self.book, steps, now_ms=now_ms)

    def expire(self, now_ms: int, available: int = 10**9) -> None:
        steps = decide_expiry(
            self.book.payments, ACCOUNT, spent_nanousd=self.spent,
            available_nanousd=available, now_ms=now_ms,
        )  # fmt: skip
        record_steps(self.book, steps, now_ms=now_ms)

    def left(self) -> dict[str, int]:
        return {name: one.remaining_nanousd for name, one in self.book.payments.promo.items()}

    @property
    def wallet(self) -> int:
        return self.book.wallets[ACCOUNT].posted_nanousd


def test_the_first_to_expire_is_used_first_and_one_without_an_end_last() -> None:
    one = Promoted()
    one.grant("for_ever", 100, 0)
    one.grant("late", 100, 2_000)
    one.grant("soon", 100, 1_000)
    one.spent = 150
    one.expire(1_000)
    assert one.left() == {"for_ever": 100, "late": 50, "soon": 0}
    assert one.wallet == 300
    one.spent = 170
    one.expire(2_000)
    assert one.left() == {"for_ever": 100, "late": 0, "soon": 0}
    assert one.wallet == 300 - 30
    assert one.book.totals[ACCOUNT, PROMO] == -270


def test_what_was_spent_before_a_credit_was_granted_does_not_use_it() -> None:
    one = Promoted(spent=5_000)
    one.grant("soon", 100, 1_000)
    one.expire(1_000)
    assert one.left() == {"soon": 0}
    assert one.wallet == 0


def test_what_grants_hold_is_taken_back_when_it_is_there_again() -> None:
    one = Promoted()
    one.grant("soon", 100, 1_000)
    one.expire(1_000, available=40)
    assert one.left() == {"soon": 60}
    one.expire(1_001, available=0)
    assert one.left() == {"soon": 60}
    one.spent = 25
    one.expire(1_002, available=500)
    assert one.left() == {"soon": 0}
    assert one.wallet == 100 - 40 - 35


def test_spending_that_was_corrected_downwards_is_not_counted_twice() -> None:
    one = Promoted()
    one.grant("soon", 100, 1_000)
    one.spent = 60
    one.grant("other", 10, 3_000)
    one.spent = 20
    one.grant("third", 10, 3_000)
    one.spent = 70
    one.expire(1_000)
    assert one.left() == {"soon": 0, "other": 10, "third": 10}
    assert one.wallet == 120 - 30


def test_the_same_credit_once_more_changes_nothing_and_another_under_its_id_is_refused() -> None:
    one = Promoted()
    one.grant("soon", 100, 1_000)
    one.grant("soon", 100, 1_000)
    assert one.wallet == 100
    with pytest.raises(Conflict):
        one.grant("soon", 200, 1_000)
    with pytest.raises(InvalidArgument, match="expires_at_ms"):
        one.grant("past", 100, 1_000, now_ms=1_000)
