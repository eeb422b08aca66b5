"""OpenAI's Responses API: chunks as `response.*` events, whole answers as response objects."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson

from services.common.errors import AppError
from services.common.ids import RequestId
from services.gateway.answer import AnswerFold, Chunk
from services.gateway.chat_request import Operation
from services.gateway.dialects.chat import frame, named_frame
from services.gateway.dialects.port import Json
from services.gateway.dialects.responses_body import chat_body_from_responses
from services.gateway.dialects.responses_object import (
    call_item,
    output_items,
    reasoning_item,
    response_object,
    status_of,
    text_item,
    text_part,
    usage_object,
)
from services.gateway.envelope import DONE_FRAME, Ending, error_ending, error_object
from services.gateway.ports import KeyPrincipal

# The messages that a stored response stands at the end of, for its owner.
Recall = Callable[[str, KeyPrincipal], Awaitable[list[Json]]]


class ResponsesDialect:
    """One call of `POST /v1/responses`. `response` is the finished object, once there is one."""

    operation: Operation = "chat"

    def __init__(self, response_id: str, recall: Recall) -> None:
        self.response_id = response_id
        self._recall = recall
        self.body: Json = {}
        self._fold = AnswerFold()
        self._events = _Events(response_id)
        self._begun = False
        # The conversation up to this response's answer.
        self.messages: list[Json] = []
        self.response: Json | None = None

    async def chat_body(self, body: Json, caller: KeyPrincipal, /) -> Json:
        self.body = body
        previous = body.get("previous_response_id")
        before = await self._recall(previous, caller) if isinstance(previous, str) else []
        chat = chat_body_from_responses(body, before)
        self.messages = [m for m in chat["messages"] if m["role"] != "system"]
        return chat

    def frames(self, chunks: Sequence[Chunk]) -> bytes:
        out: list[bytes] = []
        for chunk in chunks:
            self._begin(chunk, out)
            self._fold.add(chunk)
            for choice in chunk["choices"]:
                if choice["index"] == 0:
                    self._events.take(choice["delta"], out)
        return b"".join(out)

    def around_words(self, _: Chunk) -> None:
        """Frames depend on those before them."""

    def last(self, usage_chunk: Chunk) -> bytes:
        out: list[bytes] = []
        self._begin(usage_chunk, out)
        answer = self._fold.whole(usage_chunk["usage"]) if self._events.any else None
        output = self._events.close(out)
        reason = answer["choices"][0]["finish_reason"] if answer else "stop"
        status = status_of(reason)
        self.response = self._object(
            usage_chunk, status, output=output, usage=usage_object(usage_chunk["usage"])
        )
        out.append(self._events.event(f"response.{status}", response=self.response))
        return b"".join(out) + DONE_FRAME

    def whole(self, answer: Json) -> bytes:
        choice = answer["choices"][0]
        self.response = self._object(
            answer,
            status_of(choice["finish_reason"]),
            output=output_items(self.response_id, choice["message"]),
            usage=usage_object(answer["usage"]),
        )
        self.response.update({name: answer[name] for name in answer if name.startswith("x_")})
        return orjson.dumps(self.response)

    def refusal(self, error: AppError, request_id: RequestId, /) -> Ending:
        return error_ending(error, request_id)

    def broken(self, error: AppError, request_id: RequestId, /) -> bytes:
        shown = error_object(error)
        event = {
            "type": "error",
            "code": shown["code"],
            "message": shown["message"],
            "param": None,
            "sequence_number": self._events.number,
            "error": shown,
            "request_id": request_id,
        }
        return frame(event) + DONE_FRAME

    def _begin(self, chunk: Chunk, out: list[bytes]) -> None:
        if not self._begun:
            self._begun = True
            opened = self._object(chunk, "in_progress")
            for kind in ("response.created", "response.in_progress"):
                out.append(self._events.event(kind, response=opened))

    def _object(
        self,
        answer: Json,
        status: str,
        *,
        output: list[Json] | None = None,
        usage: Json | None = None,
    ) -> Json:
        return response_object(
            self.body,
            response_id=self.response_id,
            model=answer["model"],
            created_s=answer["created"],
            status=status,
            output=output,
            usage=usage,
        )


class _Item:
    """An output item that grows: its kind (or the tool call's index), its place, its pieces."""

    def __init__(self, kind: str | int, place: int, item_id: str) -> None:
        self.kind = kind
        self.place = place
        self.item_id = item_id
        self.pieces: list[str] = []
        self.call: Json = {}


class _Events:
    """The events of one stream, numbered; output items open when their first piece comes."""

    def __init__(self, response_id: str) -> None:
        self._stem = response_id.removeprefix("resp_")
        self._items: dict[str | int, _Item] = {}
        self.number = 0

    @property
    def any(self) -> bool:
        """True once some item has begun."""
        return bool(self._items)

    def event(self, kind: str, **facts: Any) -> bytes:  # Any: JSON
        """One numbered event."""
        event = {"type": kind, "sequence_number": self.number, **facts}
        self.number += 1
        return named_frame(kind, event)

    def take(self, delta: dict[str, Any], out: list[bytes]) -> None:  # Any: JSON
        """The events of one delta."""
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(thought, str) and thought:
            self._piece(self._item("reasoning", out), thought, out)
        said = delta.get("content") or delta.get("refusal")
        if isinstance(said, str) and said:
            self._piece(self._item("text", out), said, out)
        for call in delta.get("tool_calls", ()):
            function = call.get("function") or {}
            item = self._items.get(call["index"])
            if item is None:
                named = {"name": function.get("name") or "", "arguments": ""}
                known = {"id": call.get("id") or f"call_{call['index']}", "function": named}
                item = self._item(call["index"], out, call=known)
            if function.get("arguments"):
                self._piece(item, function["arguments"], out)

    def close(self, out: list[bytes]) -> list[Json]:
        """Ends every item; returns them whole, in their order."""
        done = []
        for item in self._items.values():
            whole = "".join(item.pieces)
            self._close_parts(item, whole, out)
            finished = self._object(item, whole)
            out.append(
                self.event("response.output_item.done", output_index=item.place, item=finished)
            )
            done.append(finished)
        return done

    def _item(self, kind: str | int, out: list[bytes], *, call: Json | None = None) -> _Item:
        known = self._items.get(kind)
        if known is not None:
            return known
        prefix = {"text": "msg", "reasoning": "rs"}.get(str(kind), "fc")
        suffix = f"_{kind}" if isinstance(kind, int) else ""
        item = _Item(kind, len(self._items), f"{prefix}_{self._stem}{suffix}")
        item.call = call or {}
        self._items[kind] = item
        opened = self._object(item, "", status="in_progress")
        out.append(self.event("response.output_item.added", output_index=item.place, item=opened))
        if kind == "text":
            part = text_part("")
            out.append(self._part_event("response.content_part.added", item, part=part))
        return item

    def _piece(self, item: _Item, piece: str, out: list[bytes]) -> None:
        item.pieces.append(piece)
        if item.kind == "text":
            kind = "response.output_text.delta"
            out.append(self._part_event(kind, item, delta=piece, logprobs=[]))
        elif item.kind == "reasoning":
            out.append(self._part_event("response.reasoning_text.delta", item, delta=piece))
        else:
            kind = "response.function_call_arguments.delta"
            out.append(self.event(kind, item_id=item.item_id, output_index=item.place, delta=piece))

    def _close_parts(self, item: _Item, whole: str, out: list[bytes]) -> None:
        if item.kind == "text":
            kind = "response.output_text.done"
            out.append(self._part_event(kind, item, text=whole, logprobs=[]))
            part = text_part(whole)
            out.append(self._part_event("response.content_part.done", item, part=part))
        elif item.kind == "reasoning":
            out.append(self._part_event("response.reasoning_text.done", item, text=whole))
        else:
            kind = "response.function_call_arguments.done"
            facts = {"name": item.call["function"]["name"], "arguments": whole}
            out.append(self.event(kind, item_id=item.item_id, output_index=item.place, **facts))

    def _part_event(self, kind: str, item: _Item, **facts: Any) -> bytes:  # Any: JSON
        place = {"item_id": item.item_id, "output_index": item.place, "content_index": 0}
        return self.event(kind, **place, **facts)

    def _object(self, item: _Item, whole: str, *, status: str = "completed") -> Json:
        if item.kind == "text":
            return text_item(item.item_id, whole, status=status)
        if item.kind == "reasoning":
            return reasoning_item(item.item_id, whole)
        named = {**item.call["function"], "arguments": whole}
        return call_item(item.item_id, {**item.call, "function": named}, status=status)
