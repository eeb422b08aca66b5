"""Who is asking: the session cookie, its CSRF token, and the principal behind it.

The cookie holds accounts' opaque session token. The CSRF token is an HMAC of it, so that it needs
no storage and ends with the session; unsafe methods must carry it in a header, which another site's
page cannot set.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path, Request, Response

from services.common.errors import Forbidden, Unauthorized
from services.common.pb.mesh.accounts.v1 import accounts_pb2
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.security.tokens import Principal
from services.dashboard.config import DashboardSettings
from services.dashboard.ports import Backends

COOKIE = "mesh_session"
CSRF_HEADER = "x-mesh-csrf"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# An id in an address; whether there is such a thing is for its service to say.
PathId = Annotated[str, Path(max_length=200, pattern=r"^[^\x00]*$")]


@dataclass(frozen=True, slots=True)
class Session:
    """A live session: its token and who holds it."""

    token: str
    principal: accounts_pb2.SessionPrincipal
    # The person logs in through a provider alone.
    without_password: bool = False

    @property
    def role(self) -> str:
        return common_pb2.Role.Name(self.principal.role).removeprefix("ROLE_").lower()

    @property
    def caller(self) -> Principal:
        """For whom calls are made: the account comes from the session, never from a request."""
        return Principal(
            kind="user",
            account_id=self.principal.account_id,
            user_id=self.principal.user_id,
            role=self.role,
        )


def csrf_token(secret: str, session_token: str) -> str:
    """The CSRF token of a session."""
    return hmac.new(secret.encode(), b"csrf:" + session_token.encode(), hashlib.sha256).hexdigest()


def backends(request: Request) -> Backends:
    found: Backends = request.app.state.backends
    return found


def settings(request: Request) -> DashboardSettings:
    found: DashboardSettings = request.app.state.settings
    return found


BackendsDep = Annotated[Backends, Depends(backends)]
SettingsDep = Annotated[DashboardSettings, Depends(settings)]


async def session(request: Request, found: BackendsDep, known: SettingsDep) -> Session:
    """The live session; Unauthorized without one, Forbidden without its CSRF token."""
    token = request.cookies.get(COOKIE, "")
    if not token:
        raise Unauthorized("log in first")
    if request.method not in SAFE_METHODS:
        expected = csrf_token(known.service_secret.get_secret_value(), token)
        # As bytes: the comparison takes no text beyond ASCII, and a header may hold some.
        given = request.headers.get(CSRF_HEADER, "").encode()
        if not hmac.compare_digest(expected.encode(), given):
            raise Forbidden("the page is out of date: load it again")
    answer = await found.accounts_channel.call(
        found.accounts.ResolveSession, accounts_pb2.ResolveSessionRequest(session_token=token)
    )
    return Session(token, answer.principal, answer.without_password)


SessionDep = Annotated[Session, Depends(session)]


def set_cookie(response: Response, token: str, *, max_age_s: int, secure: bool) -> None:
    """Hands the session token to the browser, out of reach of scripts."""
    response.set_cookie(
        COOKIE, token, max_age=max_age_s, httponly=True, samesite="lax", secure=secure, path="/"
    )
