"""Changes of grants that are in a purse: more time for what runs long, more money for holds that
grow, less of it where others wait.

A grant has one question to billing under way at a time, under the next number, asked again until
its answer is known. A grant thus changes at billing exactly as it does here, whatever is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from services.common.clock import Clock
from services.common.errors import AppError, Forbidden, Unavailable
from services.common.ids import GrantId
from services.common.telemetry import get_logger
from services.gateway.budget.closer import answer_is_uncertain
from services.gateway.budget.limits import BudgetLimits
from services.gateway.budget.line import Line, no_answer, spend_limit_error
from services.gateway.budget.ports import Grant, Grants, Refusal, RenewRequest
from services.gateway.budget.purse import LentGrant
from services.gateway.ports import Hold

_log = get_logger(__name__)


@dataclass(slots=True, eq=False)
class Growth:
    """A hold that waits for more money in its grant."""

    hold: Hold
    more_nanousd: int
    least_nanousd: int
    future: asyncio.Future[None]
    # In monotonic seconds.
    deadline_s: float
    problem: AppError | None = None


@dataclass(slots=True, eq=False)
class _Work:
    """What is to be done about one grant, and the task that does it."""

    line: Line
    lent: LentGrant
    growths: list[Growth] = field(default_factory=list)
    # For whom the question under way is; who comes later is in the next.
    asked: list[Growth] = field(default_factory=list)
    give_back: bool = False
    task: asyncio.Task[None] | None = None


class Renewals:
    """All renewals of one worker. `recall` gives back what the worker has idle under a limit."""

    def __init__(
        self,
        billing: Grants,
        *,
        clock: Clock,
        limits: BudgetLimits,
        recall: Callable[[Line, Refusal], int],
    ) -> None:
        self._billing = billing
        self._clock = clock
        self._limits = limits
        self._recall = recall
        self._works: dict[GrantId, _Work] = {}

    async def grow(self, line: Line, hold: Hold, *, more_nanousd: int, least_nanousd: int) -> None:
        """See `ports.Budget.grow`."""
        lent = line.purse.grant_of(hold)
        if lent.free_nanousd >= more_nanousd and lent.renewable:
            line.purse.grow(hold, more_nanousd)
            return
        if not lent.renewable:
            raise Unavailable("billing does not renew this request's grant", retry_after_s=1)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        deadline_s = self._clock.monotonic_s() + self._limits.place_deadline_s
        work = self._work(line, lent)
        work.growths.append(Growth(hold, more_nanousd, least_nanousd, future, deadline_s))
        self._start(work)
        await future

    def keep(self, line: Line) -> None:
        """Has those grants renewed in good time that requests still hold money in."""
        now_ms = self._clock.now_ms()
        for lent in line.purse.grants:
            if lent.is_due(now_ms):
                self._start(self._work(line, lent))

    def give_back(self, line: Line) -> int:
        """Gives back what is free in grants that are in use; in how many."""
        found = [
            lent
            for lent in line.purse.grants
            if lent.holds and lent.free_nanousd > 0 and lent.renewable
        ]
        for lent in found:
            work = self._work(line, lent)
            work.give_back = True
            self._start(work)
        return len(found)

    def _work(self, line: Line, lent: LentGrant) -> _Work:
        return self._works.setdefault(lent.grant_id, _Work(line, lent))

    def _start(self, work: _Work) -> None:
        if work.task is None:
            work.task = asyncio.create_task(self._run(work))

    async def _run(self, work: _Work) -> None:
        """Asks billing, one question at a time, until nothing is to be done."""
        try:
            while True:
                self._serve(work, clamped=False)
                request = self._next(work)
                if request is None:
                    return
                await self._take(work, request, await self._answer(work, request))
        except AppError as error:
            # For ever: what is held runs on in what was lent, and nothing new is taken from it.
            work.lent.renewable = False
            _log.error("grant_not_renewed", grant_id=work.lent.grant_id, error=error.message)
            _refuse(work.growths, Unavailable("billing does not renew this grant", retry_after_s=1))
        except Exception:  # noqa: BLE001 - the edge of a task: whoever waits must hear of it
            _log.exception("renewing_failed", grant_id=work.lent.grant_id)
            _refuse(work.growths, no_answer())
        finally:
            self._works.pop(work.lent.grant_id, None)

    def _next(self, work: _Work) -> RenewRequest | None:
        """The next question; None where there is none."""
        lent, purse = work.lent, work.line.purse
        needed = least = wanted = back = 0
        if lent.returned or not lent.renewable:
            return None
        free = lent.free_nanousd
        if work.growths:
            asked = sum(growth.more_nanousd for growth in work.growths)
            needed = max(1, asked - free)
            least = max(1, min(growth.least_nanousd for growth in work.growths) - free)
            wanted = needed + asked
        elif work.give_back and free > 0:
            back = free
            # Before it is asked, so that nobody can be given it meanwhile.
            lent.amount_nanousd -= back
        elif not lent.is_due(self._clock.now_ms()):
            return None
        work.give_back = work.give_back and bool(work.growths)
        work.asked = list(work.growths)
        return RenewRequest(
            grant_id=lent.grant_id,
            account_id=purse.account_id,
            key_id=purse.key_id,
            number=lent.renewals + 1,
            key_version=work.line.key_version,
            needed_nanousd=needed,
            least_nanousd=least if least < needed else 0,
            wanted_nanousd=wanted,
            give_back_nanousd=back,
        )

    async def _answer(self, work: _Work, request: RenewRequest) -> Grant | Refusal | None:
        """Billing's answer, however long it takes; None where the grant has left the purse."""
        backoff_s = self._limits.backoff_first_s
        while not work.lent.returned:
            try:
                return await self._billing.renew(request, timeout_s=self._limits.rpc_timeout_s)
            except AppError as error:
                if not answer_is_uncertain(error):
                    raise
            self._expire(work)
            await self._clock.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, self._limits.held_retry_max_s)
        return None

    async def _take(
        self, work: _Work, request: RenewRequest, answer: Grant | Refusal | None
    ) -> None:
        if isinstance(answer, Grant):
            fraction = self._limits.usable_fraction
            now_ms = self._clock.now_ms()
            work.lent.renewed(answer, request.number, now_ms=now_ms, usable_fraction=fraction)
            work.lent.check()
            self._serve(work, clamped=True)
            work.line.freed.set()
        elif isinstance(answer, Refusal) and not work.lent.returned:
            # Of a grant that went back meanwhile nobody holds anything, nor waits for more.
            self._serve(work, clamped=True)
            await self._refused(work, answer)
        self._expire(work)

    async def _refused(self, work: _Work, refusal: Refusal) -> None:
        """Money that is held may come back in time; money that is gone will not."""
        problem: AppError
        if refusal.limit == "key_inactive" and not refusal.held:
            problem = Forbidden("the key or its account is suspended")
        elif refusal.limit == "key_inactive":
            problem = Unavailable("billing does not know the key yet", retry_after_s=1)
        else:
            problem = spend_limit_error(refusal)
        # What other requests hold in this very grant may come back too.
        held = refusal.held or (refusal.limit != "key_inactive" and work.lent.holds > 1)
        if not held:
            _refuse(work.asked, problem)
            return
        for growth in work.asked:
            growth.problem = problem
        self._recall(work.line, refusal)
        await self._clock.sleep(
            min(max(refusal.retry_after_ms / 1000, 0.02), self._limits.held_retry_max_s)
        )

    def _serve(self, work: _Work, *, clamped: bool) -> None:
        """Grows holds, first come first served: in full, and then, if so told, by less."""
        self._expire(work)
        purse, lent = work.line.purse, work.lent
        for growth in work.growths:
            free = lent.free_nanousd
            enough = free >= growth.more_nanousd or (clamped and free >= growth.least_nanousd > 0)
            if enough:
                purse.grow(growth.hold, min(free, growth.more_nanousd))
                growth.future.set_result(None)
        work.growths = [growth for growth in work.growths if not growth.future.done()]

    def _expire(self, work: _Work) -> None:
        """Refuses who has waited long enough; forgets whose request has ended."""
        now_s = self._clock.monotonic_s()
        for growth in work.growths:
            if growth.future.done():
                continue
            if not work.line.purse.has(growth.hold):
                growth.future.cancel()
            elif now_s >= growth.deadline_s:
                growth.future.set_exception(growth.problem or no_answer())
        work.growths = [growth for growth in work.growths if not growth.future.done()]


def _refuse(growths: Sequence[Growth], problem: AppError) -> None:
    for growth in growths:
        if not growth.future.done():
            growth.future.set_exception(problem)
