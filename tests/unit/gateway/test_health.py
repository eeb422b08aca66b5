"""Breakers, cooldowns and the choice among equals."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.health import Health, HealthRules, in_order

RULES = HealthRules(open_at_failures=3, open_s=5, open_max_s=15, half_life_s=10)


def fail(health: Health, now_s: float, times: int = 1) -> None:
    for _ in range(times):
        health.begin("p")
        health.failed("p", now_s)


def test_a_breaker_opens_lets_one_probe_through_and_closes_by_its_success() -> None:
    health = Health(RULES)
    fail(health, 0.0, 2)
    assert health.rests_s("p", 0.0) == 0
    fail(health, 0.0)
    assert health.rests_s("p", 1.0) == 4.0
    assert health.rests_s("p", 5.0) == 0
    health.begin("p")
    # While the probe is under way nobody else goes there.
    assert health.rests_s("p", 5.0) > 0
    health.succeeded("p", 5.5, latency_s=0.1)
    assert health.rests_s("p", 5.5) == 0


def test_a_probe_that_fails_opens_it_for_twice_as_long_up_to_a_bound() -> None:
    health = Health(RULES)
    fail(health, 0.0, 3)
    now_s, waits = 0.0, []
    for _ in range(4):
        rests_s = health.rests_s("p", now_s)
        waits.append(rests_s)
        now_s += rests_s
        fail(health, now_s)
    assert waits == [5.0, 10.0, 15.0, 15.0]


def test_a_probe_that_tells_nothing_does_not_keep_it_open() -> None:
    health = Health(RULES)
    fail(health, 0.0, 3)
    health.begin("p")
    health.ended("p", 6.0)
    assert health.rests_s("p", 6.0) == 0


def test_failures_among_many_successes_or_long_ago_open_nothing() -> None:
    health = Health(RULES)
    for _ in range(10):
        health.begin("p")
        health.succeeded("p", 0.0, latency_s=0.1)
    fail(health, 0.0, 5)
    assert health.rests_s("p", 0.0) == 0
    sparse = Health(RULES)
    for turn in range(20):
        fail(sparse, 20.0 * turn)
    assert sparse.rests_s("p", 400.0) == 0


def test_a_cooldown_is_as_long_as_was_asked_for_within_bounds() -> None:
    health = Health(RULES)
    health.cool("p", 10.0, 7.0)
    health.cool("p", 10.0, 2.0)
    assert health.rests_s("p", 12.0) == 5.0
    assert health.rests_s("p", 17.0) == 0
    health.cool("p", 20.0, 10_000.0)
    assert health.rests_s("p", 20.0) == RULES.cooldown_max_s


@given(st.lists(st.sampled_from(["begin", "failed", "ended", "succeeded", "cool"]), max_size=60))
def test_whatever_happens_no_place_rests_for_ever(happenings: list[str]) -> None:
    health, now_s = Health(RULES), 0.0
    for what in happenings:
        now_s += 0.5
        match what:
            case "begin":
                health.begin("p")
            case "cool":
                health.cool("p", now_s, 30.0)
            case "succeeded":
                health.succeeded("p", now_s, latency_s=0.1)
            case _:
                getattr(health, what)("p", now_s)
    place = health.place("p")
    while place.in_flight:
        health.ended("p", now_s)
    health.ended("p", now_s)
    assert health.rests_s("p", now_s + RULES.cooldown_max_s) == 0
    assert place.failures <= place.attempts + 1e-9


def test_the_faster_and_the_less_failing_place_gets_more() -> None:
    health = Health()
    for _ in range(20):
        for name, latency_s in (("fast", 0.1), ("slow", 1.0), ("flaky", 0.1)):
            health.begin(name)
            health.succeeded(name, 0.0, latency_s=latency_s)
    for _ in range(10):
        health.begin("flaky")
        health.failed("flaky", 0.0)
    chance = random.Random(1)
    firsts = Counter(
        in_order(
            ["fast", "slow", "flaky"], weight=lambda _: 1, burden=health.burden, chance=chance
        )[0]
        for _ in range(900)
    )
    assert firsts["fast"] > firsts["flaky"] > firsts["slow"] > 0


def test_weights_say_who_gets_how_much_among_equals() -> None:
    chance = random.Random(1)
    weights = {"a": 3, "b": 1}
    firsts = Counter(
        in_order(["a", "b"], weight=lambda n: weights[n], burden=lambda _: 1.0, chance=chance)[0]
        for _ in range(2_000)
    )
    assert 0.70 < firsts["a"] / 2_000 < 0.80


@given(places=st.lists(st.integers(), unique=True, max_size=6), seed=st.integers(0, 99))
def test_every_place_is_in_the_order_once(places: list[int], seed: int) -> None:
    ordered = in_order(
        places, weight=lambda _: 1, burden=lambda place: float(place), chance=random.Random(seed)
    )
    assert sorted(ordered) == sorted(places)
