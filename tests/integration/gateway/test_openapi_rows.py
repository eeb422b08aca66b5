"""The description of the API against a worker that has a history: rows, objects and their schemas.

Its log has a success, a stream, a cache hit, a fallback, a failure, a refusal, tags and a session.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
import schemathesis

from services.common.security.tokens import Principal
from services.gateway.account_reads import BalanceView
from services.gateway.alerts import RaisedAlert
from tests.fixtures.gateway import ACCOUNT, GatewayHarness
from tests.fixtures.request_rows import row_of_event
from tests.fixtures.schemas import CHECKS, DOCUMENT
from tests.fixtures.threads import gateway_of_a_thread
from tests.fixtures.waiting import eventually
from tests.fixtures.wire import QUESTION, chat

SESSION = {"Authorization": "Bearer mss_owner"}
LABELS = {"session_id": "order-7", "end_user_id": "u-1", "tags": {"team": "red"}}
# What each request of the history is of: its body, and the status that it is answered with.
HISTORY: tuple[tuple[dict[str, Any], int], ...] = (  # Any: JSON
    (chat("ok", **LABELS), 200),
    (chat("ok", **LABELS), 200),
    (chat("burst", stream=True, **LABELS), 200),
    ({"models": ["vendor/500", "vendor/ok"], "messages": QUESTION}, 200),
    (chat("429"), 429),
    (chat("ok", temperature=9), 422),
    ({"model": "auto", "messages": QUESTION, "max_tokens": 5}, 200),
)
Json = dict[str, Any]  # Any: JSON


class Visitor:
    """Calls a described operation and holds the answer to its description."""

    def __init__(self, served: GatewayHarness) -> None:
        self.served = served
        # Any: schemathesis takes bodies of any kind, by arguments that are told apart at run time.
        self._schema: Any = schemathesis.openapi.from_dict(copy.deepcopy(DOCUMENT))

    def call(
        self,
        method: str,
        path: str,
        *,
        ids: dict[str, str] | None = None,
        body: Json | None = None,
        query: Json | None = None,
        headers: dict[str, str] | None = None,
    ) -> Any:  # Any: schemathesis' response, which is much like one of requests
        """The answer, which is as it is described and no failure."""
        case = self._schema[path][method].Case(
            path_parameters=ids or {},
            query=query or {},
            **({} if body is None else {"body": body, "media_type": "application/json"}),
        )
        response = case.call(
            base_url=self.served.url, headers=headers or self.served.auth, timeout=30
        )
        assert response.status_code < 300, response.text
        case.validate_response(response, checks=CHECKS)
        return response


@pytest.fixture(scope="module")
def visitor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    """A worker with a history, its owner's session, and money on the account."""
    directory = tmp_path_factory.mktemp("gateway")
    with gateway_of_a_thread(directory, cache_bytes_max=1_000_000) as served:
        served.sessions.holders["mss_owner"] = Principal("user", ACCOUNT, "usr_1", role="owner")
        served.balances.by_account[ACCOUNT] = BalanceView(12_500_000_000, 500_000_000, 1_000)
        hits = 0
        for body, status in HISTORY:
            answer = requests.post(
                f"{served.url}/v1/chat/completions", json=body, headers=served.auth, timeout=30
            )
            assert answer.status_code == status, answer.text
            hits += answer.headers.get("x-cache") == "HIT"
        assert hits == 1
        # The events reach the log in the worker's own time, which passes in its own thread.
        waiting = asyncio.new_event_loop()
        waiting.run_until_complete(eventually(lambda: len(served.events()) == len(HISTORY)))
        waiting.close()
        events = served.events()
        key_id = served.keys.of(served.key).key_id
        served.request_log.account_of_key[key_id] = ACCOUNT
        served.request_log.rows += [row_of_event(event) for event in events]
        yield Visitor(served)


@pytest.mark.parametrize("headers", [None, SESSION], ids=["key", "person"])
def test_rows_of_the_log_are_as_described(visitor: Visitor, headers: dict[str, str] | None) -> None:
    page = visitor.call("post", "/v1/usage/events", body={"org_id": ""}, headers=headers).json()
    events = page["events"]
    assert page["total"] == len(events) == len(HISTORY)
    assert {event["status"] for event in events} == {"success", "error"}
    assert {event["http_status"] for event in events} == {200, 422, 429}
    assert {event["failure_stage"] for event in events} == {None, "template", "upstream_submit"}
    assert sum(event["routing_fallback"] for event in events) == 1
    assert sum(event["session_id"] == "order-7" for event in events) == 3
    assert sum(event["stream"] for event in events) == 1
    # A cache hit is a success that costs nothing.
    free = [
        event for event in events if event["status"] == "success" and event["cost_usd"] == "0.00"
    ]
    assert len(free) == 1
    sums = visitor.call("post", "/v1/usage", body={}, headers=headers).json()
    assert (sums["total_requests"], sums["error_requests"]) == (len(HISTORY), 2)
    assert sums["by_model"]
    trend = visitor.call("get", "/v1/usage/spend-trend", headers=headers).json()
    assert trend["total_requests"] == len(HISTORY)
    for event in events:
        ids = {"request_id": event["request_id"]}
        one = visitor.call("get", "/v1/usage/requests/{request_id}", ids=ids, headers=headers)
        assert one.json()["event"] == event
        ids = {"event_id": event["event_id"]}
        tried = visitor.call(
            "get", "/v1/usage/events/{event_id}/attempts", ids=ids, headers=headers
        )
        assert tried.json()["attempts"]
    exported = visitor.call("get", "/v1/usage/events/export", headers=headers)
    assert len(exported.text.splitlines()) == 1 + len(HISTORY)
    assert visitor.call("get", "/v1/balance", headers=headers).json()["available_usd"] == "12.00"


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"status": "success"}, 5),
        ({"status": ["429"]}, 1),
        ({"session_id": "order-7"}, 3),
        ({"tags": {"team": "red"}, "limit": 2}, 3),
        ({"failure_stage": "upstream_submit"}, 1),
        ({"error_code": ["validation_error"]}, 1),
        ({"since": "2100-01-01T00:00:00Z"}, 0),
    ],
)
def test_what_a_filter_leaves_is_as_described(visitor: Visitor, wanted: Json, found: int) -> None:
    page = visitor.call("post", "/v1/usage/events", body=wanted).json()
    assert page["total"] == found
    assert len(page["events"]) == min(found, wanted.get("limit", 50))


