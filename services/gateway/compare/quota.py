"""One comparison counts as one request, with the tokens of all its calls; but a call of a model
with limits of its own counts by itself, so that those bind too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from services.common.errors import AppError, RateLimitExceeded
from services.gateway.ports import KeyPrincipal, QuotaMeter, Quotas, QuotaTicket


class GroupQuotas:
    """The `Quotas` of one group of calls over the worker's. The first call to arrive takes the
    ticket for all, with as many tokens as if all were like it; `end` settles it. Calls of limited
    models take and settle tickets of their own.
    """

    def __init__(self, inner: Quotas, calls: int) -> None:
        self._inner = inner
        self._calls = calls
        self._checked = False
        self._refusal: RateLimitExceeded | None = None
        self._admitting: asyncio.Task[QuotaTicket | None] | None = None

    def check(self, principal: KeyPrincipal) -> None:
        """Once for the group: its own request must not count against it."""
        if not self._checked:
            self._checked = True
            try:
                self._inner.check(principal)
            except RateLimitExceeded as error:
                self._refusal = error
        if self._refusal is not None:
            raise self._refusal

    async def admit(self, principal: KeyPrincipal, tokens: int, **more: Any) -> QuotaTicket | None:
        # Any: whatever else the worker's quotas take is passed on.
        """Waits for the group's ticket; there is none for the single call, but where its model is
        limited.
        """
        if principal.scoped.limited_model(more.get("model_id", "")):
            return await self._inner.admit(principal, tokens, **more)
        if self._admitting is None:
            asking = self._inner.admit(principal, tokens * self._calls, **more)
            self._admitting = asyncio.ensure_future(asking)
        # A call that is given up must not take the others' ticket with it.
        await asyncio.shield(self._admitting)
        return None

    def settle(self, ticket: QuotaTicket, actual_tokens: int) -> None:
        """See `ports.Quotas.settle`."""
        self._inner.settle(ticket, actual_tokens)

    def standing(self, principal: KeyPrincipal, *, model_id: str = "") -> Sequence[QuotaMeter]:
        """See `ports.Quotas.standing`."""
        return self._inner.standing(principal, model_id=model_id)

    async def meters(self, principal: KeyPrincipal) -> Sequence[QuotaMeter]:
        """See `ports.Quotas.meters`."""
        return await self._inner.meters(principal)

    async def end(self, actual_tokens: int) -> None:
        """Settles the group's ticket, where it got one."""
        if self._admitting is None:
            return
        with suppress(AppError):
            ticket = await self._admitting
            if ticket is not None:
                self._inner.settle(ticket, actual_tokens)
