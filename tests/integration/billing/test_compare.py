"""The comparison of the gateway's movements with the journal, in both directions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deploy.local.stripe_sim import checkout, intents, reversals
from deploy.local.stripe_sim.world import Object
from services.billing.adapters.inbox_memory import MemoryInbox
from services.billing.adapters.ledger_memory import MemoryLedger
from services.billing.domain.events import Entry
from services.billing.domain.payment_seen import CASH, Posting
from services.billing.domain.payments import TopUpRules
from services.billing.domain.refills import RefillRules
from services.billing.payments.compare import Compared
from services.billing.payments.handlers import StartTopUp, start_top_up
from services.billing.payments.observe import Observer
from services.billing.payments.reconcile import Reconciler
from services.billing.payments.work import working_on
from services.billing.payments.workers import Inbox
from services.common.clock import FakeClock
from services.common.ids import AccountId
from tests.fixtures.ledger import NOW_MS
from tests.fixtures.payment_gateway import simulated
from tests.fixtures.payments import USD, paid, see, top_up

ACCOUNT = AccountId("acc_1")


class Town:
    """A ledger, a gateway, and what compares them."""

    def __init__(self, *, tax: bool = False) -> None:
        self.clock = FakeClock(NOW_MS)
        self.ledger = MemoryLedger()
        self.world, self.gateway = simulated(self.clock, tax=tax)
        self.world.tax_percent = 8
        self.observer = Observer(self.ledger, self.gateway, self.clock, rules=RefillRules())
        self.inbox = Inbox(MemoryInbox(), self.observer, self.clock, every_s=1.0)
        self.reconciler = Reconciler(
            self.inbox, self.observer, self.clock, every_s=60.0, compare_every_s=86_400.0,
            quiet_s=60.0,
        )  # fmt: skip

    async def pay(self, dollars: int = 20) -> Object:
        """Somebody pays; the payment at the gateway."""
        command = StartTopUp(ACCOUNT, dollars * USD, False, "usr_1", "payer@example.com")
        opened = await start_top_up(
            self.ledger, self.gateway, self.clock, command=command, rules=TopUpRules()
        )
        session = self.world.find("checkout.session", opened.top_up.session_id)
        return checkout.pay(self.world, session, number="4242424242424242")

    async def compare(self) -> Compared:
        """Compares everything up to now."""
        return await self.reconciler.compare(0, self.clock.now_ms() + 1_000)

    async def cash(self) -> int:
        """What came in, by the journal."""
        return -(await self.ledger.gateway_total()).get(CASH, 0)


async def test_what_no_notice_told_of_is_booked_and_told_as_repaired() -> None:
    town = Town()
    intent = await town.pay()
    reversals.create_refund(town.world, {"payment_intent": intent["id"], "amount": "500"})
    first = await town.compare()
    assert (first.movements, first.repaired, first.findings) == (2, 1, [])
    assert first.moved_nanousd == await town.cash() == 15 * USD
    assert (await town.compare()).repaired == 0


async def test_an_undelivered_notice_is_fetched_once() -> None:
    town = Town()
    await town.pay()
    assert await town.reconciler.fetch_undelivered() > 0
    assert await town.reconciler.fetch_undelivered() == 0
    rows = await town.inbox.box.newest(status="", limit=50)
    assert {(row.deliveries, row.source) for row in rows} == {(1, "reconciler")}


async def test_refunds_disputes_and_tax_come_to_the_same_on_both_sides() -> None:
    town = Town(tax=True)
    won, lost, failed = [await town.pay(dollars) for dollars in (20, 30, 40)]
    for intent, is_won in ((won, True), (lost, False)):
        charge = town.world.find("charge", intent["latest_charge"])
        dispute = reversals.open_dispute(town.world, charge)
        assert dispute is not None
        reversals.end_dispute(town.world, dispute, won=is_won)
    refund = reversals.create_refund(town.world, {"payment_intent": failed["id"]})
    reversals.fail_refund(town.world, refund)
    found = await town.compare()
    assert (found.repaired, found.findings) == (3, [])
    assert found.moved_nanousd == await town.cash() == (20 + 40) * USD * 108 // 100
    assert (await town.ledger.gateway_total())[f"wallet:{ACCOUNT}"] == 60 * USD


async def test_a_payment_in_the_journal_that_the_gateway_does_not_know_is_a_finding() -> None:
    town = Town()
    await top_up(town.ledger, town.clock, ACCOUNT, top_up_id="top_1")
    await see(town.ledger, town.clock, paid(ACCOUNT, top_up_id="top_1", payment_id="pi_invented"))
    [finding] = (await town.compare()).findings
    assert "pi_invented" in finding
    assert "does not know" in finding


async def test_an_entry_that_moved_cash_beside_the_payments_is_a_finding() -> None:
    town = Town()
    intent = await town.pay()
    await town.compare()
    entries = (Entry(CASH, -5 * USD), Entry(f"wallet:{ACCOUNT}", 5 * USD))
    async with working_on(town.ledger, town.clock, ACCOUNT) as work:
        work.record([Posting(ACCOUNT, "refund_failed:re_none", "refund_failed", entries, "")])
    [finding] = (await town.compare()).findings
    assert str(25 * USD) in finding
    assert intent["id"] not in finding


@pytest.mark.parametrize("change", [{"amount_received": 1_999}, {"status": "canceled"}])
async def test_a_payment_that_is_another_at_the_gateway_is_a_finding(change: Object) -> None:
    town = Town()
    intent = await town.pay()
    await town.compare()
    intent.update(change)
    [finding] = (await town.compare()).findings
    assert intent["id"] in finding


async def test_money_of_others_in_the_same_gateway_is_counted_and_no_finding() -> None:
    town = Town()
    await town.pay()
    intents.create_intent(
        town.world,
        {"amount": "700", "currency": "usd", "payment_method": "pm_card_visa", "confirm": "true"},
    )
    found = await town.compare()
    assert (found.movements, found.foreign, found.findings) == (2, 1, [])


async def test_receipts_go_to_who_pays_and_an_address_that_is_refused_keeps_nobody_from_paying(
) -> None:  # fmt: skip
    town = Town()
    intent = await town.pay()
    charge = town.world.find("charge", intent["latest_charge"])
    assert charge["receipt_email"] == "payer@example.com"
    assert await town.gateway.receipt_url(intent["id"]) == charge["receipt_url"]
    command = replace(StartTopUp(ACCOUNT, 5 * USD, False, "usr_1"), receipt_email="no address")
    opened = await start_top_up(
        town.ledger, town.gateway, town.clock, command=command, rules=TopUpRules()
    )
    assert opened.url
