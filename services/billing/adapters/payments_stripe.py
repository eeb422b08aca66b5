"""Stripe as a payment gateway, by its own package. Every call that makes something bears a key that
is made of our id and is the same at every try.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import stripe

from services.billing.adapters.stripe_objects import (
    ACCOUNT,
    REFILL,
    REFUND,
    TOP_UP,
    Json,
    checkout_from,
    movement_from,
    notice_from,
    payment_from_intent,
    refund_from,
)
from services.billing.domain.payment_seen import CENT, PaymentSeen, RefundSeen
from services.billing.domain.payment_state import Refill, Refund, TopUp
from services.billing.payment_ports import (
    Checkout,
    GatewayRefused,
    GatewayUnsure,
    Movement,
    Notice,
)
from services.common.errors import NotFound, Unavailable
from services.common.ids import AccountId

PAGE = 100


def stripe_client(
    key: str,
    *,
    base_url: str = "",
    timeout_s: float = 20.0,
    http_client: stripe.HTTPClient | None = None,
) -> stripe.StripeClient:
    """A client without retries of its own: what has no answer is repeated by us, which is seen."""
    return stripe.StripeClient(
        key,
        http_client=http_client or stripe.AIOHTTPClient(timeout=timeout_s),
        base_addresses={"api": base_url} if base_url else {},
        max_network_retries=0,
    )


class StripeGateway:
    """`PaymentGateway`. `return_url` is where a person comes back to from the page."""

    def __init__(
        self, client: stripe.StripeClient, *, return_url: str, is_test: bool, tax: bool = False
    ) -> None:
        self._client = client
        self._v1: Any = client.v1  # Any: the package types its parameters by literal dicts
        self._return_url = return_url
        self._tax = tax
        self.is_test = is_test

    async def ensure_customer(self, account_id: AccountId) -> str:
        """The account's customer, the same for the same account."""
        made = await self._call(
            self._v1.customers.create_async,
            {"metadata": {ACCOUNT: account_id}, "description": f"Mesh account {account_id}"},
            key=f"customer:{account_id}",
        )
        return str(made["id"])

    async def send_receipts_to(self, customer_id: str, email: str) -> None:
        """Stripe mails receipts to the customer's address, of refills too."""
        with _translated():
            await self._v1.customers.update_async(customer_id, {"email": email})

    async def receipt_url(self, payment_id: str) -> str:
        """Stripe's page for the payment's charge."""
        intent = await self._get(
            self._v1.payment_intents.retrieve_async, payment_id, expand=["latest_charge"]
        )
        charge = intent.get("latest_charge")
        return str(charge.get("receipt_url") or "") if isinstance(charge, Mapping) else ""

    async def open_checkout(self, top_up: TopUp, customer_id: str) -> Checkout:
        """A session in the mode `payment`."""
        ids = {ACCOUNT: top_up.account_id, TOP_UP: top_up.top_up_id}
        intent: dict[str, Any] = {"metadata": ids, "description": "Mesh credit"}  # Any: JSON
        if top_up.save_card:
            intent["setup_future_usage"] = "off_session"
        params = {
            "mode": "payment",
            "customer": customer_id,
            "client_reference_id": top_up.top_up_id,
            "metadata": ids,
            "payment_intent_data": intent,
            "line_items": [
                {
                    "quantity": 1,
                    "price_data": {
                        "currency": "usd",
                        "unit_amount": top_up.amount_nanousd // CENT,
                        "product_data": {"name": "Mesh credit"},
                    },
                }
            ],
            "success_url": f"{self._return_url}?top_up={top_up.top_up_id}",
            "cancel_url": self._return_url,
        }
        if self._tax:
            params["automatic_tax"] = {"enabled": True}
            # A firm may name its tax number; both are kept with the customer.
            params["customer_update"] = {"address": "auto", "name": "auto"}
            params["tax_id_collection"] = {"enabled": True}
        made = await self._call(
            self._v1.checkout.sessions.create_async, params, key=f"checkout:{top_up.top_up_id}"
        )
        return checkout_from(made)

    async def find_checkout(self, top_up: TopUp, customer_id: str) -> Checkout | None:
        """The session of a top-up, by its reference."""
        params = {"customer": customer_id, "created": {"gte": top_up.started_at_ms // 1000 - 60}}
        for session in await self._all(self._v1.checkout.sessions.list_async, params):
            if session.get("client_reference_id") == top_up.top_up_id:
                return checkout_from(session)
        return None

    async def checkout(self, session_id: str) -> Checkout:
        """A session as it is now."""
        return checkout_from(await self._get(self._v1.checkout.sessions.retrieve_async, session_id))

    async def charge(self, refill: Refill) -> PaymentSeen:
        """An off-session payment, confirmed at once."""
        params = {
            "amount": refill.amount_nanousd // CENT,
            "currency": "usd",
            "customer": refill.customer_id,
            "payment_method": refill.payment_method_id,
            "off_session": True,
            "confirm": True,
            "metadata": {ACCOUNT: refill.account_id, REFILL: refill.refill_id},
            "description": "Mesh credit, automatic refill",
        }
        try:
            made = await self._call(
                self._v1.payment_intents.create_async, params, key=f"refill:{refill.refill_id}"
            )
            payment_id = str(made["id"])
        except stripe.CardError as error:
            payment_id = _declined_payment(error)
        return await self.payment(payment_id)

    async def find_charge(self, refill: Refill) -> PaymentSeen | None:
        """The payment of a refill, by the id of ours that it bears."""
        params = {
            "customer": refill.customer_id,
            "created": {"gte": refill.started_at_ms // 1000 - 60},
        }
        for intent in await self._all(self._v1.payment_intents.list_async, params):
            if (intent.get("metadata") or {}).get(REFILL) == refill.refill_id:
                return await self.payment(str(intent["id"]))
        return None

    async def refund(self, refund: Refund) -> RefundSeen:
        """A refund of a part of a payment, or of what is left."""
        params = {
            "payment_intent": refund.payment_id,
            "amount": refund.amount_nanousd // CENT,
            "metadata": {REFUND: refund.refund_id, ACCOUNT: refund.account_id},
        }
        made = await self._call(
            self._v1.refunds.create_async, params, key=f"refund:{refund.refund_id}"
        )
        return refund_from(made)

    async def payment(self, payment_id: str) -> PaymentSeen:
        """A payment as it is now, with all its refunds and disputes."""
        intent = await self._get(
            self._v1.payment_intents.retrieve_async, payment_id, expand=["payment_method"]
        )
        if intent["status"] != "succeeded":
            return payment_from_intent(intent)
        of_it = {"payment_intent": payment_id}
        return payment_from_intent(
            intent,
            refunds=await self._all(self._v1.refunds.list_async, of_it),
            disputes=await self._all(self._v1.disputes.list_async, of_it),
        )

    async def undelivered(self, since_ms: int) -> Sequence[Notice]:
        """Events that no endpoint of ours took."""
        params = {"delivery_success": False, "created": {"gte": since_ms // 1000}}
        events = await self._all(self._v1.events.list_async, params)
        return [notice for notice in map(notice_from, events) if notice is not None]

    async def movements(self, from_ms: int, to_ms: int) -> Sequence[Movement]:
        """Balance transactions."""
        params = {
            "created": {"gte": from_ms // 1000, "lt": -(-to_ms // 1000)},
            "expand": ["data.source"],
        }
        rows = await self._all(self._v1.balance_transactions.list_async, params)
        return [movement_from(row) for row in rows]

    async def close(self) -> None:
        """Closes the connections."""
        client: Any = self._client._requestor._client  # Any: its methods are not typed
        if client is not None:
            await client.close_async()

    async def _call(
        self, method: Callable[..., Awaitable[Any]], params: Json, *, key: str
    ) -> Json:  # Any: Stripe's objects
        with _translated(keeps_declines=True):
            return _plain(await method(params, {"idempotency_key": key}))

    async def _get(
        self, method: Callable[..., Awaitable[Any]], key: str, **params: Any
    ) -> Json:  # Any: as above
        with _translated():
            return _plain(await method(key, params))

    async def _all(
        self, method: Callable[..., Awaitable[Any]], params: Json
    ) -> list[Json]:  # Any: as above
        rows: list[Json] = []
        with _translated():
            while True:
                more = {"starting_after": rows[-1]["id"]} if rows else {}
                page = _plain(await method({**params, **more, "limit": PAGE}))
                rows += page["data"]
                if not page["has_more"]:
                    return rows


def _plain(found: Any) -> Json:  # Any: a StripeObject
    plain: Json = found.to_dict()
    return plain


def _declined_payment(error: stripe.CardError) -> str:
    """The payment that a declined card left behind. Raises GatewayRefused where it left none."""
    body: Any = error.json_body or {}  # Any: JSON
    payment_id = ((body.get("error") or {}).get("payment_intent") or {}).get("id")
    if not payment_id:
        raise GatewayRefused(_words(error), extra={"code": error.code or "card_error"}) from error
    return str(payment_id)


@contextmanager
def _translated(*, keeps_declines: bool = False) -> Iterator[None]:
    """Stripe's errors as ours. A declined card is let through where its caller knows what to do."""
    try:
        yield
    except stripe.CardError as error:
        if keeps_declines:
            raise
        raise GatewayRefused(_words(error)) from error
    except stripe.IdempotencyError as error:
        raise GatewayRefused(
            f"the key was used for another call: {_words(error)}", extra={"code": "idempotency"}
        ) from error
    except stripe.InvalidRequestError as error:
        if error.http_status == 404:
            raise NotFound(_words(error)) from error
        raise GatewayRefused(_words(error), extra={"code": error.code or "invalid"}) from error
    except (stripe.AuthenticationError, stripe.PermissionError) as error:
        raise Unavailable("the payment gateway does not take our key") from error
    except stripe.StripeError as error:
        raise GatewayUnsure(f"the payment gateway did not answer: {_words(error)}") from error


def _words(error: stripe.StripeError) -> str:
    return str(error.user_message or "no answer")[:300]
