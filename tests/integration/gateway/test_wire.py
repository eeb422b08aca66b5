"""The wire of the public API: headers, envelopes, frames."""

from __future__ import annotations

import orjson
import pytest

from services.common.ids import is_ulid
from services.common.pb.mesh.events.v1 import usage_pb2
from services.gateway.ports import KeySettings
from tests.fixtures.gateway import GatewayHarness
from tests.fixtures.upstream import USAGE, WORDS
from tests.fixtures.wire import QUESTION, ask, call, chat

CHUNK_FIELDS = {"id", "object", "created", "model", "choices"}


@pytest.mark.parametrize("script", ["ok", "bare", "whole", "no-usage", "tools"])
async def test_every_frame_is_whole_whatever_the_provider_sent(
    gateway: GatewayHarness, script: str
) -> None:
    frames = (await ask(gateway, chat(script, stream=True))).frames
    for frame in frames:
        assert frame.keys() >= CHUNK_FIELDS
        assert frame["object"] == "chat.completion.chunk"
        assert frame["model"] == f"vendor/{script}"
        assert isinstance(frame["created"], int)
        assert "error" not in frame
        for choice in frame["choices"]:
            assert choice.keys() >= {"index", "delta", "finish_reason"}
            assert all("index" in piece for piece in choice["delta"].get("tool_calls", ()))
    assert frames[0]["choices"][0]["delta"]["role"] == "assistant"
    assert frames[-1]["choices"] == []
    assert frames[-1]["usage"]["total_tokens"] > 0
    assert all("usage" not in frame for frame in frames[:-1])


async def test_a_whole_answer_is_the_fold_of_its_stream(gateway: GatewayHarness) -> None:
    whole = (await ask(gateway, chat("ok"))).json
    frames = (await ask(gateway, chat("ok", stream=True))).frames
    assert whole["object"] == "chat.completion"
    assert whole["choices"][0]["message"] == {"role": "assistant", "content": "".join(WORDS)}
    assert whole["usage"] == frames[-1]["usage"] == USAGE
    first, second = (await gateway.event(2)), gateway.events()[0]
    assert first.cost_nanousd == second.cost_nanousd
    assert list(first.quantities) == list(second.quantities)


async def test_request_ids_are_ours_or_the_clients_own(gateway: GatewayHarness) -> None:
    ours = await ask(gateway, chat())
    assert ours.headers["x-request-id"].startswith("req_")
    assert is_ulid(ours.headers["x-request-id"].removeprefix("req_"))
    own = await ask(gateway, chat(), **{"X-Request-Id": "job-7:try.1"})
    assert own.headers["x-request-id"] == "job-7:try.1"
    event = await gateway.event(2)
    assert event.request_id == "job-7:try.1"
    assert event.usage_id.startswith("use_")
    for bad in ("has space", "x" * 65, "ünïcode"):
        ignored = await call(gateway, "GET", "/v1/models", headers={"X-Request-Id": bad})
        assert ignored.headers["x-request-id"].startswith("req_")


async def test_a_streams_head_carries_the_request_id_and_the_version(
    gateway: GatewayHarness,
) -> None:
    answer = await ask(gateway, chat(stream=True), **{"X-Mesh-Version": "2026-09"})
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.headers["x-mesh-version"] == "2026-09"
    assert "x-mesh-version" in answer.headers["access-control-expose-headers"]


@pytest.mark.parametrize("version", ["2026-10", "yesterday", "2026-8"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/v1/nowhere"])
async def test_a_bad_version_is_refused_before_the_key_is_looked_at(
    gateway: GatewayHarness, version: str, path: str
) -> None:
    headers = {"X-Mesh-Version": version, "Authorization": "Bearer rsk_bad"}
    answer = await call(gateway, "POST", path, body=chat(), headers=headers)
    assert (answer.status, answer.code) == (400, "invalid_api_version")
    assert answer.json["error"]["supported_versions"] == ["2026-08", "2026-09"]
    assert gateway.events() == []


async def test_versions_are_listed_oldest_first_and_the_baseline_is_the_default(
    gateway: GatewayHarness,
) -> None:
    answer = await call(gateway, "GET", "/v1/api-versions")
    assert answer.headers["x-mesh-version"] == "2026-08"
    assert [entry["label"] for entry in orjson.loads(answer.body)] == ["2026-08", "2026-09"]
    entries = orjson.loads(answer.body)
    assert (entries[0]["baseline"], entries[1]["latest"]) == (True, True)


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer sk-1", "Basic abc", "rsk_1", "Bearer rsk_01M82A2H74XNJT193FHB8YT26X"],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/usage/events"])
async def test_without_a_usable_key_there_is_a_401_with_an_envelope(
    gateway: GatewayHarness, authorization: str, path: str
) -> None:
    body = chat(stream=True) if "chat" in path else {}
    answer = await call(gateway, "POST", path, body=body, headers={"Authorization": authorization})
    assert (answer.status, answer.code) == (401, "unauthorized")
    assert gateway.events() == []


