"""The adapter against `localstripe`: payments, refunds, and cards that are set up for later."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import aiohttp
import pytest
import stripe

from services.billing.adapters.payments_stripe import StripeGateway, stripe_client
from services.billing.domain.payment_state import Refill, Refund
from services.common.ids import AccountId
from tests.fixtures.engines import unused_port
from tests.fixtures.waiting import eventually_async

ACCOUNT = AccountId("acc_1")
USD = 1_000_000_000


class Local:
    """A running `localstripe` and a gateway that speaks to it."""

    def __init__(self, url: str) -> None:
        self.client = stripe_client("sk_test_localstripe", base_url=url)
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


async def test_a_refill_is_charged_refunded_in_parts_and_seen(local: Local) -> None:
    customer = await local.gateway.ensure_customer(ACCOUNT)
    card = await local.card(customer, "4242424242424242")
    refill = Refill("rfl_1", ACCOUNT, 20 * USD, customer, card, 0)
    made = await local.client.v1.payment_intents.create_async(
        {
            "amount": 2000, "currency": "usd", "customer": customer, "payment_method": card,
            "off_session": True, "confirm": True,
            "metadata": {"mesh_account_id": ACCOUNT, "mesh_refill_id": refill.refill_id},
        }
    )  # fmt: skip
    assert made.status == "succeeded"
    for number, amount in ((1, 5 * USD), (2, 7 * USD)):
        asked = Refund(f"rfn_{number}", ACCOUNT, made.id, amount, amount, "operator", 0)
        seen = await local.gateway.refund(asked)
        assert (seen.refund_id, seen.amount_nanousd, seen.status) == (
            asked.refund_id, amount, "made",
        )  # fmt: skip


async def charged(local: Local, customer: str, number: str) -> None:
    """Saves a card and charges it, nobody being present."""
    card = await local.card(customer, number)
    await local.client.v1.payment_intents.create_async(
        {
            "amount": 2000, "currency": "usd", "customer": customer, "payment_method": card,
            "off_session": True, "confirm": True,
        }
    )  # fmt: skip


async def test_a_declined_card_is_a_state_and_no_failure(local: Local) -> None:
    customer = await local.gateway.ensure_customer(ACCOUNT)
    with pytest.raises(stripe.CardError) as declined:
        await charged(local, customer, "4000000000000002")
    assert declined.value.code == "card_declined"


async def test_a_card_is_set_up_for_later(local: Local) -> None:
    customer = await local.gateway.ensure_customer(ACCOUNT)
    card = await local.card(customer, "4242424242424242")
    setup = await local.client.v1.setup_intents.create_async({"customer": customer})
    done = await local.client.v1.setup_intents.confirm_async(setup.id, {"payment_method": card})
    assert done.status == "succeeded"
