"""From the frames of a Converse stream to chunks."""

from __future__ import annotations

from typing import Any

import orjson
from botocore.eventstream import EventStreamBuffer, ParserError

from services.gateway.providers.faults import failure_from_frame
from services.gateway.providers.parts import ANTHROPIC_REASONING
from services.gateway.providers.port import UpstreamAttempt
from services.gateway.providers.wire import (
    Json,
    bad_answer,
    choice_chunk,
    count_of,
    json_of,
    usage_chunk,
)

_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
# What an exception inside a stream would have been as a status.
_STATUSES = {
    "validationexception": 400,
    "accessdeniedexception": 403,
    "throttlingexception": 429,
    "internalserverexception": 500,
    "modelstreamerrorexception": 502,
    "serviceunavailableexception": 503,
    "modeltimeoutexception": 504,
}
_FRAME_BYTES_MAX = 16 * 1024 * 1024


class BedrockReader:
    """Keeps which tool call is under way and the thinking of its block."""

    def __init__(self, attempt: UpstreamAttempt) -> None:
        self._attempt = attempt
        self._frames = EventStreamBuffer()
        self._waiting = 0
        self._calls = 0
        self._call: Json | None = None
        self._thought: list[str] = []
        self._signature = ""
        self.complete = False
        self.ended = False

    def feed(self, data: bytes, chunks: list[Any]) -> None:  # Any: JSON
        """See `AnswerReader.feed`."""
        self._waiting += len(data)
        if self._waiting > _FRAME_BYTES_MAX:
            raise bad_answer("the upstream provider sent a frame that is too long")
        try:
            self._frames.add_data(data)
            for frame in self._frames:
                self._waiting = 0
                self._take(frame.headers, frame.payload, chunks)
        except ParserError as error:
            raise bad_answer("the upstream provider sent a broken frame") from error

    def whole(self, body: bytes) -> list[Any]:  # Any: JSON
        """See `AnswerReader.whole`."""
        answer = json_of(body)
        message = (answer.get("output") or {}).get("message") if isinstance(answer, dict) else None
        if not isinstance(message, dict):
            raise bad_answer("the upstream provider answered something that is no message")
        chunks: list[Any] = [choice_chunk({"role": "assistant", "content": ""})]  # Any: JSON
        for block in message.get("content") or ():
            if "toolUse" in block:
                used = block["toolUse"]
                chunks += self._start({"toolUse": used})
                arguments = orjson.dumps(used.get("input") or {}).decode()
                chunks += self._delta({"toolUse": {"input": arguments}})
            elif "reasoningContent" in block:
                inner = block["reasoningContent"]
                chunks += self._delta(
                    {"reasoningContent": {**inner, **(inner.get("reasoningText") or {})}}
                )
            else:
                chunks += self._delta(block)
            chunks += self._stop()
        chunks += self._finish(answer)
        return chunks + self._usage(answer)

    def _take(self, headers: Any, payload: bytes, chunks: list[Any]) -> None:  # Any: JSON
        kind = headers.get(":message-type")
        event = json_of(payload) if payload else {}
        if kind in ("exception", "error"):
            name = str(headers.get(":exception-type") or headers.get(":error-code") or "")
            status = _STATUSES.get(name.lower(), 500)
            message = event.get("message") if isinstance(event, dict) else None
            raise failure_from_frame(
                {"message": message or "", "code": status},
                self._attempt,
                stage="upstream_stream",
                http_status=200,
            )
        if not isinstance(event, dict):
            raise bad_answer("the upstream provider sent an event that is no object")
        match headers.get(":event-type"):
            case "contentBlockDelta":
                chunks += self._delta(event.get("delta") or {})
            case "contentBlockStart":
                chunks += self._start(event.get("start") or {})
            case "contentBlockStop":
                chunks += self._stop()
            case "messageStart":
                chunks.append(choice_chunk({"role": "assistant", "content": ""}))
            case "messageStop":
                chunks += self._finish(event)
            case "metadata":
                chunks += self._usage(event)
                self.complete = self.ended = True
            case _:
                # Whatever the format learns to say later.
                pass

    def _start(self, start: Json) -> list[Json]:
        used = start.get("toolUse")
        if not isinstance(used, dict):
            return []
        self._call = {"index": self._calls}
        function = {"name": used.get("name", ""), "arguments": ""}
        call = {**self._call, "id": used.get("toolUseId"), "type": "function"}
        return [choice_chunk({"tool_calls": [{**call, "function": function}]})]

    def _delta(self, delta: Json) -> list[Json]:
        if isinstance(delta.get("text"), str):
            return [choice_chunk({"content": delta["text"]})]
        if isinstance(delta.get("toolUse"), dict) and self._call is not None:
            text = delta["toolUse"].get("input") or ""
            if not text:
                return []
            self._call["has_arguments"] = True
            call = {"index": self._calls, "function": {"arguments": text}}
            return [choice_chunk({"tool_calls": [call]})]
        inner = delta.get("reasoningContent")
        return self._reasoning(inner) if isinstance(inner, dict) else []

    def _reasoning(self, inner: Json) -> list[Json]:
        self._signature += inner.get("signature") or ""
        if inner.get("redactedContent"):
            return [_detail({"type": "reasoning.encrypted", "data": inner["redactedContent"]})]
        text = inner.get("text") or ""
        if not text:
            return []
        self._thought.append(text)
        return [choice_chunk({"reasoning_content": text})]

    def _stop(self) -> list[Json]:
        chunks: list[Json] = []
        if self._call is not None:
            if not self._call.get("has_arguments"):
                call = {"index": self._calls, "function": {"arguments": "{}"}}
                chunks.append(choice_chunk({"tool_calls": [call]}))
            self._calls += 1
            self._call = None
        if self._thought or self._signature:
            detail: Json = {"type": "reasoning.text", "text": "".join(self._thought)}
            if self._signature:
                detail["signature"] = self._signature
            chunks.append(_detail(detail))
            self._thought, self._signature = [], ""
        return chunks

    def _finish(self, event: Json) -> list[Json]:
        reason = event.get("stopReason")
        return [choice_chunk({}, finish=_FINISH_REASONS.get(str(reason), "stop"))]

    def _usage(self, event: Json) -> list[Json]:
        usage = event.get("usage")
        return [usage_chunk(usage_of(usage))] if isinstance(usage, dict) else []


def usage_of(usage: Json) -> Json:
    """OpenAI's spelling: a prompt of which the cached parts are some."""
    read = count_of(usage, "cacheReadInputTokens")
    written = count_of(usage, "cacheWriteInputTokens")
    prompt = count_of(usage, "inputTokens") + read + written
    completion = count_of(usage, "outputTokens")
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
    }


def _detail(detail: Json) -> Json:
    return choice_chunk({"reasoning_details": [{**detail, "format": ANTHROPIC_REASONING}]})
