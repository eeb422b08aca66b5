"""Who did what about an account's paying, and what came of it: its payment events, for people.

The events are the audit trail themselves: immutable, chained, and written in the transaction of
what they tell. This puts one of them into words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from services.billing.domain.payment_events import (
    CardSaved,
    CustomerLinked,
    DisputeChanged,
    PaymentEvent,
    PaymentReceived,
    PromoCounted,
    PromoExpired,
    PromoGranted,
    PromoUsed,
    RefillChanged,
    RefillConfigured,
    RefillStarted,
    RefundChanged,
    RefundRequested,
    TopUpChanged,
    TopUpStarted,
)

# Nobody's doing: billing's own, after what the gateway said.
MESH, OPERATOR = "mesh", "operator"
# What tells people nothing, because it is bookkeeping.
UNTOLD = (CustomerLinked, PromoUsed, PromoCounted)


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that happened. `actor` is a user's id, `operator` or `mesh`; nano-dollars."""

    kind: str
    status: str
    actor: str
    subject_id: str
    amount_nanousd: int = 0
    detail: str = ""


def fact_of(event: PaymentEvent) -> Fact | None:
    """The event in words; None for bookkeeping."""
    match event:
        case TopUpStarted():
            return Fact(
                "top_up", "started", event.requested_by, event.top_up_id, event.amount_nanousd
            )
        case TopUpChanged():
            return Fact("top_up", event.status, MESH, event.top_up_id, detail=event.reason)
        case CardSaved():
            return Fact("card", "saved", MESH, event.payment_method_id, detail=event.card_label)
        case PaymentReceived():
            return Fact("payment", "received", MESH, event.payment_id, event.credited_nanousd)
        case RefundRequested():
            return Fact(
                "refund", "requested", event.requested_by, event.refund_id, event.amount_nanousd,
                event.reason,
            )  # fmt: skip
        case RefundChanged():
            return Fact(
                "refund", event.status, MESH, event.refund_id, event.amount_nanousd, event.reason
            )
        case DisputeChanged():
            return Fact(
                "dispute", event.status, MESH, event.dispute_id, event.amount_nanousd, event.reason
            )
        case _:
            return _of_refill_or_promo(event)


def _of_refill_or_promo(
    event: CustomerLinked | RefillConfigured | RefillStarted | RefillChanged | PromoGranted
    | PromoUsed | PromoCounted | PromoExpired,
) -> Fact | None:  # fmt: skip
    match event:
        case RefillConfigured():
            status = "on" if event.enabled else "off"
            return Fact(
                "refill_settings", status, event.changed_by, "", event.amount_nanousd, event.reason
            )
        case RefillStarted():
            return Fact("refill", "started", MESH, event.refill_id, event.amount_nanousd)
        case RefillChanged():
            return Fact("refill", event.status, MESH, event.refill_id, detail=event.failure_code)
        case PromoGranted():
            return Fact(
                "promo", "granted", OPERATOR, event.promo_id, event.amount_nanousd, event.reason
            )
        case PromoExpired():
            return Fact("promo", "expired", MESH, event.promo_id, event.amount_nanousd)
        case CustomerLinked() | PromoUsed() | PromoCounted():
            return None
        case _:
            assert_never(event)
