"""What the gateway's request path needs from its surroundings: who calls, what is served, the
money, the journal.

The pipeline is written against these protocols. Behind them stand caches fed by compacted topics
(`state/`), the purse with billing's grants in it (`budget/`) and the write-ahead file (`journal/`).
Amounts are integer nano-dollars, times Unix milliseconds. A request meets the money in this order:

    hold = await budget.place(...)      SpendLimitExceeded, Forbidden, Unavailable: nothing held
    journal.admitted(...)               from here on exactly one usage event is certain
    ... the upstream answers ...
    await journal.record(event, hold)   settles and writes in one step; on disk when it returns

A request that is refused before `admitted` has no hold (or gives it back with `budget.release`) and
is recorded with `journal.record(event, None)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from services.common import scopes
from services.common.ids import (
    AccountId,
    GrantId,
    KeyId,
    RequestId,
    UsageId,
    UserId,
)
from services.common.money import Price
from services.common.pb.mesh.events.v1.usage_pb2 import UsageRecorded
from services.gateway.entries import Deployment as Deployment
from services.gateway.entries import ModelCapabilities as ModelCapabilities
from services.gateway.entries import ModelEntry as ModelEntry
from services.gateway.entries import ProviderEntry as ProviderEntry
from services.gateway.entries import ProviderKind as ProviderKind
from services.gateway.routing_policy import RoutingPolicy
from services.gateway.scoped import NO_SCOPES, Scoped, ScopeRates

SpendLimit = Literal[
    "balance", "key_cap", "model_cap", "member_cap", "team_cap", "account_model_cap", "account_cap"
]
SpendState = Literal["held", "gone"]
# Requests a minute, requests a day, tokens a minute.
QuotaLimit = Literal["rpm", "rpd", "tpm"]


@dataclass(frozen=True, slots=True)
class KeySettings:
    """What the owner set on a key. None means no limit of that kind; an empty allow-list means
    every model.
    """

    label: str = ""
    spend_cap_nanousd: int | None = None
    rpm_limit: int | None = None
    rpd_limit: int | None = None
    tpm_limit: int | None = None
    default_model: str = ""
    # A JSON object of request parameters; not to be changed by a reader.
    default_params: Mapping[str, Any] = field(default_factory=dict)  # Any: values are free JSON
    allowed_models: frozenset[str] = frozenset()
    # None where the owner set none.
    routing: RoutingPolicy | None = None
    # The version that serves requests without X-Mesh-Version; empty means the baseline.
    api_version: str = ""
    response_cache_disabled: bool = False
    # Prompts and answers are stored, where the operator allows it.
    content_stored: bool = False

    @property
    def limits(self) -> tuple[int | None, int | None, int | None]:
        """The limits of requests a minute and a day and of tokens a minute."""
        return self.rpm_limit, self.rpd_limit, self.tpm_limit

    @property
    def limited(self) -> bool:
        """True where any of them is set."""
        return self.limits != (None, None, None)

    def allows(self, model_id: str) -> bool:
        """True where the key may call this model."""
        return not self.allowed_models or model_id in self.allowed_models


@dataclass(frozen=True, slots=True)
class KeyPrincipal:
    """Who calls: one API key as its account's owner set it, at one version of its settings."""

    account_id: AccountId
    key_id: KeyId
    user_id: UserId
    key_version: int
    settings: KeySettings = KeySettings()
    suspended: bool = False
    account_suspended: bool = False
    # When this secret stops working, by expiry or rotation; 0 means never.
    expires_at_ms: int = 0
    scoped: Scoped = NO_SCOPES

    def limits(self, model_id: str = "") -> tuple[ScopeRates, ...]:
        """What limits its requests and tokens, its own settings first; with those of a model where
        one is named that is limited.
        """
        beside = self.scoped.limits(model_id)
        if not self.settings.limited:
            return beside
        return (ScopeRates(scopes.key(self.key_id), *self.settings.limits), *beside)

    def model_limits(self, model_id: str) -> tuple[ScopeRates, ...]:
        """Those of these that are of the model alone."""
        return tuple(one for one in self.scoped.models.get(model_id, ()) if one.limited)

    def counts_tokens(self, model_id: str = "") -> bool:
        """True where tokens are limited by any of these."""
        return any(one.tpm is not None for one in self.limits(model_id))

    def expired(self, now_ms: int) -> bool:
        """True from the moment of expiry on."""
        return 0 < self.expires_at_ms <= now_ms


