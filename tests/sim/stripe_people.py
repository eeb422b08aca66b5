"""Who pays, spends, asks back and disputes, by chance."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from deploy.local.stripe_sim import checkout, reversals
from deploy.local.stripe_sim.world import ApiError
from services.billing.domain.ledger import REVENUE, transfer, wallet_account
from services.billing.domain.payment_events import PromoGranted, RefillConfigured, RefundRequested
from services.billing.domain.payment_seen import Posting
from services.billing.domain.payments import TopUpRules
from services.billing.payments.handlers import (
    StartTopUp,
    configure_refill,
    grant_promo,
    request_refund,
    start_top_up,
)
from services.billing.payments.work import working_on
from services.common.errors import AppError
from services.common.ids import AccountId
from tests.sim.stripe_town import Courier, Gone, PayingBilling, StripeTown, within

CENT = 10_000_000
USD = 1_000_000_000
ACCOUNTS = tuple(AccountId(f"acc_{n}") for n in range(3))
DAY_MAX, MONTH_MAX = 90 * USD, 150 * USD
GOOD = ("4242424242424242", "5555555555554444", "4000002500003155", "4000000000000341",
        "4000002760003184", "4000000000000259")  # fmt: skip
BAD = ("4000000000000002", "4000000000009995")


class People:
    """Acts until told to stop."""

    def __init__(self, town: StripeTown, hosts: list[PayingBilling], courier: Courier) -> None:
        self._town = town
        self._hosts = hosts
        self._courier = courier
        self._count = 0
        self.acts = 0
        self.paid = 0

    async def live(self, seconds: float) -> None:
        """Acts at random moments for that long."""
        world = self._town.world
        end_s = world.loop.time() + seconds
        acting: set[asyncio.Task[None]] = set()
        for _ in range(6):
            acting.add(asyncio.ensure_future(self._configure()))
            acting.add(asyncio.ensure_future(self._top_up()))
        while world.loop.time() < end_s:
            await asyncio.sleep(world.rng.expovariate(1 / (seconds / 70)))
            # Several at the very same moment: two tabs, two admins, the refill.
            for _ in range(world.rng.choice([1, 1, 1, 2, 3])):
                acting.add(asyncio.ensure_future(self._act()))
        await asyncio.gather(*acting)

    async def _act(self) -> None:
        world = self._town.world
        self.acts += 1
        self._count += 1
        choices = [
            self._top_up, self._top_up, self._spend, self._spend, self._spend, self._configure,
            self._refund, self._refund_at_gateway, self._dispute, self._end_dispute,
            self._fail_refund, self._promote, self._courier.forge,
        ]  # fmt: skip
        await world.rng.choice(choices)()

    async def _ask(self, work: Any) -> Any:  # Any: a function of a host; its result
        """Asks a process for something; None where it failed, or nobody knows."""
        host = self._town.world.rng.choice(self._hosts)
        if host.gateway is None:
            return None
        coroutine: Coroutine[Any, Any, Any] = work(host)
        try:
            return await within(host.process, coroutine)
        except (Gone, AppError):
            return None

    def _account(self) -> AccountId:
        return self._town.world.rng.choice(ACCOUNTS)

    async def _top_up(self) -> None:
        town, rng = self._town, self._town.world.rng
        command = StartTopUp(
            self._account(), rng.randint(500, 4_000) * CENT, rng.random() < 0.7, "usr_1",
            rng.choice(["", "one@example.com", "other@example.com"]),
        )  # fmt: skip

        async def start(host: PayingBilling) -> str:
            assert host.gateway is not None
            opened = await start_top_up(
                town.ledger, host.gateway, host.clock, command=command, rules=TopUpRules()
            )
            return opened.top_up.session_id

        session_id = await self._ask(start)
        if session_id is None or rng.random() < 0.15:
            return
        await asyncio.sleep(rng.choice([5.0, 60.0, 4_000.0]) * rng.random())
        session = town.gateway.find("checkout.session", session_id)
        for _ in range(rng.choice([1, 1, 2, 3])):
            await self._pay(session)
            await asyncio.sleep(rng.random() * 20)

    async def _pay(self, session: dict[str, Any]) -> None:  # Any: JSON
        town, rng = self._town, self._town.world.rng
        if session["status"] != "open":
            return
        bank = rng.choice(["", "", "", "succeeds", "fails"])
        number = rng.choice(GOOD if rng.random() < 0.8 else BAD)
        try:
            intent = checkout.pay(town.gateway, session, number="" if bank else number, bank=bank)
            if intent["status"] == "requires_action" and rng.random() < 0.9:
                await asyncio.sleep(rng.random() * 10)
                checkout.answer_question(town.gateway, session, passed=rng.random() < 0.8)
        except ApiError:
            return
        self.paid += 1

    async def _spend(self) -> None:
        town, rng = self._town, self._town.world.rng
        account_id, number = self._account(), self._count
        amount = rng.randint(1, 15 * USD)
        key = f"usage:use_{number}"
        entries = transfer(amount, source=wallet_account(account_id), target=REVENUE)

        async def spend(host: PayingBilling) -> None:
            async with working_on(town.ledger, host.clock, account_id) as work:
                if await work.unit.transaction(account_id, key) is None:
                    work.record([Posting(account_id, key, "usage", entries, "")])

        await self._ask(spend)

    async def _configure(self) -> None:
        town, rng = self._town, self._town.world.rng
        settings = RefillConfigured(
            self._account(), rng.random() < 0.9, rng.choice([5, 10, 30]) * USD,
            rng.choice([5, 20, 40]) * USD, DAY_MAX, MONTH_MAX, "usr_2",
        )  # fmt: skip
        await self._ask(lambda host: configure_refill(town.ledger, host.clock, settings))

    async def _refund(self) -> None:
        town, rng = self._town, self._town.world.rng
        payments = list(town.ledger.tables.payments.payment.values())
        if not payments:
            return
        one = rng.choice(payments)
        cents = rng.choice([one.received_nanousd // CENT, rng.randint(1, 1_500)])
        request = RefundRequested(
            f"rfn_{self._count}", one.account_id, one.payment_id, cents * CENT, 0, "", "operator"
        )
        await self._ask(lambda host: request_refund(town.ledger, host.clock, request))

    async def _refund_at_gateway(self) -> None:
        town, rng = self._town, self._town.world.rng
        paid = [i for i in town.gateway.where("payment_intent") if i["status"] == "succeeded"]
        if paid:
            wanted = {"payment_intent": rng.choice(paid)["id"], "amount": rng.randint(50, 2_000)}
            _quietly(lambda: reversals.create_refund(town.gateway, wanted))

    async def _fail_refund(self) -> None:
        town, rng = self._town, self._town.world.rng
        refunds = town.gateway.where("refund")
        if refunds and rng.random() < 0.5:
            _quietly(lambda: reversals.fail_refund(town.gateway, rng.choice(refunds)))

    async def _dispute(self) -> None:
        town, rng = self._town, self._town.world.rng
        charges = town.gateway.where("charge")
        if charges and rng.random() < 0.4:
            _quietly(lambda: reversals.open_dispute(town.gateway, rng.choice(charges)))

    async def _end_dispute(self) -> None:
        town, rng = self._town, self._town.world.rng
        disputes = town.gateway.where("dispute")
        if disputes:
            won = rng.random() < 0.5
            _quietly(lambda: reversals.end_dispute(town.gateway, rng.choice(disputes), won=won))

    async def _promote(self) -> None:
        town, rng = self._town, self._town.world.rng
        expires_at_ms = rng.choice([0, town.world.now_ms() + rng.randint(1, 40) * 3_600_000])
        granted = PromoGranted(
            f"prm_{self._count}", self._account(), rng.randint(1, 3 * USD), expires_at_ms, "hello"
        )
        await self._ask(lambda host: grant_promo(town.ledger, host.clock, granted))


def _quietly(act: Any) -> None:  # Any: a call
    """What the gateway may refuse, as its own page would say."""
    try:
        act()
    except ApiError:
        return