async def test_an_expired_key_is_unknown_and_a_suspended_one_forbidden(
    gateway: GatewayHarness,
) -> None:
    expired = gateway.keys.issue(expires_at_ms=1)
    answer = await ask(gateway, chat(), Authorization=f"Bearer {expired}")
    assert (answer.status, answer.code) == (401, "unauthorized")
    for secret in (
        gateway.keys.issue(suspended=True),
        gateway.keys.issue(account_suspended=True),
    ):
        answer = await ask(gateway, chat(), Authorization=f"Bearer {secret}")
        assert (answer.status, answer.code) == (403, "forbidden")
        listed = await call(
            gateway, "GET", "/v1/models", headers={"Authorization": f"Bearer {secret}"}
        )
        assert (listed.status, listed.code) == (403, "forbidden")
    event = await gateway.event(2)
    assert (event.outcome, event.failure_stage) == (usage_pb2.REQUEST_OUTCOME_REFUSED, "auth")
    assert gateway.upstream.requests == []


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nowhere", 404, "not_found"),
        ("GET", "/v1/models/", 404, "model_not_found"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("GET", "/v1/models?free=perhaps", 422, "validation_error"),
    ],
)
async def test_the_frameworks_own_errors_have_the_envelope_too(
    gateway: GatewayHarness, method: str, path: str, status: int, code: str
) -> None:
    answer = await call(gateway, method, path)
    assert (answer.status, answer.code) == (status, code)
    assert answer.headers["x-mesh-version"] == "2026-08"


async def test_malformed_json_is_a_bad_request_everywhere(gateway: GatewayHarness) -> None:
    for path in ("/v1/chat/completions", "/v1/usage/events"):
        answer = await call(gateway, "POST", path, body=b'{"messages": [')
        assert (answer.status, answer.code) == (400, "bad_request")
    for body in (b"[]", b'"text"', b"", b'{"a":' + b"[" * 400 + b"]" * 400 + b"}"):
        answer = await call(gateway, "POST", "/v1/chat/completions", body=body)
        assert (answer.status, answer.code) == (400, "bad_request")


@pytest.mark.parametrize(
    ("change", "loc"),
    [
        ({"temperature": 3}, ["body", "temperature"]),
        ({"temperature": "warm"}, ["body", "temperature"]),
        ({"top_p": -0.1}, ["body", "top_p"]),
        ({"max_tokens": 0}, ["body", "max_tokens"]),
        ({"max_tokens": 1.5}, ["body", "max_tokens"]),
        ({"stream": "yes"}, ["body", "stream"]),
        ({"messages": []}, ["body", "messages"]),
        ({"messages": None}, ["body", "messages"]),
        ({"messages": [{"role": "king", "content": "x"}]}, ["body", "messages", 0, "role"]),
        ({"messages": [{"role": "user"}]}, ["body", "messages", 0, "content"]),
        ({"messages": [{"role": "tool", "content": "x"}]}, ["body", "messages", 0, "tool_call_id"]),
        ({"reasoning_effort": "extreme"}, ["body", "reasoning_effort"]),
        ({"reasoning": {"effort": "low", "max_tokens": 5}}, ["body", "reasoning"]),
        ({"user": "x" * 257}, ["body", "user"]),
        ({"tags": {"a": 1}}, ["body", "tags", "a"]),
        ({"tools": [{"type": "function"}]}, ["body", "tools", 0, "function"]),
        ({"timeout": 0}, ["body", "timeout"]),
        ({"model": ""}, ["body", "model"]),
        ({"model": None}, ["body", "model"]),
    ],
)
async def test_a_field_out_of_bounds_is_named(
    gateway: GatewayHarness, change: dict[str, object], loc: list[object]
) -> None:
    answer = await ask(gateway, {**chat(), **change})
    assert (answer.status, answer.code) == (422, "validation_error")
    details = answer.json["error"]["details"]
    assert loc in [fault["loc"] for fault in details]
    assert all(fault.keys() == {"type", "loc", "msg"} for fault in details)
    event = await gateway.event()
    assert (event.outcome, event.http_status) == (usage_pb2.REQUEST_OUTCOME_REFUSED, 422)
    assert event.cost_nanousd == 0


