"""What the operators' part of the panel's API says and takes."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Path
from pydantic import BaseModel, Field

from services.common.money import INT64_MAX
from services.dashboard.api.models import BalanceOut, MemberOut, PriceOut
from services.dashboard.api.parts import Taken

Reason = Annotated[str, Field(min_length=1, max_length=400)]
DAYS_MAX = 3_650


class OperatorAccount(BaseModel):
    account_id: str
    name: str
    owner_email: str
    suspended: bool
    created_at: str


class OperatorAccounts(BaseModel):
    accounts: list[OperatorAccount]
    next_page_token: str


class OperatorAccountDetails(BaseModel):
    """One account: its money, its people, how many keys it has (`keys_more`: at least so many)."""

    account: OperatorAccount
    balance: BalanceOut
    members: list[MemberOut]
    keys: int
    keys_active: int
    keys_more: bool


class Suspension(Taken):
    reason: Reason


class Promo(Taken):
    amount_usd: str
    # Until it expires, at the end of that day; 0: never.
    days: int = Field(default=0, ge=0, le=DAYS_MAX)
    reason: Reason
    # The same key credits once, however often it is sent.
    idempotency_key: str = Field(min_length=8, max_length=100)


class PromoGiven(BaseModel):
    posted_usd: str


class ProviderOut(BaseModel):
    provider_id: str
    name: str
    kind: str
    base_url: str
    enabled: bool
    usable: bool
    credential_required: bool
    credentials: list[CredentialOut]


class CredentialOut(BaseModel):
    """One of a provider's credentials. Lower priorities are used first; those of one share the
    traffic by weight, the others are turned to where these fail.
    """

    credential_id: str
    # Empty for `default`, which is there without being added.
    label: str
    priority: int
    weight: int
    enabled: bool
    version: int
    # First and last characters.
    masked: str
    set_at: str | None


class Switch(Taken):
    enabled: bool


class Secret(Taken):
    credential: str = Field(min_length=1, max_length=10_000)


class CredentialSettings(Taken):
    label: str = Field(default="", max_length=60)
    priority: int = Field(default=0, ge=0, le=100)
    weight: int = Field(default=1, ge=1, le=1_000)
    enabled: bool = True


class NewCredential(Secret):
    label: str = Field(min_length=1, max_length=60)
    priority: int = Field(default=0, ge=0, le=100)
    weight: int = Field(default=1, ge=1, le=1_000)


class ProviderTested(BaseModel):
    ok: bool
    http_status: int
    message: str
    latency_ms: int


class PricedModel(BaseModel):
    """A model, served or not; prices are in force now and None where there is none."""

    model_id: str
    provider_id: str
    available: bool
    prompt_usd_per_1m: str | None
    completion_usd_per_1m: str | None


class NewPrice(Taken):
    """USD per million tokens; without `cached_prompt_usd` cached tokens cost what others do."""

    model_id: str = Field(min_length=1, max_length=200)
    prompt_usd: str
    completion_usd: str
    cached_prompt_usd: str | None = None
    request_fee_usd: str = "0"


class PriceHistory(BaseModel):
    model_id: str
    # Newest first; more than one may lie in the future.
    prices: list[PriceOut]


class HeldGrant(BaseModel):
    """Money that was lent to a worker; `held_usd` is what of it nobody can use now."""

    grant_id: str
    account_id: str
    key_id: str
    worker_id: str
    status: str
    amount_usd: str
    settled_usd: str
    held_usd: str
    expires_at: str | None


class HeldGrants(BaseModel):
    grants: list[HeldGrant]
    next_page_token: str


class WriteOff(Taken):
    reason: Reason


class WrittenOff(BaseModel):
    account_id: str
    written_off_usd: str


class DifferenceOut(BaseModel):
    """An hour of an account in which the request log and the ledger do not agree."""

    account_id: str
    hour: str
    log_requests: int
    log_cost_usd: str
    ledger_requests: int
    ledger_cost_usd: str
    only_in_log: list[str]
    only_in_ledger: list[str]
    cost_differs: list[str]


class DifferencesOut(BaseModel):
    differences: list[DifferenceOut]
    compared_at: str | None


class Compared(BaseModel):
    """What a comparison looked at, and where the two differ."""

    hours: int
    requests: int
    cost_usd: str
    differences: list[DifferenceOut]


class FindingOut(BaseModel):
    # Empty where it is about the seals.
    account_id: str
    what: str


class Verified(BaseModel):
    accounts: int
    events: int
    transactions: int
    # Hours whose seal was computed again.
    seals: int
    findings: list[FindingOut]


Keeper = Literal["billing", "usage"]
# Keepers of dead letters, and what only reads.
Reader = Literal["billing", "usage", "usage-live"]
LetterStatus = Literal["open", "sent_again", "discarded"]
LetterPosition = Annotated[int, Path(ge=0, le=INT64_MAX)]


class ConsumerPart(BaseModel):
    partition: int
    # The first message that is not applied yet, and the one after the last that there is.
    next_offset: int
    end_offset: int
    lag_messages: int


class ConsumerGroup(BaseModel):
    """A group that reads a topic. Positions are those that the service keeps with its data; where
    no service tells them (`service` is None), those that the group committed to the broker.
    """

    service: Reader | None
    group: str
    topic: str
    # How many processes are in it; None where the broker does not tell.
    members: int | None
    lag_messages: int
    parts: list[ConsumerPart]


class ServiceAway(BaseModel):
    """A service that did not answer, and its sentence."""

    service: Reader
    message: str


class ConsumersOut(BaseModel):
    groups: list[ConsumerGroup]
    # Groups that no process is in and no service answers for: of processes that are gone.
    leftover: list[ConsumerGroup]
    away: list[ServiceAway]
    # Why the broker does not answer, so that ends are as they were last seen; empty where it does.
    log_away: str


class DeadLetterOut(BaseModel):
    service: Keeper
    # Where it lies among the service's dead letters.
    position: int
    put_at: str
    topic: str
    partition: int
    offset: int
    key: str
    value_bytes: int
    reason: str
    retryable: bool
    status: LetterStatus
    # Of the newest decision; None and empty while it is open.
    decided_at: str | None
    decided_by: str
    decision_reason: str


class DeadLettersOut(BaseModel):
    # Newest first.
    letters: list[DeadLetterOut]
    # Of all services that answered, of whatever status is shown.
    open: int
    # Of some service there are older ones that are not shown.
    older: bool
    away: list[ServiceAway]


class DeadLetterContents(BaseModel):
    """One of them, opened, secrets masked. No `event_json` where `undecodable` says why."""

    letter: DeadLetterOut
    event_type: str
    event_id: str
    account_id: str
    occurred_at: str | None
    event_json: str
    undecodable: str
    preview: str


class Discard(Taken):
    reason: Reason


class SentAgain(BaseModel):
    topic: str
    partition: int
    offset: int
