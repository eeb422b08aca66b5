"""Chunks of an answer: made uniform, tallied, and folded into a whole answer.

There is one path for both forms: a stream relays the uniform chunks, a whole answer is their fold.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from services.common.errors import UpstreamError
from services.gateway.metering import UsageTally, usage_from_wire

Chunk = dict[str, Any]  # Any: JSON of a chat.completion.chunk
# A chunk that says nothing but some words of the first choice stands as these words: nearly every
# one is such, and nothing has to be built for it.
Piece = Chunk | str

# Where providers put the text of their reasoning.
_REASONING_FIELDS = ("reasoning_content", "reasoning")


class BadUpstreamAnswer(UpstreamError):
    """The provider sent something that is no chunk."""


@dataclass(slots=True)
class ChunkNormaliser:
    """Makes every chunk whole: id, object, created, model, indexes; usage is taken out and kept in
    the tally.
    """

    model_id: str
    answer_id: str
    created_s: int
    tally: UsageTally = field(default_factory=UsageTally)
    # By choice index.
    finish_reasons: dict[int, str] = field(default_factory=dict)
    _started: set[int] = field(default_factory=set)
    # As the last chunk had it; the words that follow have the same.
    fingerprint: Any = None  # Any: JSON

    @property
    def finished(self) -> bool:
        """True once some choice has a finish reason."""
        return bool(self.finish_reasons)

    @property
    def started(self) -> bool:
        """True once some choice has begun."""
        return bool(self._started)

    def words(self, raw: Any) -> str | None:  # Any: JSON
        """The words of a chunk that says nothing else, in the tally by then; None of any other,
        which is for `take`.
        """
        if type(raw) is not dict or raw.get("usage") is not None:
            return None
        choices = raw.get("choices")
        if type(choices) is not list or len(choices) != 1 or type(choices[0]) is not dict:
            return None
        choice = choices[0]
        delta = choice.get("delta")
        if type(delta) is not dict or len(delta) != 1 or choice.get("index") != 0:
            return None
        text = delta.get("content")
        if type(text) is not str or not text or choice.get("finish_reason") is not None:
            return None
        alike = raw.get("system_fingerprint") == self.fingerprint and 0 in self._started
        if not alike or choice.get("logprobs") is not None:
            return None
        self.tally.texts.append(text)
        return text

    def words_chunk(self, text: str, fingerprint: Any) -> Chunk:  # Any: JSON
        """The chunk that such words stand for, behind one with this fingerprint."""
        chunk: Chunk = {
            "id": self.answer_id,
            "object": "chat.completion.chunk",
            "created": self.created_s,
            "model": self.model_id,
            "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
        }
        if fingerprint is not None:
            chunk["system_fingerprint"] = fingerprint
        return chunk

    def take(self, raw: Any) -> Chunk | None:  # Any: JSON
        """The uniform chunk; None where nothing is left to relay. Raises BadUpstreamAnswer."""
        if not isinstance(raw, dict):
            raise BadUpstreamAnswer("the upstream sent a chunk that is no object")
        if raw.get("usage") is not None:
            self.tally.reported = usage_from_wire(raw["usage"]) or self.tally.reported
        choices = raw.get("choices")
        if not choices:
            return None
        if not isinstance(choices, list):
            raise BadUpstreamAnswer("the upstream sent choices that are no list")
        chunk: Chunk = {
            "id": self.answer_id,
            "object": "chat.completion.chunk",
            "created": self.created_s,
            "model": self.model_id,
            "choices": [self._choice(place, choice) for place, choice in enumerate(choices)],
        }
        self.fingerprint = raw.get("system_fingerprint")
        if self.fingerprint is not None:
            chunk["system_fingerprint"] = self.fingerprint
        return chunk

    def limit_chunk(self, finished_before: Collection[int]) -> Chunk:
        """What ends an answer early, where its money does: every choice that had not finished has
        now, for its length.
        """
        opened = sorted(self._started - set(finished_before)) or [0]
        self.finish_reasons = {
            index: self.finish_reasons[index] for index in finished_before
        } | dict.fromkeys(opened, "length")
        return {
            "id": self.answer_id,
            "object": "chat.completion.chunk",
            "created": self.created_s,
            "model": self.model_id,
            "choices": [
                {"index": index, "delta": {}, "finish_reason": "length"} for index in opened
            ],
        }

    def usage_chunk(self, usage: dict[str, Any]) -> Chunk:  # Any: JSON
        """The last chunk of every stream."""
        return {
            "id": self.answer_id,
            "object": "chat.completion.chunk",
            "created": self.created_s,
            "model": self.model_id,
            "choices": [],
            "usage": usage,
        }

    def _choice(self, place: int, raw: Any) -> dict[str, Any]:  # Any: JSON
        if not isinstance(raw, dict):
            raise BadUpstreamAnswer("the upstream sent a choice that is no object")
        index = raw.get("index")
        index = index if type(index) is int and index >= 0 else place
        delta = raw.get("delta")
        if delta is None:
            # A provider that answers whole although it was asked to stream.
            delta = raw.get("message")
        delta = dict(delta) if isinstance(delta, dict) else {}
        self._uniform_delta(index, delta)
        choice: dict[str, Any] = {"index": index, "delta": delta}  # Any: JSON
        reason = raw.get("finish_reason")
        choice["finish_reason"] = reason if isinstance(reason, str) else None
        if isinstance(reason, str):
            self.finish_reasons[index] = reason
        if raw.get("logprobs") is not None:
            choice["logprobs"] = raw["logprobs"]
        return choice

    def _uniform_delta(self, index: int, delta: dict[str, Any]) -> None:  # Any: JSON
        if index not in self._started:
            self._started.add(index)
            delta["role"] = "assistant"
        elif delta.get("role") is None:
            delta.pop("role", None)
        calls = delta.get("tool_calls")
        if isinstance(calls, list) and calls:
            delta["tool_calls"] = [
                self._call(index, place, call) for place, call in enumerate(calls)
            ]
        else:
            delta.pop("tool_calls", None)
        for name in ("content", "refusal"):
            if isinstance(delta.get(name), str) and delta[name]:
                self.tally.add(delta[name], (index, name, 0))
        for name in _REASONING_FIELDS:
            if isinstance(delta.get(name), str) and delta[name]:
                self.tally.add_reasoning(delta[name], index)
                break
        audio = delta.get("audio")
        if isinstance(audio, dict) and isinstance(audio.get("transcript"), str):
            self.tally.add(audio["transcript"], (index, "audio", 0))

    def _call(self, choice: int, place: int, raw: Any) -> dict[str, Any]:  # Any: JSON
        if not isinstance(raw, dict):
            raise BadUpstreamAnswer("the upstream sent a tool call that is no object")
        call = dict(raw)
        if type(call.get("index")) is not int:
            call["index"] = place
        if call.get("id") is not None or call.get("type") is not None:
            call["type"] = "function"
        function = call.get("function")
        if isinstance(function, dict):
            for name in ("name", "arguments"):
                if isinstance(function.get(name), str) and function[name]:
                    self.tally.add(function[name], (choice, name, call["index"]))
        return call


@dataclass(slots=True)
class AnswerFold:
    """A whole answer out of uniform chunks."""

    _head: Chunk | None = None
    _choices: dict[int, dict[str, Any]] = field(default_factory=dict)  # Any: JSON

    def add(self, chunk: Piece) -> None:
        if isinstance(chunk, str):
            # Words go on with a choice that has begun.
            self._choices[0]["delta"].setdefault("content", []).append(chunk)
            return
        if self._head is None:
            self._head = chunk
        elif "system_fingerprint" in chunk:
            self._head.setdefault("system_fingerprint", chunk["system_fingerprint"])
        for choice in chunk["choices"]:
            state = self._choices.setdefault(
                choice["index"], {"delta": {}, "calls": {}, "finish": None, "logprobs": None}
            )
            _fold_delta(state, choice["delta"])
            state["finish"] = choice["finish_reason"] or state["finish"]
            if "logprobs" in choice:
                state["logprobs"] = _joined_logprobs(state["logprobs"], choice["logprobs"])

    def whole(self, usage: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
        """The `chat.completion`. Raises BadUpstreamAnswer where no chunk came."""
        if self._head is None:
            raise BadUpstreamAnswer("the upstream answered nothing")
        answer = {
            "id": self._head["id"],
            "object": "chat.completion",
            "created": self._head["created"],
            "model": self._head["model"],
            "choices": [_whole_choice(i, self._choices[i]) for i in sorted(self._choices)],
            "usage": usage,
        }
        if "system_fingerprint" in self._head:
            answer["system_fingerprint"] = self._head["system_fingerprint"]
        return answer


def _fold_delta(state: dict[str, Any], delta: dict[str, Any]) -> None:  # Any: JSON
    """Texts are gathered in lists and joined once, tool calls by their index, lists one after
    another.
    """
    into = state["delta"]
    for name, value in delta.items():
        if name == "tool_calls":
            for call in value:
                _fold_call(state["calls"], call)
        elif name == "audio" and isinstance(value, dict):
            audio = into.setdefault("audio", {})
            for key, entry in value.items():
                if key in ("data", "transcript") and isinstance(entry, str):
                    audio.setdefault(key, []).append(entry)
                elif entry is not None:
                    audio[key] = entry
        elif name == "role":
            into["role"] = value
        elif isinstance(value, str):
            into.setdefault(name, []).append(value)
        elif isinstance(value, list):
            into.setdefault(name, []).extend(value)
        elif value is not None:
            into[name] = value


def _fold_call(calls: dict[int, dict[str, Any]], call: dict[str, Any]) -> None:  # Any: JSON
    state = calls.setdefault(call["index"], {"name": [], "arguments": [], "other": {}})
    function = call.get("function")
    if isinstance(function, dict):
        for name in ("name", "arguments"):
            if isinstance(function.get(name), str):
                state[name].append(function[name])
    for name, value in call.items():
        if name not in ("index", "function", "type") and value is not None:
            state["other"].setdefault(name, value)


def _whole_choice(index: int, state: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
    message: dict[str, Any] = {"role": "assistant", "content": None}  # Any: JSON
    for name, value in state["delta"].items():
        if name == "audio":
            message[name] = {
                key: "".join(entry) if isinstance(entry, list) else entry
                for key, entry in value.items()
            }
        elif isinstance(value, list) and all(isinstance(piece, str) for piece in value):
            message[name] = "".join(value)
        elif name != "role":
            message[name] = value
    if state["calls"]:
        message["tool_calls"] = [
            {
                "id": f"call_{place}",
                **call["other"],
                "type": "function",
                "function": {
                    "name": "".join(call["name"]),
                    "arguments": "".join(call["arguments"]),
                },
            }
            for place, call in sorted(state["calls"].items())
        ]
    choice = {"index": index, "message": message, "finish_reason": state["finish"] or "stop"}
    if state["logprobs"] is not None:
        choice["logprobs"] = state["logprobs"]
    return choice


def _joined_logprobs(known: Any, more: Any) -> Any:  # Any: JSON
    """Lists of token probabilities of successive chunks, one after another."""
    if not isinstance(known, dict) or not isinstance(more, dict):
        return more
    return {
        name: [*known.get(name, ()), *value]
        if isinstance(value, list) and isinstance(known.get(name, []), list)
        else value
        for name, value in {**known, **more}.items()
    }
