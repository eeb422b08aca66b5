"""The auditor's own ledger: folds every committed event in plain integers and doubts each one.

It knows what workers asked for, what the log holds and what requests must cost, and compares its
fold with billing's read tables after every commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from services.billing.domain.grants import GrantRules
from services.common.pb.mesh.billing.v1 import grants_pb2 as pb
from tests.sim.facts import DAY, Credit, Key, day_of
from tests.sim.scopes import UNBOUNDED, ScopeBooks
from tests.sim.world import World


@dataclass(slots=True)
class Loan:
    """One grant as the auditor has it."""

    grant_id: str
    account_id: str
    key_id: str
    worker: str
    amount: int
    expires_ms: int
    status: str = "open"
    settled: int = 0
    spent: int | None = None
    returned: int = 0
    renewals: int = 0
    # The most that it ever was.
    peak: int = 0

    scopes: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def ended(self) -> bool:
        """True where nothing will come of it any more."""
        return self.status in ("resolved", "written_off")

    @property
    def held(self) -> int:
        """What it takes out of the available money."""
        return max(0, self.amount - self.returned - self.settled)

    @property
    def closing(self) -> int:
        """What of that is spent for certain."""
        return self.held if self.status == "closed" else 0


@dataclass(slots=True)
class Purse:
    """What one account or one key has, spent and lent, now."""

    posted: int = 0
    held: int = 0
    closing: int = 0
    days: dict[int, int] = field(default_factory=dict)
    cap: int | None = None
    window: int = 1
    version: int = 0
    active: bool = False
    # (virtual second, available now, available if all open grants came back) after each change.
    past: list[tuple[float, int, int]] = field(default_factory=list)
    # The highest cap there ever was, and by how much requests went over their holds.
    cap_peak: int = 0
    overrun: int = 0

    def spent(self, day: int) -> int:
        """Spent in the window of that day."""
        return self.days.get(day, 0) if self.window == DAY else sum(self.days.values())

    def lend(self, amount: int, *, total: int | None, now_s: float, day: int) -> None:
        """More is lent, of `total` or else of the cap. It is remembered although the same commit
        may give it back: what was decided between the two had that little before it.
        """
        self.held += amount
        if total is None:
            total = UNBOUNDED if self.cap is None else self.cap - self.spent(day)
        self.past.append((now_s, total - self.held, total - self.closing))


class Books:
    """See the module. `charges` tells what a usage id in the log must cost and from when it is."""

    def __init__(self, world: World, rules: GrantRules) -> None:
        self.world = world
        self._ttl_ms, self._grace_ms = rules.ttl_ms, rules.grace_ms
        self._write_off_ms = rules.write_off_after_ms
        self.accounts: dict[str, Purse] = {}
        self.keys: dict[str, Purse] = {}
        self.scoped = ScopeBooks(world, Purse)
        # The model that each usage id in the log is for.
        self.models: dict[str, str] = {}
        self.loans: dict[str, Loan] = {}
        # Those that are not resolved, by account.
        self.by_account: dict[str, list[Loan]] = {}
        self.asked: dict[str, pb.OpenGrantRequest] = {}
        self.closes: dict[str, set[int]] = {}
        # By grant and number; a number that was refused may be asked again for something else.
        self.renewals: dict[tuple[str, int], list[pb.RenewGrantRequest]] = {}
        # Told of a grant that became smaller.
        self.on_shrunk: Callable[[Loan], None] = lambda loan: None
        self.owner_keys: dict[str, Key] = {}
        self.credits: dict[tuple[str, str], Credit] = {}
        self.credited: set[tuple[str, str]] = set()
        self.booked: dict[str, int] = {}
        self.charges: dict[str, tuple[str, str, str, int, int]] = {}
        self.sequences: dict[str, int] = {}
        self.causes: set[tuple[str, str]] = set()
        # Grants that their worker's machine forgot when it lost its power.
        self.forgotten: set[str] = set()
        self.events_seen = 0

    def fold(self, recorded: Iterable[Any]) -> set[str]:  # Any: production's records, read by name
        """Takes newly committed events; returns the accounts they touch."""
        touched = set()
        for one in recorded:
            self.events_seen += 1
            event = one.event
            name = type(event).__name__
            self.world.note(f"ledger {name} {_short(event)}")
            getattr(self, f"_{name}")(event, one.occurred_at_ms)
            touched.add(event.account_id)
        return touched

    def _require(self, name: str, holds: bool, what: Callable[[], str]) -> None:
        self.world.require(name, holds, what)

    def _TransactionPosted(self, event: Any, at_ms: int) -> None:
        account = event.account_id
        total = sum(entry.amount_nanousd for entry in event.entries)
        self._require("zero_sum", total == 0 and len(event.entries) >= 2, lambda: str(event))
        follows = event.sequence == self.sequences.get(account, 0) + 1
        self._require("sequence", follows, lambda: str(event))
        self.sequences[account] = event.sequence
        cause = (account, event.idempotency_key)
        self._require("once_per_cause", cause not in self.causes, lambda: f"again: {cause}")
        self.causes.add(cause)
        legs = {entry.ledger_account: entry.amount_nanousd for entry in event.entries}
        change = legs.get(f"wallet:{account}", 0)
        self.account(account).posted += change
        if event.kind == "usage":
            self._charged(event, -change)
        else:
            credit = self.credits.get((account, event.idempotency_key.removeprefix("credit:")))
            right = credit is not None and credit.amount == change
            self._require("credit", right, lambda: f"nobody gave {event}")
            self.credited.add((account, event.idempotency_key.removeprefix("credit:")))

    def _charged(self, event: Any, cost: int) -> None:  # Any: as above
        usage = event.usage_id
        self._require("settled_once", usage not in self.booked, lambda: f"{usage} twice")
        self.booked[usage] = cost
        charge = self.charges.get(usage)
        if charge is None:
            self.world.fail("booked_without_log", f"{usage} is not in the log")
            return
        account, key, grant, right_cost, admitted_ms = charge
        self._require("cost", cost == right_cost, lambda: f"{usage} {cost}, not {right_cost}")
        same = (event.account_id, event.key_id, event.grant_id) == (account, key, grant)
        self._require("charge_place", same, lambda: f"{usage} booked to {event}")
        purse = self.key(key)
        day = day_of(admitted_ms)
        purse.days[day] = purse.days.get(day, 0) + cost
        loan = self.loans.get(grant)
        if loan is None:
            self.world.fail("grant_unknown", f"{usage} was paid from {grant}")
            return
        model_id = self.models[usage]
        self.scoped.charged(loan, event, model_id=model_id, day=day, cost=cost)
        self._change(loan, "settled", loan.settled + cost)

    def _GrantOpened(self, event: Any, at_ms: int) -> None:
        asked = self.asked.get(event.grant_id)
        if asked is None or event.grant_id in self.loans:
            self.world.fail("grant_once", f"{event.grant_id} was not asked for, or is there")
            return
        account, key = self.account(event.account_id), self.key(event.key_id)
        amount, least = event.amount_nanousd, asked.least_nanousd or asked.needed_nanousd
        available = account.posted - account.held
        self._require(
            "grant_within_balance", amount <= available, lambda: f"{amount} of {available}"
        )
        if key.cap is not None:
            left = key.cap - key.spent(day_of(event.opened_at_ms)) - key.held
            self._require("grant_within_cap", amount <= left, lambda: f"{amount} of {left} {event}")
        fits = least <= amount <= max(asked.needed_nanousd, asked.wanted_nanousd)
        self._require("grant_size", fits, lambda: f"{amount}: {asked}")
        known = key.active and key.version >= asked.key_version
        self._require("grant_key", known, lambda: f"{event.key_id} {key.version}: {asked}")
        same = (asked.account_id, asked.key_id, asked.worker_id) == (
            event.account_id,
            event.key_id,
            event.worker_id,
        )
        self._require("grant_place", same, lambda: f"{event}: {asked}")
        lives = event.expires_at_ms - event.opened_at_ms == self._ttl_ms
        self._require("grant_life", lives, lambda: str(event))
        loan = Loan(
            event.grant_id,
            event.account_id,
            event.key_id,
            event.worker_id,
            0,
            event.expires_at_ms,
            scopes=self.scoped.lending(event.key_id, asked.model_id),
        )
        named = set(event.scopes) == set(loan.scopes)
        self._require("grant_scopes", named, lambda: f"{event}: {loan}")
        self.scoped.lent(loan, event, amount, event.opened_at_ms)
        self.loans[loan.grant_id] = loan
        self.by_account.setdefault(loan.account_id, []).append(loan)
        self._change(loan, "amount", amount)

    def _GrantRenewed(self, event: Any, at_ms: int) -> None:
        loan = self._loan(event.grant_id)
        if loan is None:
            return
        alive = loan.status in ("open", "unresolved")
        self._require("renewed_alive", alive, lambda: f"{loan} {event}")
        follows = event.number == loan.renewals + 1
        self._require("renewed_once", follows, lambda: f"{loan} {event}")
        asked = self.renewals.get((loan.grant_id, event.number), [])
        fits = any(_answers(event.added_nanousd, one) for one in asked)
        self._require("renewed_as_asked", fits, lambda: f"{event}: {asked}")
        expires_ms = max(loan.expires_ms, at_ms + self._ttl_ms)
        lives = event.expires_at_ms == expires_ms
        self._require("renewed_life", lives, lambda: f"{event}, not {expires_ms}")
        if event.added_nanousd > 0:
            self._lent_more(loan, event, at_ms)
        loan.renewals, loan.expires_ms = event.number, event.expires_at_ms
        self._change(loan, "amount", loan.amount + event.added_nanousd, "open")
        covers = loan.amount >= max(1, loan.settled) or event.added_nanousd >= 0
        self._require("shrunk_to_settled", covers, lambda: f"{loan} {event}")
        if event.added_nanousd < 0:
            self.on_shrunk(loan)

    def _lent_more(self, loan: Loan, event: Any, at_ms: int) -> None:
        account, key = self.account(loan.account_id), self.key(loan.key_id)
        available = account.posted - account.held
        within = event.added_nanousd <= available
        self._require("growth_within_balance", within, lambda: f"{event} of {available}")
        self._require("growth_key", key.active, lambda: f"{event}: {key}")
        if key.cap is not None:
            left = key.cap - key.spent(day_of(at_ms)) - key.held
            within = event.added_nanousd <= left
            self._require("growth_within_cap", within, lambda: f"{event} of {left}")
        self.scoped.lent(loan, event, event.added_nanousd, at_ms)

    def _GrantClosed(self, event: Any, at_ms: int) -> None:
        loan = self._loan(event.grant_id)
        if loan is None:
            return
        ends = loan.status in ("open", "unresolved")
        self._require("closed_once", ends, lambda: f"{loan} closed again")
        said = event.spent_nanousd in self.closes.get(loan.grant_id, set())
        self._require("closed_as_said", said, lambda: f"nobody said {event}")
        returned = max(0, loan.amount - max(event.spent_nanousd, loan.settled))
        right = event.returned_nanousd == returned
        self._require("close_returns", right, lambda: f"{event}, not {returned}")
        loan.spent = event.spent_nanousd
        self._change(loan, "returned", event.returned_nanousd, "closed")

    def _GrantExpired(self, event: Any, at_ms: int) -> None:
        loan = self._loan(event.grant_id)
        if loan is None:
            return
        due = loan.status == "open" and at_ms >= loan.expires_ms + self._grace_ms
        self._require("expiry_due", due, lambda: f"{loan} at {at_ms}")
        self._require("expiry_holds", event.unresolved_nanousd == loan.held, lambda: str(event))
        self._change(loan, "settled", loan.settled, "unresolved")

    def _GrantResolved(self, event: Any, at_ms: int) -> None:
        loan = self._loan(event.grant_id)
        if loan is None:
            return
        ends = loan.status in ("closed", "unresolved") and loan.held == 0
        self._require("resolved_once", ends, lambda: f"{loan} {event}")
        same = event.settled_nanousd == loan.settled
        self._require("resolved_sum", same, lambda: f"{loan} {event}")
        self._change(loan, "settled", loan.settled, "resolved")

    def _GrantWrittenOff(self, event: Any, at_ms: int) -> None:
        loan = self._loan(event.grant_id)
        if loan is None:
            return
        # Whatever a worker's disk still knows must end in another way.
        due = loan.status == "unresolved" and loan.grant_id in self.forgotten and not loan.settled
        due = due and at_ms >= loan.expires_ms + self._write_off_ms
        self._require("written_off_alone", due, lambda: f"{loan} {event}")
        right = event.written_off_nanousd == loan.held
        self._require("write_off_returns", right, lambda: f"{loan} {event}")
        self._change(loan, "returned", loan.returned + event.written_off_nanousd, "written_off")

    def _KeyCapSet(self, event: Any, at_ms: int) -> None:
        key = self.key(event.key_id)
        owner = self.owner_keys[event.key_id]
        said = (event.spend_cap_nanousd, int(event.window), event.active)
        self.scoped.key_set(owner, event)
        right = owner.published.get(event.key_version) == said and event.key_version > key.version
        self._require("key_cap_set", right, lambda: f"{event}: {owner.published}")
        key.cap, key.window, key.active = said
        key.version = event.key_version
        key.cap_peak = max(key.cap_peak, key.cap or 0)

    def _ScopeCapSet(self, event: Any, at_ms: int) -> None:
        self.scoped.cap_set(event, self.owner_keys)

    def account(self, account_id: str) -> Purse:
        """The account's purse."""
        return self.accounts.setdefault(account_id, Purse())

    def key(self, key_id: str) -> Purse:
        """The key's purse."""
        return self.keys.setdefault(key_id, Purse())

    def _loan(self, grant_id: str) -> Loan | None:
        loan = self.loans.get(grant_id)
        if loan is None:
            self.world.fail("grant_known", f"{grant_id} was never opened")
        return loan

    def _change(self, loan: Loan, name: str, value: int, status: str = "") -> None:
        held, closing = loan.held, loan.closing
        setattr(loan, name, value)
        loan.peak = max(loan.peak, loan.amount)
        loan.status = status or loan.status
        more = loan.held - held
        wallet = self.account(loan.account_id)
        for purse in (wallet, self.key(loan.key_id), *self.scoped.of(loan)):
            purse.closing += loan.closing - closing
            if more > 0:
                now_s, day = self.world.loop.time(), day_of(self.world.now_ms())
                total = purse.posted if purse is wallet else None
                purse.lend(more, total=total, now_s=now_s, day=day)
            else:
                purse.held += more


def _answers(added: int, asked: pb.RenewGrantRequest) -> bool:
    """True where that much more, or less, is what was asked for."""
    if asked.needed_nanousd:
        least = asked.least_nanousd or asked.needed_nanousd
        return least <= added <= max(asked.needed_nanousd, asked.wanted_nanousd)
    return added == -asked.give_back_nanousd


def _short(event: Any) -> str:  # Any: as above
    names = (
        "grant_id",
        "usage_id",
        "amount_nanousd",
        "spent_nanousd",
        "returned_nanousd",
        "added_nanousd",
        "expires_at_ms",
        "key_id",
    )
    return " ".join(str(getattr(event, name)) for name in names if getattr(event, name, ""))
