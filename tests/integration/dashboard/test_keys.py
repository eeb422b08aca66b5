"""Keys on the panel: whose they are, who may change them, what may be in them."""

from __future__ import annotations

import pytest

from services.common.money import INT64_MAX
from tests.integration.dashboard.conftest import Browser, Panel
from tests.integration.dashboard.test_session import ROUTES, filled

OF_ONE_KEY = [(method, path) for method, path in ROUTES if "{key_id}" in path]
WRITES_KEYS = [(method, path) for method, path in ROUTES if "/keys" in path and method != "GET"]
MARKUP = '<img src=x onerror="alert(1)">"\'&<script>alert(2)</script>'


async def test_a_key_is_made_listed_changed_suspended_resumed_and_rotated(ada: Browser) -> None:
    made = await ada.create_key(
        spend_cap_usd="2.5", spend_cap_window="day", rpm_limit=60, allowed_models=["a/b"]
    )
    key, secret = made["key"], made["secret"]
    assert secret.startswith("rsk_")
    assert secret not in key.values()
    assert (key["spend_cap_usd"], key["spend_cap_window"], key["rpm_limit"]) == ("2.50", "day", 60)
    assert (await ada.call("GET", "/api/keys")).json == [key]
    assert secret.encode() not in (await ada.call("GET", "/api/keys")).body

    path = f"/api/keys/{key['key_id']}"
    changed = (await ada.call("PATCH", path, {"label": "new", "rpm_limit": None})).json
    assert changed == key | {"label": "new", "rpm_limit": None}
    assert (await ada.call("POST", f"{path}/suspend")).json["suspended"] is True
    assert (await ada.call("POST", f"{path}/resume")).json["suspended"] is False
    rotated = (await ada.call("POST", f"{path}/rotate")).json
    assert rotated["key"]["key_id"] == key["key_id"]
    assert rotated["secret"] != secret


@pytest.mark.parametrize(("method", "path"), OF_ONE_KEY)
async def test_the_key_of_another_account_is_not_there(
    method: str, path: str, ada: Browser, panel: Panel
) -> None:
    made = await ada.create_key("hers")
    key_id = made["key"]["key_id"]
    eve = await panel.browser()
    await eve.sign_up(name="Eve")
    of_hers = await eve.call(method, "/api" + path.replace("{key_id}", key_id), {"label": "mine"})
    of_none = await eve.call(method, filled(path), {"label": "mine"})
    assert (of_hers.status, of_hers.code) == (404, "not_found")
    assert of_hers.json["error"] == of_none.json["error"]
    assert (await eve.call("GET", "/api/keys")).json == []
    assert (await ada.call("GET", "/api/keys")).json == [made["key"]]


async def test_an_account_sees_its_own_money_and_entries_only(ada: Browser, panel: Panel) -> None:
    await panel.credit(ada, 1_500_000_001, MARKUP)
    assert (await ada.call("GET", "/api/balance")).json["available_usd"] == "1.500000001"
    entries = (await ada.call("GET", "/api/transactions")).json["transactions"]
    assert [(one["amount_usd"], one["reason"]) for one in entries] == [("1.500000001", MARKUP)]
    eve = await panel.browser()
    await eve.sign_up()
    assert (await eve.call("GET", "/api/balance")).json["available_usd"] == "0.00"
    assert (await eve.call("GET", "/api/transactions")).json["transactions"] == []


@pytest.mark.parametrize(("method", "path"), WRITES_KEYS)
async def test_a_viewer_may_look_and_change_nothing(
    method: str, path: str, ada: Browser, panel: Panel
) -> None:
    key = (await ada.create_key("hers"))["key"]
    viewer = await panel.add_member(ada, "viewer")
    assert viewer.session["account_id"] == ada.session["account_id"]
    assert (await viewer.call("GET", "/api/keys")).json == [key]
    target = "/api" + path.replace("{key_id}", key["key_id"])
    refused = await viewer.call(method, target, {"label": "mine"})
    assert (refused.status, refused.code) == (403, "forbidden")
    assert (await ada.call("GET", "/api/keys")).json == [key]


async def test_a_developer_may_make_keys(ada: Browser, panel: Panel) -> None:
    developer = await panel.add_member(ada, "developer")
    made = await developer.create_key("ours")
    assert (await ada.call("GET", "/api/keys")).json == [made["key"]]


