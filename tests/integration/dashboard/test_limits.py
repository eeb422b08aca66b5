"""Teams, limits of scopes, and a key's team and per-model limits, on the panel."""

from __future__ import annotations

from tests.integration.dashboard.conftest import Browser, Panel

LIMITS = {
    "spend_cap_usd": "12.50", "spend_cap_window": "month", "rpm_limit": 60, "rpd_limit": None,
    "tpm_limit": 0,
}  # fmt: skip


async def create_team(browser: Browser, name: str = "Search") -> str:
    answer = await browser.call("POST", "/api/teams", {"name": name})
    assert answer.status == 201, answer.body
    return str(answer.json["team_id"])


async def test_a_team_is_made_renamed_filled_emptied_and_removed(
    ada: Browser, panel: Panel
) -> None:
    await panel.add_member(ada, "developer")
    user_id = (await ada.call("GET", "/api/members")).json[-1]["user_id"]
    team_id = await create_team(ada)
    path = f"/api/teams/{team_id}"
    assert (await ada.call("PATCH", path, {"name": "Find"})).json["name"] == "Find"
    filled = await ada.call("PUT", f"{path}/members/{user_id}")
    assert filled.json == {"team_id": team_id, "name": "Find", "member_user_ids": [user_id]}
    assert (await ada.call("GET", "/api/teams")).json == [filled.json]
    assert (await ada.call("DELETE", f"{path}/members/{user_id}")).json["member_user_ids"] == []
    assert (await ada.call("DELETE", path)).status == 204
    assert (await ada.call("GET", "/api/teams")).json == []


async def test_limits_of_scopes_are_set_whole_and_listed_with_their_spend(ada: Browser) -> None:
    scopes = ["account", "account_model:openai/gpt-4o", f"team:{await create_team(ada)}"]
    for scope in scopes:
        answer = await ada.call("PUT", "/api/limits", {"scope": scope, **LIMITS})
        assert answer.status == 200, answer.body
    found = {one["scope"]: one for one in (await ada.call("GET", "/api/limits")).json}
    assert set(found) == set(scopes)
    assert found["account"] == {
        "scope": "account", "limits": LIMITS, "spent_usd": "0.00", "held_usd": "0.00",
    }  # fmt: skip
    # What is not named any more is taken away.
    after = (await ada.call("PUT", "/api/limits", {"scope": "account", "rpd_limit": 5})).json
    assert (after["limits"]["spend_cap_usd"], after["limits"]["rpd_limit"]) == (None, 5)


async def test_a_key_is_put_in_a_team_and_gets_limits_of_one_model(ada: Browser) -> None:
    team_id = await create_team(ada)
    per_model = [{"model_id": "a/b", **LIMITS}]
    key = (await ada.create_key(team_id=team_id, model_limits=per_model))["key"]
    assert (key["team_id"], key["model_limits"]) == (team_id, per_model)
    refused = await ada.call("DELETE", f"/api/teams/{team_id}")
    assert (refused.status, refused.code) == (409, "conflict")
    path = f"/api/keys/{key['key_id']}"
    assert (await ada.call("PATCH", path, {"label": "x"})).json["model_limits"] == per_model
    emptied = (await ada.call("PATCH", path, {"team_id": "", "model_limits": []})).json
    assert (emptied["team_id"], emptied["model_limits"]) == ("", [])
    assert (await ada.call("DELETE", f"/api/teams/{team_id}")).status == 204


async def test_a_bad_limit_is_named_and_nothing_is_set(ada: Browser) -> None:
    for field, value in (("scope", "planet"), ("spend_cap_usd", "-1"), ("rpm_limit", -1)):
        body = {"scope": "account", field: value}
        answer = await ada.call("PUT", "/api/limits", body)
        assert (answer.status, answer.code) == (422, "validation_error"), answer.body
        assert field.removesuffix("_usd") in answer.json["error"]["message"]
    assert (await ada.call("GET", "/api/limits")).json == []


async def test_a_developer_reads_teams_and_limits_and_changes_none(
    ada: Browser, panel: Panel
) -> None:
    team_id = await create_team(ada)
    bob = await panel.add_member(ada, "developer")
    assert len((await bob.call("GET", "/api/teams")).json) == 1
    for method, path, body in (
        ("POST", "/api/teams", {"name": "x"}),
        ("PATCH", f"/api/teams/{team_id}", {"name": "x"}),
        ("DELETE", f"/api/teams/{team_id}", None),
        ("PUT", f"/api/teams/{team_id}/members/usr_1", None),
        ("PUT", "/api/limits", {"scope": "account", "rpm_limit": 1}),
    ):
        answer = await bob.call(method, path, body)
        assert (answer.status, answer.code) == (403, "forbidden"), (method, path)


async def test_the_teams_of_another_account_are_not_there(ada: Browser, panel: Panel) -> None:
    team_id = await create_team(ada)
    eve = await panel.browser()
    await eve.sign_up(name="Eve")
    assert (await eve.call("GET", "/api/teams")).json == []
    for method, path, body in (
        ("PATCH", f"/api/teams/{team_id}", {"name": "x"}),
        ("DELETE", f"/api/teams/{team_id}", None),
        ("PUT", "/api/limits", {"scope": f"team:{team_id}", "rpm_limit": 1}),
        ("POST", "/api/keys", {"label": "x", "team_id": team_id}),
    ):
        answer = await eve.call(method, path, body)
        assert answer.status in (404, 422), (method, path, answer.body)
    assert (await ada.call("GET", "/api/teams")).json[0]["name"] == "Search"
