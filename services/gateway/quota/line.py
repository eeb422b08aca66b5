"""Requests that wait for one key's quota, and what the worker knows of that key's limits."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

from services.common.errors import AppError, RateLimitExceeded, Unavailable
from services.common.scopes import kind_of
from services.gateway.budget.spend_rate import SpendRate
from services.gateway.ports import KeyPrincipal, QuotaMeter, QuotaTicket
from services.gateway.quota.ports import Meter, Refusal
from services.gateway.quota.purse import QuotaPurse
from services.gateway.scoped import ScopeRates, owner_of

WORDS = {"rpm": "requests per minute", "rpd": "requests per day", "tpm": "tokens per minute"}


@dataclass(slots=True, eq=False)
class Waiter:
    """One request in the line."""

    tokens: int
    future: asyncio.Future[QuotaTicket]
    # In monotonic seconds.
    deadline_s: float
    # What it is refused with at its deadline.
    problem: AppError | None = None


class QuotaLine:
    """One key's purse, who waits for it, and the task that asks billing on their behalf."""

    def __init__(
        self,
        principal: KeyPrincipal,
        *,
        rate_window_s: float,
        model_id: str = "",
        model_only: bool = False,
    ) -> None:
        owner = (principal.account_id, principal.key_id)
        self.purse = QuotaPurse(*owner, model_id, model_only=model_only)
        self.waiters: list[Waiter] = []
        self.task: asyncio.Task[None] | None = None
        # Decaying sums of requests and of tokens; they only size questions to billing.
        self._requests = SpendRate(rate_window_s)
        self._tokens = SpendRate(rate_window_s)
        self._since_lease = (0, 0)
        self._lease_s = 0.0
        # Set when tokens became free, so that whoever sleeps for them looks again.
        self.freed = asyncio.Event()
        self.version = principal.key_version
        self.limits = limits_of(principal, model_id, model_only)
        self._gone: tuple[Refusal, int, float, float] | None = None
        self._meters: tuple[Meter, ...] = ()
        self._metered_s = 0.0

    def take(self, tokens: int, now_s: float) -> QuotaTicket | None:
        """A ticket from the purse."""
        ticket = self.purse.take(tokens, now_s)
        if ticket is not None:
            self._requests.add(1, now_s)
            self._tokens.add(tokens, now_s)
            self._since_lease = (self._since_lease[0] + 1, self._since_lease[1] + tokens)
        return ticket

    def count_from(self, now_s: float) -> None:
        """A lease came: what it serves is counted from here on."""
        self._since_lease, self._lease_s = (0, 0), now_s

    def growth(self, now_s: float, horizon_s: float) -> tuple[int, int]:
        """Requests and tokens to ask for beyond what waits: so many seconds of recent traffic, or,
        where traffic has only begun, twice what the last lease served.
        """
        requests = int(self._requests.per_second(now_s) * horizon_s)
        tokens = int(self._tokens.per_second(now_s) * horizon_s)
        if now_s - self._lease_s > horizon_s:
            return requests, tokens
        return max(requests, 2 * self._since_lease[0]), max(tokens, 2 * self._since_lease[1])

    def follow(self, principal: KeyPrincipal, now_s: float) -> None:
        """Takes newer settings over: leases drawn under other limits give nothing out any more."""
        if principal.key_version <= self.version:
            return
        self.version = principal.key_version
        limits = limits_of(principal, self.purse.model_id, self.purse.model_only)
        if limits != self.limits:
            self.limits = limits
            self._gone, self._meters = None, ()
            self.purse.close(now_s, idle_s=0.0)

    def learn(self, meters: Sequence[Meter], now_s: float) -> None:
        """What billing said of the key's limits at that moment."""
        self._meters, self._metered_s = tuple(meters), now_s

    def learn_gone(self, refusal: Refusal, tokens: int, *, now_s: float, known_s: float) -> None:
        """A limit is used up for requests of so many tokens; good for `known_s` seconds."""
        until_s = now_s + min(known_s, refusal.retry_after_s)
        self._gone = (refusal, tokens, now_s, until_s)

    def gone(self, tokens: int, now_s: float) -> RateLimitExceeded | None:
        """The refusal of a request of so many tokens, where it is known without asking."""
        if self._gone is None:
            return None
        refusal, least, at_s, until_s = self._gone
        if now_s >= until_s:
            self._gone = None
            return None
        if refusal.limit == "tpm" and tokens < least:
            return None
        return rate_limit_error(refusal, waited_s=now_s - at_s)

    def forget_gone_tokens(self) -> None:
        """Tokens came back, so the next request is worth a question."""
        if self._gone is not None and self._gone[0].limit == "tpm":
            self._gone = None

    def meters(self, now_s: float) -> tuple[QuotaMeter, ...]:
        """The limits as far as this worker knows: what billing had left at the last answer, and
        what is still free here. Nothing of windows that are over.
        """
        passed_s = now_s - self._metered_s
        requests, tokens = self.purse.free(now_s)
        return tuple(
            QuotaMeter(
                meter.limit,
                meter.limit_value,
                min(meter.limit_value, meter.left + (tokens if meter.limit == "tpm" else requests)),
                meter.resets_in_s - passed_s,
                meter.scope,
            )
            for meter in self._meters
            if passed_s < meter.resets_in_s
        )

    def expire(self, now_s: float) -> None:
        """Refuses who has waited long enough; forgets who has gone."""
        for waiter in self.waiters:
            if not waiter.future.done() and now_s >= waiter.deadline_s:
                waiter.future.set_exception(waiter.problem or no_answer())
        self._tidy()

    def serve(self, now_s: float) -> int:
        """Gives tickets, first come first served; how many."""
        served = 0
        for waiter in self.waiters:
            if not waiter.future.done():
                ticket = self.take(waiter.tokens, now_s)
                if ticket is not None:
                    waiter.future.set_result(ticket)
                    served += 1
        self._tidy()
        return served

    def refuse(self, error: AppError, *, tokens_from: int = 0) -> None:
        """Ends the wait of everybody who asks for at least so many tokens."""
        for waiter in self.waiters:
            if not waiter.future.done() and waiter.tokens >= tokens_from:
                waiter.future.set_exception(error)
        self._tidy()

    def _tidy(self) -> None:
        self.waiters = [waiter for waiter in self.waiters if not waiter.future.done()]


