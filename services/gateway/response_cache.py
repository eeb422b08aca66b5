"""Answers kept in this worker, so that the same question of the same account costs nothing twice.

Kept is what a provider would answer alike: conversations without tools at temperature 0 or none,
whole answers, and streams that ended in good order. Nothing is shared between accounts or written
anywhere; what is kept is bounded in bytes and in time.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import orjson
from prometheus_client import Counter

from services.common.clock import Clock
from services.common.ids import AccountId
from services.gateway.chat_request import ChatRequest
from services.gateway.ports import KeySettings
from services.gateway.routing import Route

HITS = Counter("mesh_gateway_cache_hits", "Requests that were answered out of the response cache.")

# Longer prompts are not hashed, larger answers not kept; bytes.
PROMPT_BYTES_MAX = 256 * 1024
ANSWER_BYTES_MAX = 1024 * 1024
# What one kept answer costs beside its bytes.
_OVERHEAD_BYTES = 512
_KEPT_REASONS = frozenset({"stop", "length"})


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """An answer's choices and usage as JSON; kept until the monotonic second `expires_s`."""

    choices: bytes
    usage: bytes
    expires_s: float

    @property
    def size(self) -> int:
        """In bytes, about."""
        return len(self.choices) + len(self.usage) + _OVERHEAD_BYTES

    def content(self) -> dict[str, Any]:  # Any: JSON
        """`choices` and `usage` of the `chat.completion`."""
        return {"choices": orjson.loads(self.choices), "usage": orjson.loads(self.usage)}


class ResponseCache:
    """The least recently used answers go first. With `bytes_max` 0 nothing is kept."""

    def __init__(self, clock: Clock, *, bytes_max: int, ttl_s: float) -> None:
        self._clock = clock
        self._bytes_max = bytes_max
        self._ttl_s = ttl_s
        self._answers: OrderedDict[bytes, CachedAnswer] = OrderedDict()
        self.size = 0

    def __len__(self) -> int:
        return len(self._answers)

    def key(
        self,
        account_id: AccountId,
        request: ChatRequest,
        chosen: Route,
        *,
        settings: KeySettings,
        bypass: bool,
    ) -> bytes | None:
        """What the answer to this request is kept under; None where it neither may come from here
        nor be kept.
        """
        if not self._bytes_max or bypass or not request.cache or settings.response_cache_disabled:
            return None
        return _key(account_id, request, chosen) if _is_repeatable(request) else None

    def get(self, key: bytes) -> CachedAnswer | None:
        """The answer that is kept under this key, unless it is too old."""
        found = self._answers.get(key)
        if found is None:
            return None
        if found.expires_s <= self._clock.monotonic_s():
            self._drop(key)
            return None
        self._answers.move_to_end(key)
        HITS.inc()
        return found

    def put(self, key: bytes, answer: dict[str, Any]) -> None:  # Any: JSON
        """Keeps a whole `chat.completion`, if it ended in good order and is not too large."""
        choices = answer["choices"]
        if not all(choice["finish_reason"] in _KEPT_REASONS for choice in choices):
            return
        expires_s = self._clock.monotonic_s() + self._ttl_s
        kept = CachedAnswer(orjson.dumps(choices), orjson.dumps(answer["usage"]), expires_s)
        if kept.size > min(ANSWER_BYTES_MAX, self._bytes_max):
            return
        self._drop(key)
        self._answers[key] = kept
        self.size += kept.size
        while self.size > self._bytes_max:
            self._drop(next(iter(self._answers)))

    def _drop(self, key: bytes) -> None:
        dropped = self._answers.pop(key, None)
        if dropped is not None:
            self.size -= dropped.size


def _is_repeatable(request: ChatRequest) -> bool:
    prompt, upstream = request.prompt, request.upstream
    return (
        request.operation == "chat"
        and not upstream.get("temperature")
        and "tools" not in upstream
        and not request.wants_audio
        and not (prompt.images or prompt.audio_bytes or prompt.videos)
        and prompt.text_bytes_max <= PROMPT_BYTES_MAX
    )


def _key(account_id: AccountId, request: ChatRequest, chosen: Route) -> bytes:
    """Everything that decides over the answer, whose account it is, and who would give it."""
    facts = [
        account_id,
        chosen.model.model_id,
        chosen.provider.provider_id,
        chosen.model.upstream_model,
        request.output_tokens_max,
        request.upstream,
    ]
    return hashlib.sha256(orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)).digest()
