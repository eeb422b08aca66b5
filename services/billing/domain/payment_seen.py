"""A payment as the gateway has it, and what the domain answers: events, and postings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from services.billing.domain.events import Entry
from services.billing.domain.payment_events import PaymentEvent
from services.common.ids import AccountId

CASH = "cash:stripe"
REFUNDS = "refunds"
DISPUTES = "disputes"
TAX = "tax"
CENT = 10_000_000

SeenStatus = Literal["waiting", "processing", "succeeded", "failed", "canceled"]


@dataclass(frozen=True, slots=True)
class Posting:
    """A transaction to be posted; whoever posts it gives it its id and its moment of booking."""

    account_id: AccountId
    idempotency_key: str
    kind: str
    entries: tuple[Entry, ...]
    reason: str
    occurred_at_ms: int = 0


Step = PaymentEvent | Posting


@dataclass(frozen=True, slots=True)
class RefundSeen:
    """A refund at the gateway; `refund_id` is ours where we asked for it, else ""."""

    gateway_refund_id: str
    refund_id: str
    amount_nanousd: int
    status: Literal["made", "failed"]


@dataclass(frozen=True, slots=True)
class DisputeSeen:
    """A dispute at the gateway that took money, or had."""

    dispute_id: str
    amount_nanousd: int
    status: Literal["open", "won", "lost"]
    reason: str


@dataclass(frozen=True, slots=True)
class PaymentSeen:
    """A payment as the gateway has it. The ids of ours are those we gave it when it was made."""

    payment_id: str
    account_id: AccountId
    top_up_id: str
    refill_id: str
    status: SeenStatus
    received_nanousd: int
    currency: str
    created_at_ms: int
    customer_id: str = ""
    payment_method_id: str = ""
    card_label: str = ""
    failure_code: str = ""
    refunds: tuple[RefundSeen, ...] = ()
    disputes: tuple[DisputeSeen, ...] = ()