async def test_nulls_are_absent_and_unknown_fields_are_dropped(gateway: GatewayHarness) -> None:
    answer = await ask(
        gateway,
        chat(
            temperature=None, max_tokens=None, stop=None, tools=None, stream=None, variables=None,
            session_id="s-1", end_user_id="u-1", tags={"team": "red"}, weight_profile="odd",
            cache=False, transforms=["middle-out"], timeout=30, service_tier="default",
            no_such_field={"a": 1}, temperature_=1, top_p=0.5, seed=7, user="someone",
        ),
    )  # fmt: skip
    assert answer.status == 200
    assert gateway.upstream.requests == [
        {
            "model": "script-ok",
            "messages": QUESTION,
            "stream": True,
            "stream_options": {"include_usage": True},
            "top_p": 0.5,
            "seed": 7,
            "user": "someone",
        }
    ]
    assert gateway.upstream.headers[0]["Authorization"] == "Bearer sk-upstream-secret"
    event = await gateway.event()
    assert (event.session_id, event.end_user_id, dict(event.tags)) == (
        "s-1",
        "u-1",
        {"team": "red"},
    )


@pytest.mark.parametrize(
    "change",
    [{"modality": "image"}, {"async_mode": True}],
)
async def test_what_is_not_served_yet_is_said_clearly(
    gateway: GatewayHarness, change: dict[str, object]
) -> None:
    answer = await ask(gateway, chat(**change))
    assert (answer.status, answer.code) == (501, "not_implemented")
    assert next(iter(change)) in answer.json["error"]["message"]


async def test_a_body_beyond_the_limit_is_refused(gateway: GatewayHarness) -> None:
    limit = 32 * 1024 * 1024
    body = b'{"messages":"' + b"x" * limit + b'"}'
    answer = await call(gateway, "POST", "/v1/chat/completions", body=body)
    assert (answer.status, answer.code) == (413, "payload_too_large")
    assert (await gateway.event()).http_status == 413


async def test_a_head_beyond_the_limit_is_refused(gateway: GatewayHarness) -> None:
    answer = await call(gateway, "GET", "/v1/models", headers={"X-Long": "y" * 70_000})
    assert (answer.status, answer.code) == (400, "bad_request")


async def test_the_api_describes_itself(gateway: GatewayHarness) -> None:
    answer = await call(gateway, "GET", "/openapi.json", headers={"Authorization": ""})
    assert answer.json["paths"].keys() >= {
        "/v1/chat/completions", "/v1/models", "/v1/models/{model_id}", "/v1/balance",
        "/v1/usage/events", "/v1/usage/requests/{request_id}", "/v1/api-versions",
    }  # fmt: skip


async def test_readiness_names_what_is_missing(gateway: GatewayHarness) -> None:
    assert (await call(gateway, "GET", "/healthz")).status == 200
    assert (await call(gateway, "GET", "/readyz")).json == {"ready": True, "not_ready": []}
    gateway.not_ready.append("keys")
    answer = await call(gateway, "GET", "/readyz")
    assert (answer.status, answer.json["not_ready"]) == (503, ["keys"])


async def test_a_worker_out_of_touch_with_the_log_refuses_everything(
    gateway: GatewayHarness,
) -> None:
    gateway.freshness.fresh = False
    for method, path in (("POST", "/v1/chat/completions"), ("GET", "/v1/models")):
        answer = await call(gateway, method, path, body=chat() if method == "POST" else None)
        assert (answer.status, answer.code) == (503, "service_unavailable")
        assert answer.headers["retry-after"] == "2"
        assert answer.json["error"]["retry_after_seconds"] == 2
    assert gateway.upstream.requests == []


@pytest.mark.parametrize(
    ("pin", "header", "served"),
    [
        ("2026-09", "", "2026-09"),
        ("2026-09", "2026-08", "2026-08"),
        ("2020-01", "", "2026-08"),
        ("", "", "2026-08"),
    ],
    ids=["pin", "header-first", "a-retired-pin-does-not-break-traffic", "baseline"],
)
async def test_the_version_is_the_headers_then_the_keys_then_the_oldest(
    gateway: GatewayHarness, pin: str, header: str, served: str
) -> None:
    key = gateway.keys.issue(KeySettings(api_version=pin))
    headers = {"Authorization": f"Bearer {key}", "X-Mesh-Version": header}
    listed = await call(gateway, "GET", "/v1/models", headers=headers)
    assert (listed.status, listed.headers["x-mesh-version"]) == (200, served)
    chatted = await call(
        gateway, "POST", "/v1/chat/completions", body=chat(stream=True), headers=headers
    )
    assert (chatted.status, chatted.headers["x-mesh-version"]) == (200, served)
