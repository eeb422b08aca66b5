"""What the budget needs from outside: billing, which lends, and a log that outlives the process.

Amounts are integer nano-dollars, times Unix milliseconds.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, Protocol

from services.common.ids import AccountId, GrantId, KeyId, WorkerId

BindingLimit = Literal[
    "balance",
    "key_cap",
    "model_cap",
    "member_cap",
    "team_cap",
    "account_model_cap",
    "account_cap",
    "key_inactive",
]


@dataclass(frozen=True, slots=True)
class GrantRequest:
    """One question to billing. Asked again with the same `grant_id` it opens nothing twice."""

    grant_id: GrantId
    account_id: AccountId
    key_id: KeyId
    # Of the settings by which the worker admits; billing never decides by older ones.
    key_version: int
    needed_nanousd: int
    # What would do where `needed` is not to be had; 0: only `needed` will do.
    least_nanousd: int
    wanted_nanousd: int
    # The model whose requests it is for, where that model's spend is capped.
    model_id: str = ""


@dataclass(frozen=True, slots=True)
class RenewRequest:
    """One change of a grant, its `number`th: more time, and money one way at most.

    Asked again with the same number it changes nothing. `needed`, `least` and `wanted` are on top
    of the grant's amount.
    """

    grant_id: GrantId
    account_id: AccountId
    key_id: KeyId
    number: int
    key_version: int
    needed_nanousd: int = 0
    least_nanousd: int = 0
    wanted_nanousd: int = 0
    give_back_nanousd: int = 0


@dataclass(frozen=True, slots=True)
class Grant:
    """Money lent until `expires_at_ms`."""

    grant_id: GrantId
    amount_nanousd: int
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """Nothing was lent: which limit binds, and whether its money is held by others or gone."""

    limit: BindingLimit
    held: bool
    retry_after_ms: int
    available_nanousd: int


@dataclass(frozen=True, slots=True)
class GrantTotal:
    """What was spent under one grant, in all: the sum of the costs of the events that name it."""

    grant_id: GrantId
    worker_id: WorkerId
    account_id: AccountId
    key_id: KeyId
    spent_nanousd: int = 0


class Grants(Protocol):
    """Billing's side."""

    async def open(self, request: GrantRequest, *, timeout_s: float) -> Grant | Refusal:
        """Asks for money. An AppError that is retryable, or internal, leaves open what happened."""

    async def renew(self, request: RenewRequest, *, timeout_s: float) -> Grant | Refusal:
        """Changes a grant and says how it is then. Errors as `open`; NotFound, Forbidden and
        Conflict say that it cannot be changed any more.
        """

    async def recalls(
        self, accounts: Collection[AccountId], *, timeout_s: float
    ) -> list[tuple[AccountId, KeyId]]:
        """Where idle money is wanted; an empty key id: anywhere in the account."""

    async def close(self, total: GrantTotal, *, timeout_s: float) -> int:
        """Gives back what was not spent, says how much. May be repeated; NotFound: never opened."""


class GrantLog(Protocol):
    """Remembers across a crash which grants are open; the journal is one."""

    def grant_opened(self, total: GrantTotal) -> None:
        """Written before billing is asked, so that no answer can be lost. Raises Unavailable."""

    async def sync(self) -> None:
        """Returns when all that was written is on disk."""

    def grant_closed(self, grant_id: GrantId) -> None:
        """The grant is resolved, or was refused. Never raises: unwritten, it is closed again."""

    def spent_nanousd(self, grant_id: GrantId) -> int:
        """The sum of the costs of the events written under an open grant."""
