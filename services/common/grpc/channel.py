"""The client side: a channel to one service, with tokens, deadlines, traces and our own errors."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TypeVar

import grpc

from services.common.errors import Unavailable
from services.common.grpc.errors import app_error_from_rpc
from services.common.security.tokens import Principal, TokenSigner
from services.common.telemetry.tracing import current_traceparent, span

RequestT = TypeVar("RequestT", contravariant=True)
ResponseT = TypeVar("ResponseT", covariant=True)
T = TypeVar("T")
R = TypeVar("R")

MESSAGE_BYTES_MAX = 32 * 1024 * 1024
_OPTIONS = [
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    # Several services may share an address in one process of a test; each channel is a connection
    # of its own.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
]

Metadata = tuple[tuple[str, str], ...]


class GrpcChannel:
    """A channel that connects when first used and again whenever the connection is lost."""

    def __init__(
        self, address: str, signer: TokenSigner, *, default_timeout_s: float = 5.0
    ) -> None:
        self._address = address
        self._signer = signer
        self._default_timeout_s = default_timeout_s
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)

    def channel(self) -> grpc.aio.Channel:
        """What the stubs are made with; call their methods through `call` and `stream`."""
        return self._channel

    def metadata(self, principal: Principal | None = None) -> Metadata:
        """The token for `principal` and the current trace, for a call without `call`."""
        token = ("authorization", f"Bearer {self._signer.mint(principal)}")
        traceparent = current_traceparent()
        return (token, ("traceparent", traceparent)) if traceparent else (token,)

    async def call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[T, R] | grpc.UnaryUnaryMultiCallable[T, R],
        request: T,
        *,
        principal: Principal | None = None,
        timeout_s: float | None = None,
    ) -> R:
        """The answer of a unary method. Raises the AppError that the server raised; Unavailable
        after the timeout.
        """
        with span(_name_of(method), kind="client"):
            try:
                answer: R = await method(  # type: ignore[misc]  # the stubs of aio channels
                    request,
                    timeout=timeout_s or self._default_timeout_s,
                    metadata=self.metadata(principal),
                )
            except grpc.aio.AioRpcError as error:
                raise app_error_from_rpc(error) from error
            except grpc.aio.UsageError as error:
                raise Unavailable(f"the channel to {self._address} is closed") from error
            return answer

    async def stream(
        self,
        method: grpc.aio.UnaryStreamMultiCallable[T, R] | grpc.UnaryStreamMultiCallable[T, R],
        request: T,
        *,
        principal: Principal | None = None,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[R, None]:
        """The answers of a streaming method; errors as with `call`. The timeout is for the whole
        stream.
        """
        call = method(
            request,
            timeout=timeout_s or self._default_timeout_s,
            metadata=self.metadata(principal),
        )
        try:
            async for answer in call:  # type: ignore[union-attr]  # the stub of an aio channel
                yield answer
        except grpc.aio.AioRpcError as error:
            raise app_error_from_rpc(error) from error
        finally:
            call.cancel()

    async def close(self) -> None:
        """Ends the connection; calls under way get half a second."""
        await self._channel.close(grace=0.5)


def _name_of(method: object) -> str:
    # The stubs tell their method nowhere else.
    raw = getattr(method, "_method", b"")
    return raw.decode() if isinstance(raw, bytes) else str(raw)
