"""What a key may read of its account, over HTTP."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import orjson

from services.gateway.account_reads import BalanceView, LoggedRequest
from tests.fixtures.gateway import ACCOUNT, GatewayHarness
from tests.fixtures.wire import call


def _row(gateway: GatewayHarness, number: int) -> LoggedRequest:
    return LoggedRequest(
        usage_id=f"use_{number}", request_id=f"req_{number}",
        key_id=gateway.keys.of(gateway.key).key_id, trace_id="t", route="/v1/chat/completions",
        requested_model="vendor/ok", model_id="vendor/ok", stream=False, outcome="success",
        http_status=200, error_code="", failure_stage="", finish_reason="stop",
        received_at_ms=1_700_000_000_000 + number, first_token_ms=1, latency_ms=2, prompt_tokens=3,
        completion_tokens=4, cost_nanousd=2_100, tags={"n": str(number)},
    )  # fmt: skip


async def test_the_balance_is_told_in_decimal_strings(gateway: GatewayHarness) -> None:
    gateway.balances.by_account[ACCOUNT] = BalanceView(12_500_000_000, 500_000_001, 1_000)
    answer = await call(gateway, "GET", "/v1/balance")
    assert answer.json == {
        "balance_usd": "12.50",
        "reserved_usd": "0.500000001",
        "available_usd": "11.999999999",
        "reserved_breakdown": {"requests": "0.500000001"},
        "updated_at": "1970-01-01T00:00:01.000+00:00",
        "message": None,
    }
    assert answer.headers["cache-control"] == "no-store"


async def test_an_overdrawn_wallet_has_nothing_available(gateway: GatewayHarness) -> None:
    gateway.balances.by_account[ACCOUNT] = BalanceView(-5, 0, 0)
    answer = (await call(gateway, "GET", "/v1/balance")).json
    assert (answer["balance_usd"], answer["available_usd"]) == ("-0.000000005", "0.00")
    assert answer["reserved_breakdown"] == {}


async def test_usage_events_come_in_pages(gateway: GatewayHarness) -> None:
    gateway.request_log.rows += [_row(gateway, number) for number in range(3)]
    body = {"org_id": "", "limit": 2, "status": "success", "model": ["vendor/ok"]}
    answer = (await call(gateway, "POST", "/v1/usage/events", body=body)).json
    assert (answer["total"], answer["limit"], answer["offset"]) == (3, 2, 0)
    assert [event["request_id"] for event in answer["events"]] == ["req_2", "req_1"]
    assert answer["events"][0]["cost_usd"] == "0.0000021"
    assert answer["events"][0]["status"] == "success"
    assert answer["events"][0]["routing_fallback"] is False


async def test_a_bad_filter_is_named(gateway: GatewayHarness) -> None:
    for body, name in (({"limit": 201}, "limit"), ({"status": "odd"}, "status")):
        answer = await call(gateway, "POST", "/v1/usage/events", body=body)
        assert (answer.status, answer.code) == (422, "validation_error")
        assert name in answer.json["error"]["message"]


async def test_a_request_is_found_as_soon_as_it_is_in_the_log(gateway: GatewayHarness) -> None:
    asked = asyncio.create_task(call(gateway, "GET", "/v1/usage/requests/req_7"))
    asyncio.get_running_loop().call_later(0.15, gateway.request_log.rows.append, _row(gateway, 7))
    answer = await asked
    assert (answer.json["request_id"], answer.json["outcome"]) == ("req_7", "success")
    assert answer.json["event"]["cost_usd"] == "0.0000021"


async def test_a_request_of_another_key_is_not_found(gateway: GatewayHarness) -> None:
    gateway.request_log.rows.append(replace(_row(gateway, 8), key_id="key_other"))
    answer = await call(gateway, "GET", "/v1/usage/requests/use_8")
    assert (answer.status, answer.code) == (404, "not_found")


async def test_models_are_found_by_words_and_pages(gateway: GatewayHarness) -> None:
    answer = await call(gateway, "GET", "/v1/models/search?q=scripted%20usage&sort=id&limit=1")
    page = answer.json
    assert (page["total"], page["limit"], page["brands"]) == (2, 1, ["vendor"])
    assert [model["id"] for model in page["items"]] == ["vendor/no-usage"]
    typed = await call(gateway, "GET", "/v1/models?type=embedding")
    assert orjson.loads(typed.body) == []
