"""How long a usage event takes until another process sees the balance that it changed.

`python -m tests.bench.billing_latency` starts a Kafka and a PostgreSQL of its own and billing as a
process of its own, sends usage events at a steady rate and reads `mesh.balances.v1` as the gateway
or the dashboard would. The time is from before the send until after the read. The baseline is what
a service would do without a log: one transaction that takes the cost off a balance, and then a read
over another connection, one request after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

import asyncpg
import uvloop

from deploy.local.kafka import KafkaNode
from services.common.events import EventRecord
from services.common.kafka import KafkaProducer, TableReader, create_topics
from services.common.pb.mesh.events.v1 import ledger_pb2
from services.common.runtime import calm_garbage_collector
from services.common.topics import BALANCES, KEYS, USAGE
from tests.bench._figures import quantile, say
from tests.bench.billing_settlement import a_server
from tests.fixtures.engines import PostgresServer, unused_port
from tests.fixtures.ledger import key_record, usage_record
from tests.fixtures.waiting import eventually, running
from tests.integration.billing.test_process import ACCOUNT, billing

COST = 10
START = 10**12


class Seen:
    """When each balance was first seen here."""

    def __init__(self) -> None:
        self.at_s: dict[int, float] = {}

    def take(self, _key: str, value: bytes | None) -> None:
        """One message of the topic."""
        state = EventRecord.from_bytes(value or b"").message()
        assert isinstance(state, ledger_pb2.BalanceState)
        if not state.posted_nanousd:
            return
        now_s = time.perf_counter()
        # A batch of usage moves the balance once; every event in it is seen with that.
        for spent in range((START - state.posted_nanousd) // COST, 0, -1):
            if spent in self.at_s:
                break
            self.at_s[spent] = now_s


async def naive(dsn: str, events: int) -> list[float]:
    """Milliseconds of one transaction and a read beside it, for each of so many."""
    writer, reader = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
    await writer.execute("CREATE TABLE naive (account text PRIMARY KEY, balance bigint)")
    await writer.execute("CREATE TABLE naive_entry (usage text PRIMARY KEY, cost bigint)")
    await writer.execute("INSERT INTO naive VALUES ($1, $2)", ACCOUNT, START)
    taken = []
    for number in range(events):
        before_s = time.perf_counter()
        async with writer.transaction():
            await writer.execute("INSERT INTO naive_entry VALUES ($1, $2)", f"u{number}", COST)
            await writer.execute(
                "UPDATE naive SET balance = balance - $2 WHERE account = $1", ACCOUNT, COST
            )
        await reader.fetchval("SELECT balance FROM naive WHERE account = $1", ACCOUNT)
        taken.append((time.perf_counter() - before_s) * 1000)
    await writer.close()
    await reader.close()
    return taken


async def bench(server: PostgresServer, bootstrap: str, arguments: argparse.Namespace) -> None:
    await create_topics(bootstrap)
    producer, seen = KafkaProducer(bootstrap), Seen()
    await producer.start()
    baseline = await naive(server("naive"), arguments.events)
    reader = TableReader(bootstrap=bootstrap, topic=BALANCES, on_message=seen.take)
    async with billing(server("latency"), bootstrap) as served, running(reader.run):
        key = key_record("key_1", account_id=ACCOUNT)
        await producer.send(KEYS.name, b"hash", key.to_bytes())
        await served.credit(START)
        await served.open("gr_1", START // 2)
        sent_s: list[float] = []
        for number in range(arguments.events):
            record = usage_record(f"use_{number}", account_id=ACCOUNT, tokens=COST, grant_id="gr_1")
            sent_s.append(time.perf_counter())
            await producer.send(USAGE.name, ACCOUNT.encode(), record.to_bytes())
            await asyncio.sleep(1 / arguments.rate)
        await eventually(lambda: len(seen.at_s) >= arguments.events, timeout_s=120)
    taken = [(seen.at_s[n + 1] - sent_s[n]) * 1000 for n in range(arguments.events)]
    for name, part in (("p50", 0.5), ("p99", 0.99)):
        say(f"usage event to balance elsewhere {name}", quantile(taken, part), "ms",
            baseline=quantile(baseline, part), events_per_s=arguments.rate)  # fmt: skip
    await producer.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=500)
    parser.add_argument("--rate", type=float, default=50.0, help="usage events a second")
    arguments = parser.parse_args()
    calm_garbage_collector()
    with a_server() as server, tempfile.TemporaryDirectory() as folder:
        kafka = KafkaNode(Path(folder), unused_port(), unused_port())
        kafka.start()
        try:
            uvloop.run(bench(server, kafka.bootstrap, arguments))
        finally:
            kafka.stop()


if __name__ == "__main__":
    main()
