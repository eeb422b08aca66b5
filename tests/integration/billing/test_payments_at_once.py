"""Two tabs, two admins and the refill at the same second, on PostgreSQL: the sum is right."""

from __future__ import annotations

import asyncio

import asyncpg

from deploy.local.stripe_sim import checkout
from services.billing import views
from services.billing.adapters.inbox_postgres import PostgresInbox
from services.billing.adapters.ledger_postgres import PostgresLedger
from services.billing.domain.ledger import REVENUE, transfer, wallet_account
from services.billing.domain.payment_seen import Posting
from services.billing.domain.payments import TopUpRules
from services.billing.domain.refills import RefillRules
from services.billing.payments.handlers import StartTopUp, configure_refill, start_top_up
from services.billing.payments.observe import Observer
from services.billing.payments.reconcile import Reconciler
from services.billing.payments.work import working_on
from services.billing.payments.workers import Charger, Inbox
from services.billing.rebuild import rebuild
from services.billing.verify import verify
from services.common.clock import FakeClock
from services.common.ids import AccountId
from tests.fixtures.ledger import NOW_MS
from tests.fixtures.payment_gateway import simulated
from tests.fixtures.payments import USD, configured

ACCOUNT = AccountId("acc_1")


async def test_two_tabs_two_admins_and_the_refill_at_the_same_second(
    ledger: PostgresLedger, pool: asyncpg.Pool
) -> None:
    clock = FakeClock(NOW_MS)
    world, gateway = simulated(clock)
    observer = Observer(ledger, gateway, clock, rules=RefillRules())
    inbox = Inbox(PostgresInbox(pool), observer, clock, every_s=1.0)
    reconciler = Reconciler(
        inbox, observer, clock, every_s=60.0, compare_every_s=60.0, quiet_s=60.0
    )

    async def pay(admin: str, *, keep: bool = False) -> None:
        command = StartTopUp(ACCOUNT, 20 * USD, keep, admin)
        opened = await start_top_up(ledger, gateway, clock, command=command, rules=TopUpRules())
        session = world.find("checkout.session", opened.top_up.session_id)
        checkout.pay(world, session, number="4242424242424242")

    async def look() -> None:
        await reconciler.fetch_undelivered()
        await inbox.turn()

    await pay("usr_1", keep=True)
    await look()
    await configure_refill(ledger, clock, configured(ACCOUNT))
    entries = transfer(15 * USD, source=wallet_account(ACCOUNT), target=REVENUE)

    async def spend() -> None:
        async with working_on(ledger, clock, ACCOUNT) as work:
            work.record([Posting(ACCOUNT, "usage:use_1", "usage", entries, "")])

    charger = [Charger(observer, clock, every_s=1.0) for _ in range(2)]
    admins = ("usr_1", "usr_1", "usr_2", "usr_2")
    await asyncio.gather(*(pay(admin) for admin in admins), spend())
    # Everybody looks at once, twice over: two replicas, and every notice four times.
    await asyncio.gather(*(one.turn() for one in charger), *(look() for _ in range(4)))
    await asyncio.gather(*(one.turn() for one in charger), *(look() for _ in range(4)))

    refills = [c for c in world.where("charge") if c["metadata"].get("mesh_refill_id")]
    assert len(refills) == 1
    wallet = await views.balance(pool, ACCOUNT)
    assert wallet.posted_nanousd == (20 + 4 * 20 - 15) * USD + refills[0]["amount"] * USD // 100
    compared = await reconciler.compare(0, clock.now_ms() + 1_000)
    assert (compared.findings, compared.repaired, compared.movements) == ([], 0, 6)
    totals = await ledger.gateway_total()
    assert -totals["cash:stripe"] == compared.moved_nanousd
    assert (await verify(pool)).is_sound
    assert (await rebuild(pool)).is_equal
