"""Alerts, their rules and webhooks, and the figures of the last minute, on the panel."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from services.common.clock import SystemClock
from services.common.ids import new_id
from services.usage.domain.alerts import Alert, AlertState
from services.usage.domain.live import LiveEvent
from tests.integration.dashboard.conftest import Browser, Panel
from tests.integration.dashboard.services import Addresses

HOOK = "http://127.0.0.1:1/hook"


async def raised(addresses: Addresses, browser: Browser, *types: str) -> None:
    """Alerts of the account's wallet, one after another."""
    account_id, now_ms = browser.session["account_id"], SystemClock().now_ms()
    for number, event_type in enumerate(types):
        state = AlertState(account_id, "balance_low", "wallet", number % 2, 1, now_ms, number + 1)
        alert = Alert(
            new_id("alr", now_ms + number), account_id, event_type, "balance_low", "wallet", 1,
            1_500_000_000, 2_000_000_000, now_ms + number,
        )  # fmt: skip
        assert await addresses.alerts.change(state, alert)


async def test_an_alert_fires_until_its_subject_has_recovered(
    ada: Browser, addresses: Addresses, panel: Panel
) -> None:
    await raised(addresses, ada, "balance.low", "balance.recovered", "balance.low")
    found = (await ada.call("GET", "/api/alerts")).json
    assert [one["event_type"] for one in found] == ["balance.low", "balance.low"]
    assert found[0]["resolved_at"] is None
    assert found[1]["since"] < found[1]["resolved_at"] < found[0]["since"]
    assert (found[0]["value"], found[0]["threshold"], found[0]["unit"]) == ("1.50", "2.00", "usd")
    eve = await panel.browser()
    await eve.sign_up()
    assert (await eve.call("GET", "/api/alerts")).json == []


async def test_rules_are_set_in_the_units_that_people_read(ada: Browser) -> None:
    rules = {one["kind"]: one for one in (await ada.call("GET", "/api/alert-rules")).json}
    assert set(rules) == {"balance_low", "spend_cap", "spend_rate", "error_rate"}
    body = {"enabled": True, "threshold": "12.5", "window_s": 600, "min_requests": 5}
    answer = await ada.call("PUT", "/api/alert-rules/error_rate", body)
    assert answer.json == body | {"kind": "error_rate", "unit": "percent"}
    low = await ada.call(
        "PUT", "/api/alert-rules/balance_low", {"enabled": False, "threshold": "3"}
    )
    assert (low.json["enabled"], low.json["threshold"]) == (False, "3.00")
    caps = await ada.call("PUT", "/api/alert-rules/spend_cap", {"enabled": False})
    assert (caps.json["enabled"], caps.json["threshold"]) == (False, "")
    for kind, wrong, field in (
        ("error_rate", {"threshold": "150"}, "threshold"),
        ("error_rate", {"threshold": "x"}, "threshold"),
        ("balance_low", {"threshold": "-1"}, "threshold"),
        ("spend_rate", {"threshold": "1", "window_s": 61}, "window_s"),
        ("spend_rate", {"threshold": "1", "window_s": 2**40}, "window_s"),
        ("weather", {"threshold": "1"}, "kind"),
    ):
        refused = await ada.call("PUT", f"/api/alert-rules/{kind}", {"enabled": True, **wrong})
        assert (refused.status, refused.code) == (422, "validation_error"), refused.body
        assert field in refused.json["error"]["message"]


async def test_the_secret_of_a_webhook_is_shown_once(ada: Browser, addresses: Addresses) -> None:
    made = await ada.call("POST", "/api/webhooks", {"url": HOOK, "event_types": ["balance.low"]})
    assert made.status == 201, made.body
    hook, secret = made.json["webhook"], made.json["secret"]
    listed = await ada.call("GET", "/api/webhooks")
    assert listed.json == [hook]
    assert secret.encode() not in listed.body
    rotated = (await ada.call("POST", f"/api/webhooks/{hook['endpoint_id']}/rotate")).json
    assert rotated["secret"] != secret
    assert rotated["webhook"]["old_secret_until"] > hook["created_at"]
    await raised(addresses, ada, "balance.low")
    (delivery,) = (await ada.call("GET", "/api/webhook-deliveries")).json
    assert (delivery["state"], delivery["endpoint_id"]) == ("pending", hook["endpoint_id"])
    assert (await ada.call("DELETE", f"/api/webhooks/{hook['endpoint_id']}")).status == 204
    assert (await ada.call("GET", "/api/webhooks")).json == []


