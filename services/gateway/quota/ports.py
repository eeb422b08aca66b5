"""What quotas need from outside: billing, which lends. Spans are seconds from its answer on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NewType, Protocol

from services.common.ids import AccountId, KeyId
from services.gateway.ports import QuotaLimit

LeaseId = NewType("LeaseId", str)
BindingLimit = Literal["rpm", "rpd", "tpm", "key_inactive"]


@dataclass(frozen=True, slots=True)
class Draw:
    """One question to billing. Asked again with the same `lease_id` it draws nothing twice."""

    lease_id: LeaseId
    account_id: AccountId
    key_id: KeyId
    # Of the settings by which the worker admits; billing never decides by older ones.
    key_version: int
    needed_requests: int
    wanted_requests: int
    needed_tokens: int
    wanted_tokens: int
    # The model whose requests it is for, where that model is limited.
    model_id: str = ""
    # Out of that model's limits alone: the key and its other scopes have counted it already.
    model_scopes_only: bool = False


@dataclass(frozen=True, slots=True)
class Meter:
    """One limit that binds a key as billing counts it: `taken` is what was used or is leased to
    workers. Without a scope it is the key's own.
    """

    limit: QuotaLimit
    limit_value: int
    taken: int
    resets_in_s: float
    scope: str = ""

    @property
    def left(self) -> int:
        """What nobody has used or leased."""
        return max(0, self.limit_value - self.taken)


@dataclass(frozen=True, slots=True)
class Lease:
    """What was lent; None where the key has no such limit. Usable for `usable_s`, counted from the
    moment of asking, so that a clock that differs from billing's cannot stretch a window.
    """

    lease_id: LeaseId
    requests: int | None
    tokens: int | None
    usable_s: float
    minute_ends_in_s: float
    day_ends_in_s: float
    meters: tuple[Meter, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Nothing was lent: which limit binds, and whether other workers may still give some back."""

    limit: BindingLimit
    limit_value: int
    retry_after_s: float
    held: bool
    meters: tuple[Meter, ...]
    scope: str = ""


@dataclass(frozen=True, slots=True)
class Return:
    """What was used under a lease, in all; `revision` counts what was said of it before."""

    lease_id: LeaseId
    account_id: AccountId
    key_id: KeyId
    used_requests: int
    used_tokens: int
    revision: int


class QuotaSource(Protocol):
    """Billing's side. An AppError that is retryable, or internal, leaves open what happened."""

    async def draw(self, request: Draw, *, timeout_s: float) -> Lease | Refusal:
        """Asks for requests and tokens."""

    async def give_back(self, request: Return, *, timeout_s: float) -> None:
        """Says what was used. May be repeated; NotFound: never drawn, or long over."""

    async def meters(self, account_id: AccountId, key_id: KeyId) -> tuple[Meter, ...]:
        """How far the key is into each limit that it has."""

    async def account_meters(self, account_id: AccountId) -> tuple[Meter, ...]:
        """How far the account is into each limit of its own."""
