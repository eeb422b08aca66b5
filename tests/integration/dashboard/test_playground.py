"""Requests of the playground, against a gateway that notes what it is sent."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from services.dashboard.config import DashboardSettings
from tests.integration.dashboard.conftest import Browser, Panel, serve_panel

FRAMES = b'data: {"id":"1"}\n\ndata: [DONE]\n\n'


@dataclass
class Gateway:
    """Answers with frames; refuses the secrets that it is told to, as often as it is told."""

    url: str = ""
    secrets: list[str] = field(default_factory=list)
    bodies: list[dict[str, object]] = field(default_factory=list)
    unknown_for: int = 0
    suspended: set[str] = field(default_factory=set)

    async def answer(self, request: web.Request) -> web.Response:
        secret = request.headers["authorization"].removeprefix("Bearer ")
        self.secrets.append(secret)
        if self.unknown_for > 0:
            self.unknown_for -= 1
            return web.json_response({"error": {"code": "unauthorized"}}, status=401)
        if secret in self.suspended:
            return web.json_response({"error": {"code": "forbidden"}}, status=403)
        self.bodies.append(json.loads(await request.read()))
        headers = {"content-type": "text/event-stream", "x-request-id": "req_of_the_gateway",
                   "x-secret": "not for the page"}  # fmt: skip
        return web.Response(body=FRAMES, headers=headers)


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    found = Gateway()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", found.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()


@pytest.fixture
async def playing(
    gateway: Gateway, settings_for: Callable[..., DashboardSettings]
) -> AsyncIterator[Panel]:
    async with serve_panel(settings_for(public_api_url=gateway.url)) as panel:
        yield panel


async def player(panel: Panel) -> Browser:
    browser = await panel.browser()
    await browser.sign_up()
    return browser


BODY = {"model": "local/smollm2-135m", "stream": True, "messages": []}


async def test_a_request_is_relayed_with_one_key_of_the_persons_own(
    playing: Panel, gateway: Gateway
) -> None:
    ada = await player(playing)
    for _ in range(2):
        answer = await ada.call("POST", "/api/playground/chat", BODY)
        assert (answer.status, answer.body) == (200, FRAMES)
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-mesh-request-id"] == "req_of_the_gateway"
        assert "x-secret" not in answer.headers
    assert gateway.bodies == [BODY, BODY]
    assert len(set(gateway.secrets)) == 1
    assert gateway.secrets[0].startswith("rsk_")
    [key] = (await ada.call("GET", "/api/keys")).json
    assert key["label"] == f"Playground of {ada.session['email']}"


async def test_a_key_that_gateways_do_not_know_yet_is_waited_for(
    playing: Panel, gateway: Gateway
) -> None:
    gateway.unknown_for = 2
    ada = await player(playing)
    assert (await ada.call("POST", "/api/playground/chat", BODY)).status == 200
    assert len(set(gateway.secrets)) == 1


async def test_a_key_that_was_suspended_is_replaced(playing: Panel, gateway: Gateway) -> None:
    ada = await player(playing)
    await ada.call("POST", "/api/playground/chat", BODY)
    [key] = (await ada.call("GET", "/api/keys")).json
    await ada.call("POST", f"/api/keys/{key['key_id']}/suspend")
    gateway.suspended.add(gateway.secrets[-1])
    assert (await ada.call("POST", "/api/playground/chat", BODY)).status == 200
    assert len(set(gateway.secrets)) == 2


async def test_after_a_restart_the_same_key_gets_a_new_secret(
    playing: Panel, gateway: Gateway, settings_for: Callable[..., DashboardSettings]
) -> None:
    ada = await player(playing)
    await ada.call("POST", "/api/playground/chat", BODY)
    async with serve_panel(settings_for(public_api_url=gateway.url)) as restarted:
        again = await restarted.browser()
        await again.log_in(ada.session["email"])
        assert (await again.call("POST", "/api/playground/chat", BODY)).status == 200
    assert len(set(gateway.secrets)) == 2
    assert len((await ada.call("GET", "/api/keys")).json) == 1


async def test_who_may_make_no_keys_may_not_play(playing: Panel, gateway: Gateway) -> None:
    ada = await player(playing)
    viewer = await playing.add_member(ada, "viewer")
    answer = await viewer.call("POST", "/api/playground/chat", BODY)
    assert answer.code == "forbidden"
    assert gateway.secrets == []


async def test_a_gateway_that_is_away_is_said_so(
    settings_for: Callable[..., DashboardSettings],
) -> None:
    async with serve_panel(settings_for(public_api_url="http://127.0.0.1:1")) as panel:
        ada = await player(panel)
        answer = await ada.call("POST", "/api/playground/chat", BODY)
        assert answer.status == 503
        assert "gateway" in answer.json["error"]["message"]
