"""How fast the read tables are made again from the events, and that they are the same by hash.

`python -m tests.bench.billing_rebuild --events 1000000` books that many usage events, in a database
of its own and rebuilds. One process folds, so that what it reaches is reached with one core; the
baseline applies events one by one, an UPDATE each.
"""

from __future__ import annotations

import argparse
import asyncio
import time

import asyncpg

from services.billing.adapters.ledger_postgres import PostgresLedger
from services.billing.rebuild import rebuild
from services.common.postgres import migrate, open_pool
from tests.bench._figures import say
from tests.bench.billing_settlement import Bench, a_server
from tests.fixtures.engines import PostgresServer

_APPLY = """
WITH e AS (SELECT account_id, occurred_at_ms FROM events WHERE global_position = $1)
UPDATE wallet SET updated_at_ms = e.occurred_at_ms FROM e WHERE wallet.account_id = e.account_id
"""


async def one_by_one(pool: asyncpg.Pool, events: int) -> float:
    """Events a second where each is read and applied by a statement of its own."""
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        started_s = time.perf_counter()
        for position in range(1, events + 1):
            await connection.execute(_APPLY, position)
        rate = events / (time.perf_counter() - started_s)
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
    with a_server() as server:
        asyncio.run(bench(server, arguments))


if __name__ == "__main__":
    main()