def limits_of(principal: KeyPrincipal, model_id: str, model_only: bool) -> tuple[ScopeRates, ...]:
    """What limits requests of this kind."""
    return principal.model_limits(model_id) if model_only else principal.limits(model_id)


def no_answer() -> Unavailable:
    """Billing said nothing in time: no quota, no request."""
    return Unavailable("billing gave no answer in time", retry_after_s=1)


def rate_limit_error(refusal: Refusal, *, waited_s: float = 0.0) -> RateLimitExceeded:
    """The 429 of a refusal; it names the limit and says when there is room again."""
    limit = f"{owner_of(refusal.scope)} limit of {refusal.limit_value} {WORDS[refusal.limit]}"
    message = f"{limit} is used up"
    if refusal.held:
        message = f"what is left of {limit} is held by requests under way; try again shortly"
    wait_s = max(1, math.ceil(refusal.retry_after_s - waited_s))
    extra = {"limit": refusal.limit, "scope": kind_of(refusal.scope or "key")}
    return RateLimitExceeded(message, retry_after_s=wait_s, extra=extra)


def too_large_error(tokens: int, limits: Sequence[ScopeRates]) -> RateLimitExceeded | None:
    """The 429 of a request that no empty window would let in; None where one would."""
    bounded = [one for one in limits if one.tpm and one.tpm < tokens]
    if not bounded:
        return None
    least = min(bounded, key=lambda one: one.tpm or 0)
    return RateLimitExceeded(
        f"the request may come to {tokens} tokens, more than {owner_of(least.scope)} limit of"
        f" {least.tpm} tokens per minute; ask for a shorter answer",
        extra={"limit": "tpm", "scope": kind_of(least.scope)},
    )
