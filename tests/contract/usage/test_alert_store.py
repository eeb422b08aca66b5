"""The alert store, in memory and in PostgreSQL; the evaluator over either."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from services.common.clock import FakeClock
from services.common.postgres import migrate, open_pool
from services.usage.alerts.evaluator import AlertBook, AlertEvaluator
from services.usage.alerts.ports import AlertStore, Endpoint, Rules
from services.usage.alerts.store_memory import MemoryAlertStore
from services.usage.alerts.store_postgres import PostgresAlertStore
from services.usage.domain.alerts import Alert, AlertRule, AlertState, Measure
from tests.fixtures.engines import PostgresServer

STATE = AlertState("acc_1", "balance_low", "wallet", 1, 5, 1_000, 1)
ALERT = Alert("alt_1", "acc_1", "balance.low", "balance_low", "wallet", 1, 5, 10, 1_000)


@pytest.fixture(params=["memory", "postgres"])
async def store(
    request: pytest.FixtureRequest, postgres_dsn: PostgresServer
) -> AsyncIterator[AlertStore]:
    if request.param == "memory":
        yield MemoryAlertStore()
        return
    pool = await open_pool(postgres_dsn("alerts"))
    await migrate(pool, "services.usage")
    yield PostgresAlertStore(pool)
    await pool.close()


def endpoint(name: str = "whe_1", account_id: str = "acc_1", *types: str) -> Endpoint:
    return Endpoint(name, account_id, "https://example.com/x", types, b"sealed", None, 0, 1)


async def test_a_change_is_recorded_once_whoever_comes_first(store: AlertStore) -> None:
    results = await asyncio.gather(
        *(store.change(STATE, replace(ALERT, alert_id=f"alt_{number}")) for number in range(5))
    )
    assert sorted(results) == [False] * 4 + [True]
    assert len(await store.alerts("acc_1", limit=10)) == 1
    assert await store.states() == [STATE]
    skipped = replace(STATE, version=3)
    assert not await store.change(skipped, None)
    assert not await store.change(replace(skipped, subject="never seen"), None)
    assert await store.change(replace(STATE, level=0, version=2), None)


async def test_an_alert_goes_to_the_endpoints_that_want_it(store: AlertStore) -> None:
    await store.save_endpoint(endpoint("whe_1"))
    await store.save_endpoint(endpoint("whe_2", "acc_1", "balance.low"))
    await store.save_endpoint(endpoint("whe_3", "acc_1", "spend_cap.hit"))
    await store.save_endpoint(endpoint("whe_4", "acc_2"))
    await store.change(STATE, ALERT)
    due = await store.claim_due(now_ms=1_000, limit=10, lease_ms=60_000)
    assert sorted(to.endpoint_id for _, to, _ in due) == ["whe_1", "whe_2"]
    assert all(alert == ALERT for _, _, alert in due)
    assert await store.deliveries("acc_2", limit=10) == []


async def test_a_claimed_delivery_is_nobody_else_s_until_its_lease_ends(store: AlertStore) -> None:
    await store.save_endpoint(endpoint())
    await store.change(STATE, ALERT)
    assert not await store.claim_due(now_ms=999, limit=10, lease_ms=60_000)
    claims = await asyncio.gather(
        *(store.claim_due(now_ms=1_000, limit=10, lease_ms=60_000) for _ in range(3))
    )
    assert sorted(map(len, claims)) == [0, 0, 1]
    [(delivery, _, _)] = await store.claim_due(now_ms=61_000, limit=10, lease_ms=60_000)
    done = replace(delivery, state="delivered", attempts=1, last_status=200)
    await store.save_delivery(done)
    assert await store.deliveries("acc_1", limit=10) == [done]
    assert not await store.claim_due(now_ms=10**9, limit=10, lease_ms=60_000)


async def test_an_endpoint_is_deleted_by_its_account_with_what_is_under_way(
    store: AlertStore,
) -> None:
    await store.save_endpoint(endpoint())
    await store.change(STATE, ALERT)
    assert not await store.delete_endpoint("acc_2", "whe_1")
    assert await store.delete_endpoint("acc_1", "whe_1")
    assert await store.endpoints("acc_1") == []
    assert await store.deliveries("acc_1", limit=10) == []
    assert [a.alert_id for a in await store.alerts("acc_1", limit=10)] == ["alt_1"]


async def test_rules_and_endpoints_are_replaced_and_alerts_are_paged(store: AlertStore) -> None:
    for threshold in (5, 7):
        rule = AlertRule("balance_low", threshold, enabled=threshold == 7)
        await store.save_rule("acc_1", rule, by="usr_1", now_ms=1)
    assert await store.rules() == {"acc_1": {"balance_low": AlertRule("balance_low", 7)}}
    rotated = replace(endpoint(), secret=b"new", previous_secret=b"sealed", previous_until_ms=9)
    for one in (endpoint(), rotated):
        await store.save_endpoint(one)
    assert await store.endpoints("acc_1") == [rotated]
    for number in range(3):
        state = replace(STATE, subject=f"s{number}")
        await store.change(state, replace(ALERT, alert_id=f"alt_{number}"))
    page = await store.alerts("acc_1", limit=2)
    assert [a.alert_id for a in page] == ["alt_2", "alt_1"]
    rest = await store.alerts("acc_1", limit=2, before="alt_1")
    assert [a.alert_id for a in rest] == ["alt_0"]
    assert await store.alerts("acc_2", limit=2) == []


class OneBalance:
    """Measures of one account whose wallet is worth `value`."""

    def __init__(self, value: int) -> None:
        self.value = value

    def accounts(self) -> list[str]:
        return ["acc_1"]

    async def of(self, account_id: str, rules: Rules, *, now_ms: int) -> list[Measure]:
        return [Measure("balance_low", "wallet", self.value)]


async def test_an_alert_is_raised_once_over_restarts_and_beside_another_process(
    store: AlertStore,
) -> None:
    clock, measures = FakeClock(), OneBalance(0)

    def process() -> AlertEvaluator:
        book = AlertBook(store, clock)
        return AlertEvaluator(store, measures, book=book, clock=clock, ready=lambda: True)

    first, second = process(), process()
    raised = await asyncio.gather(first.evaluate(), second.evaluate())
    assert len([alert for alerts in raised for alert in alerts]) == 1
    for evaluator in (first, second, process()):
        assert await evaluator.evaluate() == []
    measures.value = 10**12
    [recovered] = await process().evaluate()
    assert recovered.event_type == "balance.recovered"
    # The one that does not know of it yet finds out, and says nothing twice.
    assert await first.evaluate() == []
    assert await first.evaluate() == []
    assert len(await store.alerts("acc_1", limit=10)) == 2
