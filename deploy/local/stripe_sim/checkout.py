"""Checkout sessions: the page on which a person pays, as the API and the page see it."""

from __future__ import annotations

from deploy.local.stripe_sim.forms import Params, flag, whole
from deploy.local.stripe_sim.intents import (
    authenticate,
    confirm_intent,
    create_intent,
    create_payment_method,
)
from deploy.local.stripe_sim.world import Object, World, bad

LIFE_S = 24 * 3600


def create_session(world: World, params: Params) -> Object:
    """A session in the mode `payment`. Raises ApiError."""
    if params.get("mode") != "payment":
        raise bad("The simulator knows the mode payment only.", param="mode")
    items = params.get("line_items") or []
    if not items:
        raise bad("Missing required param: line_items.", param="line_items")
    subtotal = sum(
        whole(item["price_data"]["unit_amount"]) * whole(item.get("quantity"), 1) for item in items
    )
    taxed = flag((params.get("automatic_tax") or {}).get("enabled"))
    tax = (subtotal * world.tax_percent + 50) // 100 if taxed else 0
    name = items[0]["price_data"].get("product_data", {}).get("name", "Payment")
    session = world.add(
        "checkout.session",
        "cs_test",
        {
            "mode": "payment",
            "status": "open",
            "payment_status": "unpaid",
            "amount_subtotal": subtotal,
            "amount_total": subtotal + tax,
            "total_details": {"amount_tax": tax, "amount_discount": 0, "amount_shipping": 0},
            "automatic_tax": {"enabled": taxed, "status": "complete" if taxed else None},
            "currency": items[0]["price_data"]["currency"],
            "client_reference_id": params.get("client_reference_id"),
            "customer": params.get("customer"),
            "metadata": params.get("metadata") or {},
            "payment_intent": None,
            "payment_intent_data": params.get("payment_intent_data") or {},
            "success_url": params.get("success_url"),
            "cancel_url": params.get("cancel_url"),
            "expires_at": whole(params.get("expires_at"), world.now_s + LIFE_S),
            "item_name": name,
        },
    )
    session["url"] = f"{world.public_url}/pay/{session['id']}"
    world.plan_later((session["expires_at"] - world.now_s) * 1000, "expire", session["id"])
    return session


def expire_session(world: World, session: Object) -> Object:
    """Nobody can pay it any more. Raises ApiError where it is not open."""
    if session["status"] != "open":
        raise bad(f"Only open sessions can be expired: this one is {session['status']}.")
    session.update(status="expired", url=None)
    world.tell("checkout.session.expired", session)
    return session


def pay(world: World, session: Object, *, number: str = "", bank: str = "") -> Object:
    """A person pays with a card or a bank account; the payment. Raises ApiError where declined."""
    if session["status"] != "open":
        raise bad("This page can no longer be paid.")
    method = create_payment_method(world, number=number.replace(" ", ""), bank=bank)
    intent = _intent(world, session)
    if intent["status"] == "requires_action":
        intent.update(status="requires_payment_method", next_action=None)
    confirm_intent(world, intent, {"payment_method": method["id"]})
    return _after(world, session, intent)


def answer_question(world: World, session: Object, *, passed: bool) -> Object:
    """The person answered the bank's 3-D Secure question. Raises ApiError where not passed."""
    intent = _intent(world, session)
    authenticate(world, intent, passed=passed)
    return _after(world, session, intent)


def bank_paid(world: World, intent: Object, *, succeeded: bool) -> None:
    """The bank account's answer, for the session it was given on."""
    for session in world.where("checkout.session", payment_intent=intent["id"]):
        if succeeded:
            session["payment_status"] = "paid"
        kind = "succeeded" if succeeded else "failed"
        world.tell(f"checkout.session.async_payment_{kind}", session)


def _intent(world: World, session: Object) -> Object:
    if session["payment_intent"]:
        return world.find("payment_intent", session["payment_intent"])
    data = session["payment_intent_data"]
    intent = create_intent(
        world,
        {
            "amount": session["amount_total"],
            "currency": session["currency"],
            "customer": session["customer"],
            **data,
        },
    )
    session["payment_intent"] = intent["id"]
    return intent


def _after(world: World, session: Object, intent: Object) -> Object:
    if intent["status"] in ("succeeded", "processing"):
        session["status"] = "complete"
        session["url"] = None
        if intent["status"] == "succeeded":
            session["payment_status"] = "paid"
        world.tell("checkout.session.completed", session)
    return intent
