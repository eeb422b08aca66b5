"""Who sent a delivery of Stripe's, and what it asks to be looked at. No IO."""

from __future__ import annotations

import json
from collections.abc import Sequence

import stripe

from services.billing.adapters.stripe_objects import notice_from
from services.billing.payment_ports import Notice, NoticeRefused


class StripeNotices:
    """`NoticeReader`. `secrets` are those in force, empty ones left out; `tolerance_s` is how far a
    signature's time may be off our clock.

    Any of the secrets will do: while one is rotated, both are in force.
    """

    path = "/webhooks/stripe"
    header = "Stripe-Signature"

    def __init__(self, secrets: Sequence[str], *, tolerance_s: float) -> None:
        self._secrets = [secret for secret in secrets if secret]
        self._tolerance_s = tolerance_s

    def read(self, body: bytes, signature: str, *, now_ms: int) -> Notice | None:
        """The notice in a delivery; None where it is no business of ours. Raises NoticeRefused."""
        signed_at_s = _signed_at(signature)
        if not any(_is_signed(body, signature, secret) for secret in self._secrets):
            raise NoticeRefused("the signature is not ours")
        if abs(now_ms / 1000 - signed_at_s) > self._tolerance_s:
            raise NoticeRefused("the signature is stale")
        try:
            return notice_from(json.loads(body))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise NoticeRefused("it is signed and is no notice") from error


def _signed_at(header: str) -> int:
    for part in header.split(","):
        name, _, value = part.partition("=")
        if name.strip() == "t" and value.isdecimal() and len(value) < 15:
            return int(value)
    raise NoticeRefused("it has no signature")


def _is_signed(body: bytes, header: str, secret: str) -> bool:
    try:
        # Without a tolerance: the age is judged by our clock.
        stripe.WebhookSignature.verify_header(body, header, secret)
    except (stripe.SignatureVerificationError, ValueError):
        return False
    return True
