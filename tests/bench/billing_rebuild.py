"""How fast the read tables are made again from the events, and that they are the same by hash.

`python -m tests.bench.billing_rebuild --events 1000000` books that many usage events, in a database
of its own and rebuilds. One process folds, so that what it reaches is reached with one core; the
baseline writes what each event changes before it takes the next.
"""

from __future__ import annotations

import argparse
import time

import asyncpg
import uvloop

from services.billing.adapters.event_log_postgres import StoredEvent, stored_events
from services.billing.adapters.ledger_postgres import PostgresLedger, write_tables
from services.billing.adapters.ledger_sql import ENSURE_WALLETS
from services.billing.domain.book import Book
from services.billing.domain.events import ZERO_HASH
from services.billing.rebuild import READ_TABLES, rebuild
from services.common.ids import AccountId
from services.common.postgres import migrate, open_pool
from services.common.runtime import calm_garbage_collector
from tests.bench._figures import say
from tests.bench.billing_settlement import Bench, a_server
from tests.fixtures.engines import PostgresServer


async def one_by_one(pool: asyncpg.Pool, events: int) -> float:
    """Events a second where each is written into the read tables before the next is folded."""
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("TRUNCATE " + ", ".join(table for table, _ in READ_TABLES))
        started_s, done = time.perf_counter(), 0
        book, account_id = Book(), AccountId("")
        async for stored in stored_events(connection):
            assert isinstance(stored, StoredEvent)
            if stored.account_id != account_id:
                account_id, book = stored.account_id, Book()
                await connection.execute(ENSURE_WALLETS, [account_id])
            book.record(stored.event, occurred_at_ms=stored.occurred_at_ms)
            await write_tables(connection, book, {account_id: ZERO_HASH})
            book.forget_recorded()
            done += 1
            if done == events:
                break
        rate = done / (time.perf_counter() - started_s)
        await transaction.rollback()
        return rate


async def bench(server: PostgresServer, arguments: argparse.Namespace) -> None:
    pool = await open_pool(server("rebuild"))
    await migrate(pool, "services.billing")
    world = Bench(PostgresLedger(pool, unit_timeout_s=600.0), arguments.accounts)
    await world.start()
    left = arguments.events
    while left > 0:
        await world.settle(min(left, 20_000), 5_000)
        left -= 20_000
    baseline = await one_by_one(pool, 1_000)
    started_s, cpu_s = time.perf_counter(), time.process_time()
    rebuilt = await rebuild(pool)
    elapsed_s = time.perf_counter() - started_s
    cpu_us = (time.process_time() - cpu_s) / rebuilt.events * 1e6
    assert rebuilt.is_equal, f"{rebuilt.before} was to be {rebuilt.after}"
    say(
        "rebuild", rebuilt.events / elapsed_s, "events/s", baseline=baseline,
        events=rebuilt.events, cpu_us=round(cpu_us, 1), hash=rebuilt.after,
    )  # fmt: skip
    await pool.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--accounts", type=int, default=50)
    arguments = parser.parse_args()
    calm_garbage_collector()
    with a_server() as server:
        uvloop.run(bench(server, arguments))


if __name__ == "__main__":
    main()
