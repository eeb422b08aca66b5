"""Edges of the checklist: what only goes wrong where nobody looks."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import aiohttp
import orjson
import pytest
from multidict import CIMultiDict

from services.common.ids import ModelId
from services.common.security.tokens import Principal
from services.gateway.account_reads import LoggedRequest
from services.gateway.entrypoints.app import routed_app
from services.gateway.ports import KeySettings
from tests.fixtures.gateway import ACCOUNT, GatewayHarness, scripted_model
from tests.fixtures.upstream import WORDS
from tests.fixtures.wire import Answer, ask, call, chat


async def _with_versions(gateway: GatewayHarness, *versions: str) -> Answer:
    """Lists models with these X-Mesh-Version headers, empty ones too."""
    headers = CIMultiDict(gateway.auth)
    for version in versions:
        headers.add("X-Mesh-Version", version)
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{gateway.url}/v1/models", headers=headers) as response,
    ):
        lower = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, lower, await response.read())


async def test_an_empty_version_or_two_that_differ_are_refused(gateway: GatewayHarness) -> None:
    for versions in (("",), ("2026-08", "2026-09"), ("2026-09", "2026-08"), ("2026-08", "")):
        refused = await _with_versions(gateway, *versions)
        assert (refused.status, refused.code) == (400, "invalid_api_version"), versions
        assert refused.headers["x-mesh-version"] == "2026-08"
    twice = await _with_versions(gateway, "2026-09", "2026-09")
    assert (twice.status, twice.headers["x-mesh-version"]) == (200, "2026-09")


async def test_every_json_body_is_called_json(gateway: GatewayHarness) -> None:
    gateway.sessions.holders["mss_owner"] = Principal("user", ACCOUNT, "usr_1", role="owner")
    session = {"Authorization": "Bearer mss_owner"}
    read = 0
    for path, item in routed_app().openapi()["paths"].items():
        if "get" not in item or "{" in path or path.endswith("/export"):
            continue
        people = path.startswith(("/v1/keys", "/v1/admin-keys"))
        answer = await call(gateway, "GET", path, headers=session if people else None)
        assert answer.headers["content-type"] == "application/json", path
        orjson.loads(answer.body)
        read += answer.status == 200
    assert read > 12


async def test_a_fault_of_ours_is_a_500_in_the_envelope(gateway: GatewayHarness) -> None:
    # A wallet and a model that are none: neither can be.
    gateway.balances.by_account[ACCOUNT] = None  # type: ignore[assignment]  # see above
    gateway.catalogue.by_id[ModelId("vendor/ok")] = object()  # type: ignore[assignment]  # as above
    answer = await call(gateway, "GET", "/v1/balance")
    assert (answer.status, answer.code) == (500, "internal_error")
    for stream in (False, True):
        answer = await ask(gateway, chat(stream=stream))
        assert (answer.status, answer.code) == (500, "internal_error")
        assert "object" not in answer.body.decode()


async def test_words_go_out_as_they_come(gateway: GatewayHarness) -> None:
    body = chat("slow", stream=True)
    async with (
        asyncio.timeout(20),
        aiohttp.ClientSession(gateway.url, headers=gateway.auth) as session,
        session.post("/v1/chat/completions", json=body) as response,
    ):
        first = b""
        while WORDS[2].encode() not in first:
            first += await response.content.readany()
        # The provider says the rest only now that the caller has had the first words.
        assert b"[DONE]" not in first
        gateway.upstream.go_on.set()
        rest = await response.content.read()
    assert rest.endswith(b"data: [DONE]\n\n")


async def test_a_key_sees_the_models_that_it_may_call_alone(gateway: GatewayHarness) -> None:
    key = gateway.keys.issue(KeySettings(allowed_models=frozenset({"vendor/ok"})))
    headers = {"Authorization": f"Bearer {key}"}
    listed = await call(gateway, "GET", "/v1/models", headers=headers)
    assert [model["id"] for model in orjson.loads(listed.body)] == ["vendor/ok"]
    hidden = await call(gateway, "GET", "/v1/models/vendor/free", headers=headers)
    assert (hidden.status, hidden.code) == (404, "model_not_found")
    assert (await call(gateway, "GET", "/v1/models/vendor/ok", headers=headers)).status == 200


@pytest.mark.parametrize(
    ("asked", "fell_back"), [("vendor/ok", False), ("vendor/gone", True), (" Auto", False)]
)
async def test_a_choice_of_auto_is_no_fallback(
    gateway: GatewayHarness, asked: str, fell_back: bool
) -> None:
    row = LoggedRequest(
        usage_id="use_1", request_id="req_1", key_id=gateway.keys.of(gateway.key).key_id,
        trace_id="", route="/v1/chat/completions", requested_model="", model_id="vendor/ok",
        stream=False, outcome="success", http_status=200, error_code="", failure_stage="",
        finish_reason="stop", received_at_ms=1_700_000_000_000, first_token_ms=1, latency_ms=2,
        prompt_tokens=3, completion_tokens=4, cost_nanousd=2_100,
    )  # fmt: skip
    gateway.request_log.rows.append(replace(row, requested_model=asked))
    answer = await call(gateway, "POST", "/v1/usage/events", body={})
    assert answer.json["events"][0]["routing_fallback"] is fell_back


async def test_a_key_may_stand_in_x_api_key_for_messages_alone(gateway: GatewayHarness) -> None:
    asked = {**chat(), "max_tokens": 9}
    for path, status in (("/v1/messages", 200), ("/v1/chat/completions", 401)):
        headers = {"Authorization": "", "X-Api-Key": gateway.key}
        answer = await call(gateway, "POST", path, body=asked, headers=headers)
        assert answer.status == status, path
    headers = {"Authorization": "", "X-Api-Key": "rsk_none"}
    refused = await call(gateway, "POST", "/v1/messages", body=asked, headers=headers)
    assert (refused.status, refused.json["error"]["type"]) == (401, "authentication_error")
    # Where both are sent, the usual header counts.
    both = {"X-Api-Key": "rsk_none"}
    assert (await call(gateway, "POST", "/v1/messages", body=asked, headers=both)).status == 200


async def test_vectors_come_in_the_encoding_that_was_asked_for(gateway: GatewayHarness) -> None:
    gateway.catalogue.add(scripted_model("embed", model_type="embedding"))
    for encoding, kind in (("base64", str), ("float", list), (None, list)):
        body = {"model": "vendor/embed", "input": "Paris", "encoding_format": encoding}
        answer = await call(gateway, "POST", "/v1/embeddings", body=body)
        assert isinstance(answer.json["data"][0]["embedding"], kind), encoding
