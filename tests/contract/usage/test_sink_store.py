"""What every store of the sink promises: ClickHouse and its twin in memory."""

from __future__ import annotations

import asyncio
from typing import TypeAlias

import pytest

from services.common.topics import LEDGER
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.sink_store_clickhouse import ClickHouseSinkStore
from services.usage.adapters.sink_store_memory import MemorySinkStore
from services.usage.domain.filter import RequestFilter, Scope
from services.usage.domain.ledger_row import LedgerRow
from services.usage.domain.row import RequestRow
from services.usage.ports import LEDGER_TRANSACTIONS, REQUESTS, Bounds, SinkStore
from services.usage.views import UsageViews
from tests.unit.usage.builders import DAY_MS, START_MS, row

TOPIC = "mesh.usage.v1"
# Two months in one batch: two parts in the store.
ROWS = [row(n, received_at_ms=START_MS + (n % 2) * DAY_MS + n) for n in range(10, 20)]
Store: TypeAlias = SinkStore[RequestRow]
BOUNDS = Bounds(TOPIC, 0, 10, 19, 10)


class SinkStoreContract:
    """Subclasses give the store and a way to see every row that was written."""

    @pytest.fixture
    async def store(self) -> Store:
        raise NotImplementedError

    async def written(self, store: Store) -> list[RequestRow]:
        """All written rows, duplicates included, by offset."""
        raise NotImplementedError

    async def kept(self, store: Store) -> list[RequestRow]:
        """The rows that readers see, by offset."""
        raise NotImplementedError

    async def written_count(self, store: Store) -> int:
        """How many rows were written, duplicates included."""
        raise NotImplementedError

    async def test_each_claim_has_a_higher_epoch_of_its_partition(self, store: Store) -> None:
        assert await store.epoch(TOPIC, 0) == 0
        epochs = [await store.claim(TOPIC, 0) for _ in range(3)]
        assert epochs == [1, 2, 3]
        assert await store.epoch(TOPIC, 0) == 3
        assert await store.epoch(TOPIC, 1) == 0
        assert await store.claim("other", 0) == 1

    async def test_the_newest_bounds_are_remembered_by_partition(self, store: Store) -> None:
        assert await store.last_batch(TOPIC, 0) is None
        later = Bounds(TOPIC, 0, 20, 25, 6)
        other = Bounds(TOPIC, 1, 0, 3, 4)
        for bounds in (BOUNDS, other, later, later, BOUNDS):
            await store.record(bounds, 1)
        assert await store.last_batch(TOPIC, 0) == later
        assert await store.last_batch(TOPIC, 1) == other

    async def test_the_same_batch_again_writes_nothing(self, store: Store) -> None:
        await store.insert(BOUNDS, ROWS)
        await store.insert(BOUNDS, ROWS)
        assert await self.written(store) == ROWS

    async def test_an_insert_that_was_cut_off_between_months_is_completed(
        self, store: Store
    ) -> None:
        await store.insert(BOUNDS, ROWS[::2])
        await store.insert(BOUNDS, ROWS)
        assert await self.written(store) == ROWS

    async def test_what_is_missing_is_written_whatever_was_before(self, store: Store) -> None:
        await store.insert(BOUNDS, ROWS[:4])
        await store.insert_missing(ROWS[4:])
        await store.insert_missing([])
        assert await self.written(store) == ROWS

    async def test_what_is_missing_is_written_although_the_same_was_written_before(
        self, store: Store
    ) -> None:
        await store.insert(BOUNDS, ROWS[:1])
        await store.insert_missing(ROWS[1:2])
        await store.insert_missing(ROWS[1:2])
        assert await self.written_count(store) == 3

    async def test_stored_rows_are_counted_within_the_bounds_and_found_by_id(
        self, store: Store
    ) -> None:
        await store.insert(BOUNDS, ROWS[:6])
        assert await store.stored_count(BOUNDS) == 6
        assert await store.stored_count(Bounds(TOPIC, 0, 12, 13, 2)) == 2
        assert await store.stored_count(Bounds(TOPIC, 1, 10, 19, 10)) == 0
        assert await store.stored_ids(ROWS) == {r.usage_id for r in ROWS[:6]}
        assert await store.stored_ids([]) == set()

    async def test_of_two_rows_with_one_usage_id_the_first_of_the_log_is_seen(
        self, store: Store
    ) -> None:
        again = ROWS[0]._replace(log_offset=30)
        await store.insert(Bounds(TOPIC, 0, 30, 30, 1), [again])
        await store.insert(BOUNDS, ROWS)
        assert await self.kept(store) == ROWS

    async def test_batches_that_come_together_are_each_stored_recorded_and_found(
        self, store: Store
    ) -> None:
        batches = [
            (Bounds(TOPIC, p, 0, 4, 5), [row(n, partition=p) for n in range(5)]) for p in range(6)
        ]
        await asyncio.gather(*(store.record(bounds, 1) for bounds, _ in batches))
        await asyncio.gather(*(store.insert(bounds, rows) for bounds, rows in batches))
        for bounds, rows in batches:
            assert await store.last_batch(TOPIC, bounds.partition) == bounds
            assert await store.stored_count(bounds) == 5
            assert await store.stored_ids(rows) == {one.usage_id for one in rows}
        claims = await asyncio.gather(*(store.claim(TOPIC, p) for p in (0, 0, 1)))
        epochs = await asyncio.gather(*(store.epoch(TOPIC, p) for p in range(3)))
        assert epochs == [max(claims[:2]), 1, 0]
        assert await self.written_count(store) == 30

    async def test_a_batch_without_rows_is_nothing(self, store: Store) -> None:
        await store.insert(BOUNDS, [])
        assert await self.written(store) == []


