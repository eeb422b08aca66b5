"""The response cache through the front door: what a hit looks like, and that it costs nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from meshapi import AsyncMeshAPI, ChatCompletionParams, ChatMessage

from services.common.ids import AccountId
from services.common.pb.mesh.events.v1 import usage_pb2
from services.gateway.ports import KeySettings, QuotaLimit
from tests.fixtures.clocks import EarlyClock
from tests.fixtures.gateway import GatewayHarness, running_gateway, short_of_money
from tests.fixtures.upstream import WORDS
from tests.fixtures.wire import ask, call, chat

TEXT = "".join(WORDS)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[GatewayHarness]:
    async with running_gateway(tmp_path, clock=EarlyClock(), cache_bytes_max=1_000_000) as harness:
        yield harness


async def test_the_second_answer_is_a_hit_and_its_event_costs_nothing(
    gateway: GatewayHarness,
) -> None:
    first = await ask(gateway, chat())
    assert "x-cache" not in first.headers
    second = await ask(gateway, chat())
    assert (second.status, second.headers["x-cache"]) == (200, "HIT")
    assert second.json["id"].startswith("chatcmpl-cached-")
    assert second.json["choices"] == first.json["choices"]
    assert second.json["usage"] == first.json["usage"]
    assert second.headers["x-request-id"] != first.headers["x-request-id"]
    assert len(gateway.upstream.requests) == 1
    event = await gateway.event(2)
    assert event.outcome == usage_pb2.REQUEST_OUTCOME_SUCCESS
    assert (event.cost_nanousd, event.usage_basis) == (0, usage_pb2.USAGE_BASIS_NONE)
    assert (event.http_status, event.finish_reason, event.failure_stage) == (200, "stop", "")
    assert (event.model_id, event.held_nanousd, list(event.attempts)) == ("vendor/ok", 0, [])
    assert gateway.events()[0].cost_nanousd > 0


@pytest.mark.parametrize("first_streams", [False, True])
async def test_a_stream_is_replayed_in_one_chunk_whatever_was_kept(
    gateway: GatewayHarness, first_streams: bool
) -> None:
    await ask(gateway, chat(stream=first_streams))
    replayed = await ask(gateway, chat(stream=True))
    assert replayed.headers["x-cache"] == "HIT"
    chunk, last = replayed.frames
    assert chunk["id"] == last["id"]
    assert chunk["id"].startswith("chatcmpl-cached-")
    assert chunk["object"] == "chat.completion.chunk"
    (choice,) = chunk["choices"]
    assert (choice["delta"]["role"], choice["delta"]["content"]) == ("assistant", TEXT)
    assert (choice["index"], choice["finish_reason"]) == (0, "stop")
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 27)
    whole = await ask(gateway, chat())
    assert whole.headers["x-cache"] == "HIT"
    assert whole.json["choices"][0]["message"]["content"] == TEXT
    assert len(gateway.upstream.requests) == 1


async def test_the_mesh_sdk_reads_replayed_streams(gateway: GatewayHarness) -> None:
    client = AsyncMeshAPI(base_url=gateway.url, token=gateway.key, max_retries=0)
    params = ChatCompletionParams(
        model="vendor/ok", messages=[ChatMessage(role="user", content="Hello")]
    )
    for cached in (False, True):
        chunks = [chunk async for chunk in client.chat.completions.stream(params)]
        assert chunks[0].id.startswith("chatcmpl-cached-") is cached
        said = [c.choices[0].delta.content or "" for c in chunks if c.choices]
        assert "".join(said) == TEXT
        assert chunks[-1].usage is not None


@pytest.mark.parametrize(
    ("change", "headers"),
    [
        ({"cache": False}, {}),
        ({}, {"X-Mesh-Cache": "No-Store"}),
        ({"temperature": 0.7}, {}),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, {}),
    ],
    ids=["field", "header", "temperature", "tools"],
)
async def test_who_opts_out_neither_reads_nor_writes_it(
    gateway: GatewayHarness, change: dict[str, object], headers: dict[str, str]
) -> None:
    for _ in range(2):
        assert "x-cache" not in (await ask(gateway, chat(**change), **headers)).headers
    assert len(gateway.upstream.requests) == 2
    if "temperature" not in change and "tools" not in change:
        # Nothing was kept for those who do want it.
        assert "x-cache" not in (await ask(gateway, chat())).headers


async def test_a_key_can_be_kept_out_of_it(gateway: GatewayHarness) -> None:
    key = gateway.keys.issue(KeySettings(response_cache_disabled=True))
    await ask(gateway, chat())
    for _ in range(2):
        answer = await ask(gateway, chat(), Authorization=f"Bearer {key}")
        assert "x-cache" not in answer.headers
    assert len(gateway.upstream.requests) == 3


async def test_keys_of_one_account_share_answers_and_accounts_do_not(
    gateway: GatewayHarness,
) -> None:
    await ask(gateway, chat())
    colleague = gateway.keys.issue()
    answer = await ask(gateway, chat(), Authorization=f"Bearer {colleague}")
    assert answer.headers["x-cache"] == "HIT"
    gateway.grants.balances[AccountId("acc_2")] = 10**10
    stranger = gateway.keys.issue(account_id=AccountId("acc_2"))
    answer = await ask(gateway, chat(), Authorization=f"Bearer {stranger}")
    assert (answer.status, "x-cache" in answer.headers) == (200, False)


async def test_a_hit_counts_as_a_request_and_takes_no_tokens(gateway: GatewayHarness) -> None:
    key = gateway.keys.issue(KeySettings(rpm_limit=2, tpm_limit=100_000))
    limits: dict[QuotaLimit, int] = {"rpm": 2, "tpm": 100_000}
    gateway.quota_source.limits[gateway.keys.of(key).key_id] = limits
    headers = {"Authorization": f"Bearer {key}"}
    first = await ask(gateway, chat(), **headers)
    second = await ask(gateway, chat(), **headers)
    assert second.status == 200, second.body
    assert second.headers["x-cache"] == "HIT"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert second.headers["x-ratelimit-remaining-requests"] == "0"
    third = await ask(gateway, chat(), **headers)
    assert (third.status, third.code) == (429, "rate_limit_exceeded")
    used = await call(gateway, "GET", "/v1/usage/rate-limits", headers=headers)
    assert used.json["key"]["tpm"]["current"] == 27


async def test_a_hit_needs_no_money(gateway: GatewayHarness) -> None:
    await ask(gateway, chat())
    headers = {"Authorization": f"Bearer {gateway.keys.issue()}"}
    with short_of_money(gateway, 0):
        hit = await ask(gateway, chat(), **headers)
        miss = await ask(gateway, chat(max_tokens=7), **headers)
    assert (hit.status, hit.headers.get("x-cache")) == (200, "HIT")
    assert miss.status == 402


async def test_failures_are_not_kept(gateway: GatewayHarness) -> None:
    for _ in range(2):
        assert (await ask(gateway, chat("500"))).status >= 500
    assert "x-cache" not in (await ask(gateway, chat("500"))).headers
