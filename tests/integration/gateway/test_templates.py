"""Prompt templates through the front door: the meshapi SDK, and what goes upstream."""

from __future__ import annotations

import orjson
import pytest
from meshapi import (
    AsyncMeshAPI,
    ChatCompletionParams,
    ChatMessage,
    CreateTemplateParams,
    MeshAPIError,
    UpdateTemplateParams,
)

from services.common.security.tokens import Principal
from services.gateway.ports import KeySettings
from services.gateway.template_store import TemplateFields
from tests.fixtures.gateway import ACCOUNT, GatewayHarness
from tests.fixtures.wire import ask, call, chat

HELLO = [ChatMessage(role="user", content="Hello")]


def _mesh(gateway: GatewayHarness) -> AsyncMeshAPI:
    return AsyncMeshAPI(base_url=gateway.url, token=gateway.key, max_retries=0)


async def test_the_mesh_sdk_makes_reads_changes_and_deletes_a_template(
    gateway: GatewayHarness,
) -> None:
    templates = _mesh(gateway).templates
    made = await templates.create(
        CreateTemplateParams(
            name="support",
            system="For {{ product }}.",
            model="vendor/ok",
            params={"temperature": 0.5},
            variables=["product"],
        )
    )
    assert made.owner
    assert made.is_global is False
    assert (await templates.get(made.id)) == made
    assert [one.id for one in await templates.list()] == [made.id]
    changed = await templates.update(made.id, UpdateTemplateParams(system="Be brief."))
    assert (changed.system, changed.params, changed.model) == (
        "Be brief.",
        {"temperature": 0.5},
        "vendor/ok",
    )
    await templates.delete(made.id)
    assert await templates.list() == []
    for template_id in (made.id, "tmpl_nonexistent_0000", "a%00b"):
        with pytest.raises(MeshAPIError) as missing:
            await templates.get(template_id)
        assert (missing.value.status, missing.value.error_code) == (404, "not_found")


async def test_a_bare_list_and_an_empty_204_go_over_the_wire(gateway: GatewayHarness) -> None:
    made = await call(gateway, "POST", "/v1/templates", body={"name": "n", "messages": None})
    assert (made.status, made.json["version"], made.json["messages"]) == (201, 1, None)
    assert isinstance((await call(gateway, "GET", "/v1/templates")).json, list)
    path = f"/v1/templates/{made.json['id']}"
    assert (await call(gateway, "PATCH", path, body={})).json["version"] == 1
    assert (await call(gateway, "PATCH", path, body={"system": "s"})).json["version"] == 2
    versions = orjson.loads((await call(gateway, "GET", path + "/versions")).body)
    assert [(one["version"], one["system"]) for one in versions] == [(2, "s"), (1, None)]
    restored = await call(gateway, "POST", path + "/versions/1/restore")
    assert (restored.json["version"], restored.json["system"]) == (3, None)
    assert (await call(gateway, "POST", path + "/versions/9/restore")).code == "not_found"
    assert (await call(gateway, "POST", path + "/versions/0/restore")).status == 422
    deleted = await call(gateway, "DELETE", path)
    assert (deleted.status, deleted.body) == (204, b"")
    taken = await call(gateway, "POST", "/v1/templates", body={"name": ""})
    assert (taken.status, taken.code) == (422, "validation_error")
    assert taken.json["error"]["details"][0]["loc"] == ["body", "name"]


async def test_a_chat_by_template_sends_the_rendered_messages_and_no_field_of_ours(
    gateway: GatewayHarness,
) -> None:
    client = _mesh(gateway)
    await client.templates.create(
        CreateTemplateParams(
            name="support",
            system="For {{ product }}.",
            messages=[{"role": "assistant", "content": "Welcome, {{ who }}"}],
            model="vendor/ok",
            params={"temperature": 0.5},
        )
    )
    answer = await client.chat.completions.create(
        ChatCompletionParams(
            template="support",
            variables={"product": "Mesh", "who": "Ann", "z": "9"},
            messages=HELLO,
        )
    )
    assert answer.model == "vendor/ok"
    sent = gateway.upstream.requests[-1]
    assert [(m["role"], m["content"]) for m in sent["messages"]] == [
        ("system", "For Mesh."),
        ("assistant", "Welcome, Ann"),
        ("user", "Hello"),
    ]
    assert sent["temperature"] == 0.5
    assert not {"template", "variables"} & sent.keys()
    event = await gateway.event()
    assert (event.requested_model, event.model_id) == ("vendor/ok", "vendor/ok")


async def test_a_missing_variable_is_422_with_its_name_also_on_a_stream(
    gateway: GatewayHarness,
) -> None:
    await gateway.templates.create(
        Principal("operator", ""), TemplateFields("g", system="{{ tone }}", model="vendor/ok")
    )
    for number, stream in enumerate((False, True), 1):
        refused = await ask(gateway, chat(template="g", stream=stream))
        assert (refused.status, refused.code) == (422, "unprocessable_entity")
        assert "tone" in refused.json["error"]["message"]
        assert refused.json["error"]["details"][0]["loc"] == ["body", "variables", "tone"]
        event = await gateway.event(number)
        assert (event.failure_stage, event.http_status, event.cost_nanousd) == ("template", 422, 0)
    assert gateway.upstream.requests == []
    unknown = await ask(gateway, chat(template="nothing"))
    assert (unknown.status, unknown.code) == (404, "not_found")
    assert (await gateway.event(3)).failure_stage == "template"


async def test_the_keys_model_comes_before_the_templates(gateway: GatewayHarness) -> None:
    made = await gateway.templates.create(
        Principal("user", ACCOUNT, "usr_9", role="owner"), TemplateFields("t", model="vendor/ok")
    )
    key = gateway.keys.issue(KeySettings(default_model="vendor/free"))
    body = {"messages": [{"role": "user", "content": "Hi"}], "template": made.template_id}
    answer = await ask(gateway, body, Authorization=f"Bearer {key}")
    assert answer.json["model"] == "vendor/free"
