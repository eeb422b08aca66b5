"""OpenAI's chat completions, as OpenAI and all who took it over speak them, and as Azure does."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import orjson
from yarl import URL

from services.gateway.chat_request import Operation
from services.gateway.providers.faults import failure_from_frame
from services.gateway.providers.port import UpstreamAttempt
from services.gateway.providers.sse import SseDecoder
from services.gateway.providers.wire import Json, WireRequest, json_of, sse_events

_MESSAGE_FIELDS = frozenset({"role", "content", "name", "tool_call_id", "tool_calls"})
# Parameters of ours that are spelt otherwise, or not at all, in this format.
_NOT_SENT = frozenset({"reasoning_budget"})


class OpenAiFormat:
    """`POST .../chat/completions` with a bearer token."""

    stream_types = ("event-stream",)

    def request(self, attempt: UpstreamAttempt) -> WireRequest:
        """See `WireFormat.request`."""
        headers = json_headers(attempt.stream)
        if attempt.provider.credential:
            headers["Authorization"] = f"Bearer {attempt.provider.credential}"
        url = operation_url(attempt.provider.base_url, attempt.operation)
        return WireRequest(url, orjson.dumps(payload_of(attempt)), headers)

    def reader(self, attempt: UpstreamAttempt) -> OpenAiReader:
        """See `WireFormat.reader`."""
        return OpenAiReader(attempt)


class AzureOpenAiFormat(OpenAiFormat):
    """The same at a resource of Azure's: the key in a header of its own, and, where the provider
    has an API version, the deployment in the path.
    """

    def request(self, attempt: UpstreamAttempt) -> WireRequest:
        """See `WireFormat.request`."""
        headers = json_headers(attempt.stream)
        if attempt.provider.credential:
            headers["api-key"] = attempt.provider.credential
        url = azure_url(
            attempt.provider.base_url,
            attempt.model.upstream_model,
            attempt.provider.api_version,
            operation=attempt.operation,
        )
        return WireRequest(url, orjson.dumps(payload_of(attempt)), headers)


class OpenAiReader:
    """Server-sent events of chunks until `[DONE]`; one JSON object stands for a single chunk."""

    def __init__(self, attempt: UpstreamAttempt) -> None:
        self._attempt = attempt
        self._decoder = SseDecoder()
        self.complete = False
        self.ended = False

    def feed(self, data: bytes, chunks: list[Any]) -> None:  # Any: JSON
        """See `AnswerReader.feed`."""
        for event in sse_events(self._decoder, data):
            if event == b"[DONE]":
                self.complete = self.ended = True
                return
            chunk = json_of(event)
            if type(chunk) is dict and "error" in chunk:
                self._checked(chunk)
            chunks.append(chunk)

    def whole(self, body: bytes) -> list[Any]:  # Any: JSON
        """See `AnswerReader.whole`."""
        return [self._checked(json_of(body))]

    def _checked(self, chunk: Any) -> Any:  # Any: JSON
        if isinstance(chunk, dict) and chunk.get("error") is not None:
            raise failure_from_frame(
                chunk["error"], self._attempt, stage="upstream_stream", http_status=200
            )
        return chunk


def payload_of(attempt: UpstreamAttempt) -> Json:
    """What is sent: the caller's parameters under the provider's name of the model."""
    if attempt.operation != "chat":
        return {**attempt.payload, "model": attempt.model.upstream_model}
    payload = {
        **attempt.payload,
        "model": attempt.model.upstream_model,
        "messages": [_message(message) for message in attempt.payload["messages"]],
        "stream": attempt.stream,
    }
    for name in _NOT_SENT & payload.keys():
        del payload[name]
    if attempt.stream:
        payload["stream_options"] = {"include_usage": True}
    if attempt.output_tokens_max is not None:
        # Reasoning models refuse the older name.
        reasoning = attempt.model.capabilities.reasoning
        payload["max_completion_tokens" if reasoning else "max_tokens"] = attempt.output_tokens_max
    return payload


def json_headers(stream: bool = True) -> dict[str, str]:
    """The headers of every request with a JSON body and an SSE answer."""
    return {
        "Content-Type": "application/json",
        "Accept": "text/event-stream" if stream else "application/json",
    }


@lru_cache(maxsize=1024)
def operation_url(base_url: str, operation: Operation) -> URL:
    """The route under a base address; an address without a path means the one under `/v1`."""
    base = URL(base_url.rstrip("/"))
    root = base / "v1" if base.path in ("", "/") else base
    return _route(root, operation)


@lru_cache(maxsize=1024)
def azure_url(base_url: str, deployment: str, api_version: str, *, operation: Operation) -> URL:
    """The dated route of a deployment, or without a date the one that names it in the body."""
    root = URL(base_url.rstrip("/")) / "openai"
    if not api_version:
        return _route(root / "v1", operation)
    url = _route(root / "deployments" / deployment, operation)
    return url.with_query({"api-version": api_version})


def _route(root: URL, operation: Operation) -> URL:
    return root / "chat" / "completions" if operation == "chat" else root / operation


def _message(message: Json) -> Json:
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
