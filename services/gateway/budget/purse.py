"""One key's purse: its open grants and the holds inside them. Pure bookkeeping, no clock and no IO.

Invariants, asserted at every change: a hold lies in exactly one grant and ends once; what is held
and spent under a grant exceeds its amount only by what requests cost above their holds (overruns);
a grant leaves the purse only without holds.
"""

from __future__ import annotations

from services.common.ids import AccountId, GrantId, KeyId, UsageId
from services.gateway.budget.ports import Grant
from services.gateway.ports import Hold


class LentGrant:
    """One grant in the purse."""

    __slots__ = (
        "amount_nanousd",
        "grant_id",
        "held_nanousd",
        "holds",
        "idle_since_ms",
        "overrun_nanousd",
        "renew_from_ms",
        "renewable",
        "renewals",
        "retired",
        "returned",
        "spent_nanousd",
        "usable_until_ms",
    )

    def __init__(
        self, grant: Grant, *, now_ms: int, usable_fraction: float, renew_fraction: float = 0.5
    ) -> None:
        self.grant_id = grant.grant_id
        self.amount_nanousd = grant.amount_nanousd
        life_ms = grant.expires_at_ms - now_ms
        self.usable_until_ms = now_ms + int(life_ms * usable_fraction)
        self.renew_from_ms = now_ms + int(life_ms * renew_fraction)
        # How often billing changed it.
        self.renewals = 0
        # False once billing said that it will not change it any more.
        self.renewable = True
        # True once it has left the purse.
        self.returned = False
        # True once nothing new is to be taken from it: what lent it are the key's scopes no more.
        self.retired = False
        self.spent_nanousd = 0
        self.held_nanousd = 0
        self.overrun_nanousd = 0
        self.holds = 0
        self.idle_since_ms = now_ms

    @property
    def free_nanousd(self) -> int:
        """What is neither held nor spent; negative after an overrun."""
        return self.amount_nanousd - self.spent_nanousd - self.held_nanousd

    def usable(self, now_ms: int) -> bool:
        """True while holds may be placed in it."""
        return now_ms < self.usable_until_ms and not self.retired

    def is_due(self, now_ms: int) -> bool:
        """True where requests hold money in it and its time should be longer."""
        return bool(self.holds) and self.renewable and now_ms >= self.renew_from_ms

    def renewed(self, grant: Grant, number: int, *, now_ms: int, usable_fraction: float) -> None:
        """Takes over what billing says of it after its `number`th change."""
        again = LentGrant(grant, now_ms=now_ms, usable_fraction=usable_fraction)
        self.amount_nanousd = grant.amount_nanousd
        self.usable_until_ms, self.renew_from_ms = again.usable_until_ms, again.renew_from_ms
        self.renewals = number

    def check(self) -> None:
        """Asserts the invariants."""
        assert self.holds >= 0, f"{self.grant_id}: {self.holds} holds"
        assert self.held_nanousd >= 0, f"{self.grant_id}: {self.held_nanousd} held"
        assert self.holds or not self.held_nanousd, f"{self.grant_id}: held without a hold"
        assert self.free_nanousd + self.overrun_nanousd >= 0, f"{self.grant_id}: more than lent"