async def test_a_bad_address_of_a_webhook_is_refused_with_its_field(ada: Browser) -> None:
    for body, field in (
        ({"url": "ftp://x"}, "url"),
        ({"url": HOOK, "event_types": ["no.such"]}, "event_types"),
    ):
        answer = await ada.call("POST", "/api/webhooks", body)
        assert (answer.status, answer.code) == (422, "validation_error"), answer.body
        assert field in answer.json["error"]["message"]


async def test_a_developer_sees_alerts_and_neither_webhooks_nor_changes_of_rules(
    ada: Browser, panel: Panel
) -> None:
    hook = (await ada.call("POST", "/api/webhooks", {"url": HOOK})).json["webhook"]
    bob = await panel.add_member(ada, "developer")
    eve = await panel.browser()
    await eve.sign_up()
    path = f"/api/webhooks/{hook['endpoint_id']}"
    assert (await bob.call("GET", "/api/alerts")).status == 200
    assert (await bob.call("GET", "/api/alert-rules")).status == 200
    for method, target, body in (
        ("GET", "/api/webhooks", None),
        ("GET", "/api/webhook-deliveries", None),
        ("POST", f"{path}/rotate", None),
        ("DELETE", path, None),
        ("PUT", "/api/alert-rules/spend_cap", {"enabled": False}),
    ):
        assert (await bob.call(method, target, body)).code == "forbidden", target
    for method, target in (("POST", f"{path}/rotate"), ("DELETE", path)):
        assert (await eve.call(method, target)).code == "not_found", target
    assert len((await ada.call("GET", "/api/webhooks")).json) == 1


def ended(browser: Browser, *, failed: bool = False, latency_ms: int = 500) -> LiveEvent:
    return LiveEvent(
        new_id("use"), browser.session["account_id"], "key_1", "a/b", SystemClock().now_ms(),
        latency_ms, failed, 30, 90, 1_000_000,
    )  # fmt: skip


async def test_an_open_page_is_told_the_figures_of_the_last_minute_as_they_change(
    ada: Browser, addresses: Addresses, panel: Panel
) -> None:
    windows, now_ms = addresses.live.windows, SystemClock().now_ms()
    async with (
        asyncio.timeout(30),
        ada.client.get(f"{panel.url}/api/events?topic=live") as response,
    ):
        assert response.content_type == "text/event-stream"
        frames = (line async for line in response.content if line.startswith(b"data: "))
        first: dict[str, Any] = json.loads((await anext(frames))[6:])  # Any: JSON
        assert (first["requests"], first["spend_usd_per_hour"]) == (0, "0.00")
        windows.add(ended(ada), now_ms)
        windows.add(ended(ada, failed=True), now_ms)
        async for line in frames:
            told: dict[str, Any] = json.loads(line[6:])  # Any: JSON
            if told["requests"] == 2:
                break
    assert (told["errors"], told["tokens_per_s"]) == (1, 4.0)
    # 0.002 a minute.
    assert told["spend_usd_per_hour"] == "0.12"
    assert 480 <= told["latency_p50_ms"] <= told["latency_p95_ms"] <= 520


async def test_each_model_has_its_figures_and_another_account_has_none_of_them(
    ada: Browser, addresses: Addresses, panel: Panel
) -> None:
    addresses.live.windows.add(ended(ada, failed=True), SystemClock().now_ms())
    (model,) = (await ada.call("GET", "/api/live/models")).json
    assert (model["model_id"], model["requests"], model["errors"]) == ("a/b", 1, 1)
    eve = await panel.browser()
    await eve.sign_up()
    assert (await eve.call("GET", "/api/live/models")).json == []
