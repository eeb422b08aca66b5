"""Whom a token stands for, remembered for less than a second: a script that asks a lot costs
accounts one question a second, and a revoked token is refused within that second.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from services.common.clock import Clock
from services.common.security.tokens import Principal
from services.gateway.admin_keys import AdminGrant, AdminKeyHolders
from services.gateway.key_admin import Sessions

REMEMBERED_S = 0.8
REMEMBERED_MAX = 4_096

ValueT = TypeVar("ValueT")


class Recent(Generic[ValueT]):
    """Answers of one question by the token's hash; refusals are never remembered."""

    def __init__(self, ask: Callable[[str], Awaitable[ValueT]], clock: Clock) -> None:
        self._ask = ask
        self._clock = clock
        self._known: OrderedDict[bytes, tuple[ValueT, float]] = OrderedDict()

    async def get(self, token: str) -> ValueT:
        """The answer, from now or from a moment ago."""
        name = hashlib.sha256(token.encode()).digest()
        # Of before the question, as the answer may be as old as that.
        asked_s = self._clock.monotonic_s()
        known = self._known.get(name)
        if known is not None and asked_s - known[1] < REMEMBERED_S:
            return known[0]
        self._known.pop(name, None)
        value = await self._ask(token)
        self._known[name] = (value, asked_s)
        if len(self._known) > REMEMBERED_MAX:
            self._known.popitem(last=False)
        return value


class RecentSessions:
    """`Sessions` that remembers."""

    def __init__(self, inner: Sessions, clock: Clock) -> None:
        self._recent = Recent(inner.holder, clock)

    async def holder(self, token: str) -> Principal:
        """See `Sessions.holder`."""
        return await self._recent.get(token)


class RecentAdminKeys:
    """`AdminKeyHolders` that remembers."""

    def __init__(self, inner: AdminKeyHolders, clock: Clock) -> None:
        self._recent = Recent(inner.holder, clock)

    async def holder(self, secret: str) -> AdminGrant:
        """See `AdminKeyHolders.holder`."""
        return await self._recent.get(secret)
