"""Admin keys through the public API: people make them, and each may what it was given."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import orjson
import pytest

from services.common.security.tokens import Principal
from services.gateway.account_reads import BalanceView
from tests.fixtures.gateway import ACCOUNT, GatewayHarness
from tests.fixtures.waiting import eventually_async
from tests.fixtures.wire import Answer, Json, call

OWNER = {"Authorization": "Bearer mss_owner"}


@pytest.fixture(autouse=True)
def people(gateway: GatewayHarness) -> None:
    holders = gateway.sessions.holders
    holders["mss_owner"] = Principal("user", ACCOUNT, "usr_1", role="owner")
    holders["mss_other"] = Principal("user", ACCOUNT, "usr_2", role="owner")
    holders["mss_stranger"] = Principal("user", "acc_other", "usr_3", role="owner")
    holders["mss_developer"] = Principal("user", ACCOUNT, "usr_4", role="developer")


def wanted(permissions: Sequence[str], scope: str = "org") -> Json:
    expires = datetime.now(UTC) + timedelta(days=30)
    return {
        "label": "ci",
        "permissions": list(permissions),
        "scope": scope,
        "expires_at": expires.isoformat(),
    }


async def make(gateway: GatewayHarness, *permissions: str, scope: str = "org") -> dict[str, str]:
    """The headers of a new admin key of the owner's."""
    body = wanted(permissions, scope)
    made = await call(gateway, "POST", "/v1/admin-keys", body=body, headers=OWNER)
    assert made.status == 201, made.body
    return {"Authorization": f"Bearer {made.json['key']}"}


async def new_key(gateway: GatewayHarness, headers: dict[str, str], **fields: object) -> Answer:
    body = {"label": "web", **fields}
    return await call(gateway, "POST", "/v1/keys", body=body, headers=headers)


async def test_an_admin_key_is_made_shown_once_and_listed_without_its_secret(
    gateway: GatewayHarness,
) -> None:
    body = wanted(("keys:write", "keys:read"))
    made = await call(gateway, "POST", "/v1/admin-keys", body=body, headers=OWNER)
    assert (made.status, made.headers["cache-control"]) == (201, "no-store")
    secret, key_id = made.json["key"], made.json["id"]
    assert secret.startswith("mak_")
    used = await call(gateway, "GET", "/v1/keys", headers={"Authorization": f"Bearer {secret}"})
    assert used.status == 200
    listed = await call(gateway, "GET", "/v1/admin-keys", headers=OWNER)
    (shown,) = orjson.loads(listed.body)
    assert secret.encode() not in listed.body
    assert (shown["id"], shown["masked_key"]) == (key_id, f"{secret[:8]}...{secret[-4:]}")
    assert (shown["permissions"], shown["scope"]) == (["keys:read", "keys:write"], "org")
    assert shown["created_by"] == "usr_1"
    assert shown["last_used_at"] is not None
    one = await call(gateway, "GET", f"/v1/admin-keys/{key_id}", headers=OWNER)
    assert one.json == shown
    for path, method in (
        (f"/{key_id}", "GET"),
        (f"/{key_id}/rotate", "POST"),
        (f"/{key_id}", "DELETE"),
    ):
        stranger = await call(
            gateway,
            method,
            f"/v1/admin-keys/{key_id}{path}",
            headers={"Authorization": "Bearer mss_stranger"},
        )
        assert (stranger.status, stranger.code) == (404, "not_found")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"permissions": ["org:read"], "scope": "team"}, "permissions"),
        ({"permissions": ["keys:delete"]}, "permissions"),
        ({"permissions": []}, "permissions"),
        ({"scope": "all"}, "scope"),
        ({"expires_at": "2100-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
        ({"label": ""}, "label"),
    ],
)
async def test_what_cannot_be_given_is_named(
    gateway: GatewayHarness, change: Json, named: str
) -> None:
    body = {**wanted(("keys:read",)), **change}
    refused = await call(gateway, "POST", "/v1/admin-keys", body=body, headers=OWNER)
    assert (refused.status, refused.code) == (422, "validation_error")
    assert named in refused.json["error"]["message"]


