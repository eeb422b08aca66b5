"""Automatic recharge over HTTP."""

from __future__ import annotations

import pytest

from services.common.security.tokens import Principal
from services.gateway.recharge import Recharge, RechargeCharge, RechargeSettings
from tests.fixtures.gateway import ACCOUNT, GatewayHarness
from tests.fixtures.wire import Answer, Json, call

USD = 1_000_000_000
PATH = "/v1/auto-recharge"


@pytest.fixture(autouse=True)
def people(gateway: GatewayHarness) -> None:
    holders = gateway.sessions.holders
    for role in ("owner", "developer", "viewer"):
        holders[f"mss_{role}"] = Principal("user", ACCOUNT, f"usr_{role}", role=role)
    holders["mss_stranger"] = Principal("user", "acc_2", "usr_9", role="owner")


async def send(
    gateway: GatewayHarness, method: str, path: str, body: Json | None = None, who: str = "owner"
) -> Answer:
    headers = {"Authorization": f"Bearer mss_{who}"}
    return await call(gateway, method, path, body=body, headers=headers)


async def test_a_recharge_is_set_up_in_dollars_with_ceilings_of_its_own(
    gateway: GatewayHarness,
) -> None:
    body = {"threshold_usd": "10", "amount_usd": "20.5"}
    made = await send(gateway, "POST", f"{PATH}/setup", body)
    assert (made.status, made.headers["cache-control"]) == (200, "no-store")
    read = await send(gateway, "GET", PATH, who="viewer")
    assert (
        read.json
        == made.json
        == {
            "enabled": True,
            "threshold_usd": "10.00",
            "amount_usd": "20.50",
            "day_max_usd": "102.50",
            "month_max_usd": "512.50",
            "state": "no_card",
            "until": None,
            "card": None,
            "switched_off_because": None,
            "charges": [],
        }
    )
    assert (await send(gateway, "GET", PATH, who="stranger")).json["state"] == "off"
    again = {**body, "enabled": False, "day_max_usd": "50", "month_max_usd": "60"}
    stopped = (await send(gateway, "POST", f"{PATH}/setup", again)).json
    assert (stopped["state"], stopped["day_max_usd"], stopped["month_max_usd"]) == (
        "off",
        "50.00",
        "60.00",
    )


async def test_its_card_state_and_charges_are_told(gateway: GatewayHarness) -> None:
    gateway.recharges.by_account[ACCOUNT] = Recharge(
        RechargeSettings(True, USD, 5 * USD, 25 * USD, 125 * USD),
        "cooling_down",
        1_790_000_000_000,
        "visa 4242",
        charges=[RechargeCharge("rfl_1", 5 * USD, "declined", 1_789_000_000_000, "card_declined")],
    )
    told = (await send(gateway, "GET", PATH)).json
    assert (told["state"], told["card"]) == ("cooling_down", "visa 4242")
    assert told["until"].startswith("2026-09-21T")
    [charge] = told["charges"]
    assert (charge["id"], charge["amount_usd"]) == ("rfl_1", "5.00")
    assert (charge["status"], charge["failure_code"]) == ("declined", "card_declined")


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"threshold_usd": "10"}, "amount_usd"),
        ({"threshold_usd": "10", "amount_usd": "4.99"}, "amount_usd"),
        ({"threshold_usd": "10", "amount_usd": "100.01"}, "amount_usd"),
        ({"threshold_usd": "10", "amount_usd": "much"}, "amount_usd"),
        ({"threshold_usd": "0", "amount_usd": "20"}, "threshold_usd"),
        ({"threshold_usd": "10", "amount_usd": "20", "day_max_usd": "19"}, "day_max_usd"),
        ({"threshold_usd": "10", "amount_usd": "20", "month_max_usd": "99"}, "month_max_usd"),
    ],
)
async def test_what_is_out_of_bounds_is_named_in_dollars(
    gateway: GatewayHarness, body: Json, named: str
) -> None:
    refused = await send(gateway, "POST", f"{PATH}/setup", body)
    assert (refused.status, refused.code) == (422, "validation_error")
    assert named in refused.json["error"]["message"]
    assert (await send(gateway, "GET", PATH)).json["enabled"] is False


async def test_only_admins_set_one_up_and_no_key_of_any_kind(gateway: GatewayHarness) -> None:
    body = {"threshold_usd": "10", "amount_usd": "20"}
    for who in ("viewer", "developer"):
        refused = await send(gateway, "POST", f"{PATH}/setup", body, who)
        assert (refused.status, refused.code) == (403, "forbidden")
    for method, path in (("GET", PATH), ("POST", f"{PATH}/setup")):
        refused = await call(gateway, method, path, body=body)
        assert (refused.status, refused.code) == (403, "forbidden")
