"""What binds a key beside its own settings: the limits of its scopes, as its state carries them.

A worker keeps a purse and leases per key, and apart for each model that is limited: so it has to
know which models are, and no more of caps. Spend and windows are billing's to count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.common.scopes import Scope, kind_of

# How people are told whose limit it is.
WORDS = {
    "key": "the key's",
    "key_model": "the key's model's",
    "member": "the member's",
    "team": "the team's",
    "account": "the account's",
    "account_model": "the account's model's",
}


def owner_of(scope: str) -> str:
    """Whose limit a scope's is, in words; a scope that is not named is the key."""
    return WORDS[kind_of(scope)] if scope else WORDS["key"]


@dataclass(frozen=True, slots=True)
class ScopeRates:
    """One scope's limits of requests and tokens, None for none, and whether its spend is capped."""

    scope: Scope
    rpm: int | None = None
    rpd: int | None = None
    tpm: int | None = None
    capped: bool = False

    @property
    def rates(self) -> tuple[int | None, int | None, int | None]:
        """The limits of requests a minute and a day and of tokens a minute."""
        return self.rpm, self.rpd, self.tpm

    @property
    def limited(self) -> bool:
        """True where any of them is set."""
        return self.rates != (None, None, None)


@dataclass(frozen=True, slots=True)
class Scoped:
    """The scopes of one key: those that bind all its requests, and by model those that bind that
    model's alone.
    """

    team_id: str = ""
    shared: tuple[ScopeRates, ...] = ()
    models: Mapping[str, tuple[ScopeRates, ...]] = field(default_factory=dict)

    def capped_model(self, model_id: str) -> str:
        """The model, where its spend is capped; empty: its money is that of any other."""
        found = self.models.get(model_id, ())
        return model_id if any(one.capped for one in found) else ""

    def limited_model(self, model_id: str) -> str:
        """The model, where its requests or tokens are limited; empty: they are as any other's."""
        found = self.models.get(model_id, ())
        return model_id if any(one.limited for one in found) else ""

    def limits(self, model_id: str = "") -> tuple[ScopeRates, ...]:
        """What limits requests beside the key, with that model's where one is named."""
        found = (*self.shared, *self.models.get(model_id, ()))
        return tuple(one for one in found if one.limited) if found else ()


NO_SCOPES = Scoped()
