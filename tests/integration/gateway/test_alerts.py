"""Alerts of an account over HTTP: what was raised, and its rules."""

from __future__ import annotations

import orjson
import pytest

from services.common.security.tokens import Principal
from services.gateway.alerts import RaisedAlert
from tests.fixtures.gateway import ACCOUNT, GatewayHarness
from tests.fixtures.wire import Answer, Json, call

OWNER = {"Authorization": "Bearer mss_owner"}


@pytest.fixture(autouse=True)
def people(gateway: GatewayHarness) -> None:
    holders = gateway.sessions.holders
    for role in ("owner", "developer", "viewer"):
        holders[f"mss_{role}"] = Principal("user", ACCOUNT, f"usr_{role}", role=role)
    holders["mss_stranger"] = Principal("user", "acc_2", "usr_9", role="owner")


async def send(
    gateway: GatewayHarness, method: str, path: str = "", body: Json | None = None, who: str = ""
) -> Answer:
    headers = {"Authorization": f"Bearer mss_{who or 'owner'}"}
    return await call(gateway, method, f"/v1/alerts{path}", body=body, headers=headers)


async def test_a_rule_is_set_in_its_unit_and_read_back(gateway: GatewayHarness) -> None:
    wanted: tuple[tuple[str, str | None, str], ...] = (
        ("balance_low", "2.5", "2.50"),
        ("spend_rate", "40", "40.00"),
        ("error_rate", "12.5", "12.5"),
        ("spend_cap", None, ""),
    )
    for kind, given, shown in wanted:
        body = {"enabled": False, "threshold": given, "window_s": 600}
        made = await send(gateway, "PUT", f"/rules/{kind}", body)
        assert (made.status, made.json["threshold"]) == (200, shown or None)
        assert (made.json["enabled"], made.json["window_s"]) == (False, 600)
    rules = orjson.loads((await send(gateway, "GET", "/rules", who="viewer")).body)
    assert {rule["kind"]: (rule["threshold"], rule["unit"]) for rule in rules} == {
        "balance_low": ("2.50", "usd"),
        "spend_rate": ("40.00", "usd_per_hour"),
        "error_rate": ("12.5", "percent"),
        "spend_cap": (None, "percent"),
    }
    theirs = orjson.loads((await send(gateway, "GET", "/rules", who="stranger")).body)
    assert theirs[0]["threshold"] == "2.00"


@pytest.mark.parametrize(
    ("kind", "body", "named"),
    [
        ("smell", {"enabled": True}, "kind"),
        ("balance_low", {}, "enabled"),
        ("balance_low", {"enabled": True}, "threshold"),
        ("balance_low", {"enabled": True, "threshold": "much"}, "threshold"),
        ("balance_low", {"enabled": True, "threshold": "0"}, "threshold"),
        ("error_rate", {"enabled": True, "threshold": "101"}, "threshold"),
        ("error_rate", {"enabled": True, "threshold": "1.25"}, "threshold"),
        ("spend_cap", {"enabled": True, "threshold": "80"}, "threshold"),
        ("error_rate", {"enabled": True, "threshold": "5", "window_s": 90}, "window_s"),
        ("error_rate", {"enabled": True, "threshold": "5", "min_requests": 0}, "min_requests"),
    ],
)
async def test_what_is_no_rule_is_named(
    gateway: GatewayHarness, kind: str, body: Json, named: str
) -> None:
    refused = await send(gateway, "PUT", f"/rules/{kind}", body)
    assert (refused.status, refused.code) == (422, "validation_error")
    assert named in refused.json["error"]["message"]


async def test_alerts_come_newest_first_in_pages_and_each_account_has_its_own(
    gateway: GatewayHarness,
) -> None:
    gateway.alerts.raised_by_account[ACCOUNT] = [
        RaisedAlert(f"alr_{n}", "balance.low", "balance_low", "wallet", 10**9, 2 * 10**9, n)
        for n in range(3)
    ]
    first = (await send(gateway, "GET", "?limit=2", who="viewer")).json
    assert [one["id"] for one in first["alerts"]] == ["alr_2", "alr_1"]
    assert (first["alerts"][0]["value"], first["alerts"][0]["threshold"]) == ("1.00", "2.00")
    assert first["next_before"] == "alr_1"
    rest = (await send(gateway, "GET", "?limit=2&before=alr_1")).json
    assert ([one["id"] for one in rest["alerts"]], rest["next_before"]) == (["alr_0"], None)
    assert (await send(gateway, "GET", who="stranger")).json["alerts"] == []


async def test_only_admins_set_rules_and_no_api_key_sees_any(gateway: GatewayHarness) -> None:
    body = {"enabled": True, "threshold": "5"}
    for who in ("viewer", "developer"):
        refused = await send(gateway, "PUT", "/rules/balance_low", body, who)
        assert (refused.status, refused.code) == (403, "forbidden")
    for method, path in (("GET", ""), ("GET", "/rules"), ("PUT", "/rules/balance_low")):
        refused = await call(gateway, method, f"/v1/alerts{path}", body=body)
        assert (refused.status, refused.code) == (403, "forbidden")
