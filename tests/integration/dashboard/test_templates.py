"""Templates on the panel: written, changed, restored, and nobody else's."""

from __future__ import annotations

from tests.integration.dashboard.conftest import Browser, Panel

BODY = {
    "name": "greeting",
    "system": "Speak {{ language }}.",
    "messages": [{"role": "user", "content": "Greet {{ name }}."}],
    "model": "local/smollm2-135m",
    "params": {"temperature": 0.2, "stop": ["\n"]},
    "variables": ["language", "name"],
}


async def test_a_template_is_written_changed_restored_and_deleted(ada: Browser) -> None:
    made = await ada.call("POST", "/api/templates", BODY)
    assert made.status == 201, made.body
    assert made.json["content"] == {"description": "", **BODY}
    path = f"/api/templates/{made.json['template_id']}"
    changed = await ada.call("PUT", path, {"name": "greeting", "system": "Be brief."})
    assert changed.json["version"] == 2
    assert changed.json["content"]["messages"] == []
    assert changed.json["content"]["params"] == {}
    restored = await ada.call("POST", f"{path}/versions/1/restore")
    assert (restored.json["version"], restored.json["content"]) == (3, made.json["content"])
    versions = (await ada.call("GET", f"{path}/versions")).json
    assert [(one["version"], one["restored_from"]) for one in versions] == [(3, 1), (2, 0), (1, 0)]
    assert (await ada.call("GET", "/api/templates")).json == [restored.json]
    assert (await ada.call("DELETE", path)).status == 204
    assert (await ada.call("GET", path)).status == 404


async def test_another_accounts_template_is_not_there(ada: Browser, panel: Panel) -> None:
    made = await ada.call("POST", "/api/templates", BODY)
    path = f"/api/templates/{made.json['template_id']}"
    eve = await panel.browser()
    await eve.sign_up(name="Eve")
    for method, tail, body in (
        ("PUT", "", BODY),
        ("DELETE", "", None),
        ("GET", "/versions", None),
        ("POST", "/versions/1/restore", None),
    ):
        answer = await eve.call(method, path + tail, body)
        assert (answer.status, answer.code) == (404, "not_found"), method
    assert (await eve.call("GET", "/api/templates")).json == []
    assert (await ada.call("GET", path)).json == made.json


async def test_a_viewer_reads_templates_and_writes_none(ada: Browser, panel: Panel) -> None:
    made = await ada.call("POST", "/api/templates", BODY)
    viewer = await panel.add_member(ada, "viewer")
    assert len((await viewer.call("GET", "/api/templates")).json) == 1
    path = f"/api/templates/{made.json['template_id']}"
    assert (await viewer.call("PUT", path, BODY)).code == "forbidden"
    assert (await viewer.call("DELETE", path)).code == "forbidden"
    assert (await viewer.call("POST", "/api/templates", {**BODY, "name": "x"})).code == "forbidden"


async def test_a_mistake_in_a_template_is_said(ada: Browser) -> None:
    broken = {**BODY, "system": "Speak {{ langu"}
    named_twice = await ada.call("POST", "/api/templates", BODY)
    assert named_twice.status == 201
    assert (await ada.call("POST", "/api/templates", BODY)).status == 409
    answer = await ada.call("POST", "/api/templates", {**broken, "name": ""})
    assert answer.status in (400, 422)
    assert "name" in str(answer.json["error"])
