"""What the auditor checks at the workers: every hold, every refusal, every record."""

from __future__ import annotations

from services.common.errors import AppError, Forbidden, SpendLimitExceeded
from services.gateway.ports import Hold
from tests.sim.auditor import Auditor
from tests.sim.books import Loan
from tests.sim.facts import DAY, DAY_MS, Ask

# A question that others had under way may be the one whose answer a request hears of.
QUESTION_S = 2.5


class WorkerAudit:
    """The holds of all workers as the auditor counts them."""

    def __init__(self, auditor: Auditor) -> None:
        self.auditor = auditor
        self.world = auditor.world
        # By grant: what each request holds now, what was spent in all, what went over.
        self.holds: dict[str, dict[str, int]] = {}
        self.spent: dict[str, int] = {}
        self.over: dict[str, int] = {}
        auditor.books.on_shrunk = self._shrunk

    def asked(self, ask: Ask) -> None:
        """A request begins."""
        self.auditor.asks[ask.usage_id] = ask

    def held(self, ask: Ask, hold: Hold, now_ms: int) -> None:
        """The budget gave a hold."""
        ask.grant_id, ask.held = hold.grant_id, hold.amount_nanousd
        if ask.tariff.is_free:
            self._require("free_without_hold", ask, not hold.grant_id and not ask.held)
            return
        self._require("hold_size", ask, ask.bound <= ask.held <= ask.full)
        loan = self.auditor.books.loans.get(ask.grant_id)
        if loan is None:
            self.world.fail("hold_in_grant", f"{ask} in a grant nobody opened")
            return
        self._require("hold_in_open_grant", ask, loan.status in ("open", "unresolved"))
        mine = (loan.account_id, loan.key_id, loan.worker)
        self._require("hold_place", ask, mine == (ask.key.account_id, ask.key.key_id, ask.worker))
        self._require("hold_in_time", ask, now_ms < loan.expires_ms)
        self.holds.setdefault(ask.grant_id, {})[ask.usage_id] = ask.held
        self._require("holds_fit", ask, self._used(loan) <= 0)

    def grown(self, ask: Ask, hold: Hold, more: int, least: int) -> None:
        """The budget put more under a hold."""
        grew = hold.amount_nanousd - ask.held
        self._require("growth_size", ask, least <= grew <= more)
        self._require("growth_in_grant", ask, hold.grant_id == ask.grant_id)
        ask.held = hold.amount_nanousd
        loan = self.auditor.books.loans[ask.grant_id]
        self._require("growth_in_open_grant", ask, loan.status in ("open", "unresolved"))
        self.holds[ask.grant_id][ask.usage_id] = ask.held
        self._require("growths_fit", ask, self._used(loan) <= 0)

    def not_grown(self, ask: Ask, error: AppError, least: int, since_s: float) -> None:
        """The budget refused to put more under a hold."""
        self.world.note(f"not grown {ask.usage_id} {error.code} {error.extra}")
        # A grant that was overrun lacks what went over too, before any hold in it can grow.
        if isinstance(error, SpendLimitExceeded) and not self.over.get(ask.grant_id):
            limit, state = error.extra["limit"], error.extra["state"]
            if state == "gone":
                # Its own grant's money does not come back to it.
                least += self.auditor.books.loans[ask.grant_id].peak
            self._justified(ask, limit, state, bound=least, since_s=since_s)

    def _shrunk(self, loan: Loan) -> None:
        """What a worker gave back it must not have under holds."""
        over = self._used(loan)
        self.world.require("shrunk_to_holds", over <= 0, lambda: f"{loan} is short of {over}")

    def _used(self, loan: Loan) -> int:
        """By how much holds and spend exceed the grant; overruns are no excess."""
        used = sum(self.holds.get(loan.grant_id, {}).values()) + self.spent.get(loan.grant_id, 0)
        return used - loan.amount - self.over.get(loan.grant_id, 0)

    def refused(self, ask: Ask, error: AppError) -> None:
        """The budget refused."""
        self.world.note(f"refused {ask.usage_id} {error.code} {error.extra}")
        if isinstance(error, Forbidden):
            told = any(not active for _, _, active in ask.key.published.values())
            self._require("forbidden_justified", ask, told)
        if isinstance(error, SpendLimitExceeded):
            limit, state = error.extra["limit"], error.extra["state"]
            self._justified(ask, limit, state, bound=ask.bound, since_s=ask.started_s)

    def _justified(self, ask: Ask, limit: str, state: str, *, bound: int, since_s: float) -> None:
        """402 only where the money was not there: held by others, or gone for good."""
        books = self.auditor.books
        by_key = limit == "key_cap"
        if by_key:
            purses = [books.key(ask.key.key_id)]
        elif limit == "balance":
            purses = [books.account(ask.key.account_id)]
        else:
            purses = books.scoped.candidates(ask.key, limit, ask.model_id)
        slack_s = QUESTION_S if state == "held" else 0.0
        since_s -= slack_s
        windowed = limit != "balance" and any(purse.window == DAY for purse in purses)
        if windowed and self._midnight(since_s):
            return
        least = min(self.auditor.least(purse, since_s)[state] for purse in purses)
        if least >= bound:
            self.world.fail(
                "refusal_justified", f"{limit} {state}, but {least} was there of {bound} for {ask}"
            )

    def _midnight(self, since_s: float) -> bool:
        since_ms = self.world.start_ms + int(since_s * 1000) - 10_000
        return since_ms // DAY_MS != (self.world.now_ms() + 10_000) // DAY_MS

    def recording(self, ask: Ask, cost: int) -> None:
        """The event is handed to the journal: from here on it may be billed."""
        ask.cost = cost
        ask.overrun = max(0, cost - ask.held)
        if ask.overrun:
            self.over[ask.grant_id] = self.over.get(ask.grant_id, 0) + ask.overrun
            for purse in (
                self.auditor.books.key(ask.key.key_id),
                self.auditor.books.account(ask.key.account_id),
            ):
                purse.overrun += ask.overrun
            loan = self.auditor.books.loans.get(ask.grant_id)
            key_id, model_id = ask.key.key_id, ask.model_id
            found = {f"key_model:{key_id}/{model_id}", f"account_model:{model_id}"}
            self.auditor.books.scoped.overrun(
                ask.key.account_id, found | set(loan.scopes if loan else ()), ask.overrun
            )
        if ask.grant_id:
            # The hold ends inside of `record`, before it first waits.
            self.holds.get(ask.grant_id, {}).pop(ask.usage_id, None)
            self.spent[ask.grant_id] = self.spent.get(ask.grant_id, 0) + cost

    def voided(self, ask: Ask) -> None:
        """The journal could not take the event: it is not billed."""
        ask.void = True
        if ask.grant_id:
            self.spent[ask.grant_id] = self.spent.get(ask.grant_id, 0) - (ask.cost or 0)

    def released(self, ask: Ask) -> None:
        """The hold was given back before the request was let in."""
        self.holds.get(ask.grant_id, {}).pop(ask.usage_id, None)
        ask.grant_id, ask.held = "", 0

    def life_ended(self, worker: str, life: int, certain: bytes | None) -> None:
        """A worker died, and what it held in memory with it. Where the power went too, `certain` is
        what its disk has flushed: nobody can answer for the rest.
        """
        auditor = self.auditor
        for ask in auditor.asks.values():
            if (ask.worker, ask.life) == (worker, life):
                self.holds.get(ask.grant_id, {}).pop(ask.usage_id, None)
            if certain is not None and ask.worker == worker and not ask.sure:
                ask.forgotten |= ask.usage_id.encode() not in certain
        if certain is None:
            return
        for grant_id, question in auditor.books.asked.items():
            # Asked for, and lost before the question was flushed: no request ever held its money.
            unused = question.worker_id == worker and grant_id not in self.holds
            if unused and grant_id.encode() not in certain:
                auditor.books.forgotten.add(grant_id)

    def _require(self, name: str, ask: Ask, holds: bool) -> None:
        self.world.require(name, holds, lambda: str(ask))
