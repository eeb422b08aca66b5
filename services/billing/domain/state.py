"""What the events of an account add up to: its wallet, its grants and its keys, each a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from services.billing.domain.events import ZERO_HASH, CapWindow
from services.common.ids import AccountId, GrantId, KeyId, WorkerId
from services.common.scopes import Scope

GrantStatus = Literal["open", "closed", "unresolved", "resolved", "written_off"]


@dataclass(frozen=True, slots=True)
class Wallet:
    """One account's money, in nano-dollars.

    `granted` is the sum of what its grants hold; `closing` is the part of it under closed grants,
    which will be spent for certain and never comes back. `version` counts the account's events,
    `sequence` its transactions, and `hash` is that of the last transaction.
    """

    account_id: AccountId
    posted_nanousd: int = 0
    granted_nanousd: int = 0
    closing_nanousd: int = 0
    version: int = 0
    sequence: int = 0
    hash: bytes = ZERO_HASH
    updated_at_ms: int = 0

    @property
    def available_nanousd(self) -> int:
        """What nobody has spent and nobody holds; below zero only after an overrun."""
        return self.posted_nanousd - self.granted_nanousd


@dataclass(frozen=True, slots=True)
class Grant:
    """One loan to a worker. `spent_nanousd` is what the worker said when it closed it; `renewals`
    counts how often it was changed since it was opened.
    """

    grant_id: GrantId
    account_id: AccountId
    key_id: KeyId
    worker_id: WorkerId
    amount_nanousd: int
    opened_at_ms: int
    expires_at_ms: int
    request_hash: bytes
    settled_nanousd: int = 0
    spent_nanousd: int | None = None
    returned_nanousd: int = 0
    status: GrantStatus = "open"
    renewals: int = 0
    scopes: tuple[Scope, ...] = ()

    @property
    def held_nanousd(self) -> int:
        """What it still takes out of the available balance."""
        return max(0, self.amount_nanousd - self.returned_nanousd - self.settled_nanousd)

    @property
    def closing_nanousd(self) -> int:
        """The held part that is spent already and waits for its usage events."""
        return self.held_nanousd if self.status == "closed" else 0


@dataclass(frozen=True, slots=True)
class KeyAccount:
    """One key's cap and what it has spent and holds, in nano-dollars.

    `version` 0 with `active` False is a key whose settings have not been seen. `spent_nanousd` is
    all it ever spent; spend within a window is summed from the days (`domain/caps.py`).
    """

    account_id: AccountId
    key_id: KeyId
    spend_cap_nanousd: int | None = None
    window: CapWindow = CapWindow.LIFETIME
    version: int = 0
    active: bool = False
    spent_nanousd: int = 0
    granted_nanousd: int = 0
    closing_nanousd: int = 0
    member_id: str = ""
    team_id: str = ""
    model_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ScopeAccount:
    """One scope's cap and what grants that it lends hold, in nano-dollars. What was spent in it is
    kept by day alone.
    """

    account_id: AccountId
    scope: Scope
    spend_cap_nanousd: int | None = None
    window: CapWindow = CapWindow.LIFETIME
    version: int = 0
    granted_nanousd: int = 0
    closing_nanousd: int = 0