class Purse:
    """The open grants of one key of one account, in the order in which they came. `model_id` names
    the model where they are for its requests alone.
    """

    __slots__ = ("_grants", "_holds", "account_id", "key_id", "model_id")

    def __init__(self, account_id: AccountId, key_id: KeyId, model_id: str = "") -> None:
        self.account_id = account_id
        self.key_id = key_id
        self.model_id = model_id
        self._grants: dict[GrantId, LentGrant] = {}
        self._holds: dict[UsageId, Hold] = {}

    def add(self, grant: Grant, *, now_ms: int, usable_fraction: float) -> LentGrant:
        """Puts a grant in."""
        assert grant.grant_id not in self._grants, f"{grant.grant_id} is in the purse already"
        lent = LentGrant(grant, now_ms=now_ms, usable_fraction=usable_fraction)
        self._grants[grant.grant_id] = lent
        return lent

    def take(self, usage_id: UsageId, amount_nanousd: int, now_ms: int) -> Hold | None:
        """A hold of exactly this amount; None where no usable grant has that much free."""
        for lent in self._grants.values():
            if lent.free_nanousd >= amount_nanousd and lent.usable(now_ms):
                return self._hold(usage_id, amount_nanousd, lent)
        return None

    def take_most(
        self, usage_id: UsageId, *, least_nanousd: int, full_nanousd: int, now_ms: int
    ) -> Hold | None:
        """The largest hold between the two amounts that any one usable grant can give."""
        usable = [lent for lent in self._grants.values() if lent.usable(now_ms)]
        best = max(usable, key=lambda lent: lent.free_nanousd, default=None)
        if best is None or best.free_nanousd < least_nanousd:
            return None
        return self._hold(usage_id, min(best.free_nanousd, full_nanousd), best)

    def has(self, hold: Hold) -> bool:
        """True until the hold has ended."""
        return self._holds.get(hold.usage_id) is hold

    def grant_of(self, hold: Hold) -> LentGrant:
        """The grant that a hold lies in."""
        assert self.has(hold), f"the hold of {hold.usage_id} has ended already"
        return self._grants[hold.grant_id]

    def grow(self, hold: Hold, more_nanousd: int) -> None:
        """Puts more of what is free in its grant under a hold."""
        lent = self.grant_of(hold)
        assert 0 <= more_nanousd <= lent.free_nanousd, f"{hold.usage_id}: no {more_nanousd} free"
        hold.amount_nanousd += more_nanousd
        lent.held_nanousd += more_nanousd
        lent.check()

    def settle(self, hold: Hold, cost_nanousd: int, now_ms: int) -> None:
        """Ends the hold: what it cost is spent, the rest is free again."""
        known = self._holds.pop(hold.usage_id, None)
        assert known is not None, f"the hold of {hold.usage_id} has ended already"
        assert known is hold, f"not the hold of {hold.usage_id}"
        assert cost_nanousd >= 0, f"{hold.usage_id} cost {cost_nanousd}"
        lent = self._grants[hold.grant_id]
        lent.held_nanousd -= hold.amount_nanousd
        lent.spent_nanousd += cost_nanousd
        lent.overrun_nanousd += max(0, cost_nanousd - hold.amount_nanousd)
        lent.holds -= 1
        lent.idle_since_ms = now_ms
        lent.check()

    def remove(self, grant_id: GrantId) -> LentGrant:
        """Takes a grant without holds out, to be closed."""
        lent = self._grants.pop(grant_id)
        assert lent.holds == 0, f"{grant_id} still has {lent.holds} holds"
        lent.returned = True
        return lent

    def returnable(self, now_ms: int, *, idle_ms: int) -> list[GrantId]:
        """Grants without holds that were not used for so long, or cannot be used any more."""
        return [
            lent.grant_id
            for lent in self._grants.values()
            if lent.holds == 0
            and (now_ms - lent.idle_since_ms >= idle_ms or not lent.usable(now_ms))
        ]

    def retire(self) -> None:
        """Has nothing new taken from the grants that are there; what they hold runs on."""
        for lent in self._grants.values():
            lent.retired = True

    @property
    def held_nanousd(self) -> int:
        """The sum of all holds."""
        return sum(lent.held_nanousd for lent in self._grants.values())

    @property
    def grants(self) -> list[LentGrant]:
        """The open grants, oldest first."""
        return list(self._grants.values())

    @property
    def holds(self) -> int:
        """How many requests hold money."""
        return len(self._holds)

    @property
    def empty(self) -> bool:
        """True without grants (and so without holds)."""
        return not self._grants

    def _hold(self, usage_id: UsageId, amount_nanousd: int, lent: LentGrant) -> Hold:
        assert usage_id not in self._holds, f"{usage_id} holds money already"
        hold = Hold(
            usage_id, lent.grant_id, amount_nanousd, self.account_id, self.key_id, self.model_id
        )
        lent.held_nanousd += amount_nanousd
        lent.holds += 1
        self._holds[usage_id] = hold
        return hold
