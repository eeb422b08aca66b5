"""Customers, cards, and payments of a card or a bank account, from the first try to their end."""

from __future__ import annotations

from typing import Any

from deploy.local.stripe_sim.cards import CARDS, TOKENS, Card, error_code
from deploy.local.stripe_sim.forms import Params, flag, whole
from deploy.local.stripe_sim.world import ApiError, Object, World, bad

FEE_FIXED = 30


def create_customer(world: World, params: Params) -> Object:
    """A customer."""
    return world.add(
        "customer",
        "cus",
        {
            "email": params.get("email"),
            "name": params.get("name"),
            "metadata": params.get("metadata") or {},
            "invoice_settings": {"default_payment_method": None},
        },
    )


def update_customer(world: World, customer: Object, params: Params) -> Object:
    """Takes over what is named of the customer's address and name. Raises ApiError."""
    email = params.get("email")
    if email and "@" not in email:
        raise bad(f"Invalid email address: {email}", code="email_invalid", param="email")
    customer.update({name: params[name] for name in ("email", "name") if name in params})
    world.tell("customer.updated", customer)
    return customer


def create_payment_method(
    world: World, *, number: str = "", bank: str = "", customer: str | None = None
) -> Object:
    """A card, or a bank account (`bank` says whether it will pay)."""
    if bank:
        kind: Object = {"us_bank_account": {"last4": "6789", "bank_name": "TEST BANK"}}
        return world.add(
            "payment_method",
            "pm",
            {"type": "us_bank_account", "customer": customer, "test_outcome": bank, **kind},
        )
    card = card_of(number)
    shown = {"brand": card.brand, "last4": card.last4, "exp_month": 12, "exp_year": 2034}
    return world.add(
        "payment_method",
        "pm",
        {"type": "card", "card": shown, "customer": customer, "test_number": card.number},
    )


def card_of(number: str) -> Card:
    """The test card. Raises ApiError for any other: no real card belongs here."""
    card = CARDS.get(number)
    if card is None:
        raise ApiError(
            402, "card_error", "TEST MODE: only test card numbers are taken.",
            code="incorrect_number", param="number",
        )  # fmt: skip
    return card


def payment_method(world: World, key: str) -> Object:
    """A payment method by its id, or a new one by a test token."""
    if key in TOKENS:
        return create_payment_method(world, number=TOKENS[key])
    return world.find("payment_method", key)


def create_intent(world: World, params: Params) -> Object:
    """A payment; confirmed at once where that is asked for. Raises ApiError."""
    amount = whole(params.get("amount"))
    if amount < 50:
        raise bad("Amount must be at least $0.50 usd", code="amount_too_small", param="amount")
    if not params.get("currency"):
        raise bad("Missing required param: currency.", param="currency")
    customer = params.get("customer")
    if customer:
        world.find("customer", customer)
    intent = world.add(
        "payment_intent",
        "pi",
        {
            "amount": amount,
            "amount_received": 0,
            "currency": params["currency"],
            "customer": customer,
            "payment_method": None,
            "metadata": params.get("metadata") or {},
            "status": "requires_payment_method",
            "latest_charge": None,
            "last_payment_error": None,
            "next_action": None,
            "setup_future_usage": params.get("setup_future_usage"),
            "description": params.get("description"),
            "receipt_email": params.get("receipt_email"),
            "client_secret": world.new_id("secret"),
            "canceled_at": None,
        },
    )
    world.tell("payment_intent.created", intent)
    if params.get("payment_method"):
        method = payment_method(world, params["payment_method"])
        if customer and method["customer"] not in (None, customer):
            raise bad("The payment method belongs to another customer.", param="payment_method")
        intent["payment_method"] = method["id"]
        intent["status"] = "requires_confirmation"
    if flag(params.get("confirm")):
        confirm_intent(world, intent, params)
    return intent


def confirm_intent(world: World, intent: Object, params: Params) -> Object:
    """Tries to take the money. Raises ApiError where the card is declined."""
    if intent["status"] not in ("requires_payment_method", "requires_confirmation"):
        raise bad(
            f"This PaymentIntent's status is {intent['status']}.",
            code="payment_intent_unexpected_state", payment_intent=intent,
        )  # fmt: skip
    if params.get("payment_method"):
        intent["payment_method"] = payment_method(world, params["payment_method"])["id"]
    if not intent["payment_method"]:
        raise bad("You cannot confirm this PaymentIntent: it has no payment method.")
    method = world.find("payment_method", intent["payment_method"])
    intent["last_payment_error"] = intent["next_action"] = None
    off_session = flag(params.get("off_session"))
    if method["type"] == "us_bank_account":
        intent["status"] = "processing"
        world.tell("payment_intent.processing", intent)
        world.plan_later(world.bank_delay_ms, "bank", intent["id"])
        return intent
    card = CARDS[method["test_number"]]
    declined = card.declines or (card.declines_later if off_session else "")
    if declined:
        raise _declined(world, intent, code=error_code(declined), decline=declined)
    known = flag(method.get("authenticated"))
    if card.asks == "always" or (card.asks == "on_setup" and not known):
        if off_session:
            raise _declined(
                world, intent, code="authentication_required", decline="authentication_required"
            )
        intent["status"] = "requires_action"
        intent["next_action"] = {
            "type": "redirect_to_url",
            "redirect_to_url": {"url": f"{world.public_url}/authenticate/{intent['id']}"},
        }
        world.tell("payment_intent.requires_action", intent)
        return intent
    return succeed(world, intent)


