"""Requests to providers over pooled aiohttp connections, whatever format they are written in.

Every answer is asked for as a stream, whatever the caller wants, so that there is one path for time
limits, disconnects and metering. Where a provider answers in one piece all the same, that piece is
read as chunks too.
"""

from __future__ import annotations

import asyncio
import io
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import aiohttp

from services.common.errors import GatewayTimeout, ProviderNotAvailable, UpstreamError
from services.gateway.providers.faults import failure_from_status
from services.gateway.providers.port import AttemptFailed, FailureStage, UpstreamAttempt
from services.gateway.providers.wire import AnswerReader, WireFormat

_ERROR_BYTES_MAX = 64 * 1024
_INLINE_BODY_BYTES_MAX = 512 * 1024
_WHOLE_BYTES_MAX = 64 * 1024 * 1024

# The loop itself keeps only weak references to tasks.
_draining: set[asyncio.Task[None]] = set()


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Bounds of the connection pool."""

    connections: int = 1_000
    connections_per_host: int = 500
    keep_alive_s: float = 15.0
    # A kept connection that the provider closed at the same moment fails this soon; the request is
    # sent again once.
    stale_within_s: float = 0.25
    # How long an answer that is at its end may take to end its connection's turn.
    drain_s: float = 1.0


def open_session(limits: PoolLimits) -> aiohttp.ClientSession:
    """The pool: no redirects are followed, no proxies or cookies taken from the environment, TLS is
    verified.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=limits.connections,
            limit_per_host=limits.connections_per_host,
            keepalive_timeout=limits.keep_alive_s,
            ttl_dns_cache=30,
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=True,
        headers={"User-Agent": "mesh-gateway", "Accept-Encoding": "identity"},
        read_bufsize=256 * 1024,
    )


