"""The lane of POST /v1/chat/completions: from ASGI messages to the pipeline and back, past the
framework. Routes in other formats come to it through the framework (`dialect_routes.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from services.common.clock import Clock
from services.common.errors import AppError, BadRequest
from services.common.ids import RequestId
from services.common.telemetry import span_from
from services.gateway.calls import ChatCall
from services.gateway.dialects.chat import CHAT
from services.gateway.dialects.port import Dialect
from services.gateway.entrypoints.asgi import HeaderList, Receive, Send, send_whole
from services.gateway.entrypoints.head import RequestHead
from services.gateway.envelope import Ending, rate_limit_headers
from services.gateway.errors import ClientGone, PayloadTooLarge
from services.gateway.interrupt import Interrupt, InterruptGroup
from services.gateway.pipeline import ChatPipeline
from services.gateway.ports import QuotaMeter
from services.gateway.usage_entry import UsageEntry

ROUTE = "/v1/chat/completions"
Seal = Callable[[UsageEntry, Ending], Awaitable[None]]
ReadBody = Callable[[], Awaitable[bytes | bytearray]]
_STREAM_HEADERS: HeaderList = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class LaneReply:
    """The caller's end of the pipeline."""

    __slots__ = ("_begun", "_headers", "_send", "status")

    def __init__(self, send: Send, headers: HeaderList) -> None:
        self._send = send
        self._headers = headers
        self._begun = False
        self.status = 0

    def announce(self, meters: Sequence[QuotaMeter]) -> None:
        # The list belongs to the head; it is made new where something is added.
        self.add_headers(rate_limit_headers(meters))

    def add_headers(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        # What is said again, of another attempt say, takes the place of what was said before.
        said = {name for name, _ in headers}
        self._headers = [*(h for h in self._headers if h[0] not in said), *headers]

    async def begin_stream(self) -> None:
        self._begun = True
        self.status = 200
        headers = [*_STREAM_HEADERS, *self._headers]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def write(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self, ending: Ending) -> None:
        if self._begun:
            await self._send({"type": "http.response.body", "body": ending.body})
        else:
            self.status = ending.status
            await send_whole(self._send, ending, self._headers)


class BodyReader:
    """Reads one body within its bounds, then watches for the caller's hanging up."""

    def __init__(
        self, receive: Receive, head: RequestHead, *, bytes_max: int, timeout_s: float
    ) -> None:
        self._receive = receive
        self._head = head
        self._bytes_max = bytes_max
        self._timeout_s = timeout_s
        self._read: bytes | bytearray | AppError | None = None
        self.interrupt: Interrupt | InterruptGroup = Interrupt()

    async def read(self) -> bytes | bytearray:
        """The whole body, again and again. Raises PayloadTooLarge, BadRequest where it is late,
        ClientGone.
        """
        if self._read is None:
            try:
                self._read = await self._read_once()
            except AppError as fault:
                self._read = fault
        if isinstance(self._read, AppError):
            raise self._read
        return self._read

    async def _read_once(self) -> bytes | bytearray:
        if self._head.content_length > self._bytes_max:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._timeout_s):
                body = await self._gather()
        except TimeoutError as error:
            raise BadRequest("the body did not arrive in time") from error
        # No turn of the loop lies between the last piece and this.
        self._head.hang_up.watch(self._hung_up)
        return body

    def stop(self) -> None:
        """Ends the watch."""
        self._head.hang_up.watch(None)

    async def _gather(self) -> bytes | bytearray:
        body: bytes | bytearray = b""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone("the caller hung up while sending")
            piece: bytes = message.get("body", b"")
            if len(body) + len(piece) > self._bytes_max:
                raise self._too_large()
            more = message.get("more_body", False)
            if not body and not more:
                return piece
            body = bytearray(body) if isinstance(body, bytes) else body
            body += piece
            if not more:
                return body

    def _hung_up(self) -> None:
        self.interrupt.trigger()

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(f"the body is larger than {self._bytes_max} bytes")


class ChatLane:
    """The lane over one pipeline."""

    def __init__(
        self, pipeline: ChatPipeline, clock: Clock, *, body_bytes_max: int, body_timeout_s: float
    ) -> None:
        self.pipeline = pipeline
        self._clock = clock
        self._body_bytes_max = body_bytes_max
        self._body_timeout_s = body_timeout_s

    def reader(self, head: RequestHead, receive: Receive) -> BodyReader:
        """Reads a body within the lane's bounds. `stop` it afterwards."""
        return BodyReader(
            receive, head, bytes_max=self._body_bytes_max, timeout_s=self._body_timeout_s
        )

    def call(
        self,
        head: RequestHead,
        route: str,
        read_body: ReadBody,
        *,
        dialect: Dialect = CHAT,
        seal: Seal | None = None,
    ) -> ChatCall:
        """The call as it has just arrived."""
        return ChatCall(
            request_id=RequestId(head.request_id),
            route=route,
            authorization=head.authorization,
            received_at_ms=self._clock.now_ms(),
            received_s=self._clock.monotonic_s(),
            read_body=read_body,
            dialect=dialect,
            weight_profile=head.weight_profile,
            cache_bypass=head.cache_bypass,
            seal=seal,
        )

    async def serve(
        self,
        head: RequestHead,
        receive: Receive,
        send: Send,
        *,
        dialect: Dialect = CHAT,
        route: str = ROUTE,
        stamped: bool = False,
        reader: BodyReader | None = None,
        seal: Seal | None = None,
    ) -> int:
        """Answers one request; returns the status that was sent. `stamped`: whoever sends adds what
        every answer carries.
        """
        reply = LaneReply(send, [] if stamped else head.answer_headers)
        body = reader or self.reader(head, receive)
        interrupt = Interrupt()
        interrupt.triggered = body.interrupt.triggered
        body.interrupt = interrupt
        call = self.call(head, route, body.read, dialect=dialect, seal=seal)
        with span_from(head.traceparent, "POST " + route) as trace:
            trace.set("mesh.request_id", head.request_id)
            try:
                entry = await self.pipeline.serve(call, reply, interrupt=interrupt, trace=trace)
                trace.set("mesh.usage_id", entry.usage_id)
            except AppError as error:
                await reply.finish(dialect.refusal(error, head.request_id))
            finally:
                body.stop()
            trace.set("http.response.status_code", reply.status)
        return reply.status
