"""Limits of requests and tokens as a client of one worker meets them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from unittest.mock import ANY

import openai
import pytest
from meshapi import AsyncMeshAPI, ChatCompletionParams, ChatMessage, MeshAPIError

from services.common import scopes
from services.common.pb.mesh.events.v1 import usage_pb2
from services.common.security.tokens import Principal
from services.gateway.ports import KeyPrincipal, KeySettings, QuotaLimit
from services.gateway.scoped import Scoped, ScopeRates
from tests.fixtures.clocks import EarlyClock
from tests.fixtures.gateway import ACCOUNT, USD, GatewayHarness, running_gateway
from tests.fixtures.waiting import eventually, eventually_async
from tests.fixtures.wire import QUESTION, Answer, ask, call, chat, hang_up_after

FREE = {"model": "vendor/free", "messages": QUESTION}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[GatewayHarness]:
    """A worker that crosses no window's boundary within a test."""
    async with running_gateway(tmp_path, clock=EarlyClock()) as harness:
        yield harness


def limited_key(gateway: GatewayHarness, **limits: int) -> KeyPrincipal:
    """Makes the harness's key one with these limits, for the worker and for billing."""
    settings = KeySettings(**{f"{name}_limit": value for name, value in limits.items()})  # type: ignore[arg-type]  # only the three limits are given
    gateway.key = gateway.keys.issue(settings)
    principal = gateway.keys.of(gateway.key)
    kinds: tuple[QuotaLimit, ...] = ("rpm", "rpd", "tpm")
    gateway.quota_source.limits[principal.key_id] = {
        kind: limits[kind] for kind in kinds if kind in limits
    }
    return principal


async def test_a_key_without_limits_asks_nobody_and_says_nothing(gateway: GatewayHarness) -> None:
    answer = await ask(gateway, chat())
    assert answer.status == 200
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")]
    assert gateway.quota_source.draws == 0
    told = await call(gateway, "GET", "/v1/usage/rate-limits")
    assert told.json["key"] == {"rpm": None, "rpd": None, "tpm": None}


@pytest.mark.parametrize("stream", [True, False])
async def test_exactly_as_many_requests_pass_as_the_limit_says(
    gateway: GatewayHarness, stream: bool
) -> None:
    limited_key(gateway, rpd=6)
    answers = await asyncio.gather(*(ask(gateway, chat(stream=stream)) for _ in range(20)))
    assert sorted(answer.status for answer in answers) == [200] * 6 + [429] * 14
    refused = next(answer for answer in answers if answer.status == 429)
    assert refused.code == "rate_limit_exceeded"
    assert "6 requests per day" in refused.json["error"]["message"]
    assert refused.json["error"]["limit"] == "rpd"
    wait_s = refused.json["error"]["retry_after_seconds"]
    assert 1 <= wait_s <= 86_400
    assert refused.headers["retry-after"] == str(wait_s)
    assert refused.headers["x-ratelimit-limit-requests"] == "6"
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    await eventually(lambda: len(gateway.events()) == 20)
    events = [event for event in gateway.events() if event.http_status == 429]
    assert len(events) == 14
    for event in events:
        assert (event.failure_stage, event.error_code) == (
            "guard_rate_limit",
            "rate_limit_exceeded",
        )
        assert (event.outcome, event.cost_nanousd) == (usage_pb2.REQUEST_OUTCOME_REFUSED, 0)
    assert len(gateway.upstream.requests) == 6