async def test_no_key_of_any_kind_and_no_developer_makes_admin_keys(
    gateway: GatewayHarness,
) -> None:
    every = await make(gateway, "keys:read", "keys:write", "org:read", "limits:write")
    body = wanted(("keys:read",))
    for headers in (every, None, {"Authorization": "Bearer mss_developer"}):
        refused = await call(gateway, "POST", "/v1/admin-keys", body=body, headers=headers)
        assert (refused.status, refused.code) == (403, "forbidden")
    for headers in ({"Authorization": "Bearer mak_none"}, {"Authorization": "Bearer x"}):
        refused = await call(gateway, "GET", "/v1/admin-keys", headers=headers)
        assert (refused.status, refused.code) == (401, "unauthorized")


async def test_an_admin_key_never_does_inference(gateway: GatewayHarness) -> None:
    every = await make(gateway, "keys:read", "keys:write", "org:read")
    for path in ("/v1/chat/completions", "/v1/embeddings", "/v1/messages", "/v1/responses"):
        refused = await call(gateway, "POST", path, body={}, headers=every)
        assert refused.status == 401, path
    assert gateway.request_log.rows == []


async def test_each_permission_opens_its_routes_and_no_others(gateway: GatewayHarness) -> None:
    gateway.balances.by_account[ACCOUNT] = BalanceView(5_000_000_000, 0, 1)
    key_id = (await new_key(gateway, OWNER)).json["id"]
    routes: dict[tuple[str, str], Json | None] = {
        ("GET", "/v1/keys"): None,
        ("GET", f"/v1/keys/{key_id}"): None,
        ("POST", "/v1/keys"): {"label": "more"},
        ("PATCH", f"/v1/keys/{key_id}"): {"label": "other"},
        ("DELETE", f"/v1/keys/{key_id}"): None,
        ("GET", f"/v1/keys/{key_id}/limits"): None,
        ("GET", "/v1/balance"): None,
        ("POST", "/v1/usage"): {},
        ("POST", "/v1/usage/events"): {},
        ("GET", "/v1/usage/rate-limits"): None,
        ("GET", "/v1/alerts"): None,
        ("GET", "/v1/alerts/rules"): None,
        ("PUT", "/v1/alerts/rules/balance_low"): {"enabled": True, "threshold": "5"},
        ("GET", "/v1/auto-recharge"): None,
        ("POST", "/v1/auto-recharge/setup"): {"threshold_usd": "10", "amount_usd": "20"},
    }
    watching = {("GET", "/v1/alerts"), ("GET", "/v1/alerts/rules")}
    reading = {("GET", "/v1/keys"), ("GET", f"/v1/keys/{key_id}")}
    writing = {
        ("POST", "/v1/keys"),
        ("PATCH", f"/v1/keys/{key_id}"),
        ("DELETE", f"/v1/keys/{key_id}"),
    }
    opened = {
        "keys:read": reading,
        "keys:write": reading | writing,
        "limits:read": {("GET", f"/v1/keys/{key_id}/limits")},
        "limits:write": {("GET", f"/v1/keys/{key_id}/limits")},
        "org:read": {
            ("GET", "/v1/balance"),
            ("POST", "/v1/usage"),
            ("POST", "/v1/usage/events"),
            ("GET", "/v1/usage/rate-limits"),
            ("GET", "/v1/auto-recharge"),
        },
        "alerts:read": watching,
        "alerts:write": watching | {("PUT", "/v1/alerts/rules/balance_low")},
    }
    for permission, own in opened.items():
        headers = await make(gateway, permission)
        for (method, path), body in routes.items():
            answer = await call(gateway, method, path, body=body, headers=headers)
            allowed = answer.status in (200, 201, 204)
            assert allowed == ((method, path) in own), (permission, method, path, answer.body)
            assert allowed or answer.code == "forbidden"


