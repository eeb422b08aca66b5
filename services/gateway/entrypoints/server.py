"""The listening side: uvicorn on a shared port, its HTTP parser bounded, its signals left to the
process.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator
from typing import ClassVar

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from services.common.config import HostPort
from services.common.errors import BadRequest
from services.gateway.entrypoints.asgi import HANG_UP, App, HangUp
from services.gateway.envelope import BASELINE_VERSION, error_ending, request_id_from

_HEAD = b"HTTP/1."


class HeadWithBody(asyncio.Transport):
    """A connection that sends the head of an answer together with what follows it in the same turn
    of the loop: one packet and one system call less for every answer.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._head = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head + data)
        elif bytes(data[: len(_HEAD)]) == _HEAD:
            self._head = bytes(data)
            self._loop.call_soon(self._send_head)
        else:
            self._transport.write(data)

    def close(self) -> None:
        self._send_head()
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self._transport.get_extra_info(name, default)

    def _send_head(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a bound on the head of a request, errors in the envelope, and a way
    to tell that the caller has hung up.
    """

    head_bytes_max: ClassVar[int] = 64 * 1024
    _head_bytes = 0
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(HeadWithBody(transport, self.loop))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.cycle is not None and self.cycle.disconnected:
            hang_up: HangUp = self.cycle.scope[HANG_UP]  # type: ignore[literal-required]  # ours
            hang_up.tell()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > self.head_bytes_max and not self.transport.is_closing():
                self.send_400_response("the head of the request is too large")

    def on_message_begin(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        size = sum(len(name) + len(value) for name, value in self.headers) + len(self.url)
        if size > self.head_bytes_max:
            # The parser turns this into the 400 below.
            raise ValueError("the head of the request is too large")
        self.scope[HANG_UP] = HangUp()  # type: ignore[literal-required]  # ours
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        request_id = request_id_from(None)
        ending = error_ending(BadRequest(msg), request_id)
        head = (
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
            b"connection: close\r\nx-request-id: %s\r\nx-mesh-version: %s\r\n"
            b"content-length: %d\r\n\r\n"
        )
        version = BASELINE_VERSION.encode()
        self.transport.write(head % (request_id.encode(), version, len(ending.body)) + ending.body)
        self.transport.close()


class _Server(uvicorn.Server):
    """uvicorn without a mind of its own about signals."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepting = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.accepting.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def shared_socket(listen: HostPort) -> socket.socket:
    """A bound socket whose port other workers may bind too. Raises OSError."""
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((listen.host, listen.port))
    except BaseException:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


class PublicServer:
    """Serves one ASGI application until it is stopped."""

    def __init__(
        self,
        app: App,
        listen: HostPort,
        *,
        backlog: int,
        header_bytes_max: int,
        keep_alive_s: int,
        grace_s: float,
    ) -> None:
        self._listen = listen
        protocol = type(
            "ConfiguredProtocol", (BoundedProtocol,), {"head_bytes_max": header_bytes_max}
        )
        self._grace_s = grace_s
        self._server = _Server(
            uvicorn.Config(
                app,
                http=protocol,
                ws="none",
                lifespan="off",
                loop="none",
                access_log=False,
                # Nothing here asks who the caller's machine is, or by which scheme it came.
                proxy_headers=False,
                log_config=None,
                server_header=False,
                backlog=backlog,
                timeout_keep_alive=keep_alive_s,
                timeout_graceful_shutdown=max(1, round(grace_s)),
            )
        )
        self._task: asyncio.Task[None] | None = None
        self.port = 0

    async def start(self) -> None:
        """Binds and accepts. Raises OSError where the address cannot be had."""
        sock = shared_socket(self._listen)
        self.port = sock.getsockname()[1]
        self._task = asyncio.create_task(self._server.serve(sockets=[sock]))
        accepting = asyncio.create_task(self._server.accepting.wait())
        await asyncio.wait((accepting, self._task), return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            accepting.cancel()
            await self._task

    @property
    def accepting(self) -> bool:
        """True while new connections are taken."""
        listening = self._server.servers if self._server.started else []
        return any(server.is_serving() for server in listening)

    async def run(self) -> None:
        """Returns when the server has ended."""
        assert self._task is not None
        await asyncio.shield(self._task)

    async def stop(self) -> None:
        """Accepts no more; what is under way may finish within the grace period."""
        if self._task is None:
            return
        self._server.should_exit = True
        await self._task
        tasks = list(self._server.server_state.tasks)
        if tasks:
            # Cancelled requests still settle.
            await asyncio.wait(tasks, timeout=self._grace_s)
