"""Where a request is tried next: every sequence of failures stays within its bounds."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import AppError, GatewayTimeout, UpstreamError
from services.common.ids import ModelId, ProviderId
from services.common.money import Price, Rate, TokenKind
from services.gateway.attempt_plan import WAIT_MAX_S, AttemptPlan, verdict_of
from services.gateway.errors import (
    CapabilityNotSupported,
    ContextWindowExceeded,
    InvalidRequest,
    UpstreamCredentials,
    UpstreamRateLimited,
)
from services.gateway.ports import ProviderEntry
from services.gateway.providers.port import AttemptFailed
from services.gateway.routing import Route
from services.gateway.routing_policy import DEFAULT_POLICY, RoutingPolicy
from tests.fixtures.attempts import attempt

PRICE = Price("pv_1", {TokenKind.PROMPT: Rate(1)})


def route(model: str, provider: str) -> Route:
    made = attempt("openai_compatible", {})
    there: ProviderEntry = replace(made.provider, provider_id=ProviderId(provider))
    return Route(replace(made.model, model_id=ModelId(model)), there, PRICE)


A1, A2, B1 = route("v/a", "one"), route("v/a", "two"), route("v/b", "one")


def failure(
    error: AppError | None = None, *, status: int = 0, asked_s: int | None = None
) -> AttemptFailed:
    error = error or UpstreamError("failed")
    return AttemptFailed(error, stage="upstream_submit", http_status=status, asked_s=asked_s)


def plan(
    *routes: Route,
    policy: RoutingPolicy = DEFAULT_POLICY,
    deadline_s: float = 300.0,
    resting: tuple[Route, ...] = (),
) -> AttemptPlan:
    return AttemptPlan(
        routes,
        policy,
        deadline_s=deadline_s,
        rests_s=lambda place: 9.0 if any(place is one for one in resting) else 0.0,
        chance=random.Random(7),
    )


FAILURES: dict[str, AttemptFailed] = {
    "500": failure(status=500),
    "429": failure(UpstreamRateLimited("slow"), status=429),
    "429 for 2 s": failure(UpstreamRateLimited("slow"), status=429, asked_s=2),
    "timeout": failure(GatewayTimeout("late")),
    "capability": failure(CapabilityNotSupported("no")),
    "too long": failure(ContextWindowExceeded("no"), status=400),
    "bad": failure(InvalidRequest("no"), status=400),
    "credentials": AttemptFailed(UpstreamCredentials("no"), stage="credentials", http_status=401),
}


@given(
    routes=st.permutations([A1, A2, B1]),
    places=st.integers(1, 3),
    failures=st.lists(st.sampled_from(sorted(FAILURES)), min_size=12, max_size=12),
    max_attempts=st.integers(1, 8),
    max_retries=st.integers(0, 5),
    deadline_s=st.floats(0, 20),
)
def test_attempts_and_waits_are_bounded_whatever_fails(
    routes: list[Route],
    places: int,
    failures: list[str],
    *,
    max_attempts: int,
    max_retries: int,
    deadline_s: float,
) -> None:
    policy = replace(DEFAULT_POLICY, max_attempts=max_attempts, max_retries=max_retries)
    planned = plan(*routes[:places], policy=policy, deadline_s=deadline_s)
    step = planned.first()
    now_s, tried = 0.0, list[tuple[str, str]]()
    for name in failures:
        if step is None:
            break
        assert step.wait_s <= WAIT_MAX_S
        now_s += step.wait_s
        assert now_s <= deadline_s
        tried.append((step.route.model.model_id, step.route.provider.provider_id))
        step = planned.after(FAILURES[name], now_s)
    assert len(tried) <= max_attempts
    assert all(tried.count(place) <= 1 + max_retries for place in tried)
    # Never back to a place that was left.
    left = [place for n, place in enumerate(tried) if n == 0 or tried[n - 1] != place]
    assert len(left) == len(set(left)) <= places


@given(max_attempts=st.integers(2, 8), max_retries=st.integers(0, 5))
def test_one_attempt_is_kept_for_another_place(max_attempts: int, max_retries: int) -> None:
    policy = replace(DEFAULT_POLICY, max_attempts=max_attempts, max_retries=max_retries)
    planned = plan(A1, B1, policy=policy)
    step = planned.first()
    while step is not None and step.route is A1:
        step = planned.after(FAILURES["500"], 0.0)
    assert step is not None
    assert step.route is B1


def test_waits_grow_and_are_drawn_by_chance() -> None:
    policy = replace(DEFAULT_POLICY, max_retries=5, max_attempts=8, base_ms=100)
    planned = plan(A1, policy=policy)
    planned.first()
    waits = []
    while (step := planned.after(FAILURES["500"], 0.0)) is not None:
        waits.append(step.wait_s)
    assert len(waits) == 5
    for turn, wait_s in enumerate(waits):
        assert 0.05 * 2**turn <= wait_s <= 0.1 * 2**turn


def test_who_asks_for_time_gets_it_where_there_is_no_one_else() -> None:
    alone = plan(A1)
    alone.first()
    step = alone.after(FAILURES["429 for 2 s"], 0.0)
    assert step is not None
    assert (step.route, step.wait_s) == (A1, 2.0)
    several = plan(A1, A2)
    several.first()
    step = several.after(FAILURES["429 for 2 s"], 0.0)
    assert step is not None
    assert (step.route, step.wait_s) == (A2, 0.0)
    long = plan(A1)
    long.first()
    assert long.after(failure(UpstreamRateLimited("x"), status=429, asked_s=60), 0.0) is None


@pytest.mark.parametrize(
    ("name", "following"),
    [
        ("timeout", A2),
        ("capability", A2),
        ("credentials", A2),
        ("too long", B1),
        ("bad", None),
        ("500", A1),
    ],
)
def test_each_failure_leads_where_it_may_pass(name: str, following: Route | None) -> None:
    planned = plan(A1, A2, B1)
    planned.first()
    step = planned.after(FAILURES[name], 0.0)
    assert (step.route if step else None) is following


def test_places_that_rest_are_passed_over() -> None:
    planned = plan(A1, A2, B1, resting=(A1, A2))
    step = planned.first()
    assert step is not None
    assert step.route is B1
    assert plan(A1, resting=(A1,)).first() is None


def test_a_status_of_the_provider_or_of_ours_counts() -> None:
    policy = replace(DEFAULT_POLICY, retry_on_status=frozenset({500}))
    assert verdict_of(failure(status=500), policy) == "again"
    assert verdict_of(failure(status=503), policy) == "stop"
    policy = replace(DEFAULT_POLICY, retry_on_status=frozenset({502}))
    # A 500 of theirs is a 502 of ours.
    assert verdict_of(failure(status=500), policy) == "again"