class TestMemory(SinkStoreContract):
    @pytest.fixture
    async def store(self) -> Store:
        return MemorySinkStore(REQUESTS)

    async def written(self, store: Store) -> list[RequestRow]:
        assert isinstance(store, MemorySinkStore)
        return sorted((r for part in store.parts for r in part), key=lambda r: r.log_offset)

    async def kept(self, store: Store) -> list[RequestRow]:
        assert isinstance(store, MemorySinkStore)
        return sorted(store.rows, key=lambda r: r.log_offset)

    async def written_count(self, store: Store) -> int:
        assert isinstance(store, MemorySinkStore)
        return sum(len(part) for part in store.parts)


class TestClickHouse(SinkStoreContract):
    @pytest.fixture
    async def store(self, clickhouse: ClickHouse) -> Store:
        self.clickhouse = clickhouse
        return ClickHouseSinkStore(clickhouse, REQUESTS)

    async def written(self, store: Store) -> list[RequestRow]:
        offsets = await self.clickhouse.query("SELECT log_offset FROM requests ORDER BY log_offset")
        rows = await self.kept(store)
        assert [offset for (offset,) in offsets] == [r.log_offset for r in rows]
        return rows

    async def kept(self, store: Store) -> list[RequestRow]:
        page = await UsageViews(self.clickhouse).list_requests(Scope("acc_1"), RequestFilter())
        return sorted(page.rows, key=lambda r: r.log_offset)

    async def written_count(self, store: Store) -> int:
        return int((await self.clickhouse.query("SELECT count() FROM requests"))[0][0])


async def test_the_batches_of_several_partitions_are_one_insert(clickhouse: ClickHouse) -> None:
    store = ClickHouseSinkStore(clickhouse, REQUESTS)
    batches = [(Bounds(TOPIC, p, 0, 0, 1), [row(partition=p)]) for p in range(6)]
    await asyncio.gather(*(store.insert(bounds, rows) for bounds, rows in batches))
    assert await clickhouse.query("SELECT count(), uniqExact(_part) FROM requests") == [(6, 1)]


LEDGER_ROWS = [
    LedgerRow(
        account_id="acc_1",
        occurred_at=START_MS + n,
        transaction_id=f"txn_{n}",
        sequence=n,
        kind="usage",
        idempotency_key=f"usage:use_{n}",
        booked_at=START_MS + n + 5,
        entries_ledger_account=("wallet:acc_1", "revenue"),
        entries_amount_nanousd=(-n, n),
        reason="",
        key_id="key_1",
        grant_id="gr_1",
        usage_id=f"use_{n}",
        request_id=f"req_{n}",
        model_id="m1",
        price_version_id="pv_1",
        overrun=False,
        corrects_transaction_id="",
        event_id=f"evt_{n}",
        log_topic=LEDGER.name,
        log_partition=1,
        log_offset=n,
    )
    for n in range(1, 9)
]


async def test_the_ledgers_transactions_are_stored_once_and_their_entries_can_be_summed(
    clickhouse: ClickHouse,
) -> None:
    store = ClickHouseSinkStore(clickhouse, LEDGER_TRANSACTIONS)
    bounds = Bounds(LEDGER.name, 1, 1, 8, 8)
    await store.insert(bounds, LEDGER_ROWS[:3])
    assert await store.stored_ids(LEDGER_ROWS) == {"txn_1", "txn_2", "txn_3"}
    await store.insert_missing(LEDGER_ROWS[3:])
    await store.insert_missing([row._replace(log_offset=100) for row in LEDGER_ROWS[:2]])
    assert await store.stored_count(bounds) == 8
    sums = "SELECT count(), sum(wallet_nanousd) FROM ledger_log"
    assert await clickhouse.query(sums) == [(8, -36)]
    entries = (
        "SELECT ledger_account, sum(amount_nanousd) FROM ledger_entries"
        " GROUP BY ledger_account ORDER BY ledger_account"
    )
    assert await clickhouse.query(entries) == [("revenue", 36), ("wallet:acc_1", -36)]
