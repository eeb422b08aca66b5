"""From GenerateContent responses to chunks."""

from __future__ import annotations

from typing import Any

import orjson

from services.common.ids import new_id
from services.gateway.providers.faults import ContentPolicyViolation, failure_from_frame
from services.gateway.providers.parts import GEMINI_REASONING
from services.gateway.providers.port import AttemptFailed, UpstreamAttempt
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

# Ids of calls that the provider gave none; they are not sent back to it.
MADE_UP_ID = "call_g_"
_FINISH_REASONS = {
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
}


class GeminiReader:
    """Keeps how many calls each candidate has made, and whether any has ended."""

    def __init__(self, attempt: UpstreamAttempt) -> None:
        self._attempt = attempt
        self._decoder = SseDecoder()
        self._calls: dict[int, int] = {}
        self.complete = False
        # The end of the answer is the end of the connection's turn: counts may come late.
        self.ended = False

    def feed(self, data: bytes, chunks: list[Any]) -> None:  # Any: JSON
        """See `AnswerReader.feed`."""
        for raw in sse_events(self._decoder, data):
            self._take(json_of(raw), chunks)

    def whole(self, body: bytes) -> list[Any]:  # Any: JSON
        """See `AnswerReader.whole`."""
        answer = json_of(body)
        chunks: list[Any] = []  # Any: JSON
        # Without `alt=sse` a stream is one list of responses.
        for response in answer if isinstance(answer, list) else [answer]:
            self._take(response, chunks)
        return chunks

    def _take(self, response: Any, chunks: list[Any]) -> None:  # Any: JSON
        if not isinstance(response, dict):
            raise bad_answer("the upstream provider sent a response that is no object")
        if response.get("error") is not None:
            raise failure_from_frame(
                response["error"], self._attempt, stage="upstream_stream", http_status=200
            )
        candidates = response.get("candidates") or ()
        if not candidates and (response.get("promptFeedback") or {}).get("blockReason"):
            said = ContentPolicyViolation("the provider's filter refused the prompt")
            raise AttemptFailed(said, stage="upstream_stream", http_status=200)
        for place, candidate in enumerate(candidates):
            index = candidate.get("index", place)
            for part in (candidate.get("content") or {}).get("parts") or ():
                chunks += self._part(index, part)
            if candidate.get("finishReason"):
                chunks.append(self._finish(index, candidate))
        if self.complete and response.get("usageMetadata"):
            # Earlier counts are of a part of the answer.
            chunks.append(usage_chunk(usage_of(response["usageMetadata"])))

    def _finish(self, index: int, candidate: Json) -> Json:
        self.complete = True
        finish = _FINISH_REASONS.get(candidate["finishReason"], "stop")
        if finish == "stop" and self._calls.get(index):
            finish = "tool_calls"
        return choice_chunk({}, finish=finish, index=index)

    def _part(self, index: int, part: Json) -> list[Json]:
        signature = part.get("thoughtSignature")
        if isinstance(part.get("functionCall"), dict):
            return [choice_chunk({"tool_calls": [self._call(index, part)]}, index=index)]
        chunks = []
        text = part.get("text")
        if isinstance(text, str) and text:
            name = "reasoning_content" if part.get("thought") is True else "content"
            chunks.append(choice_chunk({name: text}, index=index))
        if isinstance(signature, str):
            detail = {"type": "reasoning.encrypted", "data": signature, "format": GEMINI_REASONING}
            chunks.append(choice_chunk({"reasoning_details": [detail]}, index=index))
        return chunks

    def _call(self, index: int, part: Json) -> Json:
        used = part["functionCall"]
        place = self._calls.get(index, 0)
        self._calls[index] = place + 1
        call: Json = {
            "index": place,
            "id": used.get("id") or new_id(MADE_UP_ID.rstrip("_")),
            "type": "function",
            "function": {
                "name": used.get("name", ""),
                "arguments": orjson.dumps(used.get("args") or {}).decode(),
            },
        }
        if isinstance(part.get("thoughtSignature"), str):
            call["thought_signature"] = part["thoughtSignature"]
        return call


def usage_of(usage: Json) -> Json:
    """OpenAI's spelling: thoughts are part of the completion, what tools brought in of the
    prompt.
    """
    prompt = count_of(usage, "promptTokenCount") + count_of(usage, "toolUsePromptTokenCount")
    thoughts = count_of(usage, "thoughtsTokenCount")
    completion = count_of(usage, "candidatesTokenCount") + thoughts
    heard = _of_modality(usage, "promptTokensDetails", "AUDIO")
    heard_cached = _of_modality(usage, "cacheTokensDetails", "AUDIO")
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {
            "cached_tokens": count_of(usage, "cachedContentTokenCount"),
            "audio_tokens": max(0, heard - heard_cached),
        },
        "completion_tokens_details": {"reasoning_tokens": thoughts},
    }


def _of_modality(usage: Json, name: str, modality: str) -> int:
    return sum(
        count_of(entry, "tokenCount")
        for entry in usage.get(name) or ()
        if isinstance(entry, dict) and entry.get("modality") == modality
    )
