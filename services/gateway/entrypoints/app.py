"""The FastAPI application: every public route but the chat lane, and an envelope around each of its
errors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from services.common.clock import Clock
from services.common.errors import (
    AppError,
    BadRequest,
    FieldError,
    InternalError,
    InvalidArgument,
    NotFound,
)
from services.gateway.account_reads import Balances
from services.gateway.admin_keys import AdminKeyHolders, AdminKeys
from services.gateway.alerts import Alerts
from services.gateway.auth import authenticate, require_active
from services.gateway.auto_route import AutoRouter
from services.gateway.entrypoints.chat_lane import ChatLane
from services.gateway.entrypoints.head import RequestHead
from services.gateway.envelope import LATEST_VERSION, Ending, error_ending
from services.gateway.errors import MethodNotAllowed
from services.gateway.jobs.batches import Batches
from services.gateway.jobs.responses import Responses
from services.gateway.key_admin import KeyAdmin, Sessions
from services.gateway.ports import Catalogue, Freshness, KeyDirectory, KeyPrincipal, Quotas
from services.gateway.recharge import Recharges
from services.gateway.template_store import Templates
from services.gateway.usage_reports import UsageReports


@dataclass(frozen=True, slots=True)
class PublicReads:
    """What the routes read from."""

    keys: KeyDirectory
    catalogue: Catalogue
    freshness: Freshness
    quotas: Quotas
    balances: Balances
    request_log: UsageReports
    templates: Templates
    sessions: Sessions
    key_admin: KeyAdmin
    admin_holders: AdminKeyHolders
    admin_keys: AdminKeys
    alerts: Alerts
    recharges: Recharges
    clock: Clock
    # Names of what is not ready; empty where the worker may get work.
    not_ready: Callable[[], list[str]]


def build_app(
    reads: PublicReads,
    lane: ChatLane,
    auto: AutoRouter,
    *,
    responses: Responses,
    batches: Batches,
) -> FastAPI:
    """The application; it holds no state of its own."""
    app = routed_app()
    app.state.reads = reads
    app.state.lane = lane
    app.state.auto = auto
    app.state.responses = responses
    app.state.batches = batches
    return app


def routed_app() -> FastAPI:
    """The application without what its routes work with: for its description."""
    from services.gateway.entrypoints import (
        account_routes,
        admin_key_routes,
        alert_routes,
        compare_lane,
        dialect_routes,
        error_catalogue,
        job_routes,
        key_routes,
        model_routes,
        recharge_routes,
        router_routes,
        system_routes,
        template_routes,
        unserved_routes,
        usage_routes,
    )
    from services.gateway.entrypoints.openapi import describe

    app = FastAPI(
        title="Mesh",
        version=LATEST_VERSION,
        summary="One OpenAI-compatible endpoint in front of many model providers.",
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    parts = (
        system_routes,
        model_routes,
        account_routes,
        dialect_routes,
        job_routes,
        compare_lane,
        router_routes,
        template_routes,
        key_routes,
        admin_key_routes,
        alert_routes,
        recharge_routes,
        error_catalogue,
        unserved_routes,
        usage_routes,
    )
    for part in parts:
        app.include_router(part.router)
    app.add_exception_handler(AppError, _app_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _fault)
    routes = [route for part in parts for route in part.router.routes]
    app.openapi_schema = describe(app, routes)
    return app


def reads_of(request: Request) -> PublicReads:
    """Dependency: what the routes read from."""
    reads: PublicReads = request.app.state.reads
    return reads


def head_of(request: Request) -> RequestHead:
    """Dependency: the head as the edge read it."""
    head: RequestHead = request.scope["mesh_head"]
    return head


def caller_of(request: Request) -> KeyPrincipal:
    """Dependency: the key that calls. Raises Unauthorized, Forbidden, Unavailable."""
    reads = reads_of(request)
    reads.freshness.require()
    principal = authenticate(head_of(request).authorization, reads.keys, reads.clock.now_ms())
    require_active(principal)
    return principal


async def _app_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AppError)
    return _response(error_ending(error, head_of(request).request_id))


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = [
        FieldError(tuple(fault["loc"]), fault["msg"], fault["type"]) for fault in error.errors()
    ]
    if any(fault.type == "json_invalid" for fault in faults):
        return await _app_error(request, BadRequest("the body is not valid JSON"))
    first = faults[0]
    name = ".".join(str(part) for part in first.loc[1:]) or str(first.loc[0])
    return await _app_error(request, InvalidArgument(f"{name}: {first.msg}", details=faults))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    translated: AppError
    if error.status_code == 404:
        translated = NotFound(f"there is no route {request.method} {request.url.path}")
    elif error.status_code == 405:
        translated = MethodNotAllowed(f"{request.method} is not allowed here")
    else:
        translated = BadRequest(str(error.detail))
    ending = error_ending(translated, head_of(request).request_id)
    return _response(ending, error.headers)


async def _fault(request: Request, _: Exception) -> Response:
    """What nobody expected; the edge, where the error goes on to, writes it to the log."""
    fault = InternalError("something went wrong inside the gateway")
    return _response(error_ending(fault, head_of(request).request_id))


def _response(ending: Ending, headers: Mapping[str, str] | None = None) -> Response:
    response = Response(
        ending.body, ending.status, dict(headers or {}), ending.content_type.decode()
    )
    for name, value in ending.headers:
        response.headers[name.decode()] = value.decode()
    return response
