"""What the panel's API says about paying. Money is a decimal string of US dollars."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, StringConstraints

Amount = Annotated[str, StringConstraints(max_length=30)]


class TopUpIn(BaseModel):
    amount_usd: Amount
    save_card: bool = False


class TopUpOut(BaseModel):
    top_up_id: str
    amount_usd: str
    status: str
    started_at: str
    payment_id: str
    reason: str


class TopUpStarted(BaseModel):
    """A top-up, and the page on which it is paid."""

    top_up: TopUpOut
    checkout_url: str


class PaymentOut(BaseModel):
    payment_id: str
    kind: str
    amount_usd: str
    taken_back_usd: str
    received_at: str


class ReversalOut(BaseModel):
    """A refund or a dispute."""

    reversal_id: str
    kind: Literal["refund", "dispute"]
    payment_id: str
    amount_usd: str
    status: str
    since: str
    reason: str


class PromoOut(BaseModel):
    """Promotional credit; `expires_at` is null where it never does."""

    promo_id: str
    amount_usd: str
    remaining_usd: str
    granted_at: str
    expires_at: str | None
    reason: str


class PaymentsOut(BaseModel):
    """What was paid, and how one may pay: not at all where `enabled` is false."""

    enabled: bool
    test_mode: bool
    least_usd: str
    most_usd: str
    top_ups: list[TopUpOut]
    payments: list[PaymentOut]
    reversals: list[ReversalOut]
    promos: list[PromoOut]


class PaymentFactOut(BaseModel):
    """What happened about paying; `actor` is a user's id, `operator`, or `mesh`."""

    at: str
    kind: str
    status: str
    actor: str
    subject_id: str
    amount_usd: str
    detail: str
    event_id: str


class PaymentHistoryOut(BaseModel):
    facts: list[PaymentFactOut]
    next_page_token: str


class RefillIn(BaseModel):
    enabled: bool
    threshold_usd: Amount
    amount_usd: Amount
    day_max_usd: Amount
    month_max_usd: Amount


class RefillChargeOut(BaseModel):
    refill_id: str
    amount_usd: str
    status: str
    started_at: str
    failure_code: str


class RefillOut(BaseModel):
    """Settings and state; `until` is when the state ends by itself."""

    enabled: bool
    threshold_usd: str
    amount_usd: str
    day_max_usd: str
    month_max_usd: str
    state: str
    until: str | None
    card: str
    switched_off_because: str
    charges: list[RefillChargeOut]
