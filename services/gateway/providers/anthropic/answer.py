"""From the events of a Messages stream to chunks."""

from __future__ import annotations

from typing import Any

import orjson

from services.gateway.providers.faults import failure_from_frame
from services.gateway.providers.parts import ANTHROPIC_REASONING
from services.gateway.providers.port import UpstreamAttempt
from services.gateway.providers.sse import SseDecoder
from services.gateway.providers.wire import (
    Json,
    bad_answer,
    choice_chunk,
    count_of,
    json_of,
    sse_events,
    usage_chunk,
)

_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
# What an error inside a stream would have been as a status.
_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


class AnthropicReader:
    """Keeps the block under way, which tool call it is, and the counts of the prompt."""

    def __init__(self, attempt: UpstreamAttempt) -> None:
        self._attempt = attempt
        self._decoder = SseDecoder()
        self._usage: Json = {}
        self._calls = 0
        self._block: Json = {}
        # Pieces of the block's thinking, and whether its arguments had any.
        self._thought: list[str] = []
        self._signature = ""
        self._has_arguments = False
        self.complete = False
        self.ended = False

    def feed(self, data: bytes, chunks: list[Any]) -> None:  # Any: JSON
        """See `AnswerReader.feed`."""
        for raw in sse_events(self._decoder, data):
            event = json_of(raw)
            if not isinstance(event, dict):
                raise bad_answer("the upstream provider sent an event that is no object")
            chunks += self._take(event)

    def whole(self, body: bytes) -> list[Any]:  # Any: JSON
        """See `AnswerReader.whole`."""
        message = json_of(body)
        if not isinstance(message, dict) or not isinstance(message.get("content"), list):
            self._refuse_error(message)
            raise bad_answer("the upstream provider answered something that is no message")
        chunks: list[Any] = self._take({"type": "message_start", "message": message})
        for block in message["content"]:
            chunks += self._begin({**block, "text": ""})
            if block.get("type") == "text":
                chunks += self._delta({**block, "type": "text_delta"})
            if block.get("type") == "thinking":
                chunks += self._delta({**block, "type": "thinking_delta"})
                chunks += self._delta({**block, "type": "signature_delta"})
            chunks += self._end()
        return chunks + self._finish({"delta": message, "usage": message.get("usage")})

    def _take(self, event: Json) -> list[Json]:
        match event.get("type"):
            case "content_block_delta":
                return self._delta(event.get("delta") or {})
            case "content_block_start":
                return self._begin(event.get("content_block") or {})
            case "content_block_stop":
                return self._end()
            case "message_start":
                message = event.get("message") or {}
                self._usage = message.get("usage") or {}
                return [choice_chunk({"role": "assistant", "content": ""})]
            case "message_delta":
                return self._finish(event)
            case "message_stop":
                self.complete = self.ended = True
                return []
            case "error":
                self._refuse_error(event)
                raise bad_answer("the upstream provider sent an error without words")
            case _:
                # Pings, and whatever the format learns to say later.
                return []

    def _begin(self, block: Json) -> list[Json]:
        self._block, self._thought, self._signature = block, [], ""
        self._has_arguments = False
        if block.get("type") == "text" and block.get("text"):
            return [choice_chunk({"content": block["text"]})]
        if block.get("type") == "tool_use":
            function = {"name": block.get("name", ""), "arguments": ""}
            call = {"index": self._calls, "id": block.get("id"), "type": "function"}
            return [choice_chunk({"tool_calls": [{**call, "function": function}]})]
        return []

    def _delta(self, delta: Json) -> list[Json]:
        match delta.get("type"):
            case "text_delta":
                return [choice_chunk({"content": delta.get("text") or ""})]
            case "thinking_delta":
                text = delta.get("thinking") or ""
                self._thought.append(text)
                return [choice_chunk({"reasoning_content": text})] if text else []
            case "signature_delta":
                self._signature += delta.get("signature") or ""
                return []
            case "input_json_delta":
                return self._arguments(delta.get("partial_json") or "")
            case _:
                return []

    def _arguments(self, text: str) -> list[Json]:
        if not text:
            return []
        self._has_arguments = True
        call = {"index": self._calls, "function": {"arguments": text}}
        return [choice_chunk({"tool_calls": [call]})]

    def _end(self) -> list[Json]:
        chunks: list[Json] = []
        match self._block.get("type"):
            case "thinking":
                detail: Json = {"type": "reasoning.text", "text": "".join(self._thought)}
                if self._signature:
                    detail["signature"] = self._signature
                chunks = [_reasoning(detail)]
            case "redacted_thinking":
                data = self._block.get("data", "")
                chunks = [_reasoning({"type": "reasoning.encrypted", "data": data})]
            case "tool_use":
                if not self._has_arguments:
                    chunks = self._arguments(orjson.dumps(self._block.get("input") or {}).decode())
                self._calls += 1
        self._block = {}
        return chunks

    def _finish(self, event: Json) -> list[Json]:
        """The stop reason and what was used: the counts of a stream's start are the prompt's, those
        of its end are of all that was answered.
        """
        usage = {**self._usage, **(event.get("usage") or {})}
        reason = (event.get("delta") or {}).get("stop_reason")
        finish = _FINISH_REASONS.get(reason, "stop") if reason else None
        chunks = [choice_chunk({}, finish=finish)] if finish else []
        return [*chunks, usage_chunk(usage_of(usage))] if usage else chunks

    def _refuse_error(self, event: Any) -> None:  # Any: JSON
        """Raises the failure that an error event means, where it is one."""
        error = event.get("error") if isinstance(event, dict) else None
        if not isinstance(error, dict):
            return
        status = _STATUSES.get(str(error.get("type")), 500)
        said = {"message": error.get("message"), "code": status}
        raise failure_from_frame(said, self._attempt, stage="upstream_stream", http_status=200)


def usage_of(usage: Json) -> Json:
    """OpenAI's spelling: a prompt of which the cached parts are some."""
    read = count_of(usage, "cache_read_input_tokens")
    written = count_of(usage, "cache_creation_input_tokens")
    prompt = count_of(usage, "input_tokens") + read + written
    completion = count_of(usage, "output_tokens")
    thought = count_of(usage.get("output_tokens_details"), "thinking_tokens")
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
        "completion_tokens_details": {"reasoning_tokens": thought},
    }


def _reasoning(detail: Json) -> Json:
    return choice_chunk({"reasoning_details": [{**detail, "format": ANTHROPIC_REASONING}]})
