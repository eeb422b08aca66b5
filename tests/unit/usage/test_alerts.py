"""Alerts rise at their threshold, once, and are quiet again behind a margin."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import pytest

from services.common.errors import InvalidArgument
from services.usage.domain.alerts import (
    DEFAULTS,
    AlertKind,
    AlertRule,
    AlertState,
    Measure,
    decide,
    told,
)

NOW_MS = 1_800_000_000_000


def events(kind: AlertKind, rule: AlertRule, *values: int) -> list[str]:
    """What is told while the value goes through these; "" where nothing is."""
    state, found = AlertState("acc_1", kind, "x"), []
    for value in values:
        after = decide(state, rule, Measure(kind, "x", value), now_ms=NOW_MS)
        found.append("" if after is None else told(state, after, rule))
        if after is not None:
            assert after.version == state.version + 1
            state = after
    return found


def test_a_balance_is_low_once_and_recovers_behind_a_margin() -> None:
    rule = AlertRule("balance_low", 1_000)
    assert events("balance_low", rule, 1_000, 999, 500, 1_050, 998, 1_100, 2_000, 0) == [
        "", "balance.low", "", "", "", "balance.recovered", "", "balance.low",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["spend_rate", "error_rate"])
def test_a_rate_is_high_once_and_recovers_behind_a_margin(kind: AlertKind) -> None:
    rule = AlertRule(kind, 500)
    assert events(kind, rule, 499, 500, 900, 450, 400, 500, 399, 499) == [
        "", f"{kind}.high", "", "", "", "", f"{kind}.recovered", "",
    ]  # fmt: skip


def test_a_cap_is_told_at_80_95_and_100_percent_and_not_on_the_way_back() -> None:
    values = (799, 800, 949, 950, 949, 960, 1_000, 1_200, 960, 1_000, 0, 800)
    assert events("spend_cap", DEFAULTS["spend_cap"], *values) == [
        "", "spend_cap.approaching", "", "spend_cap.approaching", "", "", "spend_cap.hit", "", "",
        "", "spend_cap.recovered", "spend_cap.approaching",
    ]  # fmt: skip


def test_a_cap_that_is_passed_at_once_is_told_once() -> None:
    assert events("spend_cap", DEFAULTS["spend_cap"], 2_000) == ["spend_cap.hit"]


def test_a_rule_that_is_turned_off_quiets_its_alert_without_a_word() -> None:
    on = AlertRule("balance_low", 1_000)
    low = decide(AlertState("a", "balance_low", "w"), on, Measure("balance_low", "w", 0), now_ms=1)
    assert low is not None
    off = replace(on, enabled=False)
    quiet = decide(low, off, Measure("balance_low", "w", 0), now_ms=2)
    assert quiet is not None
    assert (quiet.level, told(low, quiet, off)) == (0, "")
    assert decide(quiet, off, Measure("balance_low", "w", 0), now_ms=3) is None


@pytest.mark.parametrize("kind", DEFAULTS)
def test_whatever_the_values_an_alert_rises_and_recovers_in_turn(kind: AlertKind) -> None:
    chance = random.Random(3)
    rule = replace(DEFAULTS[kind], threshold=500)
    values = [chance.randrange(1_200) for _ in range(2_000)]
    told_kinds = [name.rpartition(".")[2] for name in events(kind, rule, *values) if name]
    assert told_kinds
    for one, next_one in pairwise(told_kinds):
        # Levels of a cap may rise one after another; nothing recovers twice.
        assert (one, next_one) != ("recovered", "recovered")
        assert kind == "spend_cap" or one != next_one


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        (AlertRule("balance_low", 0), "threshold"),
        (AlertRule("error_rate", 1_001), "threshold"),
        (AlertRule("spend_rate", 1, window_s=59), "window_s"),
        (AlertRule("spend_rate", 1, window_s=90), "window_s"),
        (AlertRule("error_rate", 1, min_requests=0), "min_requests"),
    ],
)
def test_a_rule_that_cannot_be_names_the_field(rule: AlertRule, field: str) -> None:
    with pytest.raises(InvalidArgument, match=field):
        rule.checked()
