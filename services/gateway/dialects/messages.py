"""Anthropic's Messages API: chunks as its events, whole answers as its message, errors in its
envelope.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from services.common.errors import AppError
from services.common.ids import RequestId
from services.gateway.answer import Chunk
from services.gateway.chat_request import Operation
from services.gateway.dialects.chat import named_frame
from services.gateway.dialects.messages_body import chat_body_from_messages
from services.gateway.dialects.port import Json
from services.gateway.envelope import Ending, error_ending, error_object
from services.gateway.ports import KeyPrincipal
from services.gateway.providers.parts import ANTHROPIC_REASONING

_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_ERROR_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class MessagesDialect:
    """One call of `POST /v1/messages`."""

    operation: Operation = "chat"

    def __init__(self) -> None:
        self._started = False
        self._stop_reason: str | None = None
        self._index = -1
        # What the open block is of: text, thinking, or the index of a tool call.
        self._open: str | int | None = None
        # The block of each tool call.
        self._calls: dict[int, int] = {}
        # True from a thinking block's proof on: what is thought afterwards is another block's.
        self._proven = False

    async def chat_body(self, body: Json, _: KeyPrincipal, /) -> Json:
        return chat_body_from_messages(body)

    def frames(self, chunks: Sequence[Chunk]) -> bytes:
        out: list[bytes] = []
        for chunk in chunks:
            if not self._started:
                self._started = True
                out.append(_frame("message_start", message=_message(chunk, [], _usage({}))))
            for choice in chunk["choices"]:
                if choice["index"] == 0:
                    self._take(choice, out)
        return b"".join(out)

    def around_words(self, _: Chunk) -> None:
        """Frames depend on those before them."""

    def last(self, usage_chunk: Chunk) -> bytes:
        out: list[bytes] = []
        if not self._started:
            out.append(_frame("message_start", message=_message(usage_chunk, [], _usage({}))))
        self._close(out)
        delta = {"stop_reason": self._stop_reason or "end_turn", "stop_sequence": None}
        out.append(_frame("message_delta", delta=delta, usage=_usage(usage_chunk["usage"])))
        out.append(_frame("message_stop"))
        return b"".join(out)

    def whole(self, answer: Json) -> bytes:
        choice = answer["choices"][0]
        message = _message(answer, _blocks(choice["message"]), _usage(answer["usage"]))
        message["stop_reason"] = _STOP_REASONS.get(choice["finish_reason"], "end_turn")
        return orjson.dumps(message)

    def refusal(self, error: AppError, request_id: RequestId, /) -> Ending:
        # This API says of a bad body that it is a bad request, whatever is wrong with it.
        status = 400 if error.http_status == 422 else error.http_status
        body = orjson.dumps(_error(error, request_id))
        return Ending(status, body, error_ending(error, request_id).headers)

    def broken(self, error: AppError, request_id: RequestId, /) -> bytes:
        return named_frame("error", _error(error, request_id))

    def _take(self, choice: dict[str, Any], out: list[bytes]) -> None:  # Any: JSON
        delta = choice["delta"]
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(thought, str) and thought:
            if self._proven:
                self._close(out)
            self._open_block("thinking", _thinking(), out)
            out.append(_delta(self._index, "thinking_delta", thinking=thought))
        for proof in _proofs(delta):
            self._take_proof(proof, out)
        said = delta.get("content") or delta.get("refusal")
        if isinstance(said, str) and said:
            self._open_block("text", {"type": "text", "text": ""}, out)
            out.append(_delta(self._index, "text_delta", text=said))
        for call in delta.get("tool_calls", ()):
            self._take_call(call, out)
        if choice["finish_reason"]:
            self._stop_reason = _STOP_REASONS.get(choice["finish_reason"], "end_turn")

    def _take_proof(self, block: Json, out: list[bytes]) -> None:
        """The signature of the thoughts that came before, or a block of hidden ones."""
        if block["type"] == "redacted_thinking":
            self._close(out)
            self._open_block("redacted", block, out)
            self._close(out)
            return
        if self._open != "thinking" or self._proven:
            self._close(out)
            self._open_block("thinking", _thinking(), out)
        out.append(_delta(self._index, "signature_delta", signature=block["signature"]))
        self._proven = True

    def _take_call(self, call: dict[str, Any], out: list[bytes]) -> None:  # Any: JSON
        function = call.get("function") or {}
        index = call["index"]
        if index not in self._calls:
            block: Json = {
                "type": "tool_use",
                "id": call.get("id") or f"toolu_{index}",
                "name": function.get("name") or "",
                "input": {},
            }
            self._open_block(index, block, out)
            self._calls[index] = self._index
        if piece := function.get("arguments"):
            # Calls that come interleaved go on in their own blocks, closed or not.
            out.append(_delta(self._calls[index], "input_json_delta", partial_json=piece))

    def _open_block(self, kind: str | int, block: Json, out: list[bytes]) -> None:
        if self._open == kind:
            return
        self._close(out)
        self._open = kind
        self._index += 1
        out.append(_frame("content_block_start", index=self._index, content_block=block))

    def _close(self, out: list[bytes]) -> None:
        if self._open is not None:
            out.append(_frame("content_block_stop", index=self._index))
        self._open, self._proven = None, False


def _frame(kind: str, **facts: Any) -> bytes:  # Any: JSON
    return named_frame(kind, {"type": kind, **facts})


def _delta(index: int, kind: str, **facts: str) -> bytes:
    return _frame("content_block_delta", index=index, delta={"type": kind, **facts})


def _message(answer: Json, blocks: list[Json], usage: Json) -> Json:
    return {
        "id": "msg_" + str(answer["id"]).removeprefix("chatcmpl-"),
        "type": "message",
        "role": "assistant",
        "model": answer["model"],
        "content": blocks,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }


def _blocks(message: Json) -> list[Json]:
    blocks = _proofs(message)
    thought = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thought, str) and thought and not any(block.get("thinking") for block in blocks):
        if not blocks or blocks[0]["type"] != "thinking":
            blocks.insert(0, _thinking())
        blocks[0]["thinking"] = thought
    said = message.get("content") or message.get("refusal")
    if isinstance(said, str) and said:
        blocks.append({"type": "text", "text": said})
    for call in message.get("tool_calls", ()):
        function = call["function"]
        blocks.append(
            {
                "type": "tool_use",
                "id": call["id"],
                "name": function["name"],
                "input": _arguments(function["arguments"]),
            }
        )
    return blocks


def _thinking(thought: str = "") -> Json:
    """A thinking block without proof: clients insist on the field, and only Claude proves."""
    return {"type": "thinking", "thinking": thought, "signature": ""}


def _proofs(message: Json) -> list[Json]:
    """What Claude wants back unchanged in the next turn, as blocks: thoughts with their signature,
    hidden thoughts. What other providers prove is in formats of their own.
    """
    blocks: list[Json] = []
    for detail in message.get("reasoning_details") or ():
        match detail:
            case {"format": form} if form != ANTHROPIC_REASONING:
                pass
            case {"type": "reasoning.text", "signature": str(proof)} if proof:
                blocks.append({**_thinking(detail.get("text") or ""), "signature": proof})
            case {"type": "reasoning.encrypted", "data": str(data)}:
                blocks.append({"type": "redacted_thinking", "data": data})
    return blocks


def _arguments(written: str) -> Json:
    """A model may write arguments that are no JSON; this format has no room for those."""
    try:
        arguments = orjson.loads(written or "{}")
    except orjson.JSONDecodeError:
        return {}
    return arguments if isinstance(arguments, dict) else {}


def _usage(usage: Json) -> Json:
    """Prompt tokens without those read from or written to a cache, which this format counts
    beside them.
    """
    details = usage.get("prompt_tokens_details", {})
    read, written = details.get("cached_tokens", 0), details.get("cache_write_tokens", 0)
    return {
        "input_tokens": usage.get("prompt_tokens", 0) - read - written,
        "output_tokens": usage.get("completion_tokens", 0),
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
    }


def _error(error: AppError, request_id: RequestId, /) -> Json:
    status = 400 if error.http_status == 422 else error.http_status
    fallback = "invalid_request_error" if status < 500 else "api_error"
    shown = {**error_object(error), "type": _ERROR_TYPES.get(status, fallback)}
    return {"type": "error", "error": shown, "request_id": request_id}
