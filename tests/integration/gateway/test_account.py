"""What a key may read of its account, over HTTP."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from services.common.security.tokens import Principal
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


async def test_usage_events_go_on_where_a_page_ended(gateway: GatewayHarness) -> None:
    gateway.request_log.rows += [_row(gateway, number) for number in range(3)]
    first = (await call(gateway, "POST", "/v1/usage/events", body={"limit": 2})).json
    # One more came in meanwhile: nothing is shown twice.
    gateway.request_log.rows.append(_row(gateway, 3))
    body = {"limit": 2, "cursor": first["next_cursor"]}
    second = (await call(gateway, "POST", "/v1/usage/events", body=body)).json
    assert [event["request_id"] for event in second["events"]] == ["req_0"]
    assert second["next_cursor"] is None
    answer = await call(gateway, "POST", "/v1/usage/events", body={**body, "offset": 1})
    assert (answer.status, answer.code) == (422, "validation_error")


async def test_a_bad_filter_is_named(gateway: GatewayHarness) -> None:
    for body, name in (({"limit": 201}, "limit"), ({"status": "odd"}, "status")):
        answer = await call(gateway, "POST", "/v1/usage/events", body=body)
        assert (answer.status, answer.code) == (422, "validation_error")
        assert name in answer.json["error"]["message"]


async def test_a_request_is_found_as_soon_as_it_is_in_the_log(
    gateway: GatewayHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, looked = gateway.request_log, gateway.request_log.request

    async def late(principal: Principal, request_id: str) -> LoggedRequest:
        """The row comes in behind the first look."""
        try:
            return await looked(principal, request_id)
        finally:
            if not log.rows:
                log.rows.append(_row(gateway, 7))

    monkeypatch.setattr(log, "request", late)
    answer = await call(gateway, "GET", "/v1/usage/requests/req_7")
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


async def test_usage_is_summed_in_all_and_by_model(gateway: GatewayHarness) -> None:
    rows = [_row(gateway, number) for number in range(3)]
    refused = replace(
        _row(gateway, 9), outcome="refused", http_status=402, model_id="vendor/x", cost_nanousd=0
    )
    gateway.request_log.rows += [*rows, refused, replace(rows[0], key_id="key_other")]
    answer = (await call(gateway, "POST", "/v1/usage", body={"org_id": "", "limit": 1})).json
    assert (answer["total_requests"], answer["successful_requests"]) == (4, 3)
    assert (answer["error_requests"], answer["total_tokens"]) == (1, 28)
    assert (answer["total_cost_usd"], answer["cached_at"]) == ("0.0000063", None)
    assert answer["by_model_total"] == 2
    assert [one["model"] for one in answer["by_model"]] == ["vendor/ok"]
    assert answer["by_model"][0]["cost_usd"] == "0.0000063"
    narrowed = {"key_id": "key_other", "member_user_id": []}
    assert (await call(gateway, "POST", "/v1/usage", body=narrowed)).json["total_requests"] == 0


async def test_each_impossible_filter_of_usage_is_named(gateway: GatewayHarness) -> None:
    now, before = "2026-03-10T00:00:00Z", "2026-03-09T00:00:00Z"
    for body, name in (
        ({"since": now, "until": before}, "until"),
        ({"min_latency_ms": 5, "max_latency_ms": 4}, "max_latency_ms"),
        ({"min_cost_usd": "2", "max_cost_usd": "1"}, "max_cost_usd"),
        ({"min_cost_usd": "dear"}, "min_cost_usd"),
        ({"max_cost_usd": "-1"}, "max_cost_usd"),
        ({"since": "yesterday"}, "since"),
    ):
        answer = await call(gateway, "POST", "/v1/usage", body=body)
        assert (answer.status, answer.code) == (422, "validation_error"), body
        assert name in answer.json["error"]["message"], body
    bad = await call(gateway, "GET", "/v1/usage/spend-trend?granularity=year")
    assert (bad.status, bad.code) == (422, "validation_error")


async def test_spend_over_time_has_its_average_and_total(gateway: GatewayHarness) -> None:
    day_ms = 86_400_000
    first = _row(gateway, 0)
    later = replace(first, usage_id="use_9", received_at_ms=first.received_at_ms + 2 * day_ms)
    gateway.request_log.rows += [first, later]
    answer = (await call(gateway, "GET", "/v1/usage/spend-trend?granularity=day")).json
    assert [one["cost_usd"] for one in answer["buckets"]] == ["0.0000021", "0.00", "0.0000021"]
    assert answer["buckets"][2]["trailing_average_usd"] == "0.0000014"
    assert (answer["total_cost_usd"], answer["total_requests"]) == ("0.0000042", 2)


async def test_attempts_are_those_of_the_request_id(gateway: GatewayHarness) -> None:
    first, second = _row(gateway, 1), _row(gateway, 2)
    gateway.request_log.rows += [first, replace(second, request_id=first.request_id)]
    answer = (await call(gateway, "GET", "/v1/usage/events/use_2/attempts")).json
    assert [one["event_id"] for one in answer["attempts"]] == ["use_1", "use_2"]
    assert "provider_id" not in answer["attempts"][0]
    missing = await call(gateway, "GET", "/v1/usage/events/use_none/attempts")
    assert (missing.status, missing.code) == (404, "not_found")


async def test_requests_are_taken_away_as_a_file(gateway: GatewayHarness) -> None:
    rows = [_row(gateway, number) for number in range(3)]
    gateway.request_log.rows += [*rows, replace(rows[0], usage_id="use_x", key_id="key_other")]
    answer = await call(gateway, "GET", "/v1/usage/events/export?status=success")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert 'filename="requests.csv"' in answer.headers["content-disposition"]
    assert answer.body.decode().splitlines()[1:] == ["use_2,2100", "use_1,2100", "use_0,2100"]
    # The twin makes CSV alone: what goes wrong before the first byte is an answer like any other.
    refused = await call(gateway, "GET", "/v1/usage/events/export?format=parquet")
    assert (refused.status, refused.code) == (422, "validation_error")
