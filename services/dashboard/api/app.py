"""The panel's web application: API, page, security headers, errors in one envelope."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from services.common.clock import Clock
from services.common.errors import AppError
from services.common.ids import new_id
from services.common.kafka import KafkaGroups, LogGroups
from services.dashboard.api import (
    accounts,
    alerts,
    contents,
    exports,
    figures,
    invitations,
    limits,
    oidc,
    operator_accounts,
    operator_catalog,
    operator_consumers,
    operator_log,
    operator_money,
    operator_providers,
    payments,
    people,
    play,
    reads,
    spend,
    stream,
    templates,
)
from services.dashboard.config import DashboardSettings
from services.dashboard.live_balances import LiveBalances
from services.dashboard.oidc import OidcClient
from services.dashboard.playground import Playground
from services.dashboard.ports import Backends, Mailer

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'{nonce}; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
# Where the built page wants the nonce of the one style element that its component library adds.
NONCE_PLACE = "__CSP_NONCE__"
SECURITY_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY.format(nonce=""),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
HTTP_CODES = {
    404: "not_found",
    405: "method_not_allowed",
    411: "length_required",
    413: "body_too_large",
}
ROUTERS = (
    accounts.router,
    people.router,
    invitations.router,
    oidc.router,
    stream.router,
    figures.router,
    limits.router,
    alerts.router,
    reads.router,
    exports.router,
    contents.router,
    payments.router,
    spend.router,
    templates.router,
    play.router,
    operator_accounts.router,
    operator_catalog.router,
    operator_providers.router,
    operator_money.router,
    operator_log.router,
    operator_consumers.router,
)
# More than the longest list of models that a key may allow.
BODY_BYTES_MAX = 256 * 1024


def envelope(request: Request, *, status: int, code: str, message: str,
             details: list[dict[str, object]] | None = None) -> JSONResponse:  # fmt: skip
    """The error as every edge of the product shows it."""
    error: dict[str, object] = {"code": code, "message": message}
    if details:
        error["details"] = details
    body = {"error": error, "request_id": request.state.request_id}
    return JSONResponse(body, status_code=status)


async def app_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AppError)
    details: list[dict[str, object]] = [
        {"type": d.type, "loc": list(d.loc), "msg": d.msg} for d in error.details
    ]
    answer = envelope(request, status=error.http_status, code=error.code, message=error.message,
                      details=details)  # fmt: skip
    if error.retry_after_s is not None:
        answer.headers["retry-after"] = str(error.retry_after_s)
    return answer


async def bad_body(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    details = [{"type": e["type"], "loc": list(e["loc"]), "msg": e["msg"]} for e in error.errors()]
    first = details[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    message = f"{where}: {first['msg']}"
    return envelope(request, status=422, code="validation_error", message=message, details=details)


async def http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = HTTP_CODES.get(error.status_code, "bad_request")
    return envelope(request, status=error.status_code, code=code, message=str(error.detail))


async def internal_error(request: Request, error: Exception) -> Response:
    """What nobody foresaw: logged whole, shown as nothing but a request id."""
    structlog.get_logger().exception("request failed", path=request.url.path, exc_info=error)
    answer = envelope(
        request, status=500, code="internal_error", message="something went wrong here"
    )
    add_headers(request, answer)
    return answer


def refused_body(request: Request) -> Response | None:
    """The refusal of a body that is too long to read, or does not say how long it is."""
    length = request.headers.get("content-length")
    if length is None:
        if "transfer-encoding" not in request.headers:
            return None
        status, message = 411, "say how long the body is"
    elif int(length) > BODY_BYTES_MAX:
        status, message = 413, f"the body may have at most {BODY_BYTES_MAX} bytes"
    else:
        return None
    return envelope(request, status=status, code=HTTP_CODES[status], message=message)


async def with_headers(
    request: Request, proceed: Callable[[Request], Awaitable[Response]]
) -> Response:
    """A request id and the security headers on every answer."""
    request.state.request_id = new_id("req")
    answer = refused_body(request) or await proceed(request)
    add_headers(request, answer)
    return answer


def add_headers(request: Request, answer: Response) -> None:
    answer.headers["x-request-id"] = request.state.request_id
    for name, value in SECURITY_HEADERS.items():
        answer.headers.setdefault(name, value)
    if request.url.path.startswith("/api/"):
        answer.headers.setdefault("cache-control", "no-store")


def page_with_nonce(index: Path) -> Response:
    """The page, with a nonce of its own in it and in its content security policy."""
    nonce = secrets.token_urlsafe(16)
    policy = CONTENT_SECURITY_POLICY.format(nonce=f" 'nonce-{nonce}'")
    html = index.read_text(encoding="utf-8").replace(NONCE_PLACE, nonce)
    headers = {"cache-control": "no-store", "content-security-policy": policy}
    return HTMLResponse(html, headers=headers)


def serve_page(app: FastAPI, web_dir: Path) -> None:
    """The single page: its files as they are, every other address the page itself."""
    index = web_dir / "index.html"
    if index.is_file():
        app.mount("/assets", StaticFiles(directory=web_dir / "assets"), name="assets")

    @app.get("/{path:path}", include_in_schema=False)
    async def page(path: str) -> Response:
        if path.startswith("api/"):
            raise HTTPException(404, "no such route")
        if not index.is_file():
            raise HTTPException(404, "the page is not built: run `make setup`")
        return page_with_nonce(index)


def make_app(
    settings: DashboardSettings,
    backends: Backends,
    clock: Clock,
    *,
    balances: LiveBalances,
    playground: Playground,
    mailer: Mailer | None = None,
    log_groups: LogGroups | None = None,
) -> FastAPI:
    """The application over open backends."""
    app = FastAPI(title="Mesh panel", version="1", openapi_url=None)
    app.state.settings, app.state.backends, app.state.clock = settings, backends, clock
    app.state.balances, app.state.playground = balances, playground
    app.state.mailer = mailer
    app.state.log_groups = log_groups or KafkaGroups(settings.kafka_bootstrap)
    app.state.oidc = OidcClient(settings, clock) if settings.oidc_issuer else None
    app.middleware("http")(with_headers)
    app.add_exception_handler(AppError, app_error)
    app.add_exception_handler(RequestValidationError, bad_body)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(Exception, internal_error)
    for part in ROUTERS:
        app.include_router(part, prefix="/api")
    serve_page(app, settings.web_dir)
    return app
