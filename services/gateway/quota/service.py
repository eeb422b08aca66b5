"""The quotas of one worker: tickets from the purse where it has a lease, one question to billing
where not.

Fails closed: no answer from billing within the deadline is no quota. A lease of which the worker
does not know whether it was drawn is returned unused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from services.common.clock import Clock
from services.common.errors import AppError, Forbidden, Unavailable
from services.common.ids import AccountId, KeyId, new_id
from services.common.telemetry import get_logger
from services.gateway.budget.closer import answer_is_uncertain
from services.gateway.ports import KeyPrincipal, QuotaMeter, QuotaTicket
from services.gateway.quota.limits import QuotaLimits
from services.gateway.quota.line import (
    QuotaLine,
    Waiter,
    limits_of,
    no_answer,
    rate_limit_error,
    too_large_error,
)
from services.gateway.quota.ports import Draw, Lease, LeaseId, Meter, QuotaSource, Refusal
from services.gateway.quota.purse import QuotaPurse
from services.gateway.quota.returner import QuotaReturner

_log = get_logger(__name__)
_STOPPING = "this worker is stopping"


def new_lease_id() -> LeaseId:
    """A lease id no one else has."""
    return LeaseId(new_id("ql"))


class LeasedQuotas:
    """The `Quotas` of one worker. Create it inside a running loop; `run` returns idle leases."""

    def __init__(
        self,
        billing: QuotaSource,
        *,
        clock: Clock,
        limits: QuotaLimits | None = None,
        make_lease_id: Callable[[], LeaseId] = new_lease_id,
    ) -> None:
        self._billing = billing
        self._clock = clock
        self._limits = limits or QuotaLimits()
        self._make_lease_id = make_lease_id
        # By key and model, no model where the leases are for any, and whether they are out of that
        # model's limits alone.
        self._lines: dict[tuple[AccountId, KeyId, str, bool], QuotaLine] = {}
        self._draining = False
        self._returner = QuotaReturner(billing, clock, self._limits)

    def check(self, principal: KeyPrincipal) -> None:
        """See `ports.Quotas.check`."""
        if not principal.limits():
            return
        line = self._lines.get((principal.account_id, principal.key_id, "", False))
        if line is not None:
            now_s = self._clock.monotonic_s()
            line.follow(principal, now_s)
            error = line.gone(0, now_s)
            if error is not None:
                raise error

    async def admit(
        self,
        principal: KeyPrincipal,
        tokens: int,
        *,
        model_id: str = "",
        model_only: bool = False,
    ) -> QuotaTicket | None:
        """See `ports.Quotas.admit`."""
        model_id = principal.scoped.limited_model(model_id)
        if not limits_of(principal, model_id, model_only):
            return None
        if self._draining:
            raise Unavailable(_STOPPING, retry_after_s=1)
        line = self._line(principal, model_id, model_only)
        now_s = self._clock.monotonic_s()
        line.follow(principal, now_s)
        ticket = line.take(tokens, now_s)
        if ticket is not None:
            return ticket
        error = too_large_error(tokens, line.limits) or line.gone(tokens, now_s)
        if error is not None:
            raise error
        return await self._wait(line, tokens)

    def settle(self, ticket: QuotaTicket, actual_tokens: int) -> None:
        """See `ports.Quotas.settle`."""
        line = self._lines[ticket.account_id, ticket.key_id, ticket.model_id, ticket.model_only]
        line.purse.settle(ticket, actual_tokens)
        if actual_tokens < ticket.tokens:
            line.forget_gone_tokens()
        if line.waiters:
            line.freed.set()

    def standing(self, principal: KeyPrincipal, *, model_id: str = "") -> Sequence[QuotaMeter]:
        """See `ports.Quotas.standing`."""
        model_id = principal.scoped.limited_model(model_id)
        line = self._lines.get((principal.account_id, principal.key_id, model_id, False))
        return () if line is None else line.meters(self._clock.monotonic_s())

    async def meters(self, principal: KeyPrincipal) -> Sequence[QuotaMeter]:
        """See `ports.Quotas.meters`. What this worker has unused counts as left."""
        if not principal.limits():
            return ()
        account_id, key_id = principal.account_id, principal.key_id
        free = self._free(lambda purse: (purse.account_id, purse.key_id) == (account_id, key_id))
        found = await self._billing.meters(account_id, key_id)
        return [_shown(meter, free[meter.limit == "tpm"]) for meter in found]

    async def account_meters(self, account_id: AccountId) -> Sequence[QuotaMeter]:
        """See `ports.Quotas.account_meters`. What this worker has unused counts as left."""
        free = self._free(lambda purse: purse.account_id == account_id)
        found = await self._billing.account_meters(account_id)
        return [_shown(meter, free[meter.limit == "tpm"]) for meter in found]

    def _free(self, owns: Callable[[QuotaPurse], bool]) -> tuple[int, int]:
        """Requests and tokens that this worker has unused in the purses that are meant."""
        now_s = self._clock.monotonic_s()
        mine = [
            line.purse.free(now_s)
            for line in self._lines.values()
            if owns(line.purse) and not line.purse.model_only
        ]
        return sum(one for one, _ in mine), sum(one for _, one in mine)

    @property
    def running(self) -> int:
        """How many requests have a ticket."""
        return sum(line.purse.running for line in self._lines.values())

    async def run(self) -> None:
        """Returns what is idle or used up, until cancelled."""
        returning = asyncio.create_task(self._returner.run(lambda: list(self._lines.values())))
        try:
            while True:
                await self._clock.sleep(self._limits.sweep_every_s)
                self.sweep(idle_s=self._limits.idle_s)
        finally:
            returning.cancel()

    def sweep(self, *, idle_s: float) -> None:
        """Closes leases that were not used for so long; forgets keys of which nothing is left."""
        now_s = self._clock.monotonic_s()
        for ref, line in list(self._lines.items()):
            line.purse.close(now_s, idle_s=idle_s)
            line.purse.forget(now_s)
            if line.purse.empty and not line.waiters and line.task is None:
                del self._lines[ref]
        self._returner.wake(corrections=True)

    async def drain(self) -> None:
        """Refuses new requests and gives everything back; `run` must be under way, and the caller
        bounds the wait.
        """
        self._draining = True
        for line in self._lines.values():
            line.refuse(Unavailable(_STOPPING, retry_after_s=1))
        asking = [line.task for line in self._lines.values() if line.task is not None]
        if asking:
            await asyncio.wait(asking)
        while True:
            self.sweep(idle_s=0.0)
            now_s = self._clock.monotonic_s()
            lines = self._lines.values()
            if not self._returner.pending and not any(line.purse.due(now_s) for line in lines):
                return
            await self._returner.progress()

    def _line(self, principal: KeyPrincipal, model_id: str, model_only: bool) -> QuotaLine:
        ref = (principal.account_id, principal.key_id, model_id, model_only)
        line = self._lines.get(ref)
        if line is None:
            window_s = self._limits.rate_window_s
            line = QuotaLine(
                principal, rate_window_s=window_s, model_id=model_id, model_only=model_only
            )
            self._lines[ref] = line
        return line

    async def _wait(self, line: QuotaLine, tokens: int) -> QuotaTicket:
        if len(line.waiters) >= self._limits.waiters_max:
            raise Unavailable("too many requests wait for this key's quota", retry_after_s=1)
        future: asyncio.Future[QuotaTicket] = asyncio.get_running_loop().create_future()
        deadline_s = self._clock.monotonic_s() + self._limits.place_deadline_s
        line.waiters.append(Waiter(tokens, future, deadline_s))
        if line.task is None:
            line.task = asyncio.create_task(self._fill(line))
        try:
            return await future
        except asyncio.CancelledError:
            # The ticket may have been given between the cancelling and this line.
            if future.done() and not future.cancelled() and future.exception() is None:
                self.settle(future.result(), 0)
            raise

    async def _fill(self, line: QuotaLine) -> None:
        """Asks billing, one question at a time, until nobody waits any more."""
        try:
            while True:
                now_s = self._clock.monotonic_s()
                line.expire(now_s)
                line.serve(now_s)
                if not line.waiters:
                    return
                await self._ask(line)
        except AppError as error:
            line.refuse(error)
        except Exception:  # noqa: BLE001 - the edge of a task: whoever waits must hear of it
            _log.exception("asking_for_quota_failed", key_id=line.purse.key_id)
            line.refuse(no_answer())
        finally:
            line.task = None

    async def _ask(self, line: QuotaLine) -> None:
        # What is used up is told first: billing then knows what is gone and what is only held.
        if line.purse.close(self._clock.monotonic_s(), idle_s=self._limits.idle_s):
            self._returner.wake()
        draw = self._question(line)
        asked_s = self._clock.monotonic_s()
        answer, asked_s = await self._answer(line, draw)
        if answer is None:
            return
        line.learn(answer.meters, asked_s)
        match answer:
            case Lease():
                line.purse.add(answer, asked_s=asked_s)
                line.count_from(asked_s)
                if not line.serve(self._clock.monotonic_s()):
                    # Too short-lived to be of use: never hoard by asking on.
                    line.purse.close(self._clock.monotonic_s(), idle_s=0.0)
                    await self._pause(line, self._limits.held_retry_max_s)
            case Refusal():
                await self._refused(line, answer, draw.needed_tokens)

    def _question(self, line: QuotaLine) -> Draw:
        """For the smallest that waits: where that is refused, so is everybody."""
        now_s = self._clock.monotonic_s()
        horizon_s = self._limits.horizon_s
        more_requests, more_tokens = line.growth(now_s, horizon_s)
        return Draw(
            lease_id=self._make_lease_id(),
            account_id=line.purse.account_id,
            key_id=line.purse.key_id,
            key_version=line.version,
            needed_requests=1,
            wanted_requests=len(line.waiters) + more_requests,
            needed_tokens=min(waiter.tokens for waiter in line.waiters),
            wanted_tokens=sum(waiter.tokens for waiter in line.waiters) + more_tokens,
            model_id=line.purse.model_id,
            model_scopes_only=line.purse.model_only,
        )

    async def _answer(self, line: QuotaLine, draw: Draw) -> tuple[Lease | Refusal | None, float]:
        """Billing's answer and when it was asked for; None once nobody waits for it any more."""
        backoff_s = self._limits.backoff_first_s
        while True:
            asked_s = self._clock.monotonic_s()
            try:
                timeout_s = self._patience_s(line, asked_s)
                return await self._billing.draw(draw, timeout_s=timeout_s), asked_s
            except AppError as error:
                if not answer_is_uncertain(error):
                    _log.error("quota_request_refused", error=error.message)
                    raise Unavailable("billing does not lend", retry_after_s=1) from error
            line.expire(self._clock.monotonic_s())
            if not line.waiters:
                self._returner.add_unknown(draw)
                return None, asked_s
            await self._clock.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, self._limits.held_retry_max_s)

    def _patience_s(self, line: QuotaLine, now_s: float) -> float:
        """How long one call may take: until the first who waits must be refused."""
        first_s = min(waiter.deadline_s for waiter in line.waiters)
        return min(self._limits.rpc_timeout_s, max(first_s - now_s, self._limits.backoff_first_s))

    async def _refused(self, line: QuotaLine, refusal: Refusal, tokens: int) -> None:
        """Nothing was lent. What is held may come back; what is used up will not."""
        now_s = self._clock.monotonic_s()
        if refusal.limit == "key_inactive":
            if not refusal.held:
                line.refuse(Forbidden("the key or its account is suspended"))
                return
            problem: AppError = Unavailable("billing does not know the key yet", retry_after_s=1)
        else:
            problem = rate_limit_error(refusal)
            if not refusal.held and line.purse.due(now_s):
                # Billing does not know yet what answers did not use of what was set aside.
                await self._returner.return_all(line)
                return
            if not refusal.held:
                line.learn_gone(refusal, tokens, now_s=now_s, known_s=self._limits.gone_s)
                line.refuse(problem, tokens_from=tokens)
                return
        for waiter in line.waiters:
            waiter.problem = problem
        # The rest of our own leases may be what is missing, here or at another worker.
        if line.purse.close(now_s, idle_s=0.0) or line.purse.due(now_s):
            await self._returner.return_all(line)
        await self._pause(line, refusal.retry_after_s)

    async def _pause(self, line: QuotaLine, seconds: float) -> None:
        """Waits for tokens to become free here, or for the time to ask again."""
        bounded_s = min(max(seconds, self._limits.held_retry_min_s), self._limits.held_retry_max_s)
        line.freed.clear()
        waits = {
            asyncio.ensure_future(self._clock.sleep(bounded_s)),
            asyncio.ensure_future(line.freed.wait()),
        }
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


def _shown(meter: Meter, free: int) -> QuotaMeter:
    """A limit with what this worker has unused of it."""
    left = min(meter.limit_value, meter.left + free)
    return QuotaMeter(meter.limit, meter.limit_value, left, meter.resets_in_s, meter.scope)
