"""What the official SDKs require of a compatible server, item by item: what no other file shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import orjson
import pytest
from meshapi import AsyncMeshAPI, ChatCompletionParams, ChatMessage, MeshAPIError

from services.common.ids import is_ulid
from services.gateway.chat_request import OWN_FIELDS, UPSTREAM_FIELDS
from services.gateway.entrypoints.app import routed_app
from services.gateway.ports import KeySettings
from tests.fixtures.gateway import GatewayHarness, running_gateway
from tests.fixtures.wire import QUESTION, ask, call, chat

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
# Every field of a request with a value that is not refused; what of it a provider must see.
FULL: dict[str, Any] = {
    "models": ["vendor/free"],
    "stream": False,
    "stream_options": {"include_usage": True},
    "variables": {"unused": "x"},
    "session_id": "s",
    "end_user_id": "u",
    "tags": {"team": "red"},
    "max_tokens": 100,
    "max_completion_tokens": 100,
    "temperature": 0.5,
    "top_p": 0.9,
    "frequency_penalty": 0.1,
    "presence_penalty": 0.1,
    "stop": ["x"],
    "seed": 7,
    "n": 1,
    "logprobs": True,
    "top_logprobs": 2,
    "logit_bias": {"50256": -100},
    "reasoning_effort": "low",
    "reasoning": {"effort": "low", "exclude": True},
    "tools": TOOLS,
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": True,
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
    },
    "modalities": ["text"],
    "audio": {"voice": "alloy", "format": "wav"},
    "modality": "text",
    "image": {"n": 1},
    "transforms": ["middle-out"],
    "user": "u",
    "async_mode": False,
    "timeout": 30,
    "cache": True,
    "service_tier": "default",
    "weight_profile": "balanced",
    "model": "vendor/ok",
}
PARTS: list[dict[str, Any]] = [
    {"type": "text", "text": "Look and listen."},
    {"type": "image_url", "image_url": {"url": "https://x.example/y.png", "detail": "low"}},
    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
]


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream", "image/png", ""])
async def test_the_accept_header_decides_nothing(gateway: GatewayHarness, accept: str) -> None:
    whole = await ask(gateway, chat(), Accept=accept)
    assert whole.json["object"] == "chat.completion"
    assert (await ask(gateway, chat(stream=True), Accept=accept)).frames


@pytest.mark.parametrize(
    "path", ["/v1/models/", "/v1/chat/completions/", "/v1/templates/", "/v1//models", "/v1"]
)
async def test_no_path_is_redirected(gateway: GatewayHarness, path: str) -> None:
    for method in ("GET", "POST"):
        answer = await call(gateway, method, path, body={})
        assert not 300 <= answer.status < 400
        assert answer.code


async def test_a_content_type_on_a_call_without_a_body_is_accepted(gateway: GatewayHarness) -> None:
    headers = {"Content-Type": "application/json", "X-Unknown": "1", "X-MeshAPI-SDK": "python/0"}
    assert (await call(gateway, "GET", "/v1/models", headers=headers)).status == 200


async def test_every_answer_of_every_route_has_a_request_id_of_its_own_and_a_version(
    gateway: GatewayHarness,
) -> None:
    seen: set[str] = set()
    for path, item in routed_app().openapi()["paths"].items():
        for method in item:
            url = path.replace("{", "").replace("}", "")
            answer = await call(gateway, method.upper(), url, headers={"Authorization": ""})
            request_id = answer.headers["x-request-id"]
            assert request_id.startswith("req_")
            assert is_ulid(request_id.removeprefix("req_"))
            assert request_id not in seen
            seen.add(request_id)
            assert answer.headers["x-mesh-version"] == "2026-08"
            if answer.status >= 400:
                assert "application/json" in answer.headers["content-type"]
                assert answer.json["request_id"] == request_id
            if path.startswith("/v1") and path != "/v1/realtime":
                assert answer.status == 401, path
    assert len(seen) > 30


async def test_a_models_call_tells_whether_a_key_works(gateway: GatewayHarness) -> None:
    client = AsyncMeshAPI(base_url=gateway.url, token="rsk_INVALID_TOKEN", max_retries=0)
    with pytest.raises(MeshAPIError) as refused:
        await client.models.list()
    assert (refused.value.status, refused.value.error_code) == (401, "unauthorized")
    assert (refused.value.request_id or "").startswith("req_")


async def test_the_full_set_of_fields_covers_every_field_that_is_accepted() -> None:
    assert FULL.keys() | {"template"} == OWN_FIELDS.keys() | UPSTREAM_FIELDS.keys()


async def test_every_field_is_accepted_and_only_the_providers_go_upstream(
    gateway: GatewayHarness,
) -> None:
    answer = await ask(gateway, {**FULL, "messages": QUESTION, "invented": {"a": 1}})
    assert answer.status == 200, answer.body
    sent = gateway.upstream.requests[-1]
    ours = OWN_FIELDS.keys() - {"model", "stream", "stream_options", "max_tokens"}
    assert not sent.keys() & (ours - {"max_completion_tokens"})
    assert "invented" not in sent
    for name in UPSTREAM_FIELDS:
        assert sent[name] == FULL[name], name
    event = await gateway.event()
    assert (event.session_id, event.end_user_id, dict(event.tags)) == ("s", "u", {"team": "red"})


async def test_every_field_as_null_is_every_field_absent(gateway: GatewayHarness) -> None:
    nulls = dict.fromkeys([*OWN_FIELDS, *UPSTREAM_FIELDS])
    answer = await ask(gateway, {**nulls, "messages": QUESTION, "model": "vendor/ok"})
    assert answer.status == 200, answer.body
    assert not gateway.upstream.requests[-1].keys() & (UPSTREAM_FIELDS.keys() - {"messages"})


async def test_parts_of_messages_go_upstream_as_they_came(gateway: GatewayHarness) -> None:
    messages = [{"role": "user", "content": PARTS}, {"role": "user", "content": "And?"}]
    assert (await ask(gateway, chat(messages=messages))).status == 200
    assert gateway.upstream.requests[-1]["messages"] == messages


async def test_the_model_may_come_from_the_key(gateway: GatewayHarness) -> None:
    key = gateway.keys.issue(KeySettings(default_model="vendor/ok"))
    client = AsyncMeshAPI(base_url=gateway.url, token=key, max_retries=0)
    answer = await client.chat.completions.create(
        ChatCompletionParams(messages=[ChatMessage(role="user", content="Hi")])
    )
    assert answer.model == "vendor/ok"
    missing = await ask(gateway, {"messages": QUESTION})
    assert (missing.status, missing.code) == (422, "validation_error")


async def test_a_list_of_models_is_tried_in_its_order(gateway: GatewayHarness) -> None:
    answer = await ask(gateway, {"messages": QUESTION, "models": ["vendor/gone", "vendor/ok"]})
    assert answer.json["model"] == "vendor/ok"


async def test_a_rate_limit_says_when_to_come_again_in_head_and_body(
    gateway: GatewayHarness,
) -> None:
    key = gateway.keys.issue(KeySettings(rpm_limit=0))
    gateway.quota_source.limits[gateway.keys.of(key).key_id] = {"rpm": 0}
    async with openai.AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key=key, max_retries=0
    ) as client:
        with pytest.raises(openai.RateLimitError) as refused:
            await client.chat.completions.create(
                model="vendor/ok", messages=[{"role": "user", "content": "Hi"}]
            )
    body = orjson.loads(refused.value.response.content)
    assert body["error"]["code"] == "rate_limit_exceeded"
    said = refused.value.response.headers.get("retry-after")
    assert said == str(body["error"]["retry_after_seconds"])


@pytest.mark.parametrize("script", ["429", "502", "503", "504"])
async def test_what_clients_send_again_is_never_billed(
    gateway: GatewayHarness, script: str
) -> None:
    answer = await ask(gateway, chat(script))
    assert answer.status in (429, 502, 503, 504)
    assert (await gateway.event()).cost_nanousd == 0


async def test_the_catalogue_of_errors_has_every_code_that_was_answered(
    gateway: GatewayHarness,
) -> None:
    told = (await call(gateway, "GET", "/v1/errors")).json
    assert told["codes"]["rate_limit_exceeded"] == {
        "http_status": 429,
        "category": "limits",
        "retryable": True,
    }
    answers = [
        await ask(gateway, {"messages": QUESTION}),
        await ask(gateway, chat("none")),
        await ask(gateway, chat("500")),
        await call(gateway, "GET", "/v1/nothing"),
        await call(gateway, "GET", "/v1/chat/completions"),
        await call(gateway, "GET", "/v1/files"),
        await call(gateway, "GET", "/v1/models", headers={"Authorization": ""}),
        await call(gateway, "GET", "/v1/models", headers={"X-Mesh-Version": "2020-01"}),
    ]
    for answer in answers:
        entry = told["codes"][answer.code]
        assert entry["category"] in told["categories"]
    assert told["default"]["category"] in told["categories"]


async def test_the_filters_of_models(gateway: GatewayHarness) -> None:
    async def ids(query: str) -> list[str]:
        answer = await call(gateway, "GET", f"/v1/models{query}")
        assert answer.status == 200
        return [model["id"] for model in orjson.loads(answer.body)]

    assert await ids("?free=true") == await ids("/free") == ["vendor/free"]
    assert await ids("?free=false") == await ids("/paid")
    assert await ids("?type=text") == await ids("?provider=vendor") == await ids("")
    assert await ids("?type=video") == await ids("?provider=other") == []
    assert (await call(gateway, "GET", "/v1/models?type=smell")).status == 422
    found = await call(gateway, "GET", "/v1/models/search?discounted=true")
    assert (found.json["items"], found.json["total"]) == ([], 0)
    routes = orjson.loads((await call(gateway, "GET", "/v1/models/vendor/ok/providers")).body)
    assert (routes[0]["input_modalities"], routes[0]["supports_tools"]) == (["text"], True)
    unknown = await call(gateway, "GET", "/v1/models/vendor/none/providers")
    assert (unknown.status, unknown.code) == (404, "model_not_found")


async def test_a_replayed_stream_is_parsed_as_any_other(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, cache_bytes_max=100_000) as gateway:
        async with openai.AsyncOpenAI(
            base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0
        ) as client:
            for _ in range(2):
                stream = await client.chat.completions.create(
                    model="vendor/ok", messages=[{"role": "user", "content": "Hi"}], stream=True
                )
                chunks = [chunk async for chunk in stream]
                assert chunks[-1].usage is not None
        assert chunks[0].id.startswith("chatcmpl-cached-")