def authenticate(world: World, intent: Object, *, passed: bool) -> Object:
    """The card's owner answered the 3-D Secure question. Raises ApiError where he failed."""
    if intent["status"] != "requires_action":
        raise bad(f"This PaymentIntent's status is {intent['status']}.")
    intent["next_action"] = None
    if not passed:
        code = "payment_intent_authentication_failure"
        raise _declined(world, intent, code=code, decline="authentication_failed")
    world.find("payment_method", intent["payment_method"])["authenticated"] = True
    return succeed(world, intent)


def succeed(world: World, intent: Object) -> Object:
    """The money came in."""
    method = world.find("payment_method", intent["payment_method"])
    fee = FEE_FIXED + intent["amount"] * 29 // 1000
    charge = world.add(
        "charge",
        "ch",
        {
            "amount": intent["amount"],
            "amount_refunded": 0,
            "currency": intent["currency"],
            "customer": intent["customer"],
            "payment_intent": intent["id"],
            "payment_method": method["id"],
            "payment_method_details": {method["type"]: method[method["type"]]},
            "metadata": intent["metadata"],
            "paid": True,
            "refunded": False,
            "disputed": False,
            "status": "succeeded",
        },
    )
    kind = "payment" if method["type"] == "us_bank_account" else "charge"
    movement = world.move(kind, intent["amount"], charge["id"], fee=fee, of="charge")
    charge["balance_transaction"] = movement["id"]
    payer = world.objects["customer"].get(intent["customer"] or "", {})
    charge["receipt_email"] = intent["receipt_email"] or payer.get("email")
    charge["receipt_url"] = f"{world.public_url}/receipt/{charge['id']}"
    intent.update(status="succeeded", amount_received=intent["amount"], latest_charge=charge["id"])
    if intent["customer"] and intent["setup_future_usage"] and method["type"] == "card":
        method["customer"] = intent["customer"]
    world.tell("charge.succeeded", charge)
    world.tell("payment_intent.succeeded", intent)
    if method["type"] == "card" and CARDS[method["test_number"]].disputes:
        world.plan_later(1_000, "dispute", charge["id"])
    return intent


def cancel_intent(world: World, intent: Object) -> Object:
    """No money will come of it any more. Raises ApiError where some did."""
    if intent["status"] in ("succeeded", "canceled", "processing"):
        raise bad(
            f"You cannot cancel this PaymentIntent: its status is {intent['status']}.",
            code="payment_intent_unexpected_state", payment_intent=intent,
        )  # fmt: skip
    intent.update(status="canceled", canceled_at=world.now_s, next_action=None)
    world.tell("payment_intent.canceled", intent)
    return intent


def bank_answered(world: World, intent: Object) -> bool:
    """The bank account's money came, or did not; True where it did."""
    method = world.find("payment_method", intent["payment_method"])
    if method["test_outcome"] == "succeeds":
        succeed(world, intent)
        return True
    intent["status"] = "requires_payment_method"
    intent["last_payment_error"] = _error("payment_intent_payment_attempt_failed", "bank_refused")
    world.tell("payment_intent.payment_failed", intent)
    return False


def create_setup(world: World, params: Params) -> Object:
    """A card that is to be saved without paying."""
    setup = world.add(
        "setup_intent",
        "seti",
        {
            "customer": params.get("customer"),
            "payment_method": None,
            "usage": params.get("usage", "off_session"),
            "status": "requires_payment_method",
            "client_secret": world.new_id("secret"),
            "metadata": params.get("metadata") or {},
        },
    )
    if flag(params.get("confirm")):
        return confirm_setup(world, setup, params)
    return setup


def confirm_setup(world: World, setup: Object, params: Params) -> Object:
    """Saves the card. Raises ApiError where it is declined."""
    if not params.get("payment_method"):
        raise bad("You must provide a payment method.", param="payment_method")
    method = payment_method(world, params["payment_method"])
    card = CARDS[method["test_number"]]
    if card.declines:
        raise ApiError(
            402, "card_error", "Your card was declined.",
            code=error_code(card.declines), decline_code=card.declines, setup_intent=setup,
        )  # fmt: skip
    method["customer"] = setup["customer"]
    setup["payment_method"] = method["id"]
    setup["status"] = "requires_action" if card.asks != "never" else "succeeded"
    world.tell(f"setup_intent.{setup['status']}", setup)
    return setup


def _error(code: str, decline: str) -> Object:
    if code == "authentication_required":
        message = "Your card was declined. This transaction requires authentication."
    elif decline == "insufficient_funds":
        message = "Your card has insufficient funds."
    else:
        message = "Your card was declined."
    return {"type": "card_error", "code": code, "decline_code": decline, "message": message}


def _declined(world: World, intent: Object, *, code: str, decline: str) -> ApiError:
    error: dict[str, Any] = _error(code, decline)  # Any: JSON
    intent.update(status="requires_payment_method", last_payment_error=dict(error))
    world.tell("payment_intent.payment_failed", intent)
    kind, message = error.pop("type"), error.pop("message")
    return ApiError(402, kind, message, **error, payment_intent=intent)
