"""Stripe's objects, as plain JSON, translated into what payments know. No IO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from services.billing.domain.payment_seen import (
    CENT,
    DisputeSeen,
    PaymentSeen,
    RefundSeen,
    SeenStatus,
)
from services.billing.payment_ports import Checkout, Movement, MovementKind, Notice
from services.common.errors import NotFound
from services.common.ids import AccountId

Json = Mapping[str, Any]  # Any: JSON
ACCOUNT, TOP_UP, REFILL, REFUND = (
    "mesh_account_id", "mesh_top_up_id", "mesh_refill_id", "mesh_refund_id",
)  # fmt: skip
# What is listened to; anything else is no business of billing's.
NOTICES = ("checkout.session.", "payment_intent.", "charge.dispute.", "charge.refund", "refund.")
_CARD_DECLINED = "card_declined"


def payment_from_intent(
    intent: Json, *, refunds: Sequence[Json] = (), disputes: Sequence[Json] = ()
) -> PaymentSeen:
    """A payment intent, its payment method expanded. NotFound where it bears no id of ours."""
    metadata = intent.get("metadata") or {}
    account_id = metadata.get(ACCOUNT)
    if not account_id:
        raise NotFound(f"payment {intent['id']} is none of ours")
    status, failure_code = _status(intent)
    method = intent.get("payment_method")
    return PaymentSeen(
        intent["id"],
        AccountId(account_id),
        metadata.get(TOP_UP, ""),
        metadata.get(REFILL, ""),
        status,
        (intent.get("amount_received") or 0) * CENT,
        intent["currency"],
        intent["created"] * 1000,
        id_of(intent.get("customer")),
        id_of(method) if _is_reusable(method) else "",
        card_label(method),
        failure_code,
        tuple(refund_from(one) for one in oldest_first(refunds)),
        tuple(dispute_from(one) for one in oldest_first(disputes) if _took_money(one)),
    )


def _status(intent: Json) -> tuple[SeenStatus, str]:
    error = intent.get("last_payment_error") or {}
    code = error.get("code") or ""
    if code == _CARD_DECLINED:
        code = error.get("decline_code") or code
    match intent["status"]:
        case "succeeded":
            return "succeeded", ""
        case "processing":
            return "processing", ""
        case "canceled":
            return "canceled", code or "canceled"
        case "requires_payment_method" if error:
            return "failed", code
        case "requires_action":
            return "waiting", "authentication_required"
        case _:
            return "waiting", code


def refund_from(refund: Json) -> RefundSeen:
    """A refund; one that is under way has left our balance at Stripe already."""
    failed = refund["status"] in ("failed", "canceled")
    return RefundSeen(
        refund["id"],
        (refund.get("metadata") or {}).get(REFUND, ""),
        refund["amount"] * CENT,
        "failed" if failed else "made",
    )


def dispute_from(dispute: Json) -> DisputeSeen:
    """A dispute that took money."""
    status: Literal["open", "won", "lost"] = "open"
    if dispute["status"] in ("won", "lost"):
        status = dispute["status"]
    return DisputeSeen(dispute["id"], dispute["amount"] * CENT, status, dispute.get("reason") or "")


def _took_money(dispute: Json) -> bool:
    """False for a bank's question (`warning_...`), which takes nothing."""
    return dispute["status"] in ("needs_response", "under_review", "won", "lost")


def checkout_from(session: Json) -> Checkout:
    """A checkout session. Raises NotFound where it bears no id of ours."""
    metadata = session.get("metadata") or {}
    if not metadata.get(ACCOUNT) or not metadata.get(TOP_UP):
        raise NotFound(f"checkout {session['id']} is none of ours")
    return Checkout(
        session["id"],
        AccountId(metadata[ACCOUNT]),
        metadata[TOP_UP],
        session["status"],
        session.get("url") or "",
        id_of(session.get("payment_intent")),
    )


def notice_from(event: Json) -> Notice | None:
    """What a notice asks to be looked at; None where it is no business of ours.

    Raises KeyError, TypeError or AttributeError where it is no notice.
    """
    event_type = str(event["type"])
    subject = event["data"]["object"]
    if not event_type.startswith(NOTICES):
        return None
    payment_id = id_of(subject.get("payment_intent"))
    if subject.get("object") == "payment_intent":
        payment_id = subject["id"]
    return Notice(
        str(event["id"]), event_type, str(subject["id"]), payment_id, int(event["created"]) * 1000
    )


def movement_from(row: Json) -> Movement:
    """A balance transaction, its source expanded."""
    source = row.get("source")
    kinds: dict[tuple[str, str], MovementKind] = {
        ("charge", "charge"): "payment",
        ("payment", "charge"): "payment",
        ("refund", "refund"): "refund",
        ("payment_refund", "refund"): "refund",
        ("refund_failure", "refund_failure"): "refund_failed",
        ("payment_failure_refund", "refund_failure"): "refund_failed",
        ("adjustment", "dispute"): "dispute",
        ("adjustment", "dispute_reversal"): "dispute_returned",
    }
    facts = source if isinstance(source, Mapping) else {}
    return Movement(
        row["id"],
        kinds.get((row["type"], row.get("reporting_category", "")), "other"),
        row["amount"] * CENT,
        (row.get("fee") or 0) * CENT,
        id_of(facts.get("payment_intent")),
        id_of(source),
        row["created"] * 1000,
    )


def card_label(method: Any) -> str:  # Any: JSON
    """Brand and last four digits, for people."""
    card = method.get("card") if isinstance(method, Mapping) else None
    return f"{card.get('brand', 'card')} {card.get('last4', '')}".strip() if card else ""


def _is_reusable(method: Any) -> bool:  # Any: JSON
    """True for a card that was saved for the customer."""
    return isinstance(method, Mapping) and bool(method.get("card") and method.get("customer"))


def id_of(value: Any) -> str:  # Any: JSON, an id or an object
    """The id, whether it was expanded or not; "" for none."""
    if isinstance(value, Mapping):
        return str(value.get("id", ""))
    return str(value) if value else ""


def oldest_first(rows: Sequence[Json]) -> list[Json]:
    """In the order in which they were made."""
    return sorted(rows, key=lambda row: (row["created"], row["id"]))
