"""The audit trail of paying: every payment event in words, bookkeeping left out."""

from __future__ import annotations

from services.billing.adapters.ledger_memory import MemoryLedger
from services.billing.domain.payment_events import PAYMENT_EVENTS
from services.billing.payments.history import UNTOLD, fact_of
from services.common.clock import FakeClock
from services.common.ids import AccountId
from tests.fixtures.payments import live_through_payments


async def test_whatever_happens_about_paying_is_told_with_who_did_it() -> None:
    store = MemoryLedger()
    await live_through_payments(store, FakeClock(), AccountId("acc_1"))
    events = [
        recorded.event
        for recorded in store.tables.events
        if isinstance(recorded.event, PAYMENT_EVENTS)
    ]
    assert {type(event) for event in events} == set(PAYMENT_EVENTS)
    facts = []
    for event in events:
        fact = fact_of(event)
        assert (fact is None) == isinstance(event, UNTOLD)
        if fact is not None:
            facts.append((fact.kind, fact.status, fact.actor))
    assert ("top_up", "started", "usr_1") in facts
    assert ("refill_settings", "on", "usr_1") in facts
    assert ("refund", "requested", "op") in facts
    assert ("refund", "refused", "mesh") in facts
    assert ("dispute", "lost", "mesh") in facts
    assert ("refill", "succeeded", "mesh") in facts
    assert ("promo", "granted", "operator") in facts
    assert ("promo", "expired", "mesh") in facts