class KeyDirectory(Protocol):
    """Every key of every account, in memory."""

    def find(self, key_hash_hex: str) -> KeyPrincipal | None:
        """The key whose plain text has this SHA-256 (64 lower-case hexadecimal digits); None where
        there is none.

        Suspended and expired keys are found too: the caller tells them apart.
        """

    def find_key(self, key_id: str) -> KeyPrincipal | None:
        """The key of that id, by the secret of it that lasts longest; None where there is none."""


class Catalogue(Protocol):
    """Every model and provider, in memory."""

    def model(self, model_id: str) -> ModelEntry | None:
        """The model of that catalogue id, available or not; None where there is none."""

    def models(self) -> Sequence[ModelEntry]:
        """Every model, by id."""

    def provider(self, provider_id: str) -> ProviderEntry | None:
        """The provider, with its credential if that is known; None where there is none."""


class Freshness(Protocol):
    """How far what the worker knows may lag behind the log."""

    def ready(self) -> bool:
        """True once every compacted topic was read to its end; for /readyz."""

    def parts(self) -> Mapping[str, bool]:
        """Which topics were read to their end, by name."""

    def stale_for_s(self) -> float:
        """Seconds since the last contact with the log, of the topic where that is longest."""

    def require(self) -> None:
        """Raises Unavailable before `ready`, and where the log has been out of reach for longer
        than the limit.
        """


@dataclass(frozen=True, slots=True)
class HoldRequest:
    """What one request may cost: `full_nanousd` as asked for, `least_nanousd` where a clamped
    output would do.

    `least_nanousd` 0 means that only the full amount will do.
    """

    principal: KeyPrincipal
    price: Price
    usage_id: UsageId
    full_nanousd: int
    least_nanousd: int = 0
    # The model that it is for; its money lies apart where its spend is capped.
    model_id: str = ""

    @property
    def bound_nanousd(self) -> int:
        """The smallest hold that serves the request."""
        return (
            self.least_nanousd if 0 < self.least_nanousd < self.full_nanousd else self.full_nanousd
        )


@dataclass(slots=True, eq=False)
class Hold:
    """Money set aside for one request, inside exactly one grant; no grant where the request is
    free. `amount_nanousd` grows with `Budget.grow`, and only there.
    """

    usage_id: UsageId
    grant_id: GrantId
    amount_nanousd: int
    account_id: AccountId
    key_id: KeyId
    # Of the purse that it lies in; empty where that is for any model.
    model_id: str = ""


class Budget(Protocol):
    """The worker's money: grants from billing, holds per request."""

    async def place(self, request: HoldRequest) -> Hold:
        """A hold of at least `bound_nanousd` and at most `full_nanousd`.

        Raises SpendLimitExceeded with extra {"limit": SpendLimit, "state": SpendState} and, where
        the money is only held, `retry_after_s`; Forbidden where billing knows the key as inactive;
        Unavailable where billing gave no answer within the deadline. Cancelling leaves nothing
        held.
        """

    async def grow(self, hold: Hold, *, more_nanousd: int, least_nanousd: int) -> None:
        """Puts more under a hold, inside its grant: `more_nanousd`, or at least `least_nanousd`
        where that is all there is.

        Raises as `place` does, and leaves the hold as it was. Cancelling leaves it as it is then.
        """

    def settle(self, hold: Hold, cost_nanousd: int) -> None:
        """Ends the hold with what the request cost. `UsageJournal.record` calls it; the pipeline
        does not.
        """

    def release(self, hold: Hold) -> None:
        """Ends a hold whose request was never admitted to the journal. A hold ends once; a second
        time asserts.
        """


