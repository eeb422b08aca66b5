"""The adapter against `localstripe`, a server of others: payments, refunds, cards for later."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

import aiohttp
import pytest
import stripe

from services.billing.adapters.payments_stripe import StripeGateway, stripe_client
from services.billing.domain.payment_state import Refill, Refund
from services.billing.payment_ports import GatewayRefused
from services.billing.payments.compare import left_there
from services.common.errors import NotFound
from services.common.ids import AccountId
from tests.fixtures.engines import unused_port
from tests.fixtures.waiting import eventually_async

ACCOUNT = AccountId("acc_1")
USD = 1_000_000_000


class Narrow(stripe.AIOHTTPClient):
    """Leaves out what the server does not know: two filters, a text, and disputes, of which it has
    none; and adds what it does not say, how much of a payment came. It knows no keys either.
    """

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:  # Any: the package's type
        place, _, query = url.partition("?")
        if place.endswith("/v1/disputes"):
            return b'{"object": "list", "data": [], "has_more": false}', 200, {}
        if place.endswith("/v1/payment_intents"):
            post_data = post_data and _without(post_data, "description")
            url = f"{place}?{_without(query, 'created[gte]', 'customer')}"
        body, status, told = await super().request_async(method, url, headers, post_data)
        if "/v1/payment_intents" in place and status == 200:
            answer = json.loads(body)
            for intent in answer.get("data", [answer]):
                came = intent["amount"] if intent["status"] == "succeeded" else 0
                intent["amount_received"] = came
            body = json.dumps(answer).encode()
        return body, status, told


def _without(text: str, *names: str) -> str:
    return urlencode([(name, value) for name, value in parse_qsl(text) if name not in names])


class Local:
    """A running `localstripe` and a gateway that speaks to it."""

    def __init__(self, url: str) -> None:
        self.client = stripe_client(
            "sk_test_localstripe", base_url=url, http_client=Narrow(timeout=20)
        )
        self.gateway = StripeGateway(self.client, return_url="http://panel", is_test=True)

    async def card(self, customer: str, number: str) -> str:
        """A card of the customer's."""
        method = await self.client.v1.payment_methods.create_async(
            {
                "type": "card",
                "card": {"number": number, "exp_month": 12, "exp_year": 2034, "cvc": "123"},
            }
        )
        await self.client.v1.payment_methods.attach_async(method.id, {"customer": customer})
        return method.id


@pytest.fixture
async def local() -> AsyncIterator[Local]:
    """The server as a process of its own, on a free port."""
    port = unused_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "localstripe", "--port", str(port), "--from-scratch",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip

    async def answers() -> bool:
        assert process.returncode is None, "localstripe ended by itself"
        try:
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/v1/customers") as answer:
                    return answer.status in (200, 401)
        except aiohttp.ClientError:
            return False

    try:
        await eventually_async(answers)
        found = Local(f"http://127.0.0.1:{port}")
        yield found
        await found.gateway.close()
    finally:
        process.kill()
        await process.wait()


async def test_a_refill_is_charged_found_refunded_in_parts_and_seen(local: Local) -> None:
    customer = await local.gateway.ensure_customer(ACCOUNT)
    await local.gateway.send_receipts_to(customer, "payer@example.com")
    card = await local.card(customer, "4242424242424242")
    refill = Refill("rfl_1", ACCOUNT, 20 * USD, customer, card, 0)
    assert await local.gateway.find_charge(refill) is None
    charged = await local.gateway.charge(refill)
    assert (charged.status, charged.received_nanousd) == ("succeeded", 20 * USD)
    assert (charged.account_id, charged.refill_id) == (ACCOUNT, "rfl_1")
    assert (charged.payment_method_id, charged.card_label) == (card, "visa 4242")
    assert await local.gateway.find_charge(refill) == charged
    for number, amount in ((1, 5 * USD), (2, 7 * USD)):
        asked = Refund(f"rfn_{number}", ACCOUNT, charged.payment_id, amount, amount, "operator", 0)
        seen = await local.gateway.refund(asked)
        assert (seen.refund_id, seen.amount_nanousd, seen.status) == (
            asked.refund_id, amount, "made",
        )  # fmt: skip
    after = await local.gateway.payment(charged.payment_id)
    assert {(one.refund_id, one.amount_nanousd) for one in after.refunds} == {
        ("rfn_1", 5 * USD), ("rfn_2", 7 * USD),
    }  # fmt: skip
    assert left_there(after) == 8 * USD


async def test_a_card_that_is_declined_when_nobody_is_present_is_refused(local: Local) -> None:
    customer = await local.gateway.ensure_customer(ACCOUNT)
    card = await local.card(customer, "4000000000000341")
    with pytest.raises(GatewayRefused, match="declined") as refused:
        await local.gateway.charge(Refill("rfl_1", ACCOUNT, 20 * USD, customer, card, 0))
    assert refused.value.extra["code"] == "card_declined"


async def test_a_payment_that_is_not_there_is_not_found(local: Local) -> None:
    with pytest.raises(NotFound):
        await local.gateway.payment("pi_none")


async def test_a_card_is_set_up_for_later(local: Local) -> None:
    customer = await local.gateway.ensure_customer(ACCOUNT)
    card = await local.card(customer, "4242424242424242")
    setup = await local.client.v1.setup_intents.create_async({"customer": customer})
    done = await local.client.v1.setup_intents.confirm_async(setup.id, {"payment_method": card})
    assert done.status == "succeeded"