def test_objects_that_people_keep_are_as_described(visitor: Visitor) -> None:
    def call(method: str, path: str, **more: Any) -> Any:  # Any: arguments of `call`, and JSON
        answer = visitor.call(method, path, headers=SESSION, **more)
        return answer.json() if answer.content else None

    key = call("post", "/v1/keys", body={"label": "web", "rpm_limit": 60, "spend_cap_usd": "2"})
    ids = {"key_id": key["id"]}
    call("patch", "/v1/keys/{key_id}", ids=ids, body={"tpm_limit": 5})
    assert len(call("get", "/v1/keys")) == 1
    call("get", "/v1/keys/{key_id}", ids=ids)
    call("get", "/v1/keys/{key_id}/limits", ids=ids)
    call("delete", "/v1/keys/{key_id}", ids=ids)
    call("put", "/v1/alerts/rules/{kind}", ids={"kind": "error_rate"}, body={
        "enabled": True, "threshold": "12.5",
    })  # fmt: skip
    assert len(call("get", "/v1/alerts/rules")) == 4
    visitor.served.alerts.raised_by_account[ACCOUNT] = [
        RaisedAlert("alr_1", "balance.low", "balance_low", "wallet", 10**9, 2 * 10**9, 1_000)
    ]
    assert call("get", "/v1/alerts", query={"limit": 1})["next_before"] == "alr_1"
    call("post", "/v1/auto-recharge/setup", body={"threshold_usd": "10", "amount_usd": "20"})
    assert call("get", "/v1/auto-recharge")["state"] == "no_card"
    limits = call("get", "/v1/usage/rate-limits")
    assert limits.keys() == {"as_of", "org"}
    expires = (datetime.now(UTC) + timedelta(days=9)).isoformat()
    wanted = {"label": "ci", "permissions": ["keys:read"], "scope": "org", "expires_at": expires}
    admin = call("post", "/v1/admin-keys", body=wanted)
    ids = {"key_id": admin["id"]}
    call("post", "/v1/admin-keys/{key_id}/rotate", ids=ids, body={"grace_hours": 1})
    assert len(call("get", "/v1/admin-keys")) == 1
    call("get", "/v1/admin-keys/{key_id}", ids=ids)
    call("delete", "/v1/admin-keys/{key_id}", ids=ids)
    assert call("get", "/v1/admin-keys/{key_id}", ids=ids)["revoked_at"]


def test_objects_that_a_key_keeps_are_as_described(visitor: Visitor) -> None:
    def call(method: str, path: str, **more: Any) -> Any:  # Any: arguments of `call`, and JSON
        answer = visitor.call(method, path, **more)
        return answer.json() if answer.content else None

    made = call("post", "/v1/templates", body={"name": "t", "system": "Be {{ tone }}."})
    ids = {"template_id": made["id"]}
    call("patch", "/v1/templates/{template_id}", ids=ids, body={"system": "Be brief."})
    call("get", "/v1/templates/{template_id}", ids=ids)
    assert len(call("get", "/v1/templates/{template_id}/versions", ids=ids)) == 2
    restore = "/v1/templates/{template_id}/versions/{version}/restore"
    assert call("post", restore, ids={**ids, "version": "1"})["version"] == 3
    assert call("get", "/v1/templates")
    call("delete", "/v1/templates/{template_id}", ids=ids)
    background = {"model": "vendor/ok", "input": "Hi", "background": True}
    response = call("post", "/v1/responses", body=background)
    call("get", "/v1/responses/{response_id}", ids={"response_id": response["id"]})
    assert call("get", "/v1/responses")["data"]
    item = {"custom_id": "a", "url": "/v1/chat/completions", "body": chat()}
    batch = call("post", "/v1/batches", body={"requests": [item]})
    ids = {"batch_id": batch["id"]}
    call("get", "/v1/batches/{batch_id}", ids=ids)
    assert call("get", "/v1/batches")["data"]
    call("post", "/v1/batches/{batch_id}/cancel", ids=ids)
    model = {"model_id": "vendor/ok"}
    call("get", "/v1/models/{model_id}", ids=model)
    assert call("get", "/v1/models/{model_id}/providers", ids=model)
    assert call("get", "/v1/models/search", query={"q": "scripted", "limit": 3})["items"]
