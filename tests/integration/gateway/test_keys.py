"""Keys through the public API: who is logged in manages them, no API key does."""

from __future__ import annotations

import orjson
import pytest

from services.common.security.tokens import Principal
from tests.fixtures.gateway import ACCOUNT, GatewayHarness
from tests.fixtures.wire import Answer, Json, call

SESSION = {"Authorization": "Bearer mss_owner"}
VIEWER = {"Authorization": "Bearer mss_viewer"}


@pytest.fixture
def people(gateway: GatewayHarness) -> None:
    holders = gateway.sessions.holders
    holders["mss_owner"] = Principal("user", ACCOUNT, "usr_1", role="owner")
    holders["mss_viewer"] = Principal("user", ACCOUNT, "usr_2", role="viewer")


async def send(
    gateway: GatewayHarness, method: str, path: str = "", body: Json | None = None
) -> Answer:
    return await call(gateway, method, f"/v1/keys{path}", body=body, headers=SESSION)


@pytest.mark.usefixtures("people")
async def test_a_key_is_made_read_changed_and_suspended(gateway: GatewayHarness) -> None:
    made = await send(
        gateway, "POST", body={"label": "web", "rpm_limit": 60, "spend_cap_usd": "2.5"}
    )
    assert (made.status, made.headers["cache-control"]) == (201, "no-store")
    secret, key_id = made.json["key"], made.json["id"]
    assert secret.startswith("rsk_")
    shown = await send(gateway, "GET", f"/{key_id}")
    assert secret.encode() not in shown.body
    assert (shown.json["rpm_limit"], shown.json["spend_cap_usd"]) == (60, "2.50")
    assert [one["id"] for one in orjson.loads((await send(gateway, "GET")).body)] == [key_id]
    changed = await send(
        gateway, "PATCH", f"/{key_id}", {"rpm_limit": None, "tpm_limit": 5, "response_cache": False}
    )
    assert (changed.json["rpm_limit"], changed.json["tpm_limit"]) == (None, 5)
    assert (changed.json["label"], changed.json["response_cache"]) == ("web", False)
    limits = await send(gateway, "GET", f"/{key_id}/limits")
    assert (limits.json["tpm_limit"], limits.json["effective_tpm_limit"]) == (5, 5)
    assert limits.json["effective_rpm_limit"] is None
    gone = await send(gateway, "DELETE", f"/{key_id}")
    assert (gone.status, gone.body) == (204, b"")
    assert (await send(gateway, "GET", f"/{key_id}")).json["status"] == "suspended"
    back = await send(gateway, "PATCH", f"/{key_id}", {"status": "active"})
    assert back.json["status"] == "active"


@pytest.mark.usefixtures("people")
async def test_what_is_wrong_is_named(gateway: GatewayHarness) -> None:
    for body, named in (
        ({}, "label"),
        ({"label": "x", "rpm_limit": 1_001}, "rpm_limit"),
        ({"label": "x", "rpm_limit": -1}, "rpm_limit"),
        ({"label": "x", "spend_cap_usd": "much"}, "spend_cap_usd"),
    ):
        refused = await send(gateway, "POST", body=body)
        assert (refused.status, refused.code) == (422, "validation_error")
        assert named in refused.json["error"]["message"]
    assert (await send(gateway, "GET", "/key_none")).code == "not_found"
    assert (await send(gateway, "GET", "/key_none/limits")).code == "not_found"


@pytest.mark.usefixtures("people")
async def test_no_api_key_manages_keys_and_no_viewer_makes_any(gateway: GatewayHarness) -> None:
    for method in ("GET", "POST"):
        refused = await call(gateway, method, "/v1/keys", body={"label": "x"})
        assert (refused.status, refused.code) == (403, "forbidden")
    refused = await call(gateway, "POST", "/v1/keys", body={"label": "x"}, headers=VIEWER)
    assert (refused.status, refused.code) == (403, "forbidden")
    assert (await call(gateway, "GET", "/v1/keys", headers=VIEWER)).status == 200
    for bad in ("", "Bearer mss_ended", "Bearer rsk_none", "Basic mss_owner", "Bearer mss_\xff"):
        refused = await call(gateway, "GET", "/v1/keys", headers={"Authorization": bad})
        assert (refused.status, refused.code) == (401, "unauthorized")


@pytest.mark.usefixtures("people")
async def test_a_session_reads_models_and_keeps_templates_but_does_not_chat(
    gateway: GatewayHarness,
) -> None:
    assert (await call(gateway, "GET", "/v1/models", headers=SESSION)).status == 200
    assert (await call(gateway, "GET", "/v1/models/vendor/ok", headers=SESSION)).status == 200
    assert (await call(gateway, "GET", "/v1/api-versions", headers=SESSION)).status == 200
    made = await call(gateway, "POST", "/v1/templates", body={"name": "t"}, headers=SESSION)
    assert (made.status, made.json["owner"]) == (201, "usr_1")
    refused = await call(gateway, "POST", "/v1/templates", body={"name": "u"}, headers=VIEWER)
    assert refused.status == 403
    chatted = await call(gateway, "POST", "/v1/chat/completions", body={}, headers=SESSION)
    assert (chatted.status, chatted.code) == (401, "unauthorized")


@pytest.mark.usefixtures("people")
async def test_a_person_reads_balance_and_usage_of_the_account(gateway: GatewayHarness) -> None:
    balance = await call(gateway, "GET", "/v1/balance", headers=VIEWER)
    assert (balance.status, balance.headers["cache-control"]) == (200, "no-store")
    assert set(balance.json) >= {"balance_usd", "available_usd", "reserved_usd"}
    for method, path in (
        ("POST", ""),
        ("POST", "/events"),
        ("GET", "/spend-trend"),
        ("GET", "/events/export"),
    ):
        body: Json | None = {} if method == "POST" else None
        shown = await call(gateway, method, f"/v1/usage{path}", body=body, headers=SESSION)
        assert shown.status == 200, path
