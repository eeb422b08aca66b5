"""The mutants that break what holds scopes together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from services.billing import handlers
from services.billing.domain import grants, rooms, scopes, usage
from services.billing.domain.state import KeyAccount, Wallet
from services.gateway.scoped import Scoped
from tests.sim.simulation import Target


def scope_caps_without_grants() -> list[Target]:
    """The caps of scopes are checked against what was spent, without what is lent."""
    of_all = rooms.rooms_of

    def mutated(
        wallet: Wallet, key: KeyAccount, window_spent_nanousd: int, *, scopes: Any = ()
    ) -> list[rooms.Room]:  # Any: inside
        free = tuple(replace(one, scope=replace(one.scope, granted_nanousd=0)) for one in scopes)
        return of_all(wallet, key, window_spent_nanousd, scopes=free)

    return [(grants, "rooms_of", mutated)]


def scope_spend_not_asked() -> list[Target]:
    """Scopes lend as if nothing had been spent in them yet."""

    async def spent(unit: Any, found: Any, now_ms: int) -> dict[Any, int]:  # Any: inside
        return {}

    return [(handlers, "scope_spend", spent)]


def team_left_out_of_a_moved_key() -> list[Target]:
    """A key that was changed once is lent to without its team."""
    of_key = scopes.scopes_of_key

    def mutated(key: KeyAccount, model_id: str = "") -> Any:  # Any: inside
        return of_key(replace(key, team_id="") if key.version > 1 else key, model_id)

    return [(handlers, "scopes_of_key", mutated)]


def cost_follows_the_moved_key() -> list[Target]:
    """A cost counts in the scopes that its key is in now, not in those of admission."""
    of_cost = scopes.scopes_of_cost

    def mutated(key: KeyAccount, grant: Any, *, key_id: Any, model_id: str) -> Any:  # Any: inside
        return of_cost(key, None, key_id=key_id, model_id=model_id)

    return [(usage, "scopes_of_cost", mutated)]


def model_purse_for_any_model() -> list[Target]:
    """A worker spends a capped model's requests from the money of any model."""
    return [(Scoped, "capped_model", lambda scoped, model_id: "")]
