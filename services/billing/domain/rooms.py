"""What each limit leaves for a grant, and which of them a refusal names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from services.billing.domain.state import KeyAccount, ScopeAccount, Wallet
from services.common.scopes import ScopeKind, kind_of

CapName = Literal[
    "key_cap", "model_cap", "member_cap", "team_cap", "account_model_cap", "account_cap"
]
LimitName = Literal["balance", "key_inactive"] | CapName
_NAMES: dict[ScopeKind, CapName] = {
    "key": "key_cap",
    "key_model": "model_cap",
    "member": "member_cap",
    "team": "team_cap",
    "account_model": "account_model_cap",
    "account": "account_cap",
}


@dataclass(frozen=True, slots=True)
class ScopeSpent:
    """A scope that lends, and what was spent in it in its cap's window, in nano-dollars."""

    scope: ScopeAccount
    window_spent_nanousd: int


@dataclass(frozen=True, slots=True)
class Room:
    """What one limit leaves: now, and when all open grants under it had come back."""

    limit: LimitName
    available_nanousd: int
    returning_nanousd: int


def rooms_of(
    wallet: Wallet, key: KeyAccount, window_spent_nanousd: int, *, scopes: Sequence[ScopeSpent] = ()
) -> list[Room]:
    """One for each limit: the key's cap, those of its scopes in their order, the balance."""
    rooms = []
    if key.spend_cap_nanousd is not None:
        left = key.spend_cap_nanousd - window_spent_nanousd - key.granted_nanousd
        rooms.append(Room("key_cap", left, key.granted_nanousd - key.closing_nanousd))
    for one in scopes:
        found = one.scope
        if found.spend_cap_nanousd is not None:
            left = found.spend_cap_nanousd - one.window_spent_nanousd - found.granted_nanousd
            returning = found.granted_nanousd - found.closing_nanousd
            rooms.append(Room(_NAMES[kind_of(found.scope)], left, returning))
    returning = wallet.granted_nanousd - wallet.closing_nanousd
    rooms.append(Room("balance", wallet.available_nanousd, returning))
    return rooms


def binding_room(rooms: Sequence[Room], least_nanousd: int) -> tuple[Room, bool]:
    """The limit that binds, one whose money is gone before one whose money is only held; and
    whether it is gone.
    """
    binding = [room for room in rooms if room.available_nanousd < least_nanousd]
    gone = [
        room for room in binding if room.available_nanousd + room.returning_nanousd < least_nanousd
    ]
    return (gone or binding)[0], bool(gone)
