"""Refunds and disputes: money that goes back."""

from __future__ import annotations

from deploy.local.stripe_sim.forms import Params, whole
from deploy.local.stripe_sim.world import Object, World, bad

DISPUTE_FEE = 1_500


def create_refund(world: World, params: Params) -> Object:
    """Gives back what is left of a payment, or a part of it. Raises ApiError."""
    intent = world.find("payment_intent", params.get("payment_intent") or "")
    if not intent["latest_charge"]:
        raise bad("This PaymentIntent has no successful charge to refund.")
    charge = world.find("charge", intent["latest_charge"])
    left = charge["amount"] - charge["amount_refunded"]
    amount = whole(params.get("amount"), left)
    if left == 0:
        raise bad("Charge has already been refunded.", code="charge_already_refunded")
    if not 0 < amount <= left:
        raise bad(f"Refund amount (${amount / 100:.2f}) is greater than what is left.")
    if any(one["status"] != "won" for one in world.where("dispute", charge=charge["id"])):
        raise bad("Charge has been charged back; cannot issue a refund.", code="charge_disputed")
    refund = world.add(
        "refund",
        "re",
        {
            "amount": amount,
            "currency": "usd",
            "charge": charge["id"],
            "payment_intent": intent["id"],
            "metadata": params.get("metadata") or {},
            "reason": params.get("reason"),
            "status": "succeeded",
        },
    )
    refund["balance_transaction"] = world.move("refund", -amount, refund["id"])["id"]
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] == charge["amount"]
    world.tell("charge.refunded", charge)
    world.tell("refund.created", refund)
    return refund


def fail_refund(world: World, refund: Object) -> Object:
    """The bank sent a refund back."""
    if refund["status"] != "succeeded":
        raise bad("This refund cannot fail any more.")
    refund["status"] = "failed"
    refund["failure_reason"] = "lost_or_stolen_card"
    movement = world.move("refund_failure", refund["amount"], refund["id"])
    refund["failure_balance_transaction"] = movement["id"]
    charge = world.find("charge", refund["charge"])
    charge["amount_refunded"] -= refund["amount"]
    charge["refunded"] = False
    world.tell("refund.failed", refund)
    return refund


def open_dispute(world: World, charge: Object) -> Object | None:
    """The cardholder's bank takes back what was not refunded; None where nothing is left."""
    amount = charge["amount"] - charge["amount_refunded"]
    if charge["disputed"] or amount <= 0:
        return None
    charge["disputed"] = True
    dispute = world.add(
        "dispute",
        "dp",
        {
            "amount": amount,
            "currency": "usd",
            "charge": charge["id"],
            "payment_intent": charge["payment_intent"],
            "reason": "fraudulent",
            "status": "needs_response",
            "metadata": {},
        },
    )
    movement = world.move("adjustment", -amount, dispute["id"], fee=DISPUTE_FEE, of="dispute")
    dispute["balance_transactions"] = [movement]
    world.tell("charge.dispute.created", dispute)
    world.tell("charge.dispute.funds_withdrawn", dispute)
    return dispute


def end_dispute(world: World, dispute: Object, *, won: bool) -> Object:
    """The bank decided."""
    if dispute["status"] in ("won", "lost"):
        raise bad("This dispute is closed.")
    dispute["status"] = "won" if won else "lost"
    if won:
        movement = world.move("adjustment", dispute["amount"], dispute["id"], of="dispute_reversal")
        dispute["balance_transactions"].append(movement)
        world.tell("charge.dispute.funds_reinstated", dispute)
    world.tell("charge.dispute.closed", dispute)
    return dispute