class HttpProvider:
    """A `ChatProvider` that speaks one format. The session belongs to whoever made it."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        wire: WireFormat,
        limits: PoolLimits | None = None,
    ) -> None:
        self._session = session
        self._wire = wire
        self._limits = limits or PoolLimits()

    async def open(self, attempt: UpstreamAttempt) -> HttpStream:
        """Sends the request and waits for the first chunks; see `ChatProvider.open`."""
        limits = attempt.limits
        try:
            async with asyncio.timeout(min(limits.first_byte_s, limits.total_s)):
                response = await self._send(attempt)
                stream = HttpStream(response, attempt, self._wire, drain_s=self._limits.drain_s)
                try:
                    await stream.start()
                except BaseException:
                    stream.abort()
                    raise
                return stream
        except TimeoutError as error:
            # aiohttp's own time-outs are TimeoutErrors too.
            raise _failed(
                GatewayTimeout("the upstream provider took too long to answer")
            ) from error
        except (aiohttp.ClientConnectorError, aiohttp.InvalidURL) as error:
            raise _failed(
                ProviderNotAvailable("the upstream provider cannot be reached")
            ) from error
        except aiohttp.ClientError as error:
            raise _failed(UpstreamError("the connection to the upstream provider broke")) from error

    async def _send(self, attempt: UpstreamAttempt) -> aiohttp.ClientResponse:
        request = self._wire.request(attempt)
        limits = attempt.limits
        timeout = _socket_timeout(limits.connect_s, limits.idle_s)
        started = time.monotonic()
        for again in (True, False):
            try:
                return await self._session.post(
                    request.url,
                    data=_upload(request.body),
                    headers=request.headers,
                    timeout=timeout,
                    allow_redirects=False,
                )
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                refused = isinstance(error, aiohttp.ClientConnectorError)
                late = time.monotonic() - started > self._limits.stale_within_s
                if refused or late or not again:
                    raise
        raise AssertionError("unreachable: the second turn returns or raises")


class HttpStream:
    """One answer: a stream that the format's reader understands, or one JSON body."""

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        attempt: UpstreamAttempt,
        wire: WireFormat,
        *,
        drain_s: float,
    ) -> None:
        self._response = response
        self._attempt = attempt
        self._types = wire.stream_types
        self._reader: AnswerReader = wire.reader(attempt)
        self._drain_s = drain_s
        self._first: list[Any] | None = None  # Any: JSON of chunks
        self._ended = False
        # Found behind chunks of the same read, which are handed out first.
        self._failure: AttemptFailed | None = None

    @property
    def complete(self) -> bool:
        return self._reader.complete

    async def start(self) -> None:
        """Checks the head and reads until the first chunk. Raises AttemptFailed."""
        response = self._response
        if response.status != 200:
            body = b""
            while len(body) < _ERROR_BYTES_MAX and (piece := await response.content.readany()):
                body += piece
            raise failure_from_status(
                response.status, headers=response.headers, body=body, attempt=self._attempt
            )
        kind = response.headers.get("Content-Type", self._types[0]).lower()
        try:
            if "application/json" in kind:
                self._first = self._reader.whole(await self._whole())
                self._ended = self._reader.complete = True
            elif any(known in kind for known in self._types):
                self._first = await self._next()
            else:
                raise self._bad("the upstream provider answered something that is no completion")
        except AttemptFailed as failure:
            raise _at(failure, "upstream_submit") from failure

    async def read(self) -> list[Any] | None:  # Any: JSON, see the port
        if self._first is not None:
            first, self._first = self._first, None
            return first
        try:
            return await self._next()
        except TimeoutError as error:
            late = GatewayTimeout("the upstream provider stopped answering")
            raise AttemptFailed(late, stage="upstream_stream", http_status=200) from error
        except aiohttp.ClientError as error:
            broken = UpstreamError("the connection to the upstream provider broke")
            raise AttemptFailed(broken, stage="upstream_stream", http_status=200) from error

    def abort(self) -> None:
        self._ended = True
        self._response.close()

    def release(self) -> None:
        if self._response.closed or self._response.content.at_eof() or not self.complete:
            self._response.close()
            return
        draining = asyncio.create_task(self._drain())
        _draining.add(draining)
        draining.add_done_callback(_draining.discard)

    async def _drain(self) -> None:
        """Reads the end of an answer that is complete, so that its connection can be used again."""
        try:
            async with asyncio.timeout(self._drain_s):
                while await self._response.content.readany():
                    pass
        except (TimeoutError, aiohttp.ClientError):
            self._response.close()

    async def _next(self) -> list[Any] | None:  # Any: JSON
        if self._failure is not None:
            raise self._failure
        while not self._ended:
            data = await self._response.content.readany()
            if not data:
                self._ended = True
                return None
            chunks: list[Any] = []  # Any: JSON
            try:
                self._reader.feed(data, chunks)
            except AttemptFailed as failure:
                if not chunks:
                    raise
                self._failure = failure
            self._ended = self._reader.ended
            if chunks:
                return chunks
        return None

    async def _whole(self) -> bytes:
        pieces = bytearray()
        while piece := await self._response.content.readany():
            pieces += piece
            if len(pieces) > _WHOLE_BYTES_MAX:
                raise self._bad("the upstream provider's answer is too long")
        return bytes(pieces)

    def _bad(self, message: str) -> AttemptFailed:
        return AttemptFailed(UpstreamError(message), stage="upstream_submit", http_status=200)


def _at(failure: AttemptFailed, stage: FailureStage) -> AttemptFailed:
    """The same failure at the stage at which it was met; the operator's account has its own."""
    if failure.stage != "upstream_stream":
        return failure
    return AttemptFailed(failure.error, stage=stage, http_status=failure.http_status)


@lru_cache(maxsize=256)
def _socket_timeout(connect_s: float, idle_s: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=connect_s, sock_read=idle_s)


def _upload(body: bytes) -> bytes | io.BytesIO:
    """Long bodies are sent piece by piece, so that the loop gets its turns."""
    return body if len(body) <= _INLINE_BODY_BYTES_MAX else io.BytesIO(body)


def _failed(error: UpstreamError) -> AttemptFailed:
    return AttemptFailed(error, stage="upstream_submit")
