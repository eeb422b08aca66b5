"""One comparison counts as one request, with the tokens of all its calls; a call of a model with
limits of its own counts against those besides, and against nothing else a second time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from services.common.errors import AppError, RateLimitExceeded
from services.common.ids import AccountId
from services.gateway.ports import KeyPrincipal, QuotaMeter, Quotas, QuotaTicket


class GroupQuotas:
    """The `Quotas` of one group of calls over the worker's. The first call to arrive takes the
    ticket for all, with as many tokens as if all were like it; `end` settles it. Calls of limited
    models take and settle further tickets, out of their model's limits alone.
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
        """Waits for the group's ticket, then for one of the call's model where that is limited."""
        if self._admitting is None:
            asking = self._inner.admit(principal, tokens * self._calls)
            self._admitting = asyncio.ensure_future(asking)
        # A call that is given up must not take the others' ticket with it.
        await asyncio.shield(self._admitting)
        model_id = principal.scoped.limited_model(more.get("model_id", ""))
        if not model_id:
            return None
        return await self._inner.admit(principal, tokens, model_id=model_id, model_only=True)

    def settle(self, ticket: QuotaTicket, actual_tokens: int) -> None:
        """See `ports.Quotas.settle`."""
        self._inner.settle(ticket, actual_tokens)

    def standing(self, principal: KeyPrincipal, *, model_id: str = "") -> Sequence[QuotaMeter]:
        """How far the group as a whole is into the key's limits."""
        del model_id
        return self._inner.standing(principal)

    async def meters(self, principal: KeyPrincipal) -> Sequence[QuotaMeter]:
        """See `ports.Quotas.meters`."""
        return await self._inner.meters(principal)

    async def account_meters(self, account_id: AccountId) -> Sequence[QuotaMeter]:
        """See `ports.Quotas.account_meters`."""
        return await self._inner.account_meters(account_id)

    async def end(self, actual_tokens: int) -> None:
        """Settles the group's ticket, where it got one."""
        if self._admitting is None:
            return
        with suppress(AppError):
            ticket = await self._admitting
            if ticket is not None:
                self._inner.settle(ticket, actual_tokens)
