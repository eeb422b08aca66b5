"""Logging in and out, the cookie, and the token that unsafe requests need."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from fastapi.routing import APIRoute

from services.dashboard.api.app import ROUTERS
from services.dashboard.api.session import COOKIE, SAFE_METHODS, csrf_token
from services.dashboard.config import DashboardSettings
from tests.integration.dashboard.conftest import PASSWORD, Browser, Panel, serve_panel

ENTRANCES = {
    ("POST", "/session"), ("POST", "/sign-up"),
    ("POST", "/invitation"), ("POST", "/invitation/sign-up"),
    ("GET", "/log-in-options"), ("GET", "/oidc/start"), ("GET", "/oidc/callback"),
    ("GET", "/oidc/pending"), ("POST", "/oidc/connect"),
}  # fmt: skip
ROUTES = sorted(
    (method, route.path)
    for router in ROUTERS
    for route in router.routes
    if isinstance(route, APIRoute)
    for method in route.methods or ()
)
GUARDED = [route for route in ROUTES if route not in ENTRANCES]
UNSAFE = [(method, path) for method, path in GUARDED if method not in SAFE_METHODS]


def filled(path: str) -> str:
    """The path of a route with ids of nothing."""
    return "/api" + re.sub(r"\{[a-z_]+\}", "none", path.replace("{version}", "1"))


def test_the_application_has_no_other_api_routes_than_those_tested_here(panel: Panel) -> None:
    app = panel.server.config.app
    found: set[tuple[str, str]] = set()
    for route in getattr(app, "routes", []):
        path = str(getattr(route, "path", ""))
        if path.startswith("/api"):
            found |= {(method, path) for method in route.methods}
    expected = {(method, "/api" + path) for method, path in ROUTES}
    assert found <= expected
    assert {"/api/keys", "/api/session"} <= {path for _, path in expected}


async def test_a_person_signs_up_logs_out_and_logs_in_again(browser: Browser) -> None:
    session = await browser.sign_up()
    assert session["role"] == "owner"
    assert (await browser.call("GET", "/api/session")).json == session
    cookies = browser.client.cookie_jar
    token = next(cookie.value for cookie in cookies if cookie.key == COOKIE)

    gone = await browser.call("DELETE", "/api/session")
    assert gone.status == 204
    assert 'mesh_session=""' in gone.cookies[COOKIE]
    assert (await browser.call("GET", "/api/session")).code == "unauthorized"
    # The session ended at the server too: its token is worth nothing any more.
    again = await browser.call("GET", "/api/session", cookie=f"{COOKIE}={token}")
    assert (again.status, again.code) == (401, "unauthorized")

    entered = await browser.log_in(session["email"])
    assert entered["account_id"] == session["account_id"]
    assert entered["csrf_token"] != session["csrf_token"]


async def test_a_wrong_password_and_an_unknown_address_are_refused_alike(
    ada: Browser, browser: Browser
) -> None:
    answers = [
        await browser.call("POST", "/api/session", {"email": email, "password": password})
        for email, password in ((ada.session["email"], "wrong"), ("nobody@example.com", PASSWORD))
    ]
    for answer in answers:
        assert (answer.status, answer.code) == (401, "unauthorized")
        assert answer.cookies == {}
    assert answers[0].json["error"] == answers[1].json["error"]


async def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(browser: Browser) -> None:
    email = "cookie@example.com"
    body = {"email": email, "password": PASSWORD}
    for path in ("/api/sign-up", "/api/session"):
        answer = await browser.call("POST", path, body)
        flags = answer.cookies[COOKIE].split("; ")[1:]
        assert {"HttpOnly", "Path=/", "SameSite=lax"} <= set(flags)
        assert "Secure" not in flags
        assert any(flag.startswith("Max-Age=12") for flag in flags), flags
        token = answer.cookies[COOKIE].split("; ")[0].removeprefix(f"{COOKIE}=")
        assert token.encode() not in answer.body


async def test_the_cookie_is_secure_where_the_panel_is_served_over_https(
    settings_for: Callable[..., DashboardSettings],
) -> None:
    async with serve_panel(settings_for(secure_cookies=True)) as panel:
        browser = await panel.browser()
        body = {"email": "secure@example.com", "password": PASSWORD}
        answer = await browser.call("POST", "/api/sign-up", body)
        assert "Secure" in answer.cookies[COOKIE].split("; ")


async def test_log_in_does_not_take_over_a_given_cookie(ada: Browser, panel: Panel) -> None:
    planted = "attackers-choice-of-a-session-token"
    victim = await panel.browser()
    body = {"email": ada.session["email"], "password": PASSWORD}
    answer = await victim.call("POST", "/api/session", body, cookie=f"{COOKIE}={planted}")
    assert answer.status == 200
    assert planted not in answer.cookies[COOKIE]
    attacker = await panel.browser()
    later = await attacker.call("GET", "/api/session", cookie=f"{COOKIE}={planted}")
    assert later.code == "unauthorized"


async def test_every_log_in_is_a_session_of_its_own(ada: Browser, panel: Panel) -> None:
    other = await panel.browser()
    await other.log_in(ada.session["email"])
    assert (await other.call("DELETE", "/api/session")).status == 204
    assert (await ada.call("GET", "/api/session")).status == 200


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_nobody_gets_in_without_a_session(method: str, path: str, browser: Browser) -> None:
    body = None if method in SAFE_METHODS else {"label": "x"}
    for cookie in ("", f"{COOKIE}=", f"other={'x' * 40}"):
        answer = await browser.call(method, filled(path), body, cookie=cookie)
        assert (answer.status, answer.code) == (401, "unauthorized")


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_a_made_up_session_is_refused(
    method: str, path: str, browser: Browser, panel: Panel
) -> None:
    secret = panel.settings.service_secret.get_secret_value()
    for token in ("made-up", "x" * 4_000, "%00'"):
        # Even with the token that would go with it.
        sent = {"cookie": f"{COOKIE}={token}", "x-mesh-csrf": csrf_token(secret, token)}
        answer = await browser.call(method, filled(path), {"label": "x"}, **sent)
        assert (answer.status, answer.code) == (401, "unauthorized"), token[:10]


@pytest.mark.parametrize(("method", "path"), UNSAFE)
async def test_an_unsafe_request_needs_the_token_of_its_own_session(
    method: str, path: str, ada: Browser, panel: Panel
) -> None:
    other = await panel.browser()
    await other.log_in(ada.session["email"])
    assert other.csrf != ada.csrf
    for wrong in ("", "0" * 64, ada.csrf.upper(), ada.csrf[:-1], other.csrf, "caf\u00e9"):
        answer = await ada.call(method, filled(path), {"label": "x"}, **{"x-mesh-csrf": wrong})
        assert (answer.status, answer.code) == (403, "forbidden"), wrong
    assert (await ada.call("GET", "/api/session")).status == 200
    assert (await ada.call("GET", "/api/keys")).json == []


@pytest.mark.parametrize("path", ["/api/session", "/api/sign-up"])
@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
async def test_no_form_of_another_site_can_log_anybody_in(
    path: str, kind: str, ada: Browser, panel: Panel
) -> None:
    """A form sends no JSON unasked, and what is sent otherwise asks first and is not answered."""
    stranger = await panel.browser()
    raw = b'{"email":"%s","password":"%s"}' % (ada.session["email"].encode(), PASSWORD.encode())
    answer = await stranger.call("POST", path, raw, **{"content-type": kind})
    assert (answer.status, answer.code) == (422, "validation_error")
    assert answer.cookies == {}
    asked = await stranger.call(
        "OPTIONS", path, origin="https://elsewhere.example",
        **{"access-control-request-method": "POST"},
    )  # fmt: skip
    assert not any(name.startswith("access-control-") for name in asked.headers)
