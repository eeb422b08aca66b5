"""The way in through a log-in provider: out to it, back from it, and the one question in between.

What has to be remembered meanwhile is in a signed cookie of this browser, so that an answer is
taken only by the browser that asked. Where somebody is sent afterwards is one of two places, never
an address from outside.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Any, Literal

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from services.common.errors import AppError, Conflict, Forbidden, NotFound, Unavailable
from services.common.pb.mesh.accounts.v1 import accounts_pb2
from services.dashboard.api import entrance_models as models
from services.dashboard.api.accounts import started, user_agent
from services.dashboard.api.session import BackendsDep, SessionDep, SettingsDep
from services.dashboard.config import DashboardSettings
from services.dashboard.oidc import KnownPerson, OidcClient

router = APIRouter(tags=["oidc"])
COOKIE = "mesh_oidc"
COOKIE_PATH = "/api/oidc"
LOG_IN = "/log-in"
SETTINGS = "/settings"
LASTS_S = 600
PLACES = ("/", "/join")
LENGTH_MAX = 4_000
Json = dict[str, Any]  # Any: JSON


def client_of(request: Request) -> OidcClient:
    """NotFound where no provider is set."""
    found: OidcClient | None = request.app.state.oidc
    if found is None:
        raise NotFound("No log-in provider is set up here.")
    return found


def signature(known: DashboardSettings, text: str) -> str:
    secret = known.service_secret.get_secret_value().encode()
    return hmac.new(secret, b"oidc:" + text.encode(), hashlib.sha256).hexdigest()


def remember(response: Response, known: DashboardSettings, what: Json, *, now_ms: int) -> None:
    """Keeps something in the browser, for a few minutes and for this panel alone."""
    text = orjson.dumps({**what, "until_ms": now_ms + LASTS_S * 1_000}).hex()
    response.set_cookie(
        COOKIE, f"{text}.{signature(known, text)}", max_age=LASTS_S, httponly=True,
        samesite="lax", secure=known.secure_cookies, path=COOKIE_PATH,
    )  # fmt: skip


def remembered(request: Request, known: DashboardSettings) -> Json:
    """What was kept; empty where it is gone, or never was ours."""
    text, _, given = request.cookies.get(COOKIE, "").partition(".")
    if not hmac.compare_digest(signature(known, text).encode(), given.encode()):
        return {}
    found: Json = orjson.loads(bytes.fromhex(text))
    alive = found["until_ms"] > request.app.state.clock.now_ms()
    return found if alive else {}


def forget(response: Response) -> None:
    response.delete_cookie(COOKIE, path=COOKIE_PATH)


def identity_pb(person: Json) -> accounts_pb2.Identity:
    return accounts_pb2.Identity(
        issuer=person["issuer"],
        subject=person["subject"],
        email=person["email"],
        email_verified=person["email_verified"],
    )


@router.get("/log-in-options")
async def log_in_options(known: SettingsDep) -> models.LogInOptions:
    """How one can log in here, beside with a password."""
    return models.LogInOptions(oidc_name=known.oidc_name if known.oidc_issuer else None)


@router.get("/oidc/start", response_class=RedirectResponse, status_code=303)
async def start(
    request: Request,
    known: SettingsDep,
    *,
    to: str = "/",
    purpose: Literal["log_in", "password"] = "log_in",
) -> Response:
    """Sends the browser to the provider; for a password it has to log in there anew."""
    client = client_of(request)
    keep = {
        "state": secrets.token_urlsafe(32),
        "nonce": secrets.token_urlsafe(32),
        "verifier": secrets.token_urlsafe(48),
    }
    again = purpose == "password"
    try:
        address = await client.address(**keep, again=again)
    except AppError as error:
        return problem(request, code_of(error), to=SETTINGS if again else LOG_IN)
    response = RedirectResponse(address, status_code=303)
    keep["to"] = SETTINGS if again else to if to in PLACES else PLACES[0]
    remember(response, known, keep, now_ms=request.app.state.clock.now_ms())
    return response


def problem(request: Request, code: str, *, to: str) -> Response:
    """Back to where it began, which says what went wrong."""
    address = f"{to}?problem={code}&request_id={request.state.request_id}"
    response = RedirectResponse(address, status_code=303)
    forget(response)
    return response


def code_of(error: AppError) -> str:
    match error:
        case Unavailable():
            return "provider_away"
        case Forbidden():
            return "unverified"
        case Conflict():
            return "taken"
        case _:
            return "refused"


@router.get("/oidc/callback", response_class=RedirectResponse, status_code=303)
async def callback(
    request: Request,
    found: BackendsDep,
    *,
    known: SettingsDep,
    state: str = "",
    code: str = "",
    error: str = "",
) -> Response:
    """Where the provider sends the browser back to."""
    client = client_of(request)
    kept = remembered(request, known)
    expected = str(kept.get("state", ""))
    if not expected or not hmac.compare_digest(expected.encode(), state.encode()):
        return problem(request, "expired", to=LOG_IN)
    again = kept["to"] == SETTINGS
    back = SETTINGS if again else LOG_IN
    if error or not code or len(code) > LENGTH_MAX:
        return problem(request, "denied", to=back)
    now_ms = request.app.state.clock.now_ms()
    try:
        person = await client.person(
            code=code, nonce=kept["nonce"], verifier=kept["verifier"], again=again
        )
        if again:
            # The session stays as it is; the person is only remembered for what comes next.
            response = RedirectResponse(f"{SETTINGS}?set_password=1", status_code=303)
            remember(response, known, {"again": told(person)}, now_ms=now_ms)
            return response
        answer = await found.accounts_channel.call(
            found.accounts.LogInWithIdentity,
            accounts_pb2.LogInWithIdentityRequest(
                identity=identity_pb(told(person)),
                name=person.name,
                user_agent=user_agent(request),
            ),
        )
    except AppError as refusal:
        return problem(request, code_of(refusal), to=back)
    if not answer.HasField("session"):
        response = RedirectResponse("/log-in?connect=1", status_code=303)
        keep = {"person": told(person), "to": kept["to"]}
        remember(response, known, keep, now_ms=now_ms)
        return response
    response = RedirectResponse(kept["to"], status_code=303)
    forget(response)
    # A session of its own, whatever cookie the browser came with.
    started(answer.session, response, known, now_ms=now_ms)
    return response


def told(person: KnownPerson) -> Json:
    return {
        "issuer": person.issuer,
        "subject": person.subject,
        "email": person.email,
        "email_verified": person.email_verified,
    }


@router.get("/password")
async def get_password(session: SessionDep, known: SettingsDep) -> models.PasswordState:
    """Whether the person has a password, and how they can show who they are where they have not."""
    return models.PasswordState(
        is_set=not session.without_password,
        oidc_name=known.oidc_name if known.oidc_issuer else None,
    )


@router.post("/oidc/password", status_code=204)
async def set_password(
    body: models.FirstPassword,
    request: Request,
    *,
    response: Response,
    session: SessionDep,
    found: BackendsDep,
    known: SettingsDep,
) -> None:
    """The first password of a person who has just logged in at the provider again; every other
    session of theirs ends.
    """
    kept = remembered(request, known)
    if "again" not in kept:
        raise Forbidden("Log in at your log-in provider again first.")
    await found.accounts_channel.call(
        found.accounts.SetPassword,
        accounts_pb2.SetPasswordRequest(
            identity=identity_pb(kept["again"]),
            new_password=body.new_password,
            session_token=session.token,
        ),
        principal=session.caller,
    )
    forget(response)


@router.get("/oidc/pending")
async def pending(request: Request, known: SettingsDep) -> models.PendingIdentity:
    """Whom the password is asked of, to connect what the provider said."""
    kept = remembered(request, known)
    if "person" not in kept:
        raise NotFound("This took too long: start again.")
    return models.PendingIdentity(email=kept["person"]["email"])


@router.post("/oidc/connect")
async def connect(
    body: models.ConnectIn,
    request: Request,
    *,
    response: Response,
    found: BackendsDep,
    known: SettingsDep,
) -> models.Connected:
    """Connects the provider's person with the user whose password this is, and logs them in."""
    kept = remembered(request, known)
    if "person" not in kept:
        raise NotFound("This took too long: start again.")
    answer = await found.accounts_channel.call(
        found.accounts.ConnectIdentity,
        accounts_pb2.ConnectIdentityRequest(
            identity=identity_pb(kept["person"]),
            password=body.password,
            user_agent=user_agent(request),
        ),
    )
    forget(response)
    session = started(answer, response, known, now_ms=request.app.state.clock.now_ms())
    return models.Connected(session=session, to=kept["to"])
