"""Derives the log again from the events, beside the one in use, and puts it in its place.

`python -m services.usage.rebuild`, while the service is stopped. Rows whose events the event log
has already let go are carried over as they are. The log that was replaced stays in the tables
`*_rebuild` until the next rebuild.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from services.common.config import load_settings
from services.common.ids import new_id
from services.common.kafka import Batch, Claim, KafkaProducer, LogMessage, LogSource, Pump
from services.common.kafka.source import KafkaSource
from services.common.runtime import run
from services.common.telemetry import configure_logging
from services.common.topics import LEDGER, USAGE, Topic
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.ledger_event import ledger_row_from_message
from services.usage.adapters.migrations import migrate
from services.usage.adapters.sink_store_clickhouse import ClickHouseSinkStore
from services.usage.adapters.usage_event import row_from_message
from services.usage.bootstrap import store_of
from services.usage.bootstrap_sinks import letters_of
from services.usage.config import UsageSettings
from services.usage.ports import LEDGER_TRANSACTIONS, REQUESTS, RowTable
from services.usage.sink.target import DeadLetterQueue, RowSink

# In the order in which they change places: a position that is older than the rows only makes the
# sink read some messages again, which their sorting key absorbs.
_TABLES = ("requests", "ledger_transactions", "sink_batches", "sink_claims")
_SUFFIX = "_rebuild"


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """Requests and their cost before and after, how many rows were carried over and how many
    messages made none because they cannot be decoded, and the ledger's transactions and what they
    came to on the wallets.
    """

    requests_before: int
    requests_after: int
    cost_nanousd_before: int
    cost_nanousd_after: int
    carried_over: int
    undecodable: int
    transactions_before: int
    transactions_after: int
    wallets_nanousd_before: int
    wallets_nanousd_after: int


class PutAsideBefore:
    """Undecodable messages during a rebuild: those that the log in use has read are among the dead
    letters already and are only counted, so that years of them come to no limit.
    """

    def __init__(self, letters: DeadLetterQueue, read: Mapping[tuple[str, int], int]) -> None:
        """`read` is the last offset that was read, by topic and partition."""
        self._letters = letters
        self._read = read
        self.count = 0

    async def put(self, message: LogMessage, reason: str) -> None:
        self.count += 1
        if message.offset > self._read.get((message.topic, message.partition), -1):
            await self._letters.put(message, reason)


async def _read_offsets(clickhouse: ClickHouse) -> dict[tuple[str, int], int]:
    rows = await clickhouse.query(
        "SELECT topic, partition, max(last_offset) FROM sink_batches GROUP BY topic, partition"
    )
    return {(topic, partition): offset for topic, partition, offset in rows}


class _UntilNow:
    """A pump's target that knows when everything is stored that was in the log at its claim. Any:
    its sink may be that of any table.
    """

    def __init__(self, sink: RowSink[Any], source: LogSource, partitions: int) -> None:
        self._sink = sink
        self._source = source
        self._missing = set(range(partitions))
        self._ends: dict[int, int] = {}
        # The first offset that the log still has, by partition.
        self.starts: dict[int, int] = {}
        self.is_done = asyncio.Event()

    async def claim(self, topic: str, partitions: Sequence[int]) -> Mapping[int, Claim]:
        claims = await self._sink.claim(topic, partitions)
        for partition, claim in claims.items():
            start, end = await self._source.bounds(partition)
            self.starts.setdefault(partition, start)
            self._ends.setdefault(partition, end)
            self._note(partition, claim.next_offset)
        return claims

    async def apply(self, batch: Batch) -> None:
        await self._sink.apply(batch)
        self._note(batch.partition, batch.last_offset + 1)

    def _note(self, partition: int, next_offset: int) -> None:
        if next_offset >= self._ends[partition]:
            self._missing.discard(partition)
        if not self._missing:
            self.is_done.set()


async def rebuild(
    clickhouse: ClickHouse,
    source: LogSource,
    *,
    ledger_source: LogSource,
    dead_letters: DeadLetterQueue,
    topic: Topic = USAGE,
) -> RebuildReport:
    """Rebuilds the log of an opened store. Raises what the pump raises, having replaced nothing."""
    await migrate(clickhouse)
    letters = PutAsideBefore(dead_letters, await _read_offsets(clickhouse))
    for table in _TABLES:
        await clickhouse.command(f"DROP TABLE IF EXISTS {table}{_SUFFIX} SYNC")
        await clickhouse.command(f"CREATE TABLE {table}{_SUFFIX} AS {table}")
    requests = RowSink(
        ClickHouseSinkStore(clickhouse, REQUESTS, suffix=_SUFFIX),
        decode=row_from_message,
        dead_letters=letters,
        log_bounds=source.bounds,
        on_rows=lambda _rows: None,
    )
    ledger = RowSink(
        ClickHouseSinkStore(clickhouse, LEDGER_TRANSACTIONS, suffix=_SUFFIX),
        decode=ledger_row_from_message,
        dead_letters=letters,
        log_bounds=ledger_source.bounds,
        on_rows=lambda _rows: None,
    )
    starts = await _derive(requests, source, topic)
    carried_over = await _carry_over(clickhouse, REQUESTS, topic=topic, starts=starts)
    starts = await _derive(ledger, ledger_source, LEDGER)
    carried_over += await _carry_over(clickhouse, LEDGER_TRANSACTIONS, topic=LEDGER, starts=starts)
    before, after = [await _sums(clickhouse, suffix) for suffix in ("", _SUFFIX)]
    for table in _TABLES:
        await clickhouse.command(f"EXCHANGE TABLES {table} AND {table}{_SUFFIX}")
    # No day's figures hold any more: the rows that they stand on are others.
    await clickhouse.command(
        "INSERT INTO day_marks SELECT DISTINCT toDate(received_at), 1 FROM requests"
    )
    return RebuildReport(
        requests_before=before[0],
        requests_after=after[0],
        cost_nanousd_before=before[1],
        cost_nanousd_after=after[1],
        carried_over=carried_over,
        undecodable=letters.count,
        transactions_before=before[2],
        transactions_after=after[2],
        wallets_nanousd_before=before[3],
        wallets_nanousd_after=after[3],
    )


async def _derive(sink: RowSink[Any], source: LogSource, topic: Topic) -> Mapping[int, int]:
    """Reads the topic to where it ended when the reading began; returns the first offset of each
    partition that the log still has. Any: a sink of any table.
    """
    target = _UntilNow(sink, source, topic.partitions)
    pump = Pump(topic=topic, group="", target=target, source=source, batch_max=10_000)
    await _pump_until_done(pump, target)
    # Whatever becomes of the rows before the service is started again.
    for _ in range(2):
        await sink.note_complete()
    return target.starts


async def _sums(clickhouse: ClickHouse, suffix: str) -> tuple[int, int, int, int]:
    """Requests and their cost, transactions and what they changed the wallets by."""
    found: list[int] = []
    for table, column in (
        ("requests", "cost_nanousd"),
        ("ledger_transactions", "wallet_nanousd"),
    ):
        rows = await clickhouse.query(
            f"SELECT count(), sum({column}) FROM {table}{suffix} FINAL"  # noqa: S608 - our own names
        )
        found += rows[0]
    return found[0], found[1], found[2], found[3]


async def _pump_until_done(pump: Pump, target: _UntilNow) -> None:
    pumping = asyncio.create_task(pump.run())
    done = asyncio.create_task(target.is_done.wait())
    try:
        await asyncio.wait([pumping, done], return_when=asyncio.FIRST_COMPLETED)
        if pumping.done():
            pumping.result()
    finally:
        for task in (pumping, done):
            task.cancel()
        await asyncio.gather(pumping, done, return_exceptions=True)


async def _carry_over(
    clickhouse: ClickHouse, table: RowTable[Any], *, topic: Topic, starts: Mapping[int, int]
) -> int:
    """Copies the rows whose events are no longer in the log; returns how many there were. Any: a
    table of any rows.
    """
    columns = ", ".join((*table.columns, "stored_at"))
    # Parameters of the statement: a partition and the first offset that it still has.
    older = (
        "log_topic = {topic:String} AND log_partition = {partition:Int32}"
        " AND log_offset < {start:Int64}"
    )
    count = 0
    for partition, start in starts.items():
        parameters = {"topic": topic.name, "partition": partition, "start": start}
        rows = await clickhouse.query(
            f"SELECT count() FROM {table.name} WHERE {older}",  # noqa: S608 - our own names
            parameters,
        )
        count += int(rows[0][0])
        await clickhouse.command(
            f"INSERT INTO {table.name}{_SUFFIX} ({columns})"  # noqa: S608 - our own names
            f" SELECT {columns} FROM {table.name} WHERE {older}"
            " SETTINGS max_partitions_per_insert_block = 0",
            parameters,
        )
    return count


async def main() -> int:
    """Rebuilds the log that the environment names and prints what changed as JSON."""
    settings = load_settings(UsageSettings)
    configure_logging("usage", settings)
    clickhouse = store_of(settings)
    producer = KafkaProducer(settings.kafka_bootstrap, client_id="mesh-usage-rebuild")
    await producer.start()
    source, ledger_source = [
        KafkaSource(
            bootstrap=settings.kafka_bootstrap,
            topic=topic.name,
            group=new_id("mesh-usage-rebuild"),
        )
        for topic in (USAGE, LEDGER)
    ]
    try:
        await clickhouse.open()
        report = await rebuild(
            clickhouse,
            source,
            ledger_source=ledger_source,
            dead_letters=letters_of(settings, producer),
        )
    finally:
        await producer.stop()
        await clickhouse.close()
    print(json.dumps(asdict(report)))
    return 0


if __name__ == "__main__":
    run(main())
