"""The gateway's test cards, and what each of them does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Asks = Literal["never", "on_setup", "always"]


@dataclass(frozen=True, slots=True)
class Card:
    """One test card.

    `declines` is the code of its refusal; `declines_later` refuses only when nobody is present.
    `asks` says when it wants its owner (3-D Secure).
    """

    number: str
    what: str
    brand: str = "visa"
    declines: str = ""
    declines_later: str = ""
    asks: Asks = "never"
    disputes: bool = False

    @property
    def last4(self) -> str:
        """The digits that are shown."""
        return self.number[-4:]


CARDS = {
    card.number: card
    for card in (
        Card("4242424242424242", "succeeds"),
        Card("5555555555554444", "succeeds", brand="mastercard"),
        Card("4000000000000002", "is declined", declines="generic_decline"),
        Card("4000000000009995", "has insufficient funds", declines="insufficient_funds"),
        Card("4000000000000069", "is expired", declines="expired_card"),
        Card("4000002500003155", "asks for 3-D Secure, not again once saved", asks="on_setup"),
        Card("4000002760003184", "asks for 3-D Secure every time", asks="always"),
        Card(
            "4000000000000341",
            "succeeds here, is declined on refills",
            declines_later="generic_decline",
        ),
        Card("4000000000000259", "succeeds and is disputed", disputes=True),
    )
}
# The names by which tests of the API speak of them.
TOKENS = {
    "pm_card_visa": "4242424242424242",
    "pm_card_mastercard": "5555555555554444",
    "pm_card_chargeDeclined": "4000000000000002",
    "pm_card_chargeDeclinedInsufficientFunds": "4000000000009995",
    "pm_card_authenticationRequiredOnSetup": "4000002500003155",
    "pm_card_authenticationRequired": "4000002760003184",
    "pm_card_chargeCustomerFail": "4000000000000341",
    "pm_card_createDispute": "4000000000000259",
}
CODES = {"expired_card": "expired_card"}


def error_code(decline: str) -> str:
    """The error's code for a reason of a decline."""
    return CODES.get(decline, "card_declined")
