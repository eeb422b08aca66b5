"""What the twin and PostgreSQL must both do with payments."""

from __future__ import annotations

import asyncio

import pytest

from services.billing.adapters.inbox_memory import MemoryInbox
from services.billing.domain.grants import GrantRules, OpenGrant
from services.billing.domain.payment_events import CardSaved, CustomerLinked
from services.billing.domain.refills import decide_configuration
from services.billing.handlers import CreditAccount, credit_account, run_grant_commands
from services.billing.payment_ports import InboxRow, InboxStore, Notice
from services.billing.payments.work import working_on
from services.billing.ports import LedgerStore
from services.billing.settlement.keys import KeyCaps
from services.billing.settlement.settle import UsageSettlement
from services.common.clock import FakeClock
from services.common.ids import AccountId, GrantId, KeyId, WorkerId
from services.common.topics import KEYS, USAGE
from tests.fixtures.ledger import Feed, LetterBox, key_record, usage_record
from tests.fixtures.payments import (
    USD,
    configured,
    live_through_payments,
    paid,
    see,
    top_up,
)

ACCOUNT = AccountId("acc_1")
OTHER = AccountId("acc_2")


async def refilled(store: LedgerStore, clock: FakeClock, dollars: int = 11) -> None:
    """An account with money, a saved card and refills below ten dollars."""
    await credit_account(store, clock, CreditAccount(ACCOUNT, dollars * USD, "", "first"))
    async with working_on(store, clock, ACCOUNT) as work:
        work.record([CustomerLinked(ACCOUNT, "cus_1"), CardSaved(ACCOUNT, "pm_1", "visa 4242")])
        work.record(decide_configuration(configured(ACCOUNT)))


async def test_rows_are_read_as_they_were_written_and_of_their_account_alone(
    store: LedgerStore,
) -> None:
    clock = FakeClock()
    for account_id in (ACCOUNT, OTHER):
        await live_through_payments(store, clock, account_id)
    book = await store.payments_of(ACCOUNT)
    payment = book.payment["pi_acc_1_1"]
    assert (payment.received_nanousd, payment.taken_nanousd) == (22 * USD, 7 * USD)
    assert {row.status for row in book.refund.values()} == {"made", "refused", "failed"}
    assert book.dispute["dp_acc_1"].status == "lost"
    assert {row.account_id for row in book.refund.values()} == {ACCOUNT}
    totals = await store.gateway_total()
    assert sum(totals.values()) == 0
    assert (await store.gateway_total(ACCOUNT))["cash:stripe"] * 2 == totals["cash:stripe"]
    by_rows, by_journal = await store.money_at_gateway()
    assert by_rows == by_journal == -totals["cash:stripe"]
    booked = await store.payments_booked(0, clock.now_ms() + 1)
    assert booked == sorted(
        (f"pi_{owner}_{n}", owner) for owner in (ACCOUNT, OTHER) for n in (1, 2)
    )
    assert await store.payments_booked(clock.now_ms() + 1, 2**62) == []


async def test_a_payment_seen_by_many_at_once_is_credited_once(store: LedgerStore) -> None:
    clock = FakeClock()
    await top_up(store, clock, ACCOUNT, top_up_id="top_1")
    seen = paid(ACCOUNT, top_up_id="top_1")
    changed = await asyncio.gather(*(see(store, clock, seen) for _ in range(8)))
    assert sum(changed) == 1
    assert (await store.gateway_total())["cash:stripe"] == -20 * USD


async def test_settlement_that_makes_the_balance_low_commands_one_refill(
    store: LedgerStore,
) -> None:
    clock = FakeClock()
    await refilled(store, clock)
    feed = Feed(USAGE, UsageSettlement(store, LetterBox(), clock))
    # One nano-dollar for each token.
    await feed.send(usage_record("use_1", account_id=ACCOUNT, tokens=USD))
    assert await store.open_refills(10) == []
    await feed.send(usage_record("use_2", account_id=ACCOUNT, tokens=1))
    await feed.send(usage_record("use_3", account_id=ACCOUNT, tokens=1))
    [refill] = await store.open_refills(10)
    assert (refill.amount_nanousd, refill.customer_id, refill.payment_method_id) == (
        20 * USD, "cus_1", "pm_1",
    )  # fmt: skip


async def test_a_grant_that_makes_the_available_money_low_commands_one_refill(
    store: LedgerStore,
) -> None:
    clock = FakeClock()
    await refilled(store, clock)
    await Feed(KEYS, KeyCaps(store, LetterBox(), clock)).send(
        key_record("key_1", account_id=ACCOUNT)
    )
    asks = [
        OpenGrant(GrantId(f"gr_{n}"), WorkerId("w"), ACCOUNT, KeyId("key_1"), 0, USD, 0, USD)
        for n in range(3)
    ]
    await run_grant_commands(store, clock, asks, rules=GrantRules())
    assert [one.account_id for one in await store.open_refills(10)] == [ACCOUNT]


async def test_a_refill_that_cools_down_is_due_later_without_anybody_spending(
    store: LedgerStore,
) -> None:
    clock = FakeClock()
    await refilled(store, clock, dollars=1)
    [refill] = await store.open_refills(10)
    seen = paid(ACCOUNT, refill_id=refill.refill_id, dollars=5)
    await see(store, clock, seen)
    assert await store.due_refills(clock.now_ms(), 10) == []
    await clock.advance(60)
    assert await store.due_refills(clock.now_ms(), 10) == [ACCOUNT]


async def test_open_top_ups_and_refunds_are_found_longest_ago_first(store: LedgerStore) -> None:
    clock = FakeClock()
    for name in ("top_1", "top_2"):
        await top_up(store, clock, ACCOUNT, top_up_id=name)
        await clock.advance(1)
    found = await store.open_top_ups(clock.now_ms(), 10)
    assert [one.top_up_id for one in found] == ["top_1", "top_2"]
    assert await store.open_top_ups(found[0].started_at_ms - 1, 10) == []
    assert await store.open_refunds(10) == []


def row(event_id: str, received_at_ms: int = 5) -> InboxRow:
    """A notice as it came in."""
    notice = Notice(event_id, "payment_intent.succeeded", "pi_1", "pi_1", 1)
    return InboxRow(notice, received_at_ms, "webhook")


@pytest.fixture
def box(store: LedgerStore) -> InboxStore:
    """The box of the same engine as the store."""
    from services.billing.adapters.inbox_postgres import PostgresInbox
    from services.billing.adapters.ledger_postgres import PostgresLedger

    return PostgresInbox(store._pool) if isinstance(store, PostgresLedger) else MemoryInbox()


async def test_a_notice_is_kept_once_and_its_repeats_are_counted(box: InboxStore) -> None:
    from dataclasses import replace

    assert await box.put(row("evt_1"))
    assert not await box.put(row("evt_1"))
    assert await box.put(row("evt_2", 6))
    first = await box.get("evt_1")
    assert first is not None
    assert first.deliveries == 2
    assert [one.notice.event_id for one in await box.due(0, 10)] == ["evt_1", "evt_2"]
    await box.save(replace(first, status="done", attempts=1))
    await box.save(replace(row("evt_2", 6), next_at_ms=100, error="later"))
    assert await box.due(99, 10) == []
    assert [one.error for one in await box.due(100, 10)] == ["later"]
    assert [one.notice.event_id for one in await box.newest(status="", limit=10)] == [
        "evt_2", "evt_1",
    ]  # fmt: skip
    assert [one.status for one in await box.newest(status="done", limit=10)] == ["done"]
    assert await box.get("evt_3") is None
