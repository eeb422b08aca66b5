"""The pipeline's step at the response cache: a request that was asked before is answered at no
cost, any other's answer is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from services.gateway.chat_request import ChatRequest
from services.gateway.envelope import Ending
from services.gateway.relay import Relay
from services.gateway.response_cache import CachedAnswer, ResponseCache
from services.gateway.routing import Route
from services.gateway.usage_entry import UsageEntry

CACHE_HIT = [(b"x-cache", b"HIT")]


class HeadWriter(Protocol):
    """Who sends the head of the answer."""

    def add_headers(self, headers: Sequence[tuple[bytes, bytes]]) -> None: ...


@dataclass(frozen=True, slots=True)
class Lookup:
    """What the cache has for one request. `key` is None where it has nothing to do with it."""

    cache: ResponseCache
    key: bytes | None
    found: CachedAnswer | None

    @property
    def wanted(self) -> bool:
        """True where the answer is to be kept."""
        return self.key is not None

    async def replay(
        self,
        entry: UsageEntry,
        relay: Relay,
        reply: HeadWriter,
        *,
        request: ChatRequest,
        chosen: Route,
        now_ms: int,
    ) -> Ending:
        """Answers out of the cache; the event will say success, and that nothing is billed."""
        assert self.found is not None
        reply.add_headers(CACHE_HIT)
        entry.stage = "upstream_stream"
        ending = await relay.replay(request, chosen, self.found.content(), now_ms=now_ms)
        entry.finish_reason = relay.finish_reason
        entry.outcome, entry.http_status = "success", 200
        return ending

    def keep(self, entry: UsageEntry, relay: Relay, usage: dict[str, Any]) -> None:  # Any: JSON
        """Keeps an answer that came whole, not one that was cut for want of money."""
        if self.key is not None and entry.outcome == "success":
            self.cache.put(self.key, relay.whole_answer(usage))


def look_up(
    cache: ResponseCache, entry: UsageEntry, request: ChatRequest, *, chosen: Route, bypass: bool
) -> Lookup:
    """Asks the cache. `bypass` is what the caller's header says."""
    principal = entry.principal
    key = cache.key(
        principal.account_id, request, chosen, settings=principal.settings, bypass=bypass
    )
    return Lookup(cache, key, cache.get(key) if key is not None else None)
