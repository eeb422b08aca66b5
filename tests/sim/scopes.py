"""The auditor's side of scopes: what lends beside a key, what each scope spent and holds.

It knows what was published of keys and scopes, and works out by a rule of its own which scopes lend
a grant and which a cost counts in: those of admission, wherever a key has been moved since.
"""

# ruff: noqa: B023 - what went wrong is put into words at once or never

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from services.billing.adapters.ledger_memory import LedgerTables
from services.common.ids import AccountId
from services.common.scopes import Scope
from tests.sim.facts import DAY, Key, ScopeOwner, day_of
from tests.sim.world import World

if TYPE_CHECKING:
    from tests.sim.books import Loan, Purse

UNBOUNDED = 1 << 62


class ScopeBooks:
    """The purses of all scopes, by account and name."""

    def __init__(self, world: World, new_purse: type[Purse]) -> None:
        self.world = world
        self._new_purse = new_purse
        self.purses: dict[tuple[str, str], Purse] = {}
        self.owners: dict[tuple[str, str], ScopeOwner] = {}
        # Of each key, what was last taken into the ledger: its member, team and capped models.
        self.known: dict[str, tuple[str, str, tuple[str, ...]]] = {}

    def purse(self, account_id: str, scope: str) -> Purse:
        """The scope's purse."""
        return self.purses.setdefault((account_id, scope), self._new_purse())

    def key_set(self, owner: Key, event: Any) -> None:  # Any: production's event, read by name
        """A key's settings were taken into the ledger."""
        said = (event.member_id, event.team_id, event.model_ids)
        right = owner.published_scopes.get(event.key_version) == said
        self.world.require("key_scopes_set", right, lambda: f"{event}: {owner.published_scopes}")
        self.known[owner.key_id] = said

    def cap_set(self, event: Any, keys: dict[str, Key]) -> None:  # Any: as above
        """A scope's cap was."""
        purse = self.purse(event.account_id, event.scope)
        owner = self.owners.get((event.account_id, event.scope))
        cap, version = event.spend_cap_nanousd, event.version
        if owner is not None:
            right = owner.published.get(version) == cap and version > purse.version
            right = right and event.window == owner.window
        else:
            key_id, _, model = event.scope.partition(":")[2].partition("/")
            said = keys[key_id].published_models.get(version, {})
            right = event.scope.startswith("key_model:") and said.get(model) == cap
        self.world.require("scope_cap_set", right, lambda: f"{event}: {owner}")
        purse.cap, purse.version, purse.window = cap, version, int(event.window)
        purse.cap_peak = max(purse.cap_peak, cap or 0)

    def lending(self, key_id: str, model_id: str) -> tuple[str, ...]:
        """The scopes that lend a key's grant, for that model's requests where one is named."""
        member, team, _ = self.known.get(key_id, ("", "", ()))
        found = [f"member:{member}"] if member else []
        found += [f"team:{team}"] if team else []
        if model_id:
            found += [f"key_model:{key_id}/{model_id}", f"account_model:{model_id}"]
        return (*found, "account")

    def lent(self, loan: Loan, event: Any, amount: int, at_ms: int) -> None:  # Any: as above
        """Money was lent: it must fit every scope that lends, and these must be named."""
        for scope in loan.scopes:
            purse = self.purse(loan.account_id, scope)
            if purse.cap is not None:
                left = purse.cap - purse.spent(day_of(at_ms)) - purse.held
                self.world.require(
                    "lent_within_scope", amount <= left, lambda: f"{left} in {scope}: {event}"
                )

    def charged(self, loan: Loan, event: Any, *, model_id: str, day: int, cost: int) -> None:
        """A cost was booked."""
        models = {f"key_model:{loan.key_id}/{model_id}", f"account_model:{model_id}"}
        plain = {one for one in loan.scopes if "model:" not in one}
        right = set(event.scopes) == plain | models
        self.world.require("charge_scopes", right, lambda: f"{plain | models}: {event}")
        for scope in sorted(plain | models):
            days = self.purse(loan.account_id, scope).days
            days[day] = days.get(day, 0) + cost

    def of(self, loan: Loan) -> list[Purse]:
        """The purses of the scopes that lend a grant."""
        return [self.purse(loan.account_id, scope) for scope in loan.scopes]

    def overrun(self, account_id: str, found: Iterable[str], amount: int) -> None:
        """A request cost so much more than it held."""
        for scope in found:
            self.purse(account_id, scope).overrun += amount

    def compare(self, tables: LedgerTables, account_id: str) -> None:
        """The read tables against this, and the caps that always hold."""
        today = day_of(self.world.now_ms())
        midnight = day_of(self.world.now_ms() - 10_000) != day_of(self.world.now_ms() + 10_000)
        for (owner, scope), purse in self.purses.items():
            if owner != account_id:
                continue
            row = tables.scopes.get((AccountId(owner), Scope(scope)))
            theirs = (row.granted_nanousd, row.closing_nanousd) if row is not None else (0, 0)
            spent = sum(
                amount
                for (one, name, _), amount in tables.scope_days.items()
                if (one, name) == (owner, scope)
            )
            ours = (purse.held, purse.closing, sum(purse.days.values()))
            self.world.require(
                "scope_is_fold", (*theirs, spent) == ours, lambda: f"{scope}: {row}, not {ours}"
            )
            used = purse.spent(today) + purse.held
            if purse.cap is not None and not (purse.window == DAY and midnight):
                self.world.require(
                    "scope_cap_holds",
                    used <= purse.cap_peak + purse.overrun,
                    lambda: f"{scope} {used} of {purse.cap_peak}, overruns {purse.overrun}",
                )
            total = UNBOUNDED if purse.cap is None else purse.cap - purse.spent(today)
            purse.past.append((self.world.loop.time(), total - purse.held, total - purse.closing))

    def candidates(self, key: Key, limit: str, model_id: str) -> list[Purse]:
        """The scopes that a refusal by this limit can mean, for a request of the key."""
        teams = {team for _, team, _ in key.published_scopes.values() if team}
        names = {
            "model_cap": [f"key_model:{key.key_id}/{model_id}"],
            "member_cap": [f"member:{key.member}"],
            "team_cap": sorted(f"team:{team}" for team in teams),
            "account_model_cap": [f"account_model:{model_id}"],
            "account_cap": ["account"],
        }[limit]
        return [self.purse(key.account_id, name) for name in names]
