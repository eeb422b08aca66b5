"""The outermost ASGI application: request ids, versions and metrics for every route, the lane or
the framework.
"""

from __future__ import annotations

import time
from functools import lru_cache

from prometheus_client import Counter, Gauge, Histogram

from services.common.errors import AppError, InternalError
from services.common.telemetry import get_logger
from services.gateway.auth import pinned_version
from services.gateway.entrypoints.asgi import (
    HANG_UP,
    App,
    Message,
    Receive,
    Scope,
    Send,
    send_whole,
)
from services.gateway.entrypoints.chat_lane import ROUTE, ChatLane
from services.gateway.entrypoints.head import RequestHead, head_from, serve_with
from services.gateway.envelope import error_ending
from services.gateway.errors import MethodNotAllowed
from services.gateway.pipeline import ChatPipeline
from services.gateway.ports import KeyDirectory

REQUESTS = Counter("mesh_gateway_requests", "Requests answered.", ["route", "status"])
REQUEST_SECONDS = Histogram(
    "mesh_gateway_request_seconds",
    "Time from the head of a request to the end of its answer.",
    ["route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
IN_FLIGHT = Gauge("mesh_gateway_in_flight", "Requests being answered.")
# Which child it is takes longer to find than to count.
_requests = lru_cache(maxsize=1_024)(REQUESTS.labels)
_request_seconds = lru_cache(maxsize=1_024)(REQUEST_SECONDS.labels)

_PROBES = ("/healthz", "/readyz")
_log = get_logger(__name__)


class Edge:
    """Sends each request where it belongs. `in_flight` counts those that are not yet answered."""

    def __init__(self, lane: ChatLane, app: App, keys: KeyDirectory) -> None:
        self._lane = lane
        self._keys = keys
        self._app = app
        self.in_flight = 0

    @property
    def pipeline(self) -> ChatPipeline:
        """What answers calls of models, whoever makes them."""
        return self._lane.pipeline

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        started_s = time.monotonic()
        head = head_from(scope["headers"])
        head.hang_up = scope[HANG_UP]
        if not head.version_given and (pin := pinned_version(head.authorization, self._keys)):
            serve_with(head, pin)
        self.in_flight += 1
        IN_FLIGHT.inc()
        route, status = "other", 499
        try:
            route, status = await self._dispatch(scope, head, receive, send=send)
        finally:
            self.in_flight -= 1
            IN_FLIGHT.dec()
            _requests(route, status).inc()
            _request_seconds(route).observe(time.monotonic() - started_s)

    async def _dispatch(
        self, scope: Scope, head: RequestHead, receive: Receive, *, send: Send
    ) -> tuple[str, int]:
        path = scope["path"]
        if head.fault is not None and path not in _PROBES:
            return "other", await _refuse(head, head.fault, send)
        if path == ROUTE:
            if scope["method"] == "POST":
                return ROUTE, await self._lane.serve(head, receive, send)
            fault = MethodNotAllowed(f"{scope['method']} is not allowed here; use POST")
            return ROUTE, await _refuse(head, fault, send, allow=b"POST")
        return await self._through_framework(scope, head, receive, send=send)

    async def _through_framework(
        self, scope: Scope, head: RequestHead, receive: Receive, *, send: Send
    ) -> tuple[str, int]:
        status = 0

        async def stamped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *head.answer_headers]
            await send(message)

        scope["mesh_head"] = head
        try:
            await self._app(scope, receive, stamped)
        except Exception as error:  # noqa: BLE001 - an edge: every fault gets an envelope
            _log.error("route failed inside", request_id=head.request_id, exc_info=error)
            if not status:
                fault = InternalError("something went wrong inside the gateway")
                status = await _refuse(head, fault, send)
        return getattr(scope.get("route"), "path", "other"), status


async def _refuse(head: RequestHead, fault: AppError, send: Send, *, allow: bytes = b"") -> int:
    headers = [*head.answer_headers, (b"allow", allow)] if allow else head.answer_headers
    await send_whole(send, error_ending(fault, head.request_id), headers)
    return fault.http_status
