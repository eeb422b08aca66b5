"""Automatic refills: when they are due, for how much, and when they stop."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.billing.domain.book import Book
from services.billing.domain.payment_events import CardSaved
from services.billing.domain.payment_seen import PaymentSeen
from services.billing.domain.refills import (
    RefillRules,
    decide_charged,
    decide_configuration,
    decide_given_up,
    decide_refill,
    refill_state,
)
from services.billing.domain.state import Wallet
from services.billing.payments.work import record_steps
from services.common.errors import InvalidArgument
from services.common.ids import AccountId
from tests.fixtures.payments import USD, configured, paid

ACCOUNT = AccountId("acc_1")
RULES = RefillRules()
NOW_MS = int(datetime(2026, 1, 30, 12, tzinfo=UTC).timestamp() * 1000)
DAY_MS = 86_400_000


class Refilled:
    """An account with a saved card and refills switched on."""

    def __init__(self, **settings: int) -> None:
        self.book = Book(wallets={ACCOUNT: Wallet(ACCOUNT)})
        self.now_ms = NOW_MS
        self.count = 0
        self.record([CardSaved(ACCOUNT, "pm_1", "visa 4242")])
        self.record(decide_configuration(configured(ACCOUNT, **settings)))

    def record(self, steps: object) -> None:
        record_steps(self.book, steps, now_ms=self.now_ms)  # type: ignore[arg-type]  # steps

    def start(self, available: int) -> int:
        """Decides; the amount of the refill that was started, 0 where none was."""
        self.count += 1
        steps = decide_refill(
            self.book.payments, ACCOUNT, refill_id=f"rfl_{self.count}",
            available_nanousd=available, now_ms=self.now_ms,
        )  # fmt: skip
        self.record(steps)
        return self.book.payments.refill[f"rfl_{self.count}"].amount_nanousd if steps else 0

    def end(self, status: str = "succeeded", code: str = "") -> None:
        refill_id = self.book.payments.account(ACCOUNT).open_refill_id
        seen = replace(paid(ACCOUNT, refill_id=refill_id), status=status, failure_code=code)  # type: ignore[arg-type]  # a status
        self.record(decide_charged(self.book.payments, seen, now_ms=self.now_ms, rules=RULES))

    def state(self, available: int = 0) -> str:
        account = self.book.payments.account(ACCOUNT)
        return refill_state(
            self.book.payments, account, available_nanousd=available, now_ms=self.now_ms
        ).name


def test_a_dip_below_the_threshold_is_charged_once() -> None:
    one = Refilled()
    assert one.start(10 * USD) == 0
    assert one.start(10 * USD - 1) == 20 * USD
    assert one.start(0) == 0
    assert one.state() == "charging"


def test_one_charge_clears_the_whole_shortfall() -> None:
    one = Refilled()
    assert one.start(-37 * USD - 1) == 47 * USD + USD // 100


def test_after_a_success_it_cools_down() -> None:
    one = Refilled()
    one.start(0)
    one.end()
    assert one.state() == "cooling_down"
    assert one.start(0) == 0
    one.now_ms += RULES.cool_down_ms
    assert one.start(0) == 20 * USD


def test_no_day_and_no_month_is_charged_more_than_its_ceiling() -> None:
    one = Refilled(day=50, month=130)
    charged = []
    for _ in range(10):
        amount = one.start(-100 * USD)
        if amount:
            charged.append(amount // USD)
            one.end()
        one.now_ms += RULES.cool_down_ms
    assert charged == [50]
    assert one.state() == "day_ceiling"
    one.now_ms = NOW_MS + DAY_MS
    assert one.start(0) == 20 * USD
    one.end()
    one.now_ms += RULES.cool_down_ms
    assert one.start(0) == 20 * USD
    one.end()
    one.now_ms += RULES.cool_down_ms
    assert one.start(0) == 10 * USD
    one.end()
    one.now_ms += DAY_MS
    assert one.state() == "waiting" if one.state(11 * USD) == "due" else True
    month = Refilled(day=60, month=100)
    month.start(-50 * USD)
    month.end()
    month.now_ms += DAY_MS
    assert month.start(-50 * USD) == 40 * USD
    month.end()
    month.now_ms += 3_600_000
    assert month.state() == "month_ceiling"
    month.now_ms = int(datetime(2026, 2, 1, tzinfo=UTC).timestamp() * 1000)
    assert month.state() == "due"


def test_a_charge_over_midnight_counts_in_both_days() -> None:
    one = Refilled(day=30, month=500)
    one.now_ms = NOW_MS + DAY_MS // 2 - 1
    assert one.start(0) == 20 * USD
    one.now_ms += 10_000
    one.end()
    one.now_ms += RULES.cool_down_ms
    assert one.start(-100 * USD) == 10 * USD


def test_declines_are_tried_again_ever_later_and_the_third_switches_it_off() -> None:
    one = Refilled()
    pauses = []
    for _ in range(3):
        assert one.start(0) == 20 * USD
        one.end("failed", "insufficient_funds")
        pauses.append(one.book.payments.account(ACCOUNT).next_attempt_at_ms - one.now_ms)
        one.now_ms += pauses[-1]
    assert pauses == [RULES.backoff_ms, 4 * RULES.backoff_ms, 16 * RULES.backoff_ms]
    assert one.state() == "switched_off"
    assert "insufficient_funds" in one.book.payments.account(ACCOUNT).switched_off_because
    assert one.start(0) == 0


def test_a_card_that_asks_for_its_owner_waits_until_a_card_is_saved_anew() -> None:
    one = Refilled()
    one.start(0)
    one.end("failed", "authentication_required")
    one.now_ms += DAY_MS
    assert one.state() == "needs_action"
    one.record([CardSaved(ACCOUNT, "pm_2", "visa 3155")])
    assert one.start(0) == 20 * USD
    assert one.book.payments.refill["rfl_2"].payment_method_id == "pm_2" if one.count == 2 else True


def test_one_of_unknown_fate_is_given_up_only_after_long() -> None:
    one = Refilled()
    one.start(0)
    refill_id = one.book.payments.account(ACCOUNT).open_refill_id
    given_up = decide_given_up(one.book.payments, refill_id, now_ms=one.now_ms, rules=RULES)
    assert given_up == []
    one.now_ms += RULES.give_up_after_ms
    one.record(decide_given_up(one.book.payments, refill_id, now_ms=one.now_ms, rules=RULES))
    assert one.book.payments.refill[refill_id].status == "abandoned"


def test_without_a_card_or_switched_on_nothing_is_charged() -> None:
    bare = Book(wallets={ACCOUNT: Wallet(ACCOUNT)})
    assert decide_refill(
        bare.payments, ACCOUNT, refill_id="rfl_1", available_nanousd=0, now_ms=NOW_MS
    ) == []  # fmt: skip
    record_steps(bare, decide_configuration(configured(ACCOUNT)), now_ms=NOW_MS)
    account = bare.payments.account(ACCOUNT)
    state = refill_state(bare.payments, account, available_nanousd=0, now_ms=NOW_MS)
    assert state.name == "no_card"


@pytest.mark.parametrize(
    ("field", "value"),
    [("amount", 4), ("amount", 101), ("threshold", 0), ("day", 19), ("month", 99)],
)
def test_settings_out_of_bounds_name_their_field(field: str, value: int) -> None:
    settings = {"threshold": 10, "amount": 20, "day": 100, "month": 500, field: value}
    with pytest.raises(InvalidArgument, match=f"{field}.*_nanousd"):
        decide_configuration(configured(ACCOUNT, **settings))


@given(
    steps=st.lists(
        st.tuples(
            st.integers(-80, 60),
            st.sampled_from(["succeeded", "failed", "processing", "nothing"]),
            st.integers(0, 40),
        ),
        max_size=30,
    )
)
def test_whatever_happens_no_ceiling_is_passed_and_one_charge_is_open_at_most(
    steps: list[tuple[int, str, int]],
) -> None:
    one = Refilled(day=45, month=120)
    by_day: dict[int, int] = {}
    by_month: dict[str, int] = {}
    for available, outcome, hours in steps:
        one.start(available * USD)
        open_id = one.book.payments.account(ACCOUNT).open_refill_id
        one.now_ms += hours * 3_600_000
        if open_id and outcome != "nothing":
            one.end(outcome)
            if outcome == "succeeded":
                at = datetime.fromtimestamp(one.now_ms / 1000, UTC)
                amount = one.book.payments.refill[open_id].amount_nanousd
                by_day[at.toordinal()] = by_day.get(at.toordinal(), 0) + amount
                month = f"{at:%Y-%m}"
                by_month[month] = by_month.get(month, 0) + amount
        rows = one.book.payments.refill.values()
        assert sum(row.status in ("started", "processing") for row in rows) <= 1
    assert all(amount <= 45 * USD for amount in by_day.values())
    assert all(amount <= 120 * USD for amount in by_month.values())


def test_the_state_of_a_payment_that_is_no_refill_changes_no_refill() -> None:
    one = Refilled()
    one.start(0)
    seen: PaymentSeen = paid(ACCOUNT, top_up_id="top_1")
    assert decide_charged(one.book.payments, seen, now_ms=one.now_ms, rules=RULES) == []
