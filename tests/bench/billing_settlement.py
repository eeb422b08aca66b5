"""How fast billing books usage and lends money, and how fast it would one by one.

`python -m tests.bench.billing_settlement` starts a PostgreSQL of its own (or takes the one that
MESH_TEST_POSTGRES_DSN names; its own does not wait for the disk, for either way) and measures:

* settlement: usage events a second, in batches, over many accounts;
* grant call: how long an opening takes at a steady rate of calls, from the desk's door and back;
* hot account: pairs of an opening and a close a second, on one account.

Each beside the same work with one transaction a call. `cpu_us` is the processor time that an event
costs this process, without PostgreSQL's.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvloop

from services.billing.adapters.ledger_postgres import PostgresLedger
from services.billing.config import BillingSettings
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
from services.common.runtime import calm_garbage_collector
from services.common.topics import KEYS, USAGE
from tests.bench._figures import quantile, say
from tests.fixtures import engines
from tests.fixtures.engines import PostgresServer
from tests.fixtures.ledger import Feed, LetterBox, key_record, usage_record
from tests.fixtures.waiting import running

CLOCK = SystemClock()
RULES = GrantRules()
BALANCE_NANOUSD = 10**15
CALLERS = 256
LINGER_S = float(BillingSettings.model_fields["grant_group_linger_s"].default)


@dataclass(frozen=True, slots=True)
class Rate:
    """Events a second, and microseconds of this process's processor for each."""

    per_s: float
    cpu_us: float


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

    async def settle(self, events: int, batch_size: int) -> Rate:
        """Settles so many new events in batches."""
        messages = self._feed.put(*(self._usage(number) for number in range(events)))
        starts = range(0, events, batch_size)
        batches = [messages[start : start + batch_size] for start in starts]
        started_s, cpu_s = time.perf_counter(), time.process_time()
        for batch in batches:
            await self._feed.deliver(batch)
        cpu_us = (time.process_time() - cpu_s) / events * 1e6
        return Rate(events / (time.perf_counter() - started_s), cpu_us)

    async def lend_steadily(self, calls: int, *, per_s: float, group_max: int) -> list[float]:
        """Opens grants at a steady rate, whether or not earlier ones are answered; milliseconds."""
        desk, taken_ms = self._desk(group_max), []

        async def call(account: str, due_s: float) -> None:
            grant = await desk.open(self._ask(new_id("gr"), account, 1_000))
            assert isinstance(grant, Grant)
            # From when it was due, so that a caller that comes late is no excuse.
            taken_ms.append((time.perf_counter() - due_s) * 1000)

        async with running(desk.run):
            started_s, sent = time.perf_counter(), 0
            tasks = []
            while sent < calls:
                now_s = time.perf_counter()
                while sent < calls and started_s + sent / per_s <= now_s:
                    account = self._accounts[sent % len(self._accounts)]
                    due_s = started_s + sent / per_s
                    tasks.append(asyncio.create_task(call(account, due_s)))
                    sent += 1
                await asyncio.sleep(0.0002)
            await asyncio.gather(*tasks)
        return taken_ms

    async def pairs_of_one(self, pairs: int, *, group_max: int) -> Rate:
        """Opens and closes grants of one account, many callers at once."""
        desk, account = self._desk(group_max), self._accounts[0]

        async def caller() -> None:
            for _ in range(pairs // CALLERS):
                grant = await desk.open(self._ask(new_id("gr"), account, 1_000))
                assert isinstance(grant, Grant)
                await desk.close(CloseGrant(grant.grant_id, WorkerId("w1"), AccountId(account), 0))

        started_s, cpu_s = time.perf_counter(), time.process_time()
        async with running(desk.run):
            await asyncio.gather(*(caller() for _ in range(CALLERS)))
        done = pairs // CALLERS * CALLERS
        cpu_us = (time.process_time() - cpu_s) / done * 1e6
        return Rate(done / (time.perf_counter() - started_s), cpu_us)

    def _desk(self, group_max: int) -> GrantDesk:
        return GrantDesk(
            self._ledger,
            CLOCK,
            RULES,
            linger_s=LINGER_S if group_max > 1 else 0.0,
            group_max=group_max,
            waiting_max=100_000,
            fence_s=0.5,
            fence_poll_s=0.025,
        )

    def _usage(self, number: int) -> EventRecord:
        account = self._accounts[number % len(self._accounts)]
        return usage_record(
            new_id("use"), account_id=account, grant_id=f"gr_{account}", tokens=100 + number % 900
        )

    def _ask(self, grant_id: str, account: str, amount: int) -> OpenGrant:
        return OpenGrant(
            GrantId(grant_id), WorkerId("w1"), AccountId(account), KeyId("key_1"), 1, amount, 0, 0
        )


async def bench(server: PostgresServer, arguments: argparse.Namespace) -> None:
    pool = await open_pool(server("bench"))
    await migrate(pool, "services.billing")
    world = Bench(PostgresLedger(pool, unit_timeout_s=60.0), arguments.accounts)
    await world.start()
    await world.settle(2 * arguments.batch, arguments.batch)
    naive, few = arguments.naive, arguments.naive // 4
    one_by_one = await world.settle(naive, 1)
    batched = await world.settle(arguments.events, arguments.batch)
    say(
        "settlement", batched.per_s, "events/s", baseline=one_by_one.per_s,
        batch=arguments.batch, accounts=arguments.accounts, cpu_us=round(batched.cpu_us, 1),
    )  # fmt: skip
    alone = await world.pairs_of_one(few // CALLERS * CALLERS or CALLERS, group_max=1)
    hot = await world.pairs_of_one(arguments.pairs, group_max=CALLERS)
    say("hot account", hot.per_s, "pairs/s", baseline=alone.per_s,
        callers=CALLERS, cpu_us=round(hot.cpu_us, 1))  # fmt: skip
    single = await world.lend_steadily(few, per_s=arguments.rate / 20, group_max=1)
    grouped = await world.lend_steadily(arguments.calls, per_s=arguments.rate, group_max=256)
    for name, part in (("p50", 0.5), ("p99", 0.99)):
        say(f"grant call {name}", quantile(grouped, part), "ms", baseline=quantile(single, part),
            calls_per_s=arguments.rate, baseline_calls_per_s=arguments.rate / 20)  # fmt: skip
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
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--naive", type=int, default=1_000, help="how many one by one")
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=2_000.0, help="grant calls a second")
    parser.add_argument("--batch", type=int, default=2_000)
    parser.add_argument("--accounts", type=int, default=50)
    arguments = parser.parse_args()
    calm_garbage_collector()
    with a_server() as server:
        uvloop.run(bench(server, arguments))


if __name__ == "__main__":
    main()