async def test_markup_in_texts_comes_back_as_data(browser: Browser) -> None:
    session = await browser.sign_up(name=MARKUP)
    made = await browser.create_key(MARKUP[:100])
    answer = await browser.call("GET", "/api/keys")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.json == [made["key"]]
    assert (made["key"]["label"], session["name"]) == (MARKUP[:100], MARKUP)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("label", ""),
        ("label", "x" * 101),
        ("label", "nul \0 in it"),
        ("label", None),
        ("spend_cap_usd", "-1"),
        ("spend_cap_usd", "NaN"),
        ("spend_cap_usd", "1e400"),
        ("spend_cap_usd", "9" * 30),
        ("spend_cap_usd", "0.0000000001"),
        ("spend_cap_usd", ""),
        ("spend_cap_usd", 1),
        ("spend_cap_window", "year"),
        ("rpm_limit", -1),
        ("rpm_limit", 2**63),
        ("rpm_limit", 1.5),
        ("rpd_limit", 10**30),
        ("tpm_limit", -(2**70)),
        ("allowed_models", ["a\0b"]),
        ("allowed_models", ["m"] * 501),
        ("allowed_models", "m"),
        ("default_model", "x" * 10_000),
        ("accountId", "acc_other"),
    ],
)
async def test_a_bad_setting_is_named_and_nothing_is_changed(
    field: str, value: object, ada: Browser
) -> None:
    key = (await ada.create_key("good"))["key"]
    asked: list[tuple[str, str, object]] = [
        ("POST", "/api/keys", {"label": "new", field: value}),
        ("PATCH", f"/api/keys/{key['key_id']}", {field: value}),
    ]
    for method, path, body in asked:
        answer = await ada.call(method, path, body)
        assert (answer.status, answer.code) == (422, "validation_error"), answer.body
        assert field.removesuffix("_usd") in answer.json["error"]["message"]
    assert (await ada.call("GET", "/api/keys")).json == [key]


async def test_the_largest_limits_are_taken(ada: Browser) -> None:
    made = await ada.create_key(spend_cap_usd="9223372036.854775807", tpm_limit=INT64_MAX)
    assert made["key"]["tpm_limit"] == INT64_MAX
    assert made["key"]["spend_cap_usd"] == "9223372036.854775807"


@pytest.mark.parametrize("key_id", ["%00", "key%00x", "x" * 3_000, "%F0%9F%94%91", "..%2F..", "'"])
async def test_an_id_of_any_bytes_is_not_found_and_harms_nothing(key_id: str, ada: Browser) -> None:
    for method, path in OF_ONE_KEY:
        target = "/api" + path.replace("{key_id}", key_id)
        answer = await ada.call(method, target, {"label": "x"})
        assert answer.status in (404, 405, 422), (method, path, answer.body)
        assert answer.code
    assert (await ada.call("GET", f"/api/requests/{key_id}")).status in (404, 422)


@pytest.mark.parametrize(
    "path",
    [
        "/api/requests?since_ms=-1", f"/api/requests?since_ms={2**63}", "/api/requests?status=-1",
        f"/api/requests?status={2**40}", "/api/requests?page_size=0", "/api/requests?page_size=201",
        "/api/requests?page_token=%00", "/api/requests?page_token=not-ours",
        "/api/transactions?page_token=not-ours", "/api/transactions?page_token=%00",
        f"/api/requests?since_ms={INT64_MAX}", f"/api/summary?since_ms={10**30}",
        "/api/summary?group_by=account_id", "/api/summary?group_by=%27",
    ],
)  # fmt: skip
async def test_a_bad_filter_is_refused(path: str, ada: Browser) -> None:
    answer = await ada.call("GET", path)
    assert (answer.status, answer.code) == (422, "validation_error"), answer.body


@pytest.mark.parametrize(
    "path",
    [
        "/api/requests?model=%00&key_id=%27&error_code=%F0%9F%94%91", "/api/requests?since_ms=1",
        "/api/summary?group_by=day", "/api/requests", "/api/models", "/api/balance",
        "/api/transactions",
    ],
)  # fmt: skip
async def test_every_read_answers_a_new_account(path: str, ada: Browser) -> None:
    answer = await ada.call("GET", path)
    assert answer.status == 200, answer.body
    assert answer.json is not None
