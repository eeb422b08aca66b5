"""Logging in through a log-in provider: a real one, and one whose answers are wrong on purpose."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from urllib.parse import parse_qs, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey
from pydantic import ValidationError

from services.dashboard.api.session import COOKIE
from services.dashboard.config import DashboardSettings
from services.dashboard.oidc import OidcClient
from tests.fixtures.engines import unused_port
from tests.fixtures.oidc import (
    CLIENT_ID,
    CLIENT_SECRET,
    Claims,
    ScriptedProvider,
    consent,
    new_key,
    real_provider,
    scripted_provider,
)
from tests.integration.dashboard.conftest import PASSWORD, Answer, Browser, Panel, serve_panel

_numbers = itertools.count(1)


def with_provider(settings_for: Callable[..., DashboardSettings], issuer: str) -> DashboardSettings:
    return settings_for(
        oidc_issuer=issuer, oidc_client_id=CLIENT_ID, oidc_client_secret=CLIENT_SECRET,
        oidc_name="Example ID",
    )  # fmt: skip


async def start(browser: Browser, to: str = "/") -> str:
    """The address at the provider that the browser is sent to."""
    answer = await browser.call("GET", f"/api/oidc/start?to={to}")
    assert answer.status == 303, answer.body
    return answer.headers["location"]


async def come_back(browser: Browser, address: str) -> Answer:
    parts = urlsplit(address)
    assert parts.path == "/api/oidc/callback"
    return await browser.call("GET", f"{parts.path}?{parts.query}")


def problem_of(answer: Answer) -> str:
    """Which refusal the log-in page tells; nobody is logged in by it."""
    assert answer.status == 303
    assert COOKIE not in answer.cookies
    parts = urlsplit(answer.headers["location"])
    assert (parts.netloc, parts.path) == ("", "/log-in"), answer.headers
    assert parse_qs(parts.query)["request_id"][0].startswith("req_")
    return parse_qs(parts.query)["problem"][0]


async def test_the_real_provider_logs_a_new_person_in_and_knows_them_again(
    settings_for: Callable[..., DashboardSettings],
) -> None:
    email = "grace.at@provider.example"
    person: dict[str, object] = {"email": email, "email_verified": True, "name": "Grace"}
    async with real_provider(grace=person) as issuer:
        async with serve_panel(with_provider(settings_for, issuer)) as panel:
            browser = await panel.browser()
            options = await browser.call("GET", "/api/log-in-options")
            assert options.json == {"oidc_name": "Example ID"}
            back = await consent(await start(browser, "/join"), "grace")
            planted = "attackers-choice-of-a-session-token"
            browser.client.cookie_jar.update_cookies({COOKIE: planted})
            answer = await come_back(browser, back)
            assert (answer.status, answer.headers["location"]) == (303, "/join"), answer.body
            assert planted not in answer.cookies[COOKIE]
            assert {"HttpOnly", "SameSite=lax"} <= set(answer.cookies[COOKIE].split("; "))
            session = (await browser.call("GET", "/api/session")).json
            assert (session["email"], session["name"]) == (email, "Grace")
            assert session["role"] == "owner"
            # The answer of the provider is good once, and in the browser that asked.
            assert problem_of(await come_back(browser, back)) == "expired"
            other = await panel.browser()
            stolen = await consent(await start(browser), "grace")
            assert problem_of(await come_back(other, stolen)) == "expired"
            await come_back(other, await consent(await start(other), "grace"))
            again = (await other.call("GET", "/api/session")).json
            assert again["account_id"] == session["account_id"]
            # There is no password that would let anybody in.
            guess = {"email": email, "password": PASSWORD}
            assert (await other.call("POST", "/api/session", guess)).status == 401


@pytest.fixture(scope="module")
async def provider() -> AsyncIterator[ScriptedProvider]:
    async with scripted_provider() as found:
        yield found


@pytest.fixture(scope="module")
async def entrance(
    provider: ScriptedProvider, settings_for: Callable[..., DashboardSettings]
) -> AsyncIterator[Panel]:
    """A panel with that provider."""
    async with serve_panel(with_provider(settings_for, provider.issuer)) as found:
        yield found


@pytest.fixture(autouse=True)
def somebody(provider: ScriptedProvider) -> None:
    """The next person at the provider, who is honest."""
    number = next(_numbers)
    provider.person = {
        "sub": f"subject-{number}", "email": f"oidc{number}@example.com", "email_verified": True,
    }  # fmt: skip
    provider.spoil, provider.forge = (lambda claims: claims), None


async def log_in(browser: Browser, provider: ScriptedProvider, to: str = "/") -> Answer:
    return await come_back(browser, provider.authorize(await start(browser, to)))


SPOILT: dict[str, Callable[[Claims], Claims]] = {
    "another nonce": lambda claims: {**claims, "nonce": "replayed"},
    "no nonce": lambda claims: {k: v for k, v in claims.items() if k != "nonce"},
    "another audience": lambda claims: {**claims, "aud": "another-client"},
    "several audiences and no party": lambda claims: {**claims, "aud": [CLIENT_ID, "other"]},
    "another party": lambda claims: {**claims, "azp": "another-client"},
    "another issuer": lambda claims: {**claims, "iss": "http://127.0.0.1:1"},
    "expired": lambda claims: {**claims, "exp": claims["iat"] - 120},
    "no expiry": lambda claims: {k: v for k, v in claims.items() if k != "exp"},
    "from the future": lambda claims: {**claims, "iat": claims["iat"] + 3_600},
    "no subject": lambda claims: {**claims, "sub": ""},
}


@pytest.mark.parametrize("name", sorted(SPOILT))
async def test_a_token_with_a_claim_that_is_wrong_lets_nobody_in(
    name: str, entrance: Panel, provider: ScriptedProvider
) -> None:
    provider.spoil = SPOILT[name]
    browser = await entrance.browser()
    assert problem_of(await log_in(browser, provider)) == "refused"
    assert (await browser.call("GET", "/api/session")).status == 401


def unsigned(claims: Claims) -> str:
    signed = jwt.encode({"alg": "HS256"}, claims, OctKey.import_key("k" * 32))
    payload = signed.split(".")[1]
    # {"alg":"none"}
    return f"eyJhbGciOiJub25lIn0.{payload}."


async def test_a_token_that_the_provider_did_not_sign_lets_nobody_in(
    entrance: Panel, provider: ScriptedProvider
) -> None:
    stranger = new_key("first")
    forged: dict[str, Callable[[Claims], str]] = {
        "unsigned": unsigned,
        "signed by a stranger": lambda c: jwt.encode({"alg": "RS256", "kid": "first"}, c, stranger),
        "signed with the client's secret": lambda c: jwt.encode(
            {"alg": "HS256", "kid": "first"}, c, OctKey.import_key(CLIENT_SECRET)
        ),
        "no token": lambda _: "",
        "no token either": lambda _: "a.b.c",
    }
    for name, forge in forged.items():
        provider.forge = forge
        browser = await entrance.browser()
        assert problem_of(await log_in(browser, provider)) == "refused", name


async def test_a_provider_may_change_its_keys_and_is_not_asked_for_each_wrong_one(
    settings_for: Callable[..., DashboardSettings],
) -> None:
    async with scripted_provider() as changing:
        changing.person = {"sub": "k", "email": "keys@example.com", "email_verified": True}
        async with serve_panel(with_provider(settings_for, changing.issuer)) as panel:
            client: OidcClient = panel.server.config.app.state.oidc  # type: ignore[union-attr] # the application we made
            clock = client._clock
            assert (await log_in(await panel.browser(), changing)).headers["location"] == "/"
            asked = changing.asked_for_keys
            changing.key = new_key("second")
            # Within seconds of the last look nobody can make the panel ask again.
            assert problem_of(await log_in(await panel.browser(), changing)) == "refused"
            assert changing.asked_for_keys == asked
            client._keys_at_s = clock.monotonic_s() - 60
            assert (await log_in(await panel.browser(), changing)).headers["location"] == "/"
            assert changing.asked_for_keys == asked + 1


async def test_an_address_is_connected_only_with_the_password_and_only_where_it_is_verified(
    entrance: Panel, provider: ScriptedProvider
) -> None:
    owner = await entrance.browser()
    await owner.sign_up()
    email = owner.session["email"]
    provider.person = {"sub": "ada", "email": email.upper(), "email_verified": False}
    browser = await entrance.browser()
    assert problem_of(await log_in(browser, provider)) == "unverified"
    provider.person["email_verified"] = True
    answer = await log_in(browser, provider, "/join")
    assert answer.headers["location"] == "/log-in?connect=1"
    assert COOKIE not in answer.cookies
    assert (await browser.call("GET", "/api/session")).status == 401
    assert (await browser.call("GET", "/api/oidc/pending")).json == {"email": email.upper()}
    wrong = await browser.call("POST", "/api/oidc/connect", {"password": "not the one"})
    assert (wrong.status, wrong.code) == (401, "unauthorized")
    right = await browser.call("POST", "/api/oidc/connect", {"password": PASSWORD})
    assert (right.status, right.json["to"]) == (200, "/join")
    assert right.json["session"]["account_id"] == owner.session["account_id"]
    # From now on the provider is enough, even after the address changed there.
    provider.person["email"] = "moved@example.com"
    other = await entrance.browser()
    assert (await log_in(other, provider)).headers["location"] == "/"
    assert (await other.call("GET", "/api/session")).json["email"] == email
    # Nothing pending, nothing to connect.
    assert (await other.call("POST", "/api/oidc/connect", {"password": PASSWORD})).status == 404
    kinds = [e["type"] for e in (await owner.call("GET", "/api/audit")).json["events"]]
    assert "accounts.IdentityLinked" in kinds


async def test_an_address_that_the_provider_gave_to_somebody_else_does_not_move_the_user(
    entrance: Panel, provider: ScriptedProvider
) -> None:
    assert (await log_in(await entrance.browser(), provider)).headers["location"] == "/"
    provider.person["sub"] = "somebody-else"
    assert problem_of(await log_in(await entrance.browser(), provider)) == "taken"


@pytest.mark.parametrize("to", ["https://evil.example", "//evil.example", "/logs", "/\\evil", ""])
async def test_nobody_is_sent_elsewhere_afterwards(
    to: str, entrance: Panel, provider: ScriptedProvider
) -> None:
    answer = await log_in(await entrance.browser(), provider, to)
    assert answer.headers["location"] == "/"


async def test_a_provider_that_refuses_or_is_away_and_a_forged_cookie_are_told_apart(
    entrance: Panel, provider: ScriptedProvider, settings_for: Callable[..., DashboardSettings]
) -> None:
    browser = await entrance.browser()
    state = parse_qs(urlsplit(await start(browser)).query)["state"][0]
    denied = await browser.call("GET", f"/api/oidc/callback?error=access_denied&state={state}")
    assert problem_of(denied) == "denied"
    forged = await browser.call(
        "GET", "/api/oidc/callback?code=x&state=s", cookie=f"mesh_oidc={b'{}'.hex()}.{'0' * 64}"
    )
    assert problem_of(forged) == "expired"
    unknown = await start(browser)
    state = parse_qs(urlsplit(unknown).query)["state"][0]
    wrong_code = await browser.call("GET", f"/api/oidc/callback?code=guessed&state={state}")
    assert problem_of(wrong_code) == "refused"
    nobody = f"http://127.0.0.1:{unused_port()}"
    async with serve_panel(with_provider(settings_for, nobody)) as panel:
        away = await (await panel.browser()).call("GET", "/api/oidc/start")
        assert problem_of(away) == "provider_away"


async def test_without_a_provider_there_is_no_button_and_no_way(browser: Browser) -> None:
    assert (await browser.call("GET", "/api/log-in-options")).json == {"oidc_name": None}
    assert (await browser.call("GET", "/api/oidc/start")).code == "not_found"


@pytest.mark.parametrize("issuer", ["http://id.example.com", "ftp://x", "id.example.com"])
def test_an_issuer_without_encryption_or_a_client_is_a_mistake_of_the_settings(
    issuer: str, settings_for: Callable[..., DashboardSettings]
) -> None:
    with pytest.raises(ValidationError, match="https"):
        settings_for(oidc_issuer=issuer, oidc_client_id="x")
    with pytest.raises(ValidationError, match="oidc_client_id"):
        settings_for(oidc_issuer="https://id.example.com")


async def set_password(browser: Browser, password: str = PASSWORD) -> Answer:
    session = await browser.call("GET", "/api/session")
    browser.csrf = session.json["csrf_token"]
    return await browser.call("POST", "/api/oidc/password", {"new_password": password})


async def log_in_again(browser: Browser, provider: ScriptedProvider) -> Answer:
    """To the provider for a password, and back."""
    answer = await browser.call("GET", "/api/oidc/start?purpose=password")
    asked = parse_qs(urlsplit(answer.headers["location"]).query)
    assert (asked["prompt"], asked["max_age"]) == (["login"], ["0"])
    return await come_back(browser, provider.authorize(answer.headers["location"]))


async def test_whoever_came_by_the_provider_sets_a_password_after_logging_in_there_again(
    entrance: Panel, provider: ScriptedProvider
) -> None:
    browser, elsewhere = await entrance.browser(), await entrance.browser()
    await log_in(elsewhere, provider)
    await log_in(browser, provider)
    state = {"is_set": False, "oidc_name": "Example ID"}
    assert (await browser.call("GET", "/api/password")).json == state
    # A session alone is not enough, however it came about.
    refused = await set_password(browser)
    assert (refused.status, refused.code) == (403, "forbidden")
    before = (await browser.call("GET", "/api/session")).json
    back = await log_in_again(browser, provider)
    assert back.headers["location"] == "/settings?set_password=1"
    assert COOKIE not in back.cookies
    short = await set_password(browser, "short")
    assert (short.status, "new_password" in short.json["error"]["message"]) == (422, True)
    assert (await set_password(browser)).status == 204
    assert (await browser.call("GET", "/api/password")).json["is_set"] is True
    assert (await browser.call("GET", "/api/session")).json == before
    assert (await elsewhere.call("GET", "/api/session")).status == 401
    await (await entrance.browser()).log_in(provider.person["email"])
    # What the provider said is good for one password.
    assert (await set_password(browser, "yet another password")).status == 403
    # Once there is one, it is changed with the one that is known.
    await log_in_again(browser, provider)
    assert (await set_password(browser, "yet another password")).status == 409
    # And the way through the provider is as before.
    again = await entrance.browser()
    await log_in(again, provider)
    assert (await again.call("GET", "/api/session")).json["account_id"] == before["account_id"]


async def test_another_person_of_the_provider_sets_nobody_elses_password(
    entrance: Panel, provider: ScriptedProvider
) -> None:
    browser = await entrance.browser()
    await log_in(browser, provider)
    victim = dict(provider.person)
    provider.person = {**victim, "sub": "subject-of-eve", "email": "eve@example.com"}
    await log_in_again(browser, provider)
    answer = await set_password(browser)
    assert (answer.status, answer.code) == (403, "forbidden")
    assert (await browser.call("GET", "/api/password")).json["is_set"] is False
    # Nor does a session of somebody else take what was remembered in this browser.
    other = await entrance.browser()
    provider.person = {**victim, "sub": "subject-of-mallory", "email": "mallory@example.com"}
    await log_in(other, provider)
    provider.person = victim
    await log_in_again(other, provider)
    assert (await set_password(other)).status == 403


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda claims: {**claims, "auth_time": claims["iat"] - 3_600}, "refused"),
        (lambda claims: {**claims, "auth_time": "now"}, "refused"),
        (lambda claims: {**claims, "nonce": "replayed"}, "refused"),
        (lambda claims: {**claims, "auth_time": claims["iat"] - 10}, None),
    ],
)
async def test_a_log_in_that_is_not_fresh_sets_no_password(
    spoil: Callable[[Claims], Claims],
    problem: str | None,
    entrance: Panel,
    provider: ScriptedProvider,
) -> None:
    browser = await entrance.browser()
    await log_in(browser, provider)
    provider.spoil = spoil
    back = await log_in_again(browser, provider)
    parts = urlsplit(back.headers["location"])
    assert parts.path == "/settings"
    assert parse_qs(parts.query).get("problem", [None])[0] == problem
    assert (await set_password(browser)).status == (403 if problem else 204)
    # Somebody is logged in as before.
    assert (await browser.call("GET", "/api/session")).status == 200