async def test_who_may_write_limits_changes_those_alone(gateway: GatewayHarness) -> None:
    key_id = (await new_key(gateway, OWNER)).json["id"]
    headers = await make(gateway, "limits:write")
    path = f"/v1/keys/{key_id}"
    changed = await call(gateway, "PATCH", path, body={"rpm_limit": 7}, headers=headers)
    assert (changed.status, changed.json["rpm_limit"]) == (200, 7)
    both = {"rpm_limit": 9, "label": "stolen"}
    refused = await call(gateway, "PATCH", path, body=both, headers=headers)
    assert (refused.status, refused.code) == (403, "forbidden")
    shown = await call(gateway, "GET", path, headers=OWNER)
    assert (shown.json["rpm_limit"], shown.json["label"]) == (7, "web")


async def test_a_scope_hides_the_keys_of_others(gateway: GatewayHarness) -> None:
    gateway.admin_keys.teams_of_user["usr_1"] = frozenset({"team_1"})
    other = {"Authorization": "Bearer mss_other"}
    mine = (await new_key(gateway, OWNER)).json["id"]
    theirs = (await new_key(gateway, other)).json["id"]
    teams = (await new_key(gateway, other, team_id="team_1")).json["id"]
    for scope, seen in (("self", {mine}), ("team", {teams}), ("org", {mine, theirs, teams})):
        headers = await make(gateway, "keys:write", scope=scope)
        listed = await call(gateway, "GET", "/v1/keys", headers=headers)
        assert {one["id"] for one in orjson.loads(listed.body)} == seen
        for key_id in {mine, theirs, teams} - seen:
            for method, body in (("GET", None), ("PATCH", {"label": "x"}), ("DELETE", None)):
                path = f"/v1/keys/{key_id}"
                refused = await call(gateway, method, path, body=body, headers=headers)
                assert (refused.status, refused.code) == (404, "not_found")
    team = await make(gateway, "keys:write", scope="team")
    assert (await new_key(gateway, team)).status == 403
    assert (await new_key(gateway, team, team_id="team_2")).status == 403
    assert (await new_key(gateway, team, team_id="team_1")).status == 201
    away = await call(gateway, "PATCH", f"/v1/keys/{teams}", body={"team_id": None}, headers=team)
    assert away.status == 403


async def test_a_revoked_or_rotated_secret_is_refused_within_a_second(
    gateway: GatewayHarness,
) -> None:
    made = await call(gateway, "POST", "/v1/admin-keys", body=wanted(("keys:read",)), headers=OWNER)
    path = f"/v1/admin-keys/{made.json['id']}"

    async def status(secret: str) -> int:
        headers = {"Authorization": f"Bearer {secret}"}
        return (await call(gateway, "GET", "/v1/keys", headers=headers)).status

    async def refused(secret: str) -> bool:
        return await status(secret) == 401

    old = made.json["key"]
    assert await status(old) == 200
    graceful = await call(gateway, "POST", f"{path}/rotate", body={}, headers=OWNER)
    rotated = await call(gateway, "POST", f"{path}/rotate", body={"grace_hours": 0}, headers=OWNER)
    assert (graceful.status, rotated.status) == (200, 200)
    await eventually_async(partial(refused, graceful.json["key"]), timeout_s=20.0)
    assert await status(rotated.json["key"]) == 200
    revoked = await call(gateway, "DELETE", f"{path}?reason=leaked", headers=OWNER)
    assert (revoked.status, revoked.body) == (204, b"")
    await eventually_async(partial(refused, rotated.json["key"]), timeout_s=20.0)
    shown = await call(gateway, "GET", path, headers=OWNER)
    assert shown.json["revoke_reason"] == "leaked"
    assert shown.json["revoked_at"] is not None
