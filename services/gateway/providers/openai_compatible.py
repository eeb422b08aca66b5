"""Providers that speak OpenAI's chat completions, over pooled aiohttp connections.

Every answer is asked for as a stream with usage, whatever the caller wants, so that there is one
path for time limits, disconnects and metering. Where a provider answers in one piece all the same,
that piece is one chunk.
"""

from __future__ import annotations

import asyncio
import io
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import aiohttp
import orjson
from yarl import URL

from services.common.errors import GatewayTimeout, ProviderNotAvailable, UpstreamError
from services.gateway.chat_request import Operation
from services.gateway.providers.faults import failure_from_frame, failure_from_status
from services.gateway.providers.port import AttemptFailed, FailureStage, UpstreamAttempt
from services.gateway.providers.sse import EventTooLong, SseDecoder

_ERROR_BYTES_MAX = 64 * 1024
_INLINE_BODY_BYTES_MAX = 512 * 1024
_WHOLE_BYTES_MAX = 64 * 1024 * 1024
_MESSAGE_FIELDS = frozenset({"role", "content", "name", "tool_call_id", "tool_calls"})


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


class OpenAiCompatible:
    """The adapter. The session belongs to whoever made it."""

    def __init__(self, session: aiohttp.ClientSession, limits: PoolLimits | None = None) -> None:
        self._session = session
        self._limits = limits or PoolLimits()

    async def open(self, attempt: UpstreamAttempt) -> OpenAiStream:
        """Sends the request and waits for the first chunks; see `ChatProvider.open`."""
        limits = attempt.limits
        try:
            async with asyncio.timeout(min(limits.first_byte_s, limits.total_s)):
                response = await self._send(attempt)
                stream = OpenAiStream(response, attempt, self._limits.drain_s)
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
        url = operation_url(attempt.provider.base_url, attempt.operation)
        body = orjson.dumps(payload_of(attempt))
        headers = {
            "Content-Type": "application/json",
            "Accept": "text/event-stream" if attempt.stream else "application/json",
        }
        if attempt.provider.credential:
            headers["Authorization"] = f"Bearer {attempt.provider.credential}"
        limits = attempt.limits
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=limits.connect_s, sock_read=limits.idle_s
        )
        started = time.monotonic()
        for again in (True, False):
            try:
                return await self._session.post(
                    url, data=_upload(body), headers=headers, timeout=timeout, allow_redirects=False
                )
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                refused = isinstance(error, aiohttp.ClientConnectorError)
                late = time.monotonic() - started > self._limits.stale_within_s
                if refused or late or not again:
                    raise
        raise AssertionError("unreachable: the second turn returns or raises")


