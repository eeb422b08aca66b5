"""What every answer of the panel carries, and what errors look like."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import aiohttp
import pytest
from fastapi import FastAPI
from yarl import URL

from services.common.config import HostPort
from services.dashboard.api.app import BODY_BYTES_MAX, SECURITY_HEADERS
from services.dashboard.config import DashboardSettings
from tests.fixtures.engines import unused_port
from tests.fixtures.waiting import eventually
from tests.integration.dashboard.conftest import Answer, Browser, Panel, serve_panel
from tests.integration.dashboard.services import Addresses

STATED = {name for name in SECURITY_HEADERS if name != "content-security-policy"}


def check_headers(answer: Answer) -> None:
    """The security headers are all there, and scripts may come from the panel alone."""
    for name in STATED:
        assert answer.headers[name] == SECURITY_HEADERS[name]
    policy = dict(
        part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert re.fullmatch(r"req_[0-9A-Z]{26}", answer.headers["x-request-id"])
    assert "server" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/nothing", 404, "not_found"),
        ("GET", "/api/keys/", 404, "not_found"),
        ("GET", "/api/openapi.json", 404, "not_found"),
        ("GET", "/assets/nothing.js", 404, "not_found"),
        ("GET", "/assets/%2e%2e/index.html", 404, "not_found"),
        ("PUT", "/api/keys", 405, "method_not_allowed"),
        ("DELETE", "/", 405, "method_not_allowed"),
        ("GET", "/api/keys", 401, "unauthorized"),
        ("POST", "/api/session", 422, "validation_error"),
    ],
)
async def test_every_error_is_in_the_envelope_under_its_request_id(
    method: str, path: str, status: int, code: str, browser: Browser
) -> None:
    answer = await browser.call(method, path)
    assert (answer.status, answer.code) == (status, code)
    check_headers(answer)


async def test_a_given_request_id_is_not_taken_over(browser: Browser) -> None:
    answer = await browser.call("GET", "/api/keys", **{"x-request-id": "mine"})
    assert answer.headers["x-request-id"] != "mine"


async def test_a_validation_error_names_the_field_and_does_not_repeat_what_was_sent(
    browser: Browser,
) -> None:
    body = {"email": "a@example.com", "password": ["hunter2"], "is_admin": True}
    answer = await browser.call("POST", "/api/session", body)
    assert (answer.status, answer.code) == (422, "validation_error")
    named = {detail["loc"][-1] for detail in answer.json["error"]["details"]}
    assert named == {"password", "is_admin"}
    assert b"hunter2" not in answer.body


@pytest.mark.parametrize("raw", [b"{", b"\xff", b"[]", b"null", b'{"email": "\\ud800"}', b""])
async def test_a_body_that_cannot_be_read_is_a_validation_error(
    raw: bytes, browser: Browser
) -> None:
    answer = await browser.call("POST", "/api/session", raw)
    assert answer.status in (400, 422), answer.body
    assert answer.code in ("bad_request", "validation_error")


async def test_a_body_that_is_too_long_is_not_read(browser: Browser) -> None:
    answer = await browser.call("POST", "/api/session", b" " * (BODY_BYTES_MAX + 1))
    assert (answer.status, answer.code) == (413, "body_too_large")
    check_headers(answer)
    fits = await browser.call("POST", "/api/session", b" " * BODY_BYTES_MAX)
    assert fits.code == "validation_error"


async def test_a_body_must_say_how_long_it_is(browser: Browser) -> None:
    async def pieces() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", URL(browser.url).port)
        writer.write(
            b"POST /api/session HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"5\r\nhello\r\n"
        )
        head = await reader.readuntil(b"\r\n")
        assert head == b"HTTP/1.1 411 Length Required\r\n"
        writer.close()
        await writer.wait_closed()

    async with asyncio.timeout(10):
        await pieces()


async def test_answers_of_the_api_are_not_kept_anywhere(ada: Browser) -> None:
    for path in ("/api/session", "/api/keys", "/api/nothing"):
        assert (await ada.call("GET", path)).headers["cache-control"] == "no-store"


async def test_the_page_has_a_nonce_of_its_own_each_time(browser: Browser) -> None:
    nonces = set()
    for path in ("/", "/keys", "/some/deep/address", "/"):
        answer = await browser.call("GET", path)
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["cache-control"] == "no-store"
        check_headers(answer)
        found = re.search(r"style-src 'self' 'nonce-([\w-]{22})'",
                          answer.headers["content-security-policy"])  # fmt: skip
        assert found is not None
        assert answer.body == f'<style nonce="{found[1]}"></style><p>the page</p>'.encode()
        nonces.add(found[1])
    assert len(nonces) == 4


async def test_the_files_of_the_page_are_served_with_the_headers(browser: Browser) -> None:
    answer = await browser.call("GET", "/assets/app.js")
    assert (answer.status, answer.body) == (200, b"1;")
    check_headers(answer)


async def test_a_page_that_is_not_built_says_so(
    settings_for: Callable[..., DashboardSettings], tmp_path: object
) -> None:
    async with serve_panel(settings_for(web_dir=tmp_path)) as panel:
        answer = await (await panel.browser()).call("GET", "/")
        assert (answer.status, answer.code) == (404, "not_found")
        assert "not built" in answer.json["error"]["message"]


async def test_an_unforeseen_error_shows_nothing_but_its_request_id(
    settings_for: Callable[..., DashboardSettings],
) -> None:
    async with serve_panel(settings_for()) as panel:
        app = panel.server.config.app
        assert isinstance(app, FastAPI)

        @app.post("/api/broken")
        async def broken() -> None:
            raise ZeroDivisionError("postgresql://user:secret@host")

        answer = await (await panel.browser()).call("POST", "/api/broken")
        assert (answer.status, answer.code) == (500, "internal_error")
        assert b"secret" not in answer.body
        assert b"ZeroDivision" not in answer.body
        assert answer.headers["cache-control"] == "no-store"
        check_headers(answer)


async def test_a_service_that_is_away_is_a_503(
    ada: Browser, settings_for: Callable[..., DashboardSettings]
) -> None:
    nobody = HostPort(f"127.0.0.1:{unused_port()}")
    cookie = next(c for c in ada.client.cookie_jar if c.key == "mesh_session")
    async with serve_panel(settings_for(billing_address=nobody, call_timeout_s=5)) as panel:
        browser = await panel.browser()
        answer = await browser.call("GET", "/api/balance", cookie=f"mesh_session={cookie.value}")
        assert (answer.status, answer.code) == (503, "service_unavailable")
        check_headers(answer)


async def test_whoever_leaves_the_live_log_leaves_nothing_behind(
    ada: Browser, addresses: Addresses
) -> None:
    before = addresses.tails.count
    live = await ada.client.get(ada.url + "/api/events?topic=requests")
    assert isinstance(live, aiohttp.ClientResponse)
    assert live.headers["content-type"].startswith("text/event-stream")
    assert await live.content.readline() == b"retry: 1000\n"
    await eventually(lambda: addresses.tails.count == before + 1)
    live.close()
    await eventually(lambda: addresses.tails.count == before)


async def test_a_panel_whose_port_is_taken_says_so(
    panel: Panel, settings_for: Callable[..., DashboardSettings]
) -> None:
    taken = HostPort(panel.url.removeprefix("http://"))
    with pytest.raises(OSError, match="in use"):
        async with serve_panel(settings_for(listen=taken)):
            pass
