"""What the log and the ledger do not have alike is found, named, and closed when it is mended."""

from __future__ import annotations

from typing import Any

from services.common.clock import FakeClock
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.sink_store_clickhouse import ClickHouseSinkStore
from services.usage.domain.ledger_row import LedgerRow
from services.usage.domain.row import RequestRow
from services.usage.metrics import LEDGER_DIFFERENCES
from services.usage.ports import LEDGER_TRANSACTIONS, REQUESTS
from services.usage.reconcile import HOUR_MS, NAMED_MAX, Comparison, Reconciler
from tests.unit.usage.builders import row

# 2026-03-10T12:00:00Z
NOON_MS = 1_773_144_000_000


def logged(number: int, **changes: Any) -> RequestRow:  # Any: fields of a row
    fields: dict[str, Any] = {
        "received_at_ms": NOON_MS - 3 * HOUR_MS + number,
        "admitted_at_ms": NOON_MS - 3 * HOUR_MS + number + 1,
        "cost_nanousd": 100 + number,
    }
    return row(number, **(fields | changes))


def booked(of: RequestRow, **changes: object) -> LedgerRow:
    """The ledger's transaction of a logged request."""
    cost = of.cost_nanousd
    booked_row = LedgerRow(
        account_id=of.account_id,
        occurred_at=of.admitted_at or of.received_at,
        transaction_id=f"txn_{of.usage_id}",
        sequence=1,
        kind="usage",
        idempotency_key=f"usage:{of.usage_id}",
        booked_at=of.received_at + 50,
        entries_ledger_account=(f"wallet:{of.account_id}", "revenue"),
        entries_amount_nanousd=(-cost, cost),
        reason="",
        key_id=of.key_id,
        grant_id="",
        usage_id=of.usage_id,
        request_id=of.request_id,
        model_id=of.model_id,
        price_version_id=of.price_version_id,
        overrun=False,
        corrects_transaction_id="",
        event_id=f"evt_{of.usage_id}",
        log_topic="mesh.ledger.v1",
        log_partition=0,
        log_offset=of.log_offset,
    )
    return booked_row._replace(**changes)  # type: ignore[arg-type]  # fields by name


class Books:
    """A log, a ledger, and who compares them at noon."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self.requests = ClickHouseSinkStore(clickhouse, REQUESTS)
        self.ledger = ClickHouseSinkStore(clickhouse, LEDGER_TRANSACTIONS)
        self.clock = FakeClock(NOON_MS)
        self.reconciler = Reconciler(clickhouse, self.clock, is_current=lambda: True)

    async def write(self, rows: list[RequestRow], entries: list[LedgerRow]) -> None:
        await self.requests.insert_missing(rows)
        await self.ledger.insert_missing(entries)

    async def compare(self) -> Comparison:
        await self.clock.advance(1)
        return await self.reconciler.compare()


async def test_a_log_and_a_ledger_that_agree_have_no_difference(clickhouse: ClickHouse) -> None:
    books = Books(clickhouse)
    rows = [logged(n) for n in range(40)]
    free = logged(50, cost_nanousd=0)
    await books.write([*rows, free], [booked(one) for one in rows])
    # A delivery that was repeated on both sides changes nothing.
    await books.write(
        [rows[0]._replace(log_offset=900)], [booked(rows[1])._replace(log_offset=900)]
    )
    correction = booked(rows[2], kind="reversal", transaction_id="txn_r", log_offset=901)
    await books.ledger.insert_missing([correction])
    done = await books.compare()
    assert done == Comparison(1, 40, sum(one.cost_nanousd for one in rows), [])
    assert await books.reconciler.compared_at_ms() == books.clock.now_ms()
    assert LEDGER_DIFFERENCES._value.get() == 0


async def test_each_kind_of_difference_names_its_requests(clickhouse: ClickHouse) -> None:
    books = Books(clickhouse)
    rows = [logged(n) for n in range(10)]
    entries = [booked(one) for one in rows]
    dearer = booked(rows[3]._replace(cost_nanousd=999))
    await books.write(rows[:9], [entries[0], entries[2], dearer, *entries[4:]])
    (found,) = (await books.compare()).differences
    assert found.account_id == "acc_1"
    assert found.hour_start_ms == NOON_MS - 3 * HOUR_MS
    assert found.only_in_log == ("req_0_1",)
    assert found.only_in_ledger == ("req_0_9",)
    assert found.cost_differs == ("req_0_3",)
    assert (found.log_requests, found.ledger_requests) == (9, 9)
    assert found.ledger_cost_nanousd == sum(100 + n for n in range(10)) - 101 - 103 + 999
    assert await books.reconciler.open_differences("acc_1") == [found]
    assert await books.reconciler.open_differences("acc_2") == []
    assert LEDGER_DIFFERENCES._value.get() == 1


async def test_two_swapped_costs_are_found_although_the_sums_agree(clickhouse: ClickHouse) -> None:
    books = Books(clickhouse)
    first, second = logged(1), logged(2)
    swapped = [
        booked(first._replace(cost_nanousd=second.cost_nanousd)),
        booked(second._replace(cost_nanousd=first.cost_nanousd)),
    ]
    await books.write([first, second], swapped)
    (found,) = (await books.compare()).differences
    assert found.cost_differs == ("req_0_1", "req_0_2")


async def test_a_difference_is_closed_once_it_is_mended(clickhouse: ClickHouse) -> None:
    books = Books(clickhouse)
    rows = [logged(n) for n in range(3)]
    await books.write(rows, [booked(one) for one in rows[:2]])
    assert len((await books.compare()).differences) == 1
    await books.ledger.insert_missing([booked(rows[2])])
    assert (await books.compare()).differences == []
    assert await books.reconciler.open_differences("") == []
    assert LEDGER_DIFFERENCES._value.get() == 0


async def test_an_hour_that_is_not_settled_is_not_compared(clickhouse: ClickHouse) -> None:
    books = Books(clickhouse)
    await books.write([logged(1, received_at_ms=NOON_MS - 10, admitted_at_ms=NOON_MS - 9)], [])
    assert (await books.compare()).hours == 0
    await books.clock.advance(books.reconciler.settle_ms / 1000)
    assert len((await books.compare()).differences) == 1


async def test_a_loss_of_many_names_the_first_of_them(clickhouse: ClickHouse) -> None:
    books = Books(clickhouse)
    await books.write([logged(n) for n in range(NAMED_MAX + 20)], [])
    (found,) = (await books.compare()).differences
    assert (found.log_requests, found.ledger_requests) == (NAMED_MAX + 20, 0)
    assert len(found.only_in_log) == NAMED_MAX
