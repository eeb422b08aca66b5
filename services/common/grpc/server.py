"""The server side: who calls is verified, policies deny by default, deadlines are demanded, errors
are translated.

Health (`grpc.health.v1.Health`) may be asked by anybody; reflection by whoever has a service token.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn, TypeAlias

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.common.errors import AppError, Forbidden, InvalidArgument, Unauthorized
from services.common.grpc.auth import Access, identified
from services.common.grpc.channel import MESSAGE_BYTES_MAX
from services.common.grpc.errors import TRAILER, status_of, trailer_of
from services.common.security.tokens import CallIdentity, TokenVerifier
from services.common.telemetry import get_logger, metrics, span_from

HEALTH = "/grpc.health.v1.Health/"
REFLECTION = "/grpc.reflection."
# Generated code below this package may carry it in the names of its services; the contract does
# not.
_PACKAGE = "/services.common.pb."
_ANONYMOUS = CallIdentity("")
_OPTIONS = [
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
]

_log = get_logger(__name__)

# Any: handlers take and give the messages of whichever method they are for.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


def method_of(path: str) -> str:
    """The full method as the contract names it: `/mesh.billing.v1.GrantsService/OpenGrant`."""
    path = path if path.startswith("/") else f"/{path}"
    return f"/{path.removeprefix(_PACKAGE)}" if path.startswith(_PACKAGE) else path


class GrpcServer:
    """One gRPC server. Add servicers to `grpc` before `start`; `port` is known afterwards."""

    def __init__(
        self, *, listen: str, verifier: TokenVerifier, policies: Mapping[str, Access]
    ) -> None:
        """`policies` by full method, for instance `/mesh.billing.v1.GrantsService/OpenGrant`."""
        self._listen = listen
        guard = _Guard(verifier, {method_of(path): access for path, access in policies.items()})
        self.grpc = grpc.aio.server(interceptors=[guard], options=_OPTIONS)
        self._health = health.aio.HealthServicer()
        self._services: tuple[str, ...] = ()
        self._stopped = asyncio.Event()
        self.port = 0

    def reflect(self, *services: str) -> None:
        """Names the services that reflection and health tell of, for instance
        `mesh.billing.v1.GrantsService`.
        """
        self._services += services

    async def start(self) -> None:
        """Listens and serves. Raises OSError where the address is taken."""
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.grpc)
        reflection.enable_server_reflection(
            [*self._services, health.SERVICE_NAME, reflection.SERVICE_NAME], self.grpc
        )
        try:
            self.port = self.grpc.add_insecure_port(self._listen)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {self._listen}") from error
        await self.grpc.start()
        for service in ("", *self._services):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def run(self) -> None:
        """Returns once `stop` was called; for a process that serves until told otherwise."""
        await self._stopped.wait()

    async def stop(self, grace_s: float = 10.0) -> None:
        """Says "not serving", takes no new calls, lets those under way end within the grace
        period.
        """
        await self._health.enter_graceful_shutdown()
        await self.grpc.stop(grace_s)
        self._stopped.set()


class _Guard(grpc.aio.ServerInterceptor):
    """Wraps every handler: identity, policy, deadline, trace, metrics, errors."""

    def __init__(self, verifier: TokenVerifier, policies: Mapping[str, Access]) -> None:
        self._verifier = verifier
        self._policies = policies

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        method = method_of(handler_call_details.method)
        if method.startswith(HEALTH):
            return handler
        metadata = dict(handler_call_details.invocation_metadata or ())
        if method.startswith(REFLECTION):
            return self._streaming(handler, method, metadata)
        if handler.response_streaming:
            return self._streaming(handler, method, metadata)
        return self._unary(handler, method, metadata)

    def _unary(self, handler: Handler, method: str, metadata: Mapping[str, Any]) -> Handler:
        behaviour: Any = handler.stream_unary if handler.request_streaming else handler.unary_unary

        async def answer(request: Any, context: Any) -> Any:
            with self._call(method, metadata) as call:
                try:
                    with identified(self._admit(method, metadata, context)):
                        return await behaviour(request, context)
                except Exception as error:  # noqa: BLE001 - the edge: errors become statuses
                    await call.abort(error, context)

        make = (
            grpc.stream_unary_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        return make(answer, handler.request_deserializer, handler.response_serializer)

    def _streaming(self, handler: Handler, method: str, metadata: Mapping[str, Any]) -> Handler:
        behaviour: Any = (
            handler.stream_stream if handler.request_streaming else handler.unary_stream
        )

        async def answers(request: Any, context: Any) -> AsyncIterator[Any]:
            with self._call(method, metadata) as call:
                try:
                    with identified(self._admit(method, metadata, context)):
                        async for item in behaviour(request, context):
                            yield item
                except Exception as error:  # noqa: BLE001 - the edge: errors become statuses
                    await call.abort(error, context)

        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_stream_rpc_method_handler
        )
        return make(answers, handler.request_deserializer, handler.response_serializer)

    def _admit(
        self,
        method: str,
        metadata: Mapping[str, Any],
        context: Any,  # Any: grpc's own class
    ) -> CallIdentity:
        token = str(metadata.get("authorization", ""))
        if not token.startswith("Bearer "):
            raise Unauthorized("the call has no service token")
        caller = self._verifier.verify(token.removeprefix("Bearer "))
        if method.startswith(REFLECTION):
            return caller
        if context.time_remaining() is None:
            raise InvalidArgument("every call needs a deadline")
        access = self._policies.get(method)
        if access is None:
            raise Forbidden(f"{method} has no policy")
        access.check(caller)
        return caller

    @contextmanager
    def _call(self, method: str, metadata: Mapping[str, Any]) -> Iterator[_Call]:
        call = _Call(method)
        started_s = time.perf_counter()
        try:
            with span_from(str(metadata.get("traceparent", "")), method, {"rpc.system": "grpc"}):
                yield call
        finally:
            taken_s = time.perf_counter() - started_s
            metrics.GRPC_SECONDS.labels(method, call.status).observe(taken_s)


class _Call:
    """What is known of one call when it ends."""

    def __init__(self, method: str) -> None:
        self._method = method
        self.status = "OK"

    async def abort(self, error: Exception, context: Any) -> NoReturn:  # Any: grpc's own class
        """Ends the call with the status of the error; of an unexpected one nothing is told but
        that it happened.
        """
        if isinstance(error, grpc.aio.AbortError):
            self.status = "ABORTED_BY_HANDLER"
            raise error
        if isinstance(error, AppError):
            status, message, trailer = status_of(error), error.message, trailer_of(error)
            context.set_trailing_metadata(((TRAILER, trailer),))
        else:
            status, message = grpc.StatusCode.INTERNAL, "internal error"
            _log.error("unexpected error in a call", method=self._method, exc_info=error)
        self.status = status.name
        await context.abort(status, message)
        raise AssertionError("abort always raises")