async def test_answers_of_limited_keys_say_how_much_is_left(gateway: GatewayHarness) -> None:
    limited_key(gateway, rpm=100, rpd=10, tpm=10_000)
    seen = [(await ask(gateway, chat(max_tokens=50, stream=one))).headers for one in (False, True)]
    assert [headers["x-ratelimit-remaining-requests"] for headers in seen] == ["9", "8"]
    # Of two limits of requests the one is shown of which less is left.
    assert [headers["x-ratelimit-limit-requests"] for headers in seen] == ["10", "10"]
    assert {headers["x-ratelimit-limit-tokens"] for headers in seen} == {"10000"}
    assert 9_000 < int(seen[1]["x-ratelimit-remaining-tokens"]) < 10_000
    for headers in seen:
        assert 0 < int(headers["x-ratelimit-reset-tokens"].removesuffix("s")) <= 60
        assert 0 < int(headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 86_400


async def test_tokens_are_set_aside_at_admission_and_corrected_afterwards(
    gateway: GatewayHarness,
) -> None:
    principal = limited_key(gateway, tpm=1_500)
    # Fourteen or so of the question and as many as a thousand of the answer, which has 27 in all.
    for _ in range(4):
        assert (await ask(gateway, chat())).status == 200
    gateway.quotas.sweep(idle_s=0.0)
    await eventually(lambda: gateway.quota_source.taken(principal.key_id, "tpm") == 4 * 27)
    until = asyncio.Event()
    hanging = asyncio.create_task(hang_up_after(gateway, chat("hang"), until=until))
    await eventually(lambda: len(gateway.upstream.requests) == 5)
    refused = await ask(gateway, chat())
    assert (refused.status, refused.json["error"]["limit"]) == (429, "tpm")
    assert (await ask(gateway, chat(max_tokens=20))).status == 200
    until.set()
    await hanging
    await eventually(lambda: len(gateway.events()) == 7)
    assert (await ask(gateway, chat())).status == 200


async def test_a_request_larger_than_the_limit_is_told_so(gateway: GatewayHarness) -> None:
    limited_key(gateway, tpm=500)
    refused = await ask(gateway, chat())
    assert (refused.status, refused.code) == (429, "rate_limit_exceeded")
    assert "500 tokens per minute" in refused.json["error"]["message"]
    assert "retry-after" not in refused.headers
    assert (await ask(gateway, chat(max_tokens=100))).status == 200


async def test_free_models_count_too(gateway: GatewayHarness) -> None:
    principal = limited_key(gateway, rpd=2, tpm=5_000)
    statuses = [(await ask(gateway, {**FREE, "max_tokens": 9})).status for _ in range(3)]
    assert statuses == [200, 200, 429]
    gateway.quotas.sweep(idle_s=0.0)
    await eventually(lambda: gateway.quota_source.taken(principal.key_id, "tpm") == 2 * 27)


async def test_a_limit_of_zero_allows_nothing(gateway: GatewayHarness) -> None:
    for name in ("rpm", "rpd", "tpm"):
        limited_key(gateway, **{name: 0})
        refused = await ask(gateway, chat())
        assert (refused.status, refused.json["error"]["limit"]) == (429, name)
        assert int(refused.headers["retry-after"]) >= 1


async def test_a_limit_is_refused_before_the_body_is_looked_at_and_before_the_money(
    gateway: GatewayHarness,
) -> None:
    gateway.grants.balances[ACCOUNT] = 0
    limited_key(gateway, rpd=1)
    assert (await ask(gateway, chat())).status == 402
    assert (await ask(gateway, chat())).status == 429
    draws = gateway.quota_source.draws
    refused = await call(gateway, "POST", "/v1/chat/completions", body=b"not json")
    assert refused.status == 429
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    # Known to be used up: nobody is asked.
    assert gateway.quota_source.draws == draws
    gateway.grants.balances[ACCOUNT] = USD


async def test_billing_away_refuses_limited_keys_only(gateway: GatewayHarness) -> None:
    plain = gateway.key
    limited_key(gateway, rpm=5)
    gateway.quota_source.away = True
    refused = await ask(gateway, chat())
    assert (refused.status, refused.code) == (503, "service_unavailable")
    gateway.key = plain
    assert (await ask(gateway, chat())).status == 200
    gateway.quota_source.away = False


async def test_a_suspended_key_that_billing_knows_of_first_is_forbidden(
    gateway: GatewayHarness,
) -> None:
    principal = limited_key(gateway, rpm=5)
    gateway.quota_source.inactive.add(principal.key_id)
    assert (await ask(gateway, chat())).status == 403


async def test_a_key_reads_its_limits(gateway: GatewayHarness) -> None:
    limited_key(gateway, rpd=8, tpm=20_000)
    for _ in range(2):
        await ask(gateway, chat())
    told = await call(gateway, "GET", "/v1/usage/rate-limits")

    async def are_counted() -> bool:
        # What an answer really had is counted behind its last byte.
        nonlocal told
        told = await call(gateway, "GET", "/v1/usage/rate-limits")
        return bool(told.json["key"]["tpm"]["current"] == 2 * 27)

    await eventually_async(are_counted)
    assert told.status == 200
    assert told.json["as_of"].endswith("+00:00")
    day = told.json["key"]["rpd"]
    assert 0 < day.pop("resets_in_seconds") <= 86_400
    assert day == {"current": 2, "limit": 8, "pct": 25.0, "is_default_limit": False}
    assert told.json["key"]["rpm"] is None
    assert told.headers["cache-control"] == "no-store"


async def test_a_key_is_told_of_itself_alone(gateway: GatewayHarness) -> None:
    limited_key(gateway, rpd=8)
    other = gateway.keys.of(gateway.keys.issue(KeySettings(rpm_limit=5))).key_id
    told = await call(gateway, "GET", f"/v1/usage/rate-limits?key_id={other}")
    assert told.json.keys() == {"as_of", "key"}
    assert told.json["key"]["rpd"]["limit"] == 8


async def test_people_and_admin_keys_read_the_limits_of_their_account_and_of_its_keys(
    gateway: GatewayHarness,
) -> None:
    team, member = scopes.team("red"), scopes.member("usr_1")
    rates = [
        ScopeRates(team, rpd=40),
        ScopeRates(member, tpm=50_000),
        ScopeRates(scopes.ACCOUNT, rpm=100),
    ]
    gateway.key = gateway.keys.issue(
        KeySettings(rpd_limit=8), scoped=Scoped("red", shared=tuple(rates))
    )
    key_id = gateway.keys.of(gateway.key).key_id
    source = gateway.quota_source
    source.account_id = ACCOUNT
    source.limits[key_id] = {"rpd": 8}
    source.scopes_of[key_id] = (team, member, scopes.ACCOUNT)
    source.scope_limits |= {
        team: {"rpd": 40},
        member: {"tpm": 50_000},
        scopes.ACCOUNT: {"rpm": 100},
    }
    for _ in range(2):
        await ask(gateway, chat())
    holders = gateway.sessions.holders
    holders["mss_viewer"] = Principal("user", ACCOUNT, "usr_1", role="viewer")
    holders["mss_stranger"] = Principal("user", "acc_2", "usr_9", role="owner")
    owner = Principal("user", ACCOUNT, "usr_1", role="owner")
    expires_ms = round(time.time() * 1000) + 86_400_000
    secrets = {}
    for permission in ("org:read", "keys:read"):
        _, secrets[permission] = await gateway.admin_keys.create(
            owner, "ci", permissions=[permission], scope="org", expires_at_ms=expires_ms
        )

    async def told(token: str, query: str = "") -> Answer:
        headers = {"Authorization": f"Bearer {token}"}
        return await call(gateway, "GET", f"/v1/usage/rate-limits{query}", headers=headers)

    for token in ("mss_viewer", secrets["org:read"]):
        account = await told(token)
        assert (account.status, account.headers["cache-control"]) == (200, "no-store")
        assert account.json.keys() == {"as_of", "org"}
        minute = account.json["org"]["rpm"]
        assert (minute["current"], minute["limit"], minute["pct"]) == (2, 100, 2.0)
        assert (account.json["org"]["rpd"], account.json["org"]["tpm"]) == (None, None)
        key = (await told(token, f"?key_id={key_id}")).json
        assert key.keys() == {"as_of", "key", "member", "team", "org"}
        assert (key["key"]["rpd"]["current"], key["key"]["rpd"]["limit"]) == (2, 8)
        assert (key["team"]["rpd"]["limit"], key["team"]["rpm"]) == (40, None)
        assert key["member"]["tpm"]["current"] == 2 * 27
        assert key["org"]["rpm"] == {**minute, "resets_in_seconds": ANY}
    for token in ("mss_viewer", "mss_stranger"):
        unknown = "key_none" if token == "mss_viewer" else key_id
        missing = await told(token, f"?key_id={unknown}")
        assert (missing.status, missing.code) == (404, "not_found")
    strangers = await told("mss_stranger")
    assert strangers.json["org"] == {"rpm": None, "rpd": None, "tpm": None}
    refused = await told(secrets["keys:read"])
    assert (refused.status, refused.code) == (403, "forbidden")
    assert (await told("mss_ended")).status == 401


async def test_both_sdks_know_the_refusal_and_when_to_come_back(gateway: GatewayHarness) -> None:
    limited_key(gateway, rpd=0)
    async with openai.AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0
    ) as client:
        with pytest.raises(openai.RateLimitError) as refused:
            await client.chat.completions.create(
                model="vendor/ok", messages=[{"role": "user", "content": "Hello"}]
            )
    assert int(refused.value.response.headers["retry-after"]) >= 1
    mesh = AsyncMeshAPI(base_url=gateway.url, token=gateway.key, max_retries=0)
    params = ChatCompletionParams(
        model="vendor/ok", messages=[ChatMessage(role="user", content="Hello")]
    )
    with pytest.raises(MeshAPIError) as told:
        await mesh.chat.completions.create(params)
    assert (told.value.status, told.value.error_code) == (429, "rate_limit_exceeded")
    assert told.value.retry_after_seconds >= 1
