"""Sessions, the password, members and the audit trail, as the panel shows and changes them."""

from __future__ import annotations

import pytest

from tests.integration.dashboard.conftest import PASSWORD, Browser, Panel

NEW_PASSWORD = "another long password"


async def test_a_person_sees_and_ends_the_sessions_of_other_browsers(
    ada: Browser, panel: Panel
) -> None:
    other = await panel.browser()
    await other.log_in(ada.session["email"])
    found = (await ada.call("GET", "/api/sessions")).json
    assert [session["is_this"] for session in found].count(True) == 1
    [strange] = [session for session in found if not session["is_this"]]
    assert (await ada.call("DELETE", f"/api/sessions/{strange['session_id']}")).status == 204
    assert (await other.call("GET", "/api/session")).status == 401
    assert (await ada.call("GET", "/api/session")).status == 200


async def test_a_stranger_cannot_end_a_session(ada: Browser, panel: Panel) -> None:
    stranger = await panel.browser()
    await stranger.sign_up()
    [session] = (await ada.call("GET", "/api/sessions")).json
    answer = await stranger.call("DELETE", f"/api/sessions/{session['session_id']}")
    assert answer.status == 404
    assert (await ada.call("GET", "/api/session")).status == 200


async def test_a_new_password_needs_the_old_one_and_ends_every_other_session(
    ada: Browser, panel: Panel
) -> None:
    other = await panel.browser()
    await other.log_in(ada.session["email"])
    wrong = {"current_password": "not this one", "new_password": NEW_PASSWORD}
    assert (await ada.call("POST", "/api/password", wrong)).status in (401, 403, 422)
    right = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    assert (await ada.call("POST", "/api/password", right)).status == 204
    assert (await other.call("GET", "/api/session")).status == 401
    assert (await ada.call("GET", "/api/session")).status == 200
    again = {"email": ada.session["email"], "password": PASSWORD}
    assert (await other.call("POST", "/api/session", again)).status == 401


async def test_an_owner_adds_changes_and_removes_a_member(ada: Browser, panel: Panel) -> None:
    email = "colleague-of-ada@example.com"
    body = {"email": email, "name": "Grace", "role": "viewer", "initial_password": PASSWORD}
    made = await ada.call("POST", "/api/members", body)
    assert made.status == 201, made.body
    user_id = made.json["user_id"]
    assert made.json["role"] == "viewer"
    changed = await ada.call("PATCH", f"/api/members/{user_id}", {"role": "developer"})
    assert changed.json["role"] == "developer"
    members = (await ada.call("GET", "/api/members")).json
    assert {member["email"] for member in members} == {email, ada.session["email"]}
    member = await panel.browser()
    await member.log_in(email)
    assert member.session["role"] == "developer"
    assert (await ada.call("DELETE", f"/api/members/{user_id}")).status == 204
    assert (await member.call("GET", "/api/session")).status == 401
    kinds = [event["type"] for event in (await ada.call("GET", "/api/audit")).json["events"]]
    assert [kind for kind in kinds if ".Member" in kind][:3] == [
        "accounts.MemberRemoved",
        "accounts.MemberRoleChanged",
        "accounts.MemberAdded",
    ]


@pytest.mark.parametrize("role", ["viewer", "developer"])
async def test_who_is_no_admin_changes_no_members(role: str, ada: Browser, panel: Panel) -> None:
    member = await panel.add_member(ada, role)
    body = {"email": "x@example.com", "role": "viewer", "initial_password": PASSWORD}
    assert (await member.call("POST", "/api/members", body)).code == "forbidden"
    [owner] = [m for m in (await ada.call("GET", "/api/members")).json if m["role"] == "owner"]
    for method, change in (("PATCH", {"role": "viewer"}), ("DELETE", None)):
        answer = await member.call(method, f"/api/members/{owner['user_id']}", change)
        assert answer.code == "forbidden"


async def test_a_role_that_is_none_is_a_mistake_of_the_field(ada: Browser) -> None:
    body = {"email": "x@example.com", "role": "emperor"}
    answer = await ada.call("POST", "/api/members", body)
    assert (answer.status, answer.code) == (422, "validation_error")
    assert "role" in str(answer.json["error"]["details"])
