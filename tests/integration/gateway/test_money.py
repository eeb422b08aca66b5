"""What requests cost, what is held, and that each ends in exactly one event."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from services.common.ids import ModelId
from services.common.money import Price, Rate, TokenKind, cost_nanousd
from services.common.pb.mesh.events.v1 import usage_pb2
from services.gateway.ports import KeySettings
from tests.fixtures.gateway import (
    ACCOUNT,
    PRICE,
    USD,
    GatewayHarness,
    scripted_model,
    short_of_money,
    tokens_of,
)
from tests.fixtures.waiting import eventually
from tests.fixtures.wire import QUESTION, ask, call, chat, hang_up_after

OK_COST = cost_nanousd(
    {
        TokenKind.PROMPT: 16,
        TokenKind.CACHED_PROMPT: 4,
        TokenKind.REASONING: 2,
        TokenKind.COMPLETION: 5,
    },
    PRICE,
)


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_is_billed_by_the_providers_disjoint_counts(
    gateway: GatewayHarness, stream: bool
) -> None:
    answer = await ask(gateway, chat(stream=stream))
    event = await gateway.event()
    assert event.outcome == usage_pb2.REQUEST_OUTCOME_SUCCESS
    assert event.usage_basis == usage_pb2.USAGE_BASIS_PROVIDER
    assert tokens_of(event) == {
        TokenKind.PROMPT: 16,
        TokenKind.CACHED_PROMPT: 4,
        TokenKind.REASONING: 2,
        TokenKind.COMPLETION: 5,
    }
    assert event.cost_nanousd == OK_COST
    assert event.held_nanousd >= OK_COST
    assert event.grant_id.startswith("gr_")
    assert event.price.price_version_id == "pv_1"
    assert event.request_id == answer.headers["x-request-id"]
    assert (event.requested_model, event.model_id) == ("vendor/ok", "vendor/ok")
    assert (event.provider_id, event.upstream_model) == ("prv_script", "script-ok")
    assert (event.stream, event.http_status, event.finish_reason) == (stream, 200, "stop")
    assert 0 < event.first_token_ms <= event.latency_ms + 1
    assert event.received_at_ms <= event.admitted_at_ms
    assert len(event.trace_id) == 32
    assert event.failure_stage == ""
    assert [(a.http_status, a.served) for a in event.attempts] == [(200, True)]


async def test_the_event_is_written_before_the_last_byte(gateway: GatewayHarness) -> None:
    for stream in (True, False):
        await ask(gateway, chat(stream=stream))
        # Nothing is waited for: the hold was settled before the answer had ended.
        assert gateway.money.budget.holds == 0
        assert not gateway.money.wal.state.admitted


@pytest.mark.parametrize("stream", [True, False])
async def test_usage_that_the_provider_does_not_tell_is_counted(
    gateway: GatewayHarness, stream: bool
) -> None:
    await ask(gateway, chat("no-usage", stream=stream))
    event = await gateway.event()
    assert event.usage_basis == usage_pb2.USAGE_BASIS_TOKENIZER
    # "Paris is the capital of France." has seven tokens; the question seven, wrapped in seven.
    assert tokens_of(event) == {TokenKind.PROMPT: 14, TokenKind.COMPLETION: 7}
    assert event.cost_nanousd == 14 * 2_000 + 7 * 8_000


async def test_a_provider_that_says_zero_is_believed(gateway: GatewayHarness) -> None:
    await ask(gateway, chat("zero-usage"))
    event = await gateway.event()
    assert event.usage_basis == usage_pb2.USAGE_BASIS_PROVIDER
    assert event.cost_nanousd == 0


async def test_a_free_model_needs_no_money(gateway: GatewayHarness) -> None:
    gateway.grants.balances[ACCOUNT] = 0
    answer = await ask(gateway, {"model": "vendor/free", "messages": QUESTION})
    assert answer.status == 200
    event = await gateway.event()
    assert (event.cost_nanousd, event.grant_id, event.held_nanousd) == (0, "", 0)
    assert gateway.grants.open_calls == 0
    gateway.grants.balances[ACCOUNT] = USD


async def test_an_empty_wallet_is_told_from_one_that_is_held(gateway: GatewayHarness) -> None:
    with short_of_money(gateway, 0):
        answer = await ask(gateway, chat())
    assert (answer.status, answer.code) == (402, "spend_limit_exceeded")
    assert answer.json["error"]["limit"] == "balance"
    assert answer.json["error"]["state"] == "gone"
    event = await gateway.event()
    assert (event.outcome, event.failure_stage) == (usage_pb2.REQUEST_OUTCOME_REFUSED, "balance")
    assert gateway.upstream.requests == []


async def test_a_spend_cap_is_named_as_the_limit(gateway: GatewayHarness) -> None:
    gateway.grants.caps[gateway.keys.of(gateway.key).key_id] = 10
    answer = await ask(gateway, chat(stream=True))
    assert (answer.status, answer.code) == (402, "spend_limit_exceeded")
    assert answer.json["error"]["limit"] == "key_cap"
    assert (await gateway.event()).failure_stage == "guard_spend_cap"


async def test_the_output_is_clamped_to_what_is_affordable(gateway: GatewayHarness) -> None:
    # 14 prompt tokens cost 28,000 nano-dollars; 800,000 more buy 100 tokens of the 1,000 asked for.
    with short_of_money(gateway, 28_000 + 800_000):
        answer = await ask(gateway, chat("length", max_tokens=1_000))
    assert answer.status == 200
    assert gateway.upstream.requests[0]["max_tokens"] == 100
    event = await gateway.event()
    assert event.outcome == usage_pb2.REQUEST_OUTCOME_LIMIT_REACHED
    assert event.held_nanousd <= 828_000


async def test_a_limit_that_is_affordable_goes_upstream_as_it_came(gateway: GatewayHarness) -> None:
    await ask(gateway, chat("length", max_completion_tokens=50))
    assert gateway.upstream.requests[0]["max_tokens"] == 50
    event = await gateway.event()
    assert event.outcome == usage_pb2.REQUEST_OUTCOME_SUCCESS
    assert event.held_nanousd == 14 * 2_000 + 50 * 8_000


async def test_an_inexact_tokenizer_holds_more(gateway: GatewayHarness) -> None:
    gateway.catalogue.add(scripted_model("ok", tokenizer="", model_id=ModelId("vendor/other")))
    await ask(gateway, {**chat(max_tokens=50), "model": "vendor/other"})
    # 14 x 1.3, rounded up.
    assert (await gateway.event()).held_nanousd == 19 * 2_000 + 50 * 8_000


async def test_a_model_without_any_bound_gets_one_sent_where_its_hold_cannot_grow(
    gateway: GatewayHarness,
) -> None:
    for name, thinks in (("any", False), ("thinker", True)):
        model = scripted_model("ok", context_length=0, max_output_tokens=0)
        capabilities = replace(model.capabilities, reasoning=thinks)
        model = replace(model, model_id=ModelId(f"vendor/{name}"), capabilities=capabilities)
        gateway.catalogue.add(model)
        await ask(gateway, {**chat(), "model": model.model_id})
    assert not gateway.upstream.requests[0].keys() & {"max_tokens", "max_completion_tokens"}
    assert gateway.upstream.requests[1]["max_completion_tokens"] == 4_096


async def test_a_prompt_beyond_the_window_is_refused(gateway: GatewayHarness) -> None:
    for model in ("vendor/ok", "vendor/free"):
        long = {"model": model, "messages": [{"role": "user", "content": "word " * 9_000}]}
        answer = await ask(gateway, long)
        assert (answer.status, answer.code) == (400, "context_window_exceeded")
    assert gateway.upstream.requests == []


async def test_counting_a_huge_prompt_leaves_others_served(gateway: GatewayHarness) -> None:
    gateway.catalogue.add(
        scripted_model("ok", context_length=10_000_000, model_id=ModelId("vendor/long"))
    )
    long = {"model": "vendor/long", "messages": [{"role": "user", "content": "word " * 2_000_000}]}
    answered = asyncio.create_task(ask(gateway, long))
    await eventually(lambda: gateway.edge.in_flight == 1)
    probes = 0
    while not answered.done():
        assert (await call(gateway, "GET", "/healthz")).status == 200
        probes += 1
    assert (await answered).status == 200
    assert probes > 3
    assert (await gateway.event()).held_nanousd > 2_000_000 * 2_000


async def test_key_defaults_stand_beneath_the_request(gateway: GatewayHarness) -> None:
    settings = KeySettings(
        default_model="vendor/ok", default_params={"temperature": 0.2, "max_tokens": 9, "top_p": 1}
    )
    secret = gateway.keys.issue(settings)
    answer = await ask(
        gateway,
        {"messages": QUESTION, "temperature": 1, "max_completion_tokens": 30},
        Authorization=f"Bearer {secret}",
    )
    assert answer.status == 200
    sent = gateway.upstream.requests[0]
    assert (sent["temperature"], sent["top_p"], sent["max_tokens"]) == (1, 1, 30)
    assert (await gateway.event()).requested_model == "vendor/ok"


@pytest.mark.parametrize("model", ["vendor/none", "vendor/off", "vendor/unpriced", "vendor/429"])
async def test_a_model_that_is_not_for_this_key_is_not_found(
    gateway: GatewayHarness, model: str
) -> None:
    gateway.catalogue.add(scripted_model("ok", available=False, model_id=ModelId("vendor/off")))
    gateway.catalogue.add(scripted_model("ok", prices=(), model_id=ModelId("vendor/unpriced")))
    secret = gateway.keys.issue(
        KeySettings(allowed_models=frozenset({"vendor/ok", "vendor/off", "vendor/unpriced"}))
    )
    headers = {"Authorization": f"Bearer {secret}"}
    answer = await ask(gateway, {"model": model, "messages": QUESTION}, **headers)
    assert (answer.status, answer.code) == (404, "model_not_found")
    event = await gateway.event()
    assert (event.failure_stage, event.requested_model) == ("guard_model_access", model)
    listed = await call(gateway, "GET", "/v1/models", headers=headers)
    assert b'"vendor/ok"' in listed.body
    assert model.encode() not in listed.body


async def test_the_first_model_of_the_list_that_is_there_serves(gateway: GatewayHarness) -> None:
    answer = await ask(
        gateway, {"models": ["vendor/none", "vendor/ok", "vendor/429"], "messages": QUESTION}
    )
    assert answer.json["model"] == "vendor/ok"
    event = await gateway.event()
    assert (event.requested_model, event.model_id) == ("vendor/none", "vendor/ok")


async def test_a_request_fee_is_billed_once_and_never_for_nothing(gateway: GatewayHarness) -> None:
    fee = Price("pv_fee", {TokenKind.PROMPT: Rate(0), TokenKind.COMPLETION: Rate(0)}, 5_000_000)
    gateway.catalogue.add(scripted_model("ok", fee, model_id=ModelId("vendor/fee")))
    gateway.catalogue.add(scripted_model("500", fee, model_id=ModelId("vendor/fee-500")))
    await ask(gateway, {"model": "vendor/fee", "messages": QUESTION})
    assert (await gateway.event()).cost_nanousd == 5_000_000
    await ask(gateway, {"model": "vendor/fee-500", "messages": QUESTION})
    event = await gateway.event(2)
    assert (event.cost_nanousd, event.usage_basis) == (0, usage_pb2.USAGE_BASIS_NONE)


async def test_a_random_mix_leaves_exactly_one_event_each(gateway: GatewayHarness) -> None:
    rng = random.Random(7)
    scripts = ["ok", "no-usage", "tools", "500", "429", "400", "close", "early", "refuse", "frame",
               "garbage", "html", "empty", "slow", "hang", "none"]  # fmt: skip
    gone = asyncio.Event()
    tasks: list[asyncio.Task[object]] = []
    for number in range(80):
        script = rng.choice(scripts)
        body = chat(script, stream=rng.random() < 0.5, session_id=f"s{number}")
        if script in ("slow", "hang"):
            body["stream"] = script == "slow" and bool(body["stream"])
            tasks.append(asyncio.create_task(hang_up_after(gateway, body, until=gone)))
        else:
            tasks.append(asyncio.create_task(ask(gateway, body)))
    await eventually(lambda: len(gateway.upstream.requests) > 10)
    gone.set()
    await asyncio.gather(*tasks)
    await eventually(lambda: len(gateway.events()) == 80)
    sessions = sorted(event.session_id for event in gateway.events())
    assert sessions == sorted(f"s{number}" for number in range(80))
    assert len({event.usage_id for event in gateway.events()}) == 80
    assert gateway.money.budget.holds == 0
    assert not gateway.money.wal.state.admitted
    for event in gateway.events():
        if event.http_status in (429, 502, 503, 504, 400, 404):
            assert event.cost_nanousd == 0