class OpenAiStream:
    """One answer: server-sent events, or one JSON object that stands for a single chunk."""

    def __init__(
        self, response: aiohttp.ClientResponse, attempt: UpstreamAttempt, drain_s: float
    ) -> None:
        self._response = response
        self._attempt = attempt
        self._drain_s = drain_s
        self._decoder = SseDecoder()
        self._first: list[Any] | None = None  # Any: JSON of chunks
        self._ended = False
        # Found behind chunks of the same read, which are handed out first.
        self._failure: AttemptFailed | None = None
        self.complete = False

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
        kind = response.headers.get("Content-Type", "text/event-stream").lower()
        if "application/json" in kind:
            self._first = [await self._whole()]
            self._ended = self.complete = True
        elif "event-stream" in kind:
            self._first = await self._next("upstream_submit")
        else:
            raise self._bad("the upstream provider answered something that is no completion")

    async def read(self) -> list[Any] | None:  # Any: JSON, see the port
        if self._first is not None:
            first, self._first = self._first, None
            return first
        try:
            return await self._next("upstream_stream")
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

    async def _next(self, stage: FailureStage) -> list[Any] | None:  # Any: JSON
        if self._failure is not None:
            raise self._failure
        while not self._ended:
            data = await self._response.content.readany()
            if not data:
                self._ended = True
                return None
            chunks: list[Any] = []  # Any: JSON
            try:
                self._parse(data, stage, chunks)
            except AttemptFailed as failure:
                if not chunks:
                    raise
                self._failure = AttemptFailed(
                    failure.error, stage="upstream_stream", http_status=failure.http_status
                )
            if chunks:
                return chunks
        return None

    def _parse(self, data: bytes, stage: FailureStage, chunks: list[Any]) -> None:  # Any: JSON
        """Adds what `data` completes to `chunks`; raises AttemptFailed where something is wrong
        behind them.
        """
        try:
            events = self._decoder.feed(data)
            for event in events:
                if event == b"[DONE]":
                    self.complete = self._ended = True
                    return
                chunk = orjson.loads(event)
                if isinstance(chunk, dict) and chunk.get("error") is not None:
                    raise failure_from_frame(
                        chunk["error"], self._attempt, stage=stage, http_status=200
                    )
                chunks.append(chunk)
        except EventTooLong as error:
            raise AttemptFailed(error, stage=stage, http_status=200) from error
        except orjson.JSONDecodeError as error:
            bad = UpstreamError("the upstream provider sent a chunk that is not JSON")
            raise AttemptFailed(bad, stage=stage, http_status=200) from error

    async def _whole(self) -> Any:  # Any: JSON
        pieces = bytearray()
        while piece := await self._response.content.readany():
            pieces += piece
            if len(pieces) > _WHOLE_BYTES_MAX:
                raise self._bad("the upstream provider's answer is too long")
        try:
            answer = orjson.loads(pieces)
        except orjson.JSONDecodeError as error:
            raise self._bad("the upstream provider's answer is not JSON") from error
        if isinstance(answer, dict) and answer.get("error") is not None:
            raise failure_from_frame(
                answer["error"], self._attempt, stage="upstream_submit", http_status=200
            )
        return answer

    def _bad(self, message: str) -> AttemptFailed:
        return AttemptFailed(UpstreamError(message), stage="upstream_submit", http_status=200)


def payload_of(attempt: UpstreamAttempt) -> dict[str, Any]:  # Any: JSON
    """What is sent: the caller's parameters under the provider's name of the model."""
    if attempt.operation != "chat":
        return {**attempt.payload, "model": attempt.model.upstream_model}
    payload = {
        **attempt.payload,
        "model": attempt.model.upstream_model,
        "messages": [_message(message) for message in attempt.payload["messages"]],
        "stream": attempt.stream,
    }
    if attempt.stream:
        payload["stream_options"] = {"include_usage": True}
    if attempt.output_tokens_max is not None:
        # Reasoning models refuse the older name.
        reasoning = attempt.model.capabilities.reasoning
        payload["max_completion_tokens" if reasoning else "max_tokens"] = attempt.output_tokens_max
    return payload


@lru_cache(maxsize=1024)
def operation_url(base_url: str, operation: Operation) -> URL:
    """The route under a base address; an address without a path means the one under `/v1`."""
    base = URL(base_url.rstrip("/"))
    root = base / "v1" if base.path in ("", "/") else base
    return root / "chat" / "completions" if operation == "chat" else root / operation


def _message(message: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
    """The message without what only other kinds of providers understand."""
    if not message.keys() <= _MESSAGE_FIELDS:
        message = {name: value for name, value in message.items() if name in _MESSAGE_FIELDS}
    calls = message.get("tool_calls")
    if calls and any("thought_signature" in call or "type" not in call for call in calls):
        plain = [
            {"id": call["id"], "type": "function", "function": call["function"]} for call in calls
        ]
        message = {**message, "tool_calls": plain}
    return message


def _upload(body: bytes) -> bytes | io.BytesIO:
    """Long bodies are sent piece by piece, so that the loop gets its turns."""
    return body if len(body) <= _INLINE_BODY_BYTES_MAX else io.BytesIO(body)


def _failed(error: UpstreamError) -> AttemptFailed:
    return AttemptFailed(error, stage="upstream_submit")
