"""POST /v1/chat/compare through the real SDK: both streaming modes, the money, the log."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest
from meshapi import AsyncMeshAPI, ChatMessage, MeshAPIError
from meshapi._types import CompareParams, CompareStreamEvent, ModelOverride

from services.common.pb.mesh.events.v1 import usage_pb2
from services.common.scopes import account_model
from services.common.security.tokens import Principal
from services.gateway.ports import KeySettings
from services.gateway.scoped import Scoped, ScopeRates
from services.gateway.template_store import TemplateFields
from tests.fixtures.clocks import EarlyClock
from tests.fixtures.gateway import USD, GatewayHarness, running_gateway
from tests.fixtures.upstream import WORDS
from tests.fixtures.waiting import eventually

MESSAGES = [ChatMessage(role="user", content="What is the capital of France?")]
COST = (16 * 2 + 4 * 1 + 7 * 8) * USD // 1_000_000
ANSWER = "".join(WORDS)


def _mesh(gateway: GatewayHarness, key: str = "") -> AsyncMeshAPI:
    return AsyncMeshAPI(base_url=gateway.url, token=key or gateway.key, max_retries=0)


async def _stream(gateway: GatewayHarness, params: CompareParams) -> list[CompareStreamEvent]:
    return [event async for event in _mesh(gateway).compare.stream(params)]


async def test_every_model_answers_and_one_compares(gateway: GatewayHarness) -> None:
    answer = await _mesh(gateway).compare.create(
        CompareParams(
            models=["vendor/ok", "vendor/burst", "vendor/ok"],
            messages=MESSAGES,
            comparison_model="vendor/bare",
        )
    )
    assert answer.models == ["vendor/ok", "vendor/burst"]
    assert [result.model for result in answer.results] == answer.models
    assert [result.content for result in answer.results] == [ANSWER, ANSWER]
    assert answer.results[0].usage is not None
    assert answer.results[0].usage.total_tokens == 27
    assert (answer.comparison, answer.comparison_model) == (ANSWER, "vendor/bare")
    assert answer.comparison_usage is not None
    assert (answer.partial, answer.comparison_fallback_used) == (False, False)
    asked = gateway.upstream.requests[-1]["messages"][1]["content"]
    assert "Answer of vendor/burst:\nParis" in asked
    await gateway.event(3)
    events = gateway.events()
    assert [event.cost_nanousd for event in events] == [COST] * 3
    assert len({event.usage_id for event in events}) == 3
    assert {event.route for event in events} == {"/v1/chat/compare"}
    group = answer.results[0].request_id.removesuffix(":1")
    assert sorted(event.request_id for event in events) == [f"{group}:{n}" for n in ("1", "2", "c")]


async def test_one_model_that_fails_fails_alone_and_unbilled(gateway: GatewayHarness) -> None:
    answer = await _mesh(gateway).compare.create(
        CompareParams(models=["vendor/500", "vendor/ok", "vendor/none"], messages=MESSAGES)
    )
    assert answer.partial is True
    assert answer.comparison is None
    assert [result.error_code for result in answer.results] == [
        "upstream_error",
        None,
        "model_not_found",
    ]
    await gateway.event(3)
    costs = {event.requested_model: event.cost_nanousd for event in gateway.events()}
    assert costs == {"vendor/500": 0, "vendor/ok": COST, "vendor/none": 0}


async def test_where_the_comparing_model_fails_an_answering_one_compares(
    gateway: GatewayHarness,
) -> None:
    answer = await _mesh(gateway).compare.create(
        CompareParams(
            models=["vendor/ok", "vendor/burst"],
            messages=MESSAGES,
            comparison_model="vendor/503",
        )
    )
    assert (answer.comparison, answer.comparison_model) == (ANSWER, "vendor/ok")
    assert answer.comparison_fallback_used is True
    await gateway.event(4)


async def test_where_all_fail_the_status_is_theirs_and_nothing_is_billed(
    gateway: GatewayHarness,
) -> None:
    params = CompareParams(models=["vendor/429", "vendor/503"], messages=MESSAGES)
    with pytest.raises(MeshAPIError) as failed:
        await _mesh(gateway).compare.create(params)
    assert (failed.value.status, failed.value.error_code) == (502, "all_models_failed")
    with pytest.raises(MeshAPIError) as unknown:
        await _stream(gateway, CompareParams(models=["a/b", "c/d"], messages=MESSAGES))
    assert (unknown.value.status, unknown.value.error_code) == (404, "all_models_failed")
    await gateway.event(4)
    assert [event.cost_nanousd for event in gateway.events()] == [0] * 4


async def test_overrides_are_each_models_own(gateway: GatewayHarness) -> None:
    await _mesh(gateway).compare.create(
        CompareParams(
            models=["vendor/ok", "vendor/burst"],
            messages=[ChatMessage(role="system", content="Be brief."), *MESSAGES],
            temperature=0.2,
            max_tokens=50,
            skip_comparison=True,
            model_overrides=[
                ModelOverride(
                    model="vendor/burst", temperature=0.9, max_tokens=9, system_prompt="Be long."
                )
            ],
        )
    )
    sent = {body["model"]: body for body in gateway.upstream.requests}
    plain, changed = sent["script-ok"], sent["script-burst"]
    assert (plain["temperature"], plain["max_tokens"]) == (0.2, 50)
    assert plain["messages"][0]["content"] == "Be brief."
    assert (changed["temperature"], changed["max_tokens"]) == (0.9, 9)
    assert [m["content"] for m in changed["messages"]] == ["Be long.", MESSAGES[0].content]


async def test_the_comparison_alone_streams_by_default(gateway: GatewayHarness) -> None:
    events = await _stream(
        gateway,
        CompareParams(
            models=["vendor/ok", "vendor/500"], messages=MESSAGES, comparison_model="vendor/bare"
        ),
    )
    gathered = ["start", "model_result", "model_result", "results"]
    assert [event.event for event in events] == [*gathered, "done"]
    events = await _stream(
        gateway, CompareParams(models=["vendor/ok", "vendor/burst"], messages=MESSAGES)
    )
    assert [event.event for event in events[:4]] == gathered
    assert events[1].delta == ANSWER
    chunks = [event for event in events if event.event == "comparison_chunk"]
    assert chunks
    assert "".join(chunk.delta or "" for chunk in chunks) == ANSWER
    assert events[-1].event == "done"
    assert events[-1].partial is False
    await gateway.event(5)


async def test_all_models_stream_side_by_side_without_a_comparison(gateway: GatewayHarness) -> None:
    events = await _stream(
        gateway,
        CompareParams(
            models=["vendor/ok", "vendor/500", "vendor/close"],
            messages=MESSAGES,
            skip_comparison=True,
        ),
    )
    assert (events[0].event, events[-1].event) == ("start", "done")
    said = {
        model: "".join(
            e.delta or "" for e in events if (e.event, e.model) == ("model_chunk", model)
        )
        for model in ("vendor/ok", "vendor/close")
    }
    assert said == {"vendor/ok": ANSWER, "vendor/close": "".join(WORDS[:3])}
    done = {event.model: event for event in events if event.event == "model_stream_done"}
    assert done["vendor/ok"].finish_reason == "stop"
    assert done["vendor/500"].error_code == "upstream_error"
    assert done["vendor/close"].error_code == "upstream_error"
    assert events[-1].partial is True
    assert all(event.error is None for event in events)
    await gateway.event(3)
    costs = {event.requested_model: event.cost_nanousd for event in gateway.events()}
    assert costs["vendor/500"] == 0
    assert 0 < costs["vendor/close"] < costs["vendor/ok"] == COST


async def test_a_comparison_counts_as_one_request_against_the_limits(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, clock=EarlyClock()) as gateway:
        await _reach_the_limit(gateway)


async def _reach_the_limit(gateway: GatewayHarness) -> None:
    key = gateway.keys.issue(KeySettings(rpm_limit=2))
    gateway.quota_source.limits[gateway.keys.of(key).key_id] = {"rpm": 2}
    params = CompareParams(models=["vendor/ok", "vendor/burst"], messages=MESSAGES)
    for _ in range(2):
        await _mesh(gateway, key).compare.create(params)
    with pytest.raises(MeshAPIError) as limited:
        await _mesh(gateway, key).compare.create(params)
    assert (limited.value.status, limited.value.error_code) == (429, "rate_limit_exceeded")
    await eventually(lambda: len(gateway.events()) > 6)
    refused = gateway.events()[6:]
    assert {event.failure_stage for event in refused} == {"guard_rate_limit"}
    assert sum(event.cost_nanousd for event in refused) == 0


async def test_the_limits_of_every_compared_model_bind(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, clock=EarlyClock()) as gateway:
        models = ("vendor/ok", "vendor/burst")
        rates = {
            model: (ScopeRates(account_model(model), rpm=limit),)
            for model, limit in zip(models, (2, 1), strict=True)
        }
        key = gateway.keys.issue(KeySettings(rpm_limit=100), scoped=Scoped(models=rates))
        gateway.quota_source.limits[gateway.keys.of(key).key_id] = {"rpm": 100}
        for model, limit in zip(models, (2, 1), strict=True):
            gateway.quota_source.scope_limits[account_model(model)] = {"rpm": limit}
        params = CompareParams(
            models=["vendor/bare", *models], messages=MESSAGES, skip_comparison=True
        )
        told = []
        for _ in range(3):
            answer = await _mesh(gateway, key).compare.create(params)
            told.append([result.error_code for result in answer.results])
        limited = "rate_limit_exceeded"
        assert told == [
            [None, None, None],
            [None, None, limited],
            [None, limited, limited],
        ]
        # A call that was refused is refused alone and costs nothing.
        await gateway.event(9)
        costs = [event.cost_nanousd for event in gateway.events() if event.http_status == 429]
        assert costs == [0, 0, 0]
        # The key counts each comparison once, and each model its own calls.
        gateway.quotas.sweep(idle_s=0.0)
        source, key_id = gateway.quota_source, gateway.keys.of(key).key_id
        await eventually(lambda: source.taken(key_id, "rpm") == 3)
        await eventually(
            lambda: [source.taken_of(account_model(one), "rpm") for one in models] == [2, 1]
        )


async def test_a_template_is_rendered_for_every_model_and_a_missing_variable_is_named(
    gateway: GatewayHarness,
) -> None:
    fields = TemplateFields("tone", system="Be {{ tone }}.", params={"temperature": 0.5})
    await gateway.templates.create(Principal("operator", ""), fields)
    params = CompareParams(
        models=["vendor/ok", "vendor/burst"],
        messages=MESSAGES,
        template="tone",
        variables={"tone": "brief"},
        skip_comparison=True,
    )
    answer = await _mesh(gateway).compare.create(params)
    assert [result.content for result in answer.results] == [ANSWER, ANSWER]
    for sent in gateway.upstream.requests:
        assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
        assert sent["temperature"] == 0.5
    assert len(gateway.upstream.requests) == 2
    gateway.upstream.forget()
    with pytest.raises(MeshAPIError, match="tone") as missing:
        await _mesh(gateway).compare.create(params.model_copy(update={"variables": {}}))
    assert missing.value.status == 422
    assert gateway.upstream.requests == []


async def test_a_bad_comparison_is_one_refusal_that_names_the_field(
    gateway: GatewayHarness,
) -> None:
    for models in ([], [f"m/{n}" for n in range(11)]):
        with pytest.raises(MeshAPIError) as refused:
            await _mesh(gateway).compare.create(CompareParams(models=models, messages=MESSAGES))
        assert (refused.value.status, refused.value.error_code) == (422, "validation_error")
        assert "models" in str(refused.value)
    suspended = gateway.keys.issue(KeySettings(), suspended=True)
    with pytest.raises(MeshAPIError) as forbidden:
        await _mesh(gateway, suspended).compare.create(
            CompareParams(models=["vendor/ok"], messages=MESSAGES)
        )
    assert forbidden.value.status == 403
    with pytest.raises(MeshAPIError) as unknown:
        await _mesh(gateway, "rsk_INVALID_TOKEN").compare.create(
            CompareParams(models=["vendor/ok"], messages=MESSAGES)
        )
    assert unknown.value.status == 401
    await gateway.event(3)
    assert [event.failure_stage for event in gateway.events()] == ["template", "template", "auth"]


async def test_a_caller_that_hangs_up_ends_every_call(gateway: GatewayHarness) -> None:
    body = {
        "models": ["vendor/slow", "vendor/hang"],
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "skip_comparison": True,
    }
    async with aiohttp.ClientSession() as session:
        async with session.post(
            f"{gateway.url}/v1/chat/compare", json=body, headers=gateway.auth
        ) as response:
            await response.content.readany()
            await eventually(lambda: gateway.upstream.in_flight == 2)
            response.close()
    await gateway.event(2)
    assert {event.outcome for event in gateway.events()} == {usage_pb2.REQUEST_OUTCOME_CLIENT_GONE}
    await eventually(lambda: gateway.upstream.in_flight == 0)
    await asyncio.sleep(0)
