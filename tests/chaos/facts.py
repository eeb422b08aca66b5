"""What a stack says of a run: the ledger from PostgreSQL, the events from Kafka, the request log
from ClickHouse. Read past the services, with statements of its own.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from services.billing import rebuild as billing_rebuild
from services.billing import verify
from services.billing.adapters.event_log_postgres import StoredEvent, stored_events
from services.billing.adapters.ledger_sql import Connection
from services.billing.domain.book import Book
from services.billing.domain.caps import first_day
from services.billing.domain.events import GrantOpened, GrantRenewed, TransactionPosted
from services.billing.domain.state import KeyAccount
from services.billing.explain import explain
from services.common.events import EventRecord
from services.common.pb.mesh.events.v1.usage_pb2 import UsageRecorded
from services.common.postgres import open_pool
from services.common.topics import BILLING_DEAD, KEYS, LEDGER, USAGE, USAGE_DEAD, Topic
from tests.e2e.stack import REPOSITORY, read_env
from tests.fixtures.kafka_reading import read_all

MS_PER_HOUR = 3_600_000
# The end of the year 9999.
FOREVER_MS = 253_402_300_799_999
Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Bill:
    """What the ledger booked for one usage id; the hour is that of admission, since 1970."""

    account_id: str
    request_id: str
    cost_nanousd: int
    hour: int
    overrun: bool


@dataclass(frozen=True, slots=True)
class Ledger:
    """Billing's database. Wallets are posted, granted and closing; grants those not resolved."""

    bills: dict[str, Bill]
    booked: int
    marks: set[str]
    wallets: dict[str, tuple[int, int, int]]
    # What the entries that `mesh ledger explain` lists come to.
    explained: dict[str, int]
    grants_left: list[str]
    limits_broken: list[str]
    event_ids: set[str]
    cursors: dict[Place, int]
    outbox: int
    findings: list[str]
    rebuilt_equal: bool


@dataclass(frozen=True, slots=True)
class Log:
    """Kafka: usage events by usage id, event ids of the ledger's topic, ends, dead letters."""

    usage: dict[str, UsageRecorded]
    usage_messages: int
    differing: list[str]
    ledger_event_ids: set[str]
    ends: dict[Place, int]
    dead: int


@dataclass(frozen=True, slots=True)
class RequestLog:
    """ClickHouse: rows by usage id, how many there are, the sink's position by partition."""

    rows: dict[str, dict[str, Any]]
    count: int
    positions: dict[int, int]


async def ends_of(bootstrap: str, topics: Sequence[Topic]) -> dict[Place, int]:
    """The offset after the last message of each partition. Raises KafkaError."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        places = [TopicPartition(one.name, p) for one in topics for p in range(one.partitions)]
        ends = await consumer.end_offsets(places)
    finally:
        await consumer.stop()
    return {(place.topic, place.partition): end for place, end in ends.items()}


async def cursors_of(connection: Connection) -> dict[Place, int]:
    """How far a service has applied the logs it reads."""
    rows = await connection.fetch("SELECT topic, partition, next_offset FROM consumer_cursor")
    return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}


async def ledger(dsn: str) -> Ledger:
    """Billing's books; verified, and rebuilt."""
    pool = await open_pool(dsn, size_max=2)
    try:
        verified = await verify.verify(pool)
        rebuilt = await billing_rebuild.rebuild(pool)
        explained = {
            row["account_id"]: sum(
                [
                    one.change_nanousd
                    async for one in explain(pool, row["account_id"], at_ms=FOREVER_MS)
                ]
            )
            for row in await pool.fetch("SELECT account_id FROM wallet")
        }
        async with pool.acquire() as connection, connection.transaction(readonly=True):
            return await _ledger(connection, verified, rebuilt, explained)
    finally:
        await pool.close()


