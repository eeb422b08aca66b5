"""A provider fails: what is tried next, what the caller sees and pays, what the log tells."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.common import scopes
from services.common.ids import ModelId, ProviderId
from services.common.money import Price, Rate, TokenKind, cost_nanousd
from services.common.pb.mesh.events.v1 import usage_pb2
from services.common.pb.mesh.events.v1.usage_pb2 import UsageRecorded
from services.gateway.ports import Deployment, KeySettings
from services.gateway.routing_policy import DEFAULT_POLICY
from services.gateway.scoped import Scoped, ScopeRates
from tests.fixtures.gateway import (
    PRICE,
    USD,
    GatewayHarness,
    running_gateway,
    scripted_model,
    short_of_money,
)
from tests.fixtures.waiting import eventually
from tests.fixtures.wire import ask, chat, hang_up_after

USED = {
    TokenKind.PROMPT: 16,
    TokenKind.CACHED_PROMPT: 4,
    TokenKind.REASONING: 2,
    TokenKind.COMPLETION: 5,
}
DEAR = Price(
    price_version_id="pv_dear",
    rates={TokenKind.PROMPT: Rate(20 * USD), TokenKind.COMPLETION: Rate(80 * USD)},
)
AGAIN = ("500.ok", "502.ok", "throttle.ok", "refuse.refuse.ok", "garbage.ok", "role.ok")


def scripted(gateway: GatewayHarness, script: str, **facts: Any) -> str:  # Any: model fields
    """A model of that script; returns its id."""
    model = scripted_model(script, **facts)
    gateway.catalogue.add(model)
    return str(model.model_id)


def elsewhere(gateway: GatewayHarness, script: str, **facts: int) -> Deployment:
    """The same model at another provider, where it behaves so."""
    provider = gateway.catalogue.providers["prv_script"]
    other = ProviderId("prv_other")
    gateway.catalogue.providers[other] = replace(provider, provider_id=other)
    return Deployment(other, f"script-{script}", **facts)


def story(event: UsageRecorded) -> list[tuple[str, int, bool]]:
    """Where it was tried, what came of it."""
    return [(a.upstream_model.removeprefix("script-"), a.http_status, a.served)
            for a in event.attempts]  # fmt: skip


def told(headers: dict[str, str]) -> tuple[str, str, str]:
    names = ("attempts", "fallback", "model")
    return tuple(headers[f"x-mesh-routing-{name}"] for name in names)  # type: ignore[return-value]  # three of them


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("script", AGAIN)
async def test_what_passes_is_tried_again_and_paid_once(
    gateway: GatewayHarness, script: str, stream: bool
) -> None:
    model_id = scripted(gateway, script)
    answer = await ask(gateway, {**chat(), "model": model_id, "stream": stream})
    assert answer.status == 200
    if stream:
        assert "x-mesh-routing-attempts" not in answer.headers
        words = [c["choices"][0]["delta"].get("content") for c in answer.frames if c["choices"]]
        assert "".join(filter(None, words)) == "Paris is the capital of France."
    else:
        assert told(answer.headers) == ("2", "false", model_id)
    event = await gateway.event()
    assert event.outcome == usage_pb2.REQUEST_OUTCOME_SUCCESS
    assert [served for _, _, served in story(event)] == [False, True]
    assert event.attempts[0].error_code
    assert event.cost_nanousd == cost_nanousd(USED, PRICE)
    assert event.failure_stage == ""


@pytest.mark.parametrize("script", ["close", "early", "frame"])
async def test_after_the_first_token_nothing_is_tried_again(
    gateway: GatewayHarness, script: str
) -> None:
    model_id = scripted(gateway, f"{script}.ok")
    fallback = {"models": [model_id, "vendor/ok"]}
    answer = await ask(gateway, {**chat(), **fallback, "model": model_id, "stream": True})
    assert answer.frames[-1]["error"]["code"] == "upstream_error"
    event = await gateway.event()
    assert len(event.attempts) == 1
    assert (event.failure_stage, event.http_status) == ("upstream_stream", 200)
    assert event.cost_nanousd > 0


async def test_a_whole_answer_that_breaks_off_is_tried_again(gateway: GatewayHarness) -> None:
    answer = await ask(gateway, {**chat(), "model": scripted(gateway, "close.ok")})
    assert answer.json["choices"][0]["message"]["content"] == "Paris is the capital of France."
    event = await gateway.event()
    assert story(event) == [("close.ok", 200, False), ("close.ok", 200, True)]
    assert event.cost_nanousd == cost_nanousd(USED, PRICE)


async def test_who_asks_to_be_left_alone_is_and_the_model_is_had_elsewhere(
    gateway: GatewayHarness,
) -> None:
    model_id = scripted(gateway, "429", deployments=(elsewhere(gateway, "ok", priority=1),))
    asked = {**chat(), "model": model_id}
    answer = await ask(gateway, asked)
    assert told(answer.headers) == ("2", "true", model_id)
    event = await gateway.event()
    assert story(event) == [("429", 429, False), ("ok", 200, True)]
    assert (event.provider_id, event.model_id) == ("prv_other", model_id)
    # It said for how long; meanwhile nobody asks it.
    await ask(gateway, asked)
    assert story(await gateway.event(2)) == [("ok", 200, True)]


async def test_with_nowhere_else_to_go_the_caller_is_told_when_to_come_again(
    gateway: GatewayHarness,
) -> None:
    answer = await ask(gateway, chat("429"))
    assert (answer.status, answer.headers["retry-after"]) == (429, "7")
    assert len((await gateway.event()).attempts) == 1
    again = await ask(gateway, chat("429"))
    assert (again.status, again.code) == (429, "upstream_rate_limit_error")
    assert 1 <= int(again.headers["retry-after"]) <= 7
    event = await gateway.event(2)
    assert (len(event.attempts), event.cost_nanousd) == (0, 0)
    assert len(gateway.upstream.requests) == 1


async def test_another_model_serves_at_its_own_price_under_a_larger_hold(
    gateway: GatewayHarness,
) -> None:
    dear = scripted(gateway, "ok", price=DEAR, model_id=ModelId("vendor/dear"))
    answer = await ask(gateway, {**chat("500", max_tokens=100), "models": ["vendor/500", dear]})
    # Two retries would be allowed and are made: one of the four attempts is left for this.
    assert told(answer.headers) == ("4", "true", dear)
    assert answer.json["model"] == dear
    event = await gateway.event()
    assert story(event) == [*[("500", 500, False)] * 3, ("ok", 200, True)]
    assert (event.requested_model, event.model_id) == ("vendor/500", dear)
    assert event.price.price_version_id == "pv_dear"
    assert event.cost_nanousd == cost_nanousd(USED, DEAR)
    assert event.held_nanousd >= cost_nanousd({TokenKind.COMPLETION: 100}, DEAR)


async def test_one_attempt_is_kept_for_the_other_model(gateway: GatewayHarness) -> None:
    policy = replace(DEFAULT_POLICY, max_retries=5, max_attempts=3, base_ms=10)
    gateway.key = gateway.keys.issue(KeySettings(routing=policy))
    await ask(gateway, {**chat("500"), "models": ["vendor/ok"]})
    assert [name for name, _, _ in story(await gateway.event())] == ["500", "500", "ok"]


async def test_a_model_that_the_money_does_not_reach_is_passed_over(
    gateway: GatewayHarness,
) -> None:
    beyond = Price("pv_beyond", {TokenKind.PROMPT: Rate(10**14)})
    dear = scripted(gateway, "ok", price=beyond, model_id=ModelId("vendor/beyond"))
    asked = {**chat("500", max_tokens=20), "models": ["vendor/500", dear, "vendor/burst"]}
    with short_of_money(gateway, USD // 100):
        answer = await ask(gateway, asked)
        assert (answer.status, told(answer.headers)) == (200, ("4", "true", "vendor/burst"))
        asked["models"] = ["vendor/500", dear]
        answer = await ask(gateway, asked)
    # What is wrong is the provider, not the caller's money.
    assert (answer.status, answer.code) == (502, "upstream_error")
    assert (await gateway.event(2)).cost_nanousd == 0


async def test_a_free_model_may_be_followed_by_one_that_costs(gateway: GatewayHarness) -> None:
    free = Price(price_version_id="pv_free", rates={TokenKind.PROMPT: Rate(0)})
    first = scripted(gateway, "500", price=free, model_id=ModelId("vendor/500:free"))
    answer = await ask(gateway, {**chat(), "model": first, "models": ["vendor/ok"]})
    assert answer.status == 200
    event = await gateway.event()
    assert event.cost_nanousd == cost_nanousd(USED, PRICE)
    assert event.grant_id
    assert event.held_nanousd >= event.cost_nanousd


@pytest.mark.parametrize("script", ["400", "413", "422"])
async def test_what_the_caller_got_wrong_is_wrong_everywhere(
    gateway: GatewayHarness, script: str
) -> None:
    answer = await ask(gateway, {**chat(script), "models": ["vendor/ok"]})
    assert (answer.status, told(answer.headers)[0]) == (400, "1")
    assert len((await gateway.event()).attempts) == 1


async def test_what_a_provider_cannot_say_another_model_may(gateway: GatewayHarness) -> None:
    provider = gateway.catalogue.providers["prv_script"]
    gateway.catalogue.providers["prv_claude"] = replace(provider, kind="anthropic")
    mute = scripted(
        gateway, "mute", provider_id=ProviderId("prv_claude"), model_id=ModelId("vendor/mute")
    )
    sound = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
    asked = {"model": mute, "messages": [{"role": "user", "content": [sound]}]}
    answer = await ask(gateway, asked)
    assert (answer.status, answer.code) == (400, "model_capability_not_supported")
    answer = await ask(gateway, {**asked, "models": ["vendor/ok"]})
    assert told(answer.headers) == ("2", "true", "vendor/ok")


async def test_a_credential_that_is_turned_down_leads_elsewhere_at_once(
    gateway: GatewayHarness,
) -> None:
    model_id = scripted(gateway, "401", deployments=(elsewhere(gateway, "ok", priority=1),))
    assert (await ask(gateway, {**chat(), "model": model_id})).status == 200
    assert story(await gateway.event()) == [("401", 401, False), ("ok", 200, True)]


@pytest.mark.parametrize(
    ("changes", "served"),
    [
        ({"max_retries": 0}, ["500", "ok"]),
        ({"retry_on_status": frozenset({429})}, ["500"]),
        ({"max_retries": 0, "fallback": False}, ["500"]),
        ({"max_retries": 0, "cross_provider_same_model": False}, ["500", "burst"]),
        ({"max_attempts": 1}, ["500"]),
    ],
)
async def test_a_keys_policy_is_followed(
    gateway: GatewayHarness, changes: dict[str, Any], served: list[str]
) -> None:
    policy = replace(DEFAULT_POLICY, base_ms=10, models=("vendor/burst",), **changes)
    gateway.key = gateway.keys.issue(KeySettings(routing=policy))
    model_id = scripted(gateway, "500", deployments=(elsewhere(gateway, "ok", priority=1),))
    await ask(gateway, {**chat(), "model": model_id})
    assert [name for name, _, _ in story(await gateway.event())] == served


async def test_a_fallback_that_the_key_may_not_use_is_none(gateway: GatewayHarness) -> None:
    settings = KeySettings(allowed_models=frozenset({"vendor/500"}))
    gateway.key = gateway.keys.issue(settings)
    answer = await ask(gateway, {**chat("500"), "models": ["vendor/ok"]})
    assert answer.status == 502
    assert {name for name, _, _ in story(await gateway.event())} == {"500"}


async def test_a_provider_that_only_fails_is_left_alone_for_a_while(
    gateway: GatewayHarness,
) -> None:
    for _ in range(2):
        await ask(gateway, chat("500"))
    sent = len(gateway.upstream.requests)
    answer = await ask(gateway, chat("500"))
    assert (answer.status, answer.code) == (503, "provider_not_available")
    assert int(answer.headers["retry-after"]) >= 1
    assert len(gateway.upstream.requests) == sent
    event = await gateway.event(3)
    assert (len(event.attempts), event.cost_nanousd) == (0, 0)
    # Its other models are none the worse.
    assert (await ask(gateway, chat())).status == 200


async def test_a_provider_whose_certificate_is_no_good_is_not_available(
    gateway: GatewayHarness,
) -> None:
    provider = gateway.catalogue.providers["prv_script"]
    plain = provider.base_url.replace("http://", "https://")
    gateway.catalogue.providers["prv_script"] = replace(provider, base_url=plain)
    answer = await ask(gateway, chat())
    assert (answer.status, answer.code) == (503, "provider_not_available")
    event = await gateway.event()
    assert (event.failure_stage, event.cost_nanousd) == ("upstream_submit", 0)
    assert [status for _, status, _ in story(event)] == [0, 0, 0]


async def test_a_place_that_is_too_slow_leads_elsewhere_within_the_callers_time(
    impatient: GatewayHarness,
) -> None:
    model_id = scripted(impatient, "hang", deployments=(elsewhere(impatient, "ok", priority=1),))
    answer = await ask(impatient, {**chat(), "model": model_id})
    assert told(answer.headers) == ("2", "true", model_id)
    # With no time left there is no second attempt.
    late = await ask(impatient, {**chat(), "model": model_id, "timeout": 0.1})
    assert late.status in (200, 504)
    attempts = (await impatient.event(2)).attempts
    assert len(attempts) <= 2


async def test_who_hangs_up_while_it_is_tried_again_pays_nothing(gateway: GatewayHarness) -> None:
    policy = replace(DEFAULT_POLICY, base_ms=5_000)
    gateway.key = gateway.keys.issue(KeySettings(routing=policy))
    sent = asyncio.Event()
    asked = {**chat(), "model": scripted(gateway, "close.ok")}
    caller = asyncio.create_task(hang_up_after(gateway, asked, until=sent))
    await eventually(lambda: len(gateway.upstream.requests) == 1)
    await eventually(lambda: gateway.upstream.in_flight == 0)
    sent.set()
    await caller
    event = await gateway.event()
    assert event.outcome == usage_pb2.REQUEST_OUTCOME_CLIENT_GONE
    assert (event.cost_nanousd, len(event.attempts)) == (0, 1)


async def test_places_of_one_priority_share_the_traffic(gateway: GatewayHarness) -> None:
    model_id = scripted(gateway, "ok", deployments=(elsewhere(gateway, "burst"),))
    for _ in range(40):
        assert (await ask(gateway, {**chat(), "model": model_id})).status == 200
    await eventually(lambda: len(gateway.events()) == 40)
    served = [event.upstream_model for event in gateway.events()]
    assert 4 <= served.count("script-ok") <= 36


async def test_a_models_own_cap_and_limits_hold_where_it_takes_over(
    gateway: GatewayHarness,
) -> None:
    secret = gateway.keys.issue()
    limited = ScopeRates(
        scopes.key_model(gateway.keys.of(secret).key_id, "vendor/ok"), rpm=1, capped=True
    )
    gateway.key = gateway.keys.issue(scoped=Scoped(models={"vendor/ok": (limited,)}))
    gateway.quota_source.limits[gateway.keys.of(gateway.key).key_id] = {"rpm": 1}
    asked = {**chat("500"), "models": ["vendor/ok"]}
    assert (await ask(gateway, asked)).status == 200
    event = await gateway.event()
    assert event.cost_nanousd == cost_nanousd(USED, PRICE)
    # Its money lies apart from that of the model that failed.
    (spent,) = [lent for lent in gateway.money.budget.grants if lent.spent_nanousd]
    assert event.grant_id == spent.grant_id
    # Its one request of this minute was that one: the failure is all that is left to tell.
    assert (await ask(gateway, asked)).status in (502, 503)
    assert (await gateway.event(2)).cost_nanousd == 0


async def test_what_another_place_answered_is_not_kept_for_the_first(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, cache_bytes_max=1 << 20) as gateway:
        asked = {**chat("500"), "models": ["vendor/ok"]}
        for _ in range(2):
            answer = await ask(gateway, asked)
            assert "x-cache" not in answer.headers
            assert answer.json["model"] == "vendor/ok"
        first = await ask(gateway, chat("ok"))
        again = await ask(gateway, chat("ok"))
        assert ("x-cache" in first.headers, again.headers["x-cache"]) == (False, "HIT")
        assert "x-mesh-routing-attempts" not in again.headers
