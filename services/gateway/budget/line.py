"""Requests that wait for one key's money, and how billing's answers are dealt out among them.

A line has one question to billing under way at a time, and the question is for everybody in it: the
sum of what they need, with the smallest of their bounds as the least that would do. So a grant of
less than the sum says that there is no more, and a refusal says that there is not even enough for
the smallest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from services.common.errors import AppError, SpendLimitExceeded, Unavailable
from services.gateway.budget.ports import Refusal
from services.gateway.budget.purse import Purse
from services.gateway.budget.spend_rate import SpendRate
from services.gateway.ports import Hold, HoldRequest, KeyPrincipal

# What a 402 calls the limit that binds.
LIMITS = {
    "balance": "the account's balance",
    "key_cap": "the key's spend cap",
    "model_cap": "the spend cap of this model under the key",
    "member_cap": "the spend cap of the member who made the key",
    "team_cap": "the team's spend cap",
    "account_cap": "the account's spend cap",
    "account_model_cap": "the account's spend cap of this model",
}


@dataclass(slots=True, eq=False)
class Waiter:
    """One request in the line."""

    request: HoldRequest
    future: asyncio.Future[Hold]
    # In monotonic seconds.
    deadline_s: float
    # What it is refused with at its deadline.
    problem: AppError | None = None
    # Billing said that the money for this much, or for more, is there but held by others.
    known_held: bool = False


class Line:
    """One key's purse, who waits for it, and the task that asks billing on their behalf."""

    def __init__(self, purse: Purse, *, spend_window_s: float) -> None:
        self.purse = purse
        self.waiters: list[Waiter] = []
        self.task: asyncio.Task[None] | None = None
        self.rate = SpendRate(spend_window_s)
        # Of the key's settings, the newest that a request was admitted by.
        self.key_version = 0
        self.team_id = ""
        # Set when money became free, so that whoever sleeps for it looks again.
        self.freed = asyncio.Event()

    def follow(self, principal: KeyPrincipal) -> None:
        """Takes newer settings over. A key that was moved takes no more from what its old team
        lent: that stays spend of the team, so it must not go on for longer than what runs.
        """
        if principal.key_version <= self.key_version:
            return
        if self.key_version and principal.scoped.team_id != self.team_id:
            self.purse.retire()
        self.key_version, self.team_id = principal.key_version, principal.scoped.team_id

    def expire(self, now_s: float) -> None:
        """Refuses who has waited long enough; forgets who has gone."""
        for waiter in self.waiters:
            if not waiter.future.done() and now_s >= waiter.deadline_s:
                waiter.future.set_exception(waiter.problem or no_answer())
        self.waiters = [waiter for waiter in self.waiters if not waiter.future.done()]

    def serve(self, now_ms: int, *, clamped: bool) -> None:
        """Gives holds, first come first served: in full, and then, if so told, less than that."""
        for waiter in self.waiters:
            if not waiter.future.done():
                self._answer(waiter, waiter.request.full_nanousd, now_ms)
        if clamped:
            for waiter in self.waiters:
                if not waiter.future.done():
                    self._answer(waiter, waiter.request.bound_nanousd, now_ms)
        self.waiters = [waiter for waiter in self.waiters if not waiter.future.done()]

    def refuse(self, waiters: Iterable[Waiter], error: AppError) -> None:
        """Ends the wait of these."""
        for waiter in waiters:
            if not waiter.future.done():
                waiter.future.set_exception(error)
        self.waiters = [waiter for waiter in self.waiters if not waiter.future.done()]

    def next_batch(self) -> list[Waiter]:
        """For whom to ask next: everybody, or the one request whose refusal is not certain yet.

        Where the smallest was told that its money is held, that of a larger one may be gone for
        good. One question for the largest tells: what is held for it is held for all below it.
        """
        if not any(waiter.known_held for waiter in self.waiters):
            return list(self.waiters)
        doubtful = [waiter for waiter in self.waiters if not waiter.known_held]
        if not doubtful:
            return list(self.waiters)
        return [max(doubtful, key=_bound)]

    def learn_held(self, batch: list[Waiter], problem: AppError) -> None:
        """Billing said `held`: not gone for whoever needs no more than was asked for, and not there
        for whoever needs no less. What a smaller request needs may be there all the same.
        """
        asked = min(_bound(waiter) for waiter in batch)
        for waiter in self.waiters:
            if _bound(waiter) <= asked:
                waiter.known_held = True
            if _bound(waiter) >= asked:
                waiter.problem = problem

    def _answer(self, waiter: Waiter, least_nanousd: int, now_ms: int) -> None:
        request = waiter.request
        hold = self.purse.take_most(
            request.usage_id,
            least_nanousd=least_nanousd,
            full_nanousd=request.full_nanousd,
            now_ms=now_ms,
        )
        if hold is not None:
            waiter.future.set_result(hold)


def _bound(waiter: Waiter) -> int:
    return waiter.request.bound_nanousd


def no_answer() -> Unavailable:
    """Billing said nothing in time: no money, no request."""
    return Unavailable("billing gave no answer in time", retry_after_s=1)


def spend_limit_error(refusal: Refusal) -> SpendLimitExceeded:
    """The 402 of a refusal: which limit, and whether the money is held or gone."""
    what = LIMITS.get(refusal.limit, refusal.limit)
    state = "held" if refusal.held else "gone"
    message = (
        f"{what} is held by requests that are still running; try again shortly"
        if refusal.held
        else f"{what} is used up"
    )
    return SpendLimitExceeded(
        message,
        retry_after_s=max(1, -(-refusal.retry_after_ms // 1000)) if refusal.held else None,
        extra={"limit": refusal.limit, "state": state},
    )
