"""Routing policies as they are saved, and as the gateway reads them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.accounts.domain import routing_policy as saved
from services.accounts.domain.routing_policy import checked_policy
from services.common.errors import InvalidArgument
from services.gateway import routing_policy as read
from services.gateway.routing_policy import DEFAULT_POLICY, policy_from_json


def test_a_policy_is_kept_in_one_form_and_read_as_it_was_meant() -> None:
    text = """ {"retry": {"max_retries": 1, "retry_on_status": [503, 429, 503], "base_ms": 50},
        "fallback": {"enabled": true, "cross_provider_same_model": false, "models": ["a/b", "a/b"]},
        "budget": {"max_attempts": 3}, "weight_profile": "cost_first"} """
    kept = checked_policy(text)
    assert checked_policy(kept) == kept
    policy = policy_from_json(kept)
    assert policy is not None
    assert (policy.max_retries, policy.base_ms, policy.max_attempts) == (1, 50, 3)
    assert policy.retry_on_status == {429, 503}
    assert (policy.fallback, policy.cross_provider_same_model) == (True, False)
    assert (policy.models, policy.weight_profile) == (("a/b",), "cost_first")


def test_what_is_beyond_a_ceiling_is_brought_down_to_it() -> None:
    text = '{"retry":{"max_retries":99,"base_ms":1},"budget":{"max_attempts":1000}}'
    assert json.loads(checked_policy(text)) == {
        "retry": {"max_retries": saved.RETRIES_MAX, "base_ms": saved.BASE_MS_MIN},
        "budget": {"max_attempts": saved.ATTEMPTS_MAX},
    }


def test_both_services_know_the_same_ceilings() -> None:
    for name in ("RETRIES_MAX", "ATTEMPTS_MAX", "BASE_MS_MIN", "BASE_MS_MAX", "MODELS_MAX"):
        assert getattr(saved, name) == getattr(read, name)


@pytest.mark.parametrize("text", ["", "  ", "{}"])
def test_a_policy_that_says_nothing_is_none(text: str) -> None:
    assert checked_policy(text) == ""
    assert policy_from_json("") is None


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("[]", "routing_policy_json"),
        ("{", "routing_policy_json"),
        ('{"retries": {}}', "routing_policy_json"),
        ('{"retry": 3}', "routing_policy_json.retry"),
        ('{"retry": {"max_retries": "3"}}', "routing_policy_json.retry.max_retries"),
        ('{"retry": {"max_retries": true}}', "routing_policy_json.retry.max_retries"),
        ('{"retry": {"retry_on_status": [400]}}', "routing_policy_json.retry.retry_on_status"),
        ('{"fallback": {"enabled": 1}}', "routing_policy_json.fallback.enabled"),
        ('{"fallback": {"models": [""]}}', "routing_policy_json.fallback.models"),
        ('{"weight_profile": "best"}', "routing_policy_json.weight_profile"),
    ],
)
def test_what_is_wrong_is_refused_by_its_name(text: str, field: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        checked_policy(text)
    assert ".".join(map(str, raised.value.details[0].loc)) == field


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["retry", "max_retries", "fallback", "models", "budget", "max_attempts"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(value=st.dictionaries(st.sampled_from(["retry", "fallback", "budget"]), _JSON, max_size=3))
def test_whatever_was_saved_is_read_within_the_ceilings(value: dict[str, object]) -> None:
    policy = policy_from_json(json.dumps(value))
    assert policy is not None
    assert 0 <= policy.max_retries <= read.RETRIES_MAX
    assert 1 <= policy.max_attempts <= read.ATTEMPTS_MAX
    assert len(policy.models) <= read.MODELS_MAX
    assert policy_from_json("{}") == DEFAULT_POLICY
