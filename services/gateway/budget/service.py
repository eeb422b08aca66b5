"""The budget: holds from the purse where it has the money, one question to billing where not.

Fails closed: no answer from billing within the deadline is no money. What billing may have lent
without our hearing of it is asked about, under the same grant id, until it is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from services.common.clock import Clock
from services.common.errors import AppError, Forbidden, Unavailable
from services.common.ids import AccountId, GrantId, KeyId, UsageId, WorkerId, new_id
from services.common.telemetry import get_logger
from services.gateway.budget.closer import GrantCloser, answer_is_uncertain
from services.gateway.budget.limits import BudgetLimits
from services.gateway.budget.line import Line, Waiter, no_answer, spend_limit_error
from services.gateway.budget.ports import (
    Grant,
    GrantLog,
    GrantRequest,
    Grants,
    GrantTotal,
    Refusal,
)
from services.gateway.budget.purse import LentGrant, Purse
from services.gateway.budget.renewal import Renewals
from services.gateway.ports import Hold, HoldRequest

_log = get_logger(__name__)
NO_GRANT = GrantId("")


def new_grant_id() -> GrantId:
    """A grant id no one else has."""
    return GrantId(new_id("gr"))


class PurseBudget:
    """The `Budget` of one worker. Create it inside a running loop; `run` closes idle grants."""

    def __init__(
        self,
        billing: Grants,
        log: GrantLog,
        *,
        worker_id: WorkerId,
        clock: Clock,
        limits: BudgetLimits | None = None,
        make_grant_id: Callable[[], GrantId] = new_grant_id,
    ) -> None:
        self._billing = billing
        self._log = log
        self._worker_id = worker_id
        self._clock = clock
        self._limits = limits or BudgetLimits()
        self._make_grant_id = make_grant_id
        # By account, and in it by key and model; no model where the purse is for any.
        self._accounts: dict[AccountId, dict[tuple[KeyId, str], Line]] = {}
        self._free: set[UsageId] = set()
        self._draining = False
        self.closer = GrantCloser(billing, log, clock=clock, limits=self._limits)
        self.renewals = Renewals(billing, clock=clock, limits=self._limits, recall=self._recall)

    async def place(self, request: HoldRequest) -> Hold:
        """See `ports.Budget.place`."""
        if self._draining:
            raise Unavailable("this worker is stopping", retry_after_s=1)
        principal = request.principal
        if request.full_nanousd == 0 and request.price.is_free:
            assert request.usage_id not in self._free, f"{request.usage_id} is held already"
            self._free.add(request.usage_id)
            return Hold(request.usage_id, NO_GRANT, 0, principal.account_id, principal.key_id)
        model_id = principal.scoped.capped_model(request.model_id)
        line = self._line(principal.account_id, principal.key_id, model_id)
        line.follow(principal)
        # Also past others that wait: one large request must not stop every small one behind it.
        hold = line.purse.take(request.usage_id, request.full_nanousd, self._clock.now_ms())
        if hold is not None:
            return hold
        return await self._wait(line, request)

    async def grow(self, hold: Hold, *, more_nanousd: int, least_nanousd: int) -> None:
        """See `ports.Budget.grow`."""
        assert hold.grant_id, f"{hold.usage_id} is free and cannot grow"
        line = self._accounts[hold.account_id][hold.key_id, hold.model_id]
        await self.renewals.grow(line, hold, more_nanousd=more_nanousd, least_nanousd=least_nanousd)

    def settle(self, hold: Hold, cost_nanousd: int) -> None:
        """See `ports.Budget.settle`."""
        if not hold.grant_id:
            assert cost_nanousd == 0, f"{hold.usage_id} was free and cost {cost_nanousd}"
            self._free.remove(hold.usage_id)
            return
        line = self._accounts[hold.account_id][hold.key_id, hold.model_id]
        line.purse.settle(hold, cost_nanousd, self._clock.now_ms())
        if cost_nanousd:
            line.rate.add(cost_nanousd, self._clock.monotonic_s())
        if line.waiters:
            line.freed.set()

    def release(self, hold: Hold) -> None:
        """See `ports.Budget.release`."""
        self.settle(hold, 0)

    @property
    def holds(self) -> int:
        """How many requests hold money, or are let in free."""
        return len(self._free) + sum(line.purse.holds for line in self._lines())

    @property
    def grants(self) -> list[LentGrant]:
        """Every open grant."""
        return [lent for line in self._lines() for lent in line.purse.grants]

    async def run(self) -> None:
        """Renews what is in use, closes what is idle or wanted elsewhere, until cancelled."""
        others = [
            asyncio.create_task(self.closer.run()),
            asyncio.create_task(self._heed_recalls()),
        ]
        try:
            while True:
                await self._clock.sleep(self._limits.sweep_every_s)
                self.sweep(idle_ms=int(self._limits.idle_s * 1000))
                for line in self._lines():
                    self.renewals.keep(line)
        finally:
            for other in others:
                other.cancel()

    async def _heed_recalls(self) -> None:
        """Gives back idle money that requests at other workers wait for. Asks only while there is
        some, and never on the path of a request.
        """
        while True:
            await self._clock.sleep(self._limits.recall_every_s)
            accounts = {
                account_id
                for account_id, lines in self._accounts.items()
                if any(lent.free_nanousd > 0 for one in lines.values() for lent in one.purse.grants)
            }
            if not accounts:
                continue
            try:
                timeout_s = self._limits.rpc_timeout_s
                recalls = await self._billing.recalls(accounts, timeout_s=timeout_s)
            except AppError:
                # Billing is away; what is idle goes back in time anyway.
                continue
            for account_id, key_id in recalls:
                for line in list(self._accounts.get(account_id, {}).values()):
                    if key_id in ("", line.purse.key_id):
                        self._give_back(line)

    def sweep(self, *, idle_ms: int) -> None:
        """Hands grants without holds, unused for so long, to the closer; forgets empty purses."""
        now_ms = self._clock.now_ms()
        for line in list(self._lines()):
            self._return(line, line.purse.returnable(now_ms, idle_ms=idle_ms))
            if line.purse.empty and not line.waiters and line.task is None:
                account = self._accounts[line.purse.account_id]
                del account[line.purse.key_id, line.purse.model_id]
                if not account:
                    del self._accounts[line.purse.account_id]

    async def drain(self) -> None:
        """Refuses new holds and gives every grant back; returns when billing has them all.

        Grants that still have holds stay open: the next start closes them from the journal.
        `run` must be under way, and the caller bounds the wait.
        """
        self._draining = True
        for line in self._lines():
            line.refuse(line.waiters, Unavailable("this worker is stopping", retry_after_s=1))
        asking = [line.task for line in self._lines() if line.task is not None]
        if asking:
            await asyncio.wait(asking)
        self.sweep(idle_ms=0)
        await self.closer.wait_empty()

    def _lines(self) -> Iterator[Line]:
        return (line for lines in self._accounts.values() for line in lines.values())

    def _line(self, account_id: AccountId, key_id: KeyId, model_id: str) -> Line:
        lines = self._accounts.get(account_id)
        if lines is None:
            lines = self._accounts[account_id] = {}
        line = lines.get((key_id, model_id))
        if line is None:
            purse = Purse(account_id, key_id, model_id)
            line = Line(purse, spend_window_s=self._limits.spend_window_s)
            lines[key_id, model_id] = line
        return line

    async def _wait(self, line: Line, request: HoldRequest) -> Hold:
        if len(line.waiters) >= self._limits.waiters_max:
            raise Unavailable("too many requests wait for this key's money", retry_after_s=1)
        future: asyncio.Future[Hold] = asyncio.get_running_loop().create_future()
        deadline_s = self._clock.monotonic_s() + self._limits.place_deadline_s
        line.waiters.append(Waiter(request, future, deadline_s))
        if line.task is None:
            line.task = asyncio.create_task(self._fill(line))
        try:
            return await future
        except asyncio.CancelledError:
            # The hold may have been given between the cancelling and this line.
            if future.done() and not future.cancelled() and future.exception() is None:
                self.release(future.result())
            raise

    async def _fill(self, line: Line) -> None:
        """Asks billing, one question at a time, until nobody waits any more."""
        try:
            while True:
                line.expire(self._clock.monotonic_s())
                line.serve(self._clock.now_ms(), clamped=False)
                if not line.waiters:
                    return
                await self._ask(line, line.next_batch())
        except AppError as error:
            line.refuse(line.waiters, error)
        except Exception:  # noqa: BLE001 - the edge of a task: whoever waits must hear of it
            _log.exception("asking_for_money_failed", key_id=line.purse.key_id)
            line.refuse(line.waiters, no_answer())
        finally:
            line.task = None

    async def _ask(self, line: Line, batch: list[Waiter]) -> None:
        request = self._question(line, batch)
        answer, doubtful = await self._answer(line, request)
        match answer:
            case Grant():
                now_ms = self._clock.now_ms()
                fraction = self._limits.usable_fraction
                line.purse.add(answer, now_ms=now_ms, usable_fraction=fraction)
                scarce = answer.amount_nanousd < request.needed_nanousd
                line.serve(now_ms, clamped=scarce)
                if not any(waiter.future.done() for waiter in batch):
                    # Too short-lived or too small to be of use: never hoard by asking on.
                    self._return(line, line.purse.returnable(now_ms, idle_ms=0))
                    await self._pause(line, self._limits.held_retry_max_s)
            case Refusal():
                self._not_lent(request, doubtful=doubtful)
                await self._refused(line, batch, answer)

    def _question(self, line: Line, batch: list[Waiter]) -> GrantRequest:
        needed = sum(waiter.request.full_nanousd for waiter in batch)
        least = min(waiter.request.bound_nanousd for waiter in batch)
        recent = line.rate.per_second(self._clock.monotonic_s())
        # Holds are mostly larger than costs, so room for as much again saves a question each time;
        # what is held now says how much the key has in flight at once.
        growth = needed + line.purse.held_nanousd + int(recent * self._limits.horizon_s)
        return GrantRequest(
            grant_id=self._make_grant_id(),
            account_id=line.purse.account_id,
            key_id=line.purse.key_id,
            key_version=max(waiter.request.principal.key_version for waiter in batch),
            needed_nanousd=needed,
            least_nanousd=least if least < needed else 0,
            wanted_nanousd=needed + growth,
            model_id=line.purse.model_id,
        )

    async def _answer(self, line: Line, request: GrantRequest) -> tuple[Grant | Refusal, bool]:
        """Billing's answer, however long it takes; who waits is refused at its own deadline.

        True with it where an earlier try was given up: that one may still open the grant.
        """
        self._log.grant_opened(self._unspent(request))
        doubtful = False
        backoff_s = self._limits.backoff_first_s
        while True:
            try:
                answer, _ = await asyncio.gather(
                    self._billing.open(request, timeout_s=self._patience_s(line)),
                    self._log.sync(),
                )
            except AppError as error:
                if not answer_is_uncertain(error):
                    self._not_lent(request, doubtful=doubtful)
                    _log.error("grant_request_refused", error=error.message)
                    raise Unavailable("billing does not lend", retry_after_s=1) from error
            else:
                return answer, doubtful
            doubtful = True
            line.expire(self._clock.monotonic_s())
            await self._clock.sleep(backoff_s)
            ceiling_s = self._limits.held_retry_max_s if line.waiters else None
            backoff_s = min(2 * backoff_s, ceiling_s or self._limits.backoff_max_s)

    def _unspent(self, request: GrantRequest) -> GrantTotal:
        return GrantTotal(request.grant_id, self._worker_id, request.account_id, request.key_id)

    def _not_lent(self, request: GrantRequest, *, doubtful: bool) -> None:
        """Forgets a grant that was refused; closes it where a try that was given up may open it."""
        if doubtful:
            self.closer.add(self._unspent(request))
        else:
            self._log.grant_closed(request.grant_id)

    def _patience_s(self, line: Line) -> float:
        """How long one call may take: until the first who waits must be refused."""
        if not line.waiters:
            return self._limits.rpc_timeout_s
        first_s = min(waiter.deadline_s for waiter in line.waiters)
        left_s = first_s - self._clock.monotonic_s()
        return min(self._limits.rpc_timeout_s, max(left_s, self._limits.backoff_first_s))

    async def _refused(self, line: Line, batch: list[Waiter], refusal: Refusal) -> None:
        """Nothing was lent. Money that is held may come back; money that is gone will not."""
        line.serve(self._clock.now_ms(), clamped=True)
        if refusal.limit == "key_inactive":
            if not refusal.held:
                line.refuse(batch, Forbidden("the key or its account is suspended"))
                return
            problem: AppError = Unavailable("billing does not know the key yet", retry_after_s=1)
        else:
            problem = spend_limit_error(refusal)
            if not refusal.held:
                line.refuse(batch, problem)
                return
        line.learn_held(batch, problem)
        returned = self._recall(line, refusal)
        if any(not waiter.known_held for waiter in line.waiters):
            return
        pause_s = refusal.retry_after_ms / 1000
        if returned:
            pause_s = self._limits.held_retry_min_s
        await self._pause(line, pause_s)

    def _recall(self, line: Line, refusal: Refusal) -> int:
        """Gives back what this worker has idle under the limit that binds; in how many grants."""
        lines = [line] if refusal.limit == "model_cap" else self._lines_under(line, refusal)
        return sum(self._give_back(other) for other in lines)

    def _lines_under(self, line: Line, refusal: Refusal) -> list[Line]:
        key_id = line.purse.key_id if refusal.limit == "key_cap" else ""
        account = self._accounts[line.purse.account_id]
        return [one for one in account.values() if key_id in ("", one.purse.key_id)]

    def _give_back(self, line: Line) -> int:
        """Gives back grants without holds, and what is free in the others; how many."""
        idle = line.purse.returnable(self._clock.now_ms(), idle_ms=0)
        return self._return(line, idle) + self.renewals.give_back(line)

    def _return(self, line: Line, grant_ids: list[GrantId]) -> int:
        for grant_id in grant_ids:
            lent = line.purse.remove(grant_id)
            self.closer.add(
                GrantTotal(
                    grant_id,
                    self._worker_id,
                    line.purse.account_id,
                    line.purse.key_id,
                    lent.spent_nanousd,
                )
            )
        return len(grant_ids)

    async def _pause(self, line: Line, seconds: float) -> None:
        """Waits for money to become free here, or for the time to ask again."""
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