@dataclass(frozen=True, slots=True)
class QuotaTicket:
    """One request let in under its key's limits, with the tokens that were set aside for it."""

    number: int
    lease_id: str
    account_id: AccountId
    key_id: KeyId
    tokens: int
    # As in `Quotas.admit`; empty where that model is not limited.
    model_id: str = ""
    model_only: bool = False


@dataclass(frozen=True, slots=True)
class QuotaMeter:
    """One limit that binds a key: what is left of it, when its window ends, and whose it is; the
    key's own where no scope is named.
    """

    limit: QuotaLimit
    limit_value: int
    left: int
    resets_in_s: float
    scope: str = ""


class Quotas(Protocol):
    """The limits of requests and tokens, exact over all workers. A key without limits costs
    nothing here.
    """

    def check(self, principal: KeyPrincipal) -> None:
        """Raises RateLimitExceeded where the key is known to be at its limit, without asking."""

    async def admit(
        self,
        principal: KeyPrincipal,
        tokens: int,
        *,
        model_id: str = "",
        model_only: bool = False,
    ) -> QuotaTicket | None:
        """Lets one request to that model in that may come to so many tokens; None where nothing
        limits it. `model_only`: it counts against the key already, as one of a group, and is now
        held to that model's own limits.

        Raises RateLimitExceeded with extra {"limit": QuotaLimit, "scope": ScopeKind} and, where
        waiting helps, `retry_after_s`; Forbidden where billing knows the key as inactive;
        Unavailable where billing gave no answer within the deadline. Cancelling leaves the request
        counted.
        """

    def settle(self, ticket: QuotaTicket, actual_tokens: int) -> None:
        """Ends a ticket with the tokens that the request came to. A second time asserts."""

    def standing(self, principal: KeyPrincipal, *, model_id: str = "") -> Sequence[QuotaMeter]:
        """What limits the key, and its requests to that model, as far as this worker knows, without
        asking; for headers.
        """

    async def meters(self, principal: KeyPrincipal) -> Sequence[QuotaMeter]:
        """What limits the key, as billing counts it now. Raises Unavailable."""

    async def account_meters(self, account_id: AccountId) -> Sequence[QuotaMeter]:
        """What limits the account, as billing counts it now. Raises Unavailable."""


@dataclass(frozen=True, slots=True)
class AdmittedRecord:
    """What is known of a request when it is let in: enough for the event that says it crashed."""

    usage_id: UsageId
    request_id: RequestId
    account_id: AccountId
    key_id: KeyId
    user_id: UserId
    route: str
    requested_model: str
    received_at_ms: int
    admitted_at_ms: int
    model_id: str = ""
    stream: bool = False
    grant_id: str = ""
    held_nanousd: int = 0
    trace_id: str = ""
    session_id: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    end_user_id: str = ""


class UsageJournal(Protocol):
    """Exactly one usage event for every request, whatever happens to this process, this machine's
    disk apart.
    """

    def admitted(self, record: AdmittedRecord) -> None:
        """Writes that the request was let in; survives the death of the process from the return on.

        Raises Unavailable where the write-ahead file takes no new requests (full, or its disk
        refuses); the caller releases the hold and refuses the request.
        """

    async def record(self, event: UsageRecorded, hold: Hold | None) -> None:
        """Settles the hold with `event.cost_nanousd` and writes the event, in one step; returns
        when it is on disk.

        From then on it is certain to reach Kafka. `usage_id` must be the one that was admitted, if
        one was, and `grant_id` and `held_nanousd` those of the hold. Raises Unavailable where it
        cannot be written: the hold is given back, nothing is billed, and the event follows at the
        next start as crashed; answer 503. Once written, cancelling the wait undoes nothing.
        """
