"""What staff do with providers and their credentials, which go in and never come out."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from services.common.grpc import Principal
from services.common.pb.mesh.catalog.v1 import catalog_pb2
from services.common.pb.mesh.events.v1 import catalog_pb2 as events_pb2
from tests.integration.dashboard.conftest import Browser, Panel, notes

SECRET = "sk-test-do-not-show-0123456789"
WRONG = "sk-wrong-0123456789abcdef"
OPERATOR = Principal("operator", "")


@pytest.fixture
async def mine(staffed: Panel) -> AsyncIterator[str]:
    """The address in the panel of a provider that takes `SECRET` and nothing else."""

    async def models(request: web.Request) -> web.Response:
        good = request.headers.get("authorization") == f"Bearer {SECRET}"
        return web.json_response({"said": SECRET}, status=200 if good else 401)

    app = web.Application()
    app.router.add_get("/v1/models", models)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    settings = events_pb2.ProviderSettings(
        name="Mine", kind=events_pb2.PROVIDER_KIND_OPENAI_COMPATIBLE, enabled=True,
        base_url=f"http://127.0.0.1:{runner.addresses[0][1]}/v1", credential_required=True,
        timeout_ms=60_000,
    )  # fmt: skip
    catalog, channel = staffed.backends.catalog, staffed.backends.catalog_channel
    put = catalog_pb2.PutProviderRequest(provider_id="mine", settings=settings)
    known = await channel.call(catalog.PutProvider, put, principal=OPERATOR)
    for one in known.credentials:
        gone = catalog_pb2.RemoveProviderCredentialRequest(
            provider_id="mine", credential_id=one.settings.credential_id
        )
        await channel.call(catalog.RemoveProviderCredential, gone, principal=OPERATOR)
    yield "/api/operator/providers/mine"
    await runner.cleanup()


async def test_a_provider_is_tested_and_its_credentials_never_come_out(
    grace: Browser, mine: str
) -> None:
    bodies = []
    answer = await grace.call("POST", f"{mine}/test")
    assert answer.json == {
        "ok": False, "http_status": 0, "message": "It has no credential yet.", "latency_ms": 0,
    }  # fmt: skip
    for credential, ok in ((WRONG, False), (SECRET, True)):
        path = f"{mine}/credentials/default/secret"
        bodies.append((await grace.call("PUT", path, {"credential": credential})).body)
        answer = await grace.call("POST", f"{mine}/test")
        assert (answer.status, answer.json["ok"]) == (200, ok), answer.body
        bodies.append(answer.body)
    assert b"credential down (401)" in bodies[1]
    bodies.append((await grace.call("GET", "/api/operator/providers")).body)
    bodies.append((await grace.call("GET", "/api/audit")).body)
    assert not [body for body in bodies if SECRET.encode() in body]
    gone = (await grace.call("DELETE", f"{mine}/credentials/default")).json
    assert (gone["credentials"], gone["usable"]) == ([], False)
    assert [note[:2] for note in (await notes(grace))[:3]] == [
        ("provider.remove_credential", "mine:default"),
        ("provider.set_credential", "mine:default"),
        ("provider.set_credential", "mine:default"),
    ]


async def test_a_provider_has_several_credentials_each_tested_changed_rotated_and_removed(
    grace: Browser, mine: str
) -> None:
    for label, secret, priority in (("Main", WRONG, 0), ("Spare", SECRET, 1)):
        body = {"label": label, "credential": secret, "priority": priority, "weight": 2}
        added = await grace.call("POST", f"{mine}/credentials", body)
        assert added.status == 201, added.body
        assert secret.encode() not in added.body
    main, spare = added.json["credentials"]
    assert [(one["label"], one["priority"], one["weight"]) for one in (main, spare)] == [
        ("Main", 0, 2), ("Spare", 1, 2),
    ]  # fmt: skip
    assert (main["masked"], main["enabled"], main["set_at"] is not None) == ("sk-…cdef", True, True)
    for one, ok in ((main, False), (spare, True)):
        tried = await grace.call("POST", f"{mine}/test?credential_id={one['credential_id']}")
        assert tried.json["ok"] is ok
    # Without a name it is the one that is used first.
    assert (await grace.call("POST", f"{mine}/test")).json["ok"] is False
    off = {"label": "Main", "priority": 0, "weight": 2, "enabled": False}
    path = f"{mine}/credentials/{main['credential_id']}"
    changed = (await grace.call("PUT", path, off)).json
    assert [one["enabled"] for one in changed["credentials"]] == [False, True]
    assert (await grace.call("POST", f"{mine}/test")).json["ok"] is True
    rotated = await grace.call("PUT", f"{path}/secret", {"credential": SECRET})
    assert rotated.json["credentials"][0]["version"] > main["version"]
    assert rotated.json["credentials"][0]["label"] == "Main"
    left = (await grace.call("DELETE", path)).json
    assert [one["label"] for one in left["credentials"]] == ["Spare"]
    assert left["usable"] is True
    assert [action for action, _, _ in (await notes(grace))[:5]] == [
        "provider.remove_credential", "provider.set_credential", "provider.change_credential",
        "provider.add_credential", "provider.add_credential",
    ]  # fmt: skip


async def test_a_provider_is_switched_off_and_on_and_it_is_written_down(
    grace: Browser, mine: str
) -> None:
    await grace.call("PUT", f"{mine}/credentials/default/secret", {"credential": SECRET})
    for enabled in (False, True):
        answer = await grace.call("PUT", f"{mine}/enabled", {"enabled": enabled})
        assert (answer.json["enabled"], answer.json["usable"]) == (enabled, enabled)
    assert [note[:2] for note in (await notes(grace))[:2]] == [
        ("provider.enable", "mine"), ("provider.disable", "mine"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("credentials", {"label": "", "credential": SECRET}, 422),
        ("credentials", {"label": "A", "credential": SECRET, "weight": 0}, 422),
        ("credentials", {"label": "A", "credential": "two words"}, 422),
    ],
)
async def test_a_credential_that_cannot_be_one_is_refused_without_its_text(
    path: str, body: dict[str, object], status: int, *, grace: Browser, mine: str
) -> None:
    answer = await grace.call("POST", f"{mine}/{path}", body)
    assert (answer.status, answer.code) == (status, "validation_error")
    assert str(body["credential"]).encode() not in answer.body


async def test_what_is_not_there_is_a_sentence(grace: Browser, mine: str) -> None:
    for path, body in (
        (f"{mine}/credentials/crd_none", {"label": "A"}),
        ("/api/operator/providers/none/enabled", {"enabled": True}),
    ):
        answer = await grace.call("PUT", path, body)
        assert (answer.status, answer.code) == (404, "not_found"), answer.body
    assert (await grace.call("POST", f"{mine}/test?credential_id=crd_none")).status == 404
