"""How many usage events a second billing books, and how many it would one by one.

`python -m tests.bench.billing_settlement` starts a PostgreSQL of its own (or takes the one that
MESH_TEST_POSTGRES_DSN names), settles the same kind of events in batches and then one transaction
each, and grants money in groups and then one by one. One JSON line a figure.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import orjson

from services.billing.adapters.ledger_postgres import PostgresLedger
from services.billing.domain.grants import CloseGrant, GrantRules, OpenGrant
from services.billing.domain.state import Grant
from services.billing.grant_desk import GrantDesk
from services.billing.handlers import CreditAccount, credit_account, run_grant_commands
from services.billing.settlement.keys import KeyCaps
from services.billing.settlement.settle import UsageSettlement
from services.billing.verify import verify
from services.common.clock import SystemClock
from services.common.events import EventRecord
from services.common.ids import AccountId, GrantId, KeyId, WorkerId, new_id
from services.common.postgres import migrate, open_pool
from services.common.topics import KEYS, USAGE
from tests.fixtures import engines
from tests.fixtures.engines import PostgresServer
from tests.fixtures.ledger import Feed, LetterBox, key_record, usage_record
from tests.fixtures.waiting import running

CLOCK = SystemClock()
RULES = GrantRules()
BALANCE_NANOUSD = 10**15
CALLERS = 200


class Bench:
    """One billing on an empty database with funded accounts, one key and one open grant each."""

    def __init__(self, ledger: PostgresLedger, accounts: int) -> None:
        self._ledger = ledger
        self._accounts = [f"acc_{number:04}" for number in range(accounts)]
        self._feed = Feed(USAGE, UsageSettlement(ledger, LetterBox(), CLOCK))

    async def start(self) -> None:
        """Funds the accounts and opens their grants."""
        keys = Feed(KEYS, KeyCaps(self._ledger, LetterBox(), CLOCK))
        await keys.send(*(key_record("key_1", account_id=one) for one in self._accounts))
        for one in self._accounts:
            command = CreditAccount(AccountId(one), BALANCE_NANOUSD, "", "bench")
            await credit_account(self._ledger, CLOCK, command)
        asks = [self._ask(f"gr_{one}", one, 10**12) for one in self._accounts]
        await run_grant_commands(self._ledger, CLOCK, asks, rules=RULES)
        await self._feed.claim()

    async def settle(self, events: int, batch_size: int) -> float:
        """Settles so many new events in batches; events per second."""
        messages = self._feed.put(*(self._usage(number) for number in range(events)))
        starts = range(0, events, batch_size)
        batches = [messages[start : start + batch_size] for start in starts]
        started_s = time.perf_counter()
        for batch in batches:
            await self._feed.deliver(batch)
        return events / (time.perf_counter() - started_s)

    async def lend(self, pairs: int, *, group_max: int, callers: int) -> tuple[float, float]:
        """Opens and closes grants; pairs a second and the median of an opening in milliseconds."""
        desk = GrantDesk(
            self._ledger,
            CLOCK,
            RULES,
            linger_s=0.003 if group_max > 1 else 0.0,
            group_max=group_max,
            waiting_max=10_000,
            fence_s=0.5,
            fence_poll_s=0.025,
        )
        taken_ms: list[float] = []

        async def caller(number: int) -> None:
            account = self._accounts[number % len(self._accounts)]
            for _ in range(pairs // callers):
                before_s = time.perf_counter()
                grant = await desk.open(self._ask(new_id("gr"), account, 1_000))
                taken_ms.append((time.perf_counter() - before_s) * 1000)
                assert isinstance(grant, Grant)
                await desk.close(CloseGrant(grant.grant_id, WorkerId("w1"), AccountId(account), 0))

        started_s = time.perf_counter()
        async with running(desk.run):
            await asyncio.gather(*(caller(number) for number in range(callers)))
        rate = len(taken_ms) / (time.perf_counter() - started_s)
        return rate, sorted(taken_ms)[len(taken_ms) // 2]

    def _usage(self, number: int) -> EventRecord:
        account = self._accounts[number % len(self._accounts)]
        return usage_record(
            new_id("use"), account_id=account, grant_id=f"gr_{account}", tokens=100 + number % 900
        )

    def _ask(self, grant_id: str, account: str, amount: int) -> OpenGrant:
        return OpenGrant(
            GrantId(grant_id), WorkerId("w1"), AccountId(account), KeyId("key_1"), 1, amount, 0, 0
        )


def print_figure(name: str, **facts: float | str) -> None:
    """One line of JSON."""
    print(orjson.dumps({"bench": name, **facts}).decode(), flush=True)


async def bench(server: PostgresServer, arguments: argparse.Namespace) -> None:
    pool = await open_pool(server("bench"))
    await migrate(pool, "services.billing")
    world = Bench(PostgresLedger(pool, unit_timeout_s=60.0), arguments.accounts)
    await world.start()
    await world.settle(2 * arguments.batch, arguments.batch)
    naive = await world.settle(arguments.naive_events, 1)
    rate = await world.settle(arguments.events, arguments.batch)
    print_figure(
        "billing_settlement",
        events_per_s=round(rate),
        batch=arguments.batch,
        accounts=arguments.accounts,
        baseline="the same events, one transaction each",
        baseline_events_per_s=round(naive),
        times=round(rate / naive, 1),
    )
    alone, alone_ms = await world.lend(arguments.naive_events, group_max=1, callers=CALLERS)
    grouped, grouped_ms = await world.lend(arguments.pairs, group_max=256, callers=CALLERS)
    print_figure(
        "billing_grants",
        pairs_per_s=round(grouped),
        open_p50_ms=round(grouped_ms, 1),
        callers=CALLERS,
        baseline="the same calls, one transaction each",
        baseline_pairs_per_s=round(alone),
        baseline_open_p50_ms=round(alone_ms, 1),
        times=round(grouped / alone, 1),
    )
    verified = await verify(pool)
    assert verified.is_sound, verified.findings
    await pool.close()


@contextmanager
def a_server() -> Iterator[PostgresServer]:
    """The server that the environment names, or one from the wheel for the time of the block."""
    given = os.environ.get("MESH_TEST_POSTGRES_DSN")
    if given:
        yield PostgresServer(given)
        return
    with contextmanager(engines._postgres_wheel)() as server:
        yield server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=30_000)
    parser.add_argument("--naive-events", type=int, default=1_000)
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=1_000)
    parser.add_argument("--accounts", type=int, default=50)
    arguments = parser.parse_args()
    with a_server() as server:
        asyncio.run(bench(server, arguments))


if __name__ == "__main__":
    main()