async def _ledger(
    connection: Connection,
    verified: verify.Verified,
    rebuilt: billing_rebuild.Rebuilt,
    explained: dict[str, int],
) -> Ledger:
    history = History()
    async for stored in stored_events(connection):
        # A bad row is a finding of the verifier.
        if isinstance(stored, StoredEvent):
            history.take(stored)
    wallets = await connection.fetch("SELECT * FROM wallet")
    return Ledger(
        bills=history.bills,
        booked=history.booked,
        marks=await _column(connection, "SELECT usage_id FROM usage_mark"),
        wallets={
            row["account_id"]: (
                row["posted_nanousd"], row["granted_nanousd"], row["closing_nanousd"]
            )
            for row in wallets
        },
        explained=explained,
        grants_left=sorted(
            await _column(
                connection,
                "SELECT grant_id || ' is ' || status FROM grants WHERE status <> 'resolved'",
            )
        ),
        limits_broken=history.broken,
        event_ids=await _column(connection, "SELECT event_id FROM events"),
        cursors=await cursors_of(connection),
        outbox=await connection.fetchval("SELECT count(*) FROM outbox"),
        findings=[f"{finding.account_id}: {finding.what}" for finding in verified.findings],
        rebuilt_equal=rebuilt.is_equal,
    )  # fmt: skip


class History:
    """Everything that the ledger ever was, event by event: at no moment was a limit passed."""

    def __init__(self) -> None:
        self.bills: dict[str, Bill] = {}
        self.booked = 0
        self.broken: list[str] = []
        self._book = Book()

    def take(self, stored: StoredEvent) -> None:
        """Folds the next event and looks at what it changed."""
        event = stored.event
        self._book.record(event, occurred_at_ms=stored.occurred_at_ms)
        self._book.recorded.clear()
        if isinstance(event, TransactionPosted) and event.usage_id:
            self.bills[event.usage_id] = bill_of(event)
            self.booked += 1
        wallet = self._book.wallets[stored.account_id]
        if wallet.available_nanousd < 0:
            self.broken.append(f"{stored.account_id} had less than nothing at {stored.version}")
        grown = isinstance(event, GrantRenewed) and event.added_nanousd > 0
        if isinstance(event, GrantOpened) or (isinstance(event, GrantRenewed) and grown):
            key_id = self._book.grants[event.grant_id].key_id
            key = self._book.key(event.account_id, key_id)
            taken = self._spent(key, stored.occurred_at_ms) + key.granted_nanousd
            if key.spend_cap_nanousd is not None and taken > key.spend_cap_nanousd:
                self.broken.append(
                    f"{key_id} had {taken} of {key.spend_cap_nanousd} at {stored.version}"
                )

    def _spent(self, key: KeyAccount, now_ms: int) -> int:
        first = first_day(key.window, now_ms)
        return sum(
            spent
            for (account_id, key_id, day), spent in self._book.day_spend.items()
            if (account_id, key_id) == (key.account_id, key.key_id) and day >= first
        )


def bill_of(event: TransactionPosted) -> Bill:
    """What a transaction of usage took from the wallet."""
    wallet = sum(
        entry.amount_nanousd
        for entry in event.entries
        if entry.ledger_account.startswith("wallet:")
    )
    return Bill(
        event.account_id, event.request_id, -wallet, event.occurred_at_ms // MS_PER_HOUR,
        event.overrun,
    )  # fmt: skip


async def _column(connection: Connection, statement: str) -> set[str]:
    return {row[0] for row in await connection.fetch(statement)}


async def log(bootstrap: str) -> Log:
    """Kafka's side, read from the beginning."""
    usage: dict[str, UsageRecorded] = {}
    differing = []
    messages = await read_all(bootstrap, USAGE)
    for message in messages:
        event = EventRecord.from_bytes(message.value or b"").message()
        assert isinstance(event, UsageRecorded)
        if usage.setdefault(event.usage_id, event) != event:
            differing.append(event.usage_id)
    booked = await read_all(bootstrap, LEDGER)
    ends = await ends_of(bootstrap, [USAGE, KEYS, BILLING_DEAD, USAGE_DEAD])
    return Log(
        usage=usage,
        usage_messages=len(messages),
        differing=differing,
        ledger_event_ids={EventRecord.from_bytes(m.value or b"").event_id for m in booked},
        ends=ends,
        dead=sum(ends[topic.name, 0] for topic in (BILLING_DEAD, USAGE_DEAD)),
    )


async def request_log(data_dir: Path) -> RequestLog:
    """The request log of a stopped stack. Raises RuntimeError where it cannot be opened."""
    dsn = read_env(data_dir / "stack.env")["MESH_USAGE_CLICKHOUSE_DSN"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.chaos.log_rows", dsn, cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, problems = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"the request log cannot be read: {problems.decode()[-2000:]}")
    positions, *rows = [json.loads(line) for line in out.decode().splitlines()]
    return RequestLog(
        rows={row["usage_id"]: row for row in rows},
        count=len(rows),
        positions={int(partition): end for partition, end in positions.items()},
    )
