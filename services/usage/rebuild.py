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

from services.common.config import load_settings
from services.common.ids import new_id
from services.common.kafka import Batch, Claim, KafkaProducer, LogSource, Pump
from services.common.kafka.source import KafkaSource
from services.common.runtime import run
from services.common.telemetry import configure_logging
from services.common.topics import USAGE, Topic
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.migrations import migrate
from services.usage.adapters.sink_store_clickhouse import ClickHouseSinkStore
from services.usage.adapters.usage_event import row_from_message
from services.usage.bootstrap import letters_of, store_of
from services.usage.config import UsageSettings
from services.usage.domain.row import COLUMNS
from services.usage.sink.target import DeadLetterQueue, RequestLogSink

# In the order in which they change places: a position that is older than the rows only makes the
# sink read some messages again, which their sorting key absorbs.
_TABLES = ("requests", "sink_batches", "sink_claims")
_SUFFIX = "_rebuild"
_SUMS = "SELECT count(), sum(cost_nanousd) FROM {table} FINAL"


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """Requests and their cost before and after, and how many rows were carried over."""

    requests_before: int
    requests_after: int
    cost_nanousd_before: int
    cost_nanousd_after: int
    carried_over: int


class _UntilNow:
    """A pump's target that knows when everything is stored that was in the log at its claim."""

    def __init__(self, sink: RequestLogSink, source: LogSource, partitions: int) -> None:
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
    dead_letters: DeadLetterQueue,
    *,
    topic: Topic = USAGE,
) -> RebuildReport:
    """Rebuilds the log of an opened store. Raises what the pump raises, having replaced nothing."""
    await migrate(clickhouse)
    for table in _TABLES:
        await clickhouse.command(f"DROP TABLE IF EXISTS {table}{_SUFFIX} SYNC")
        await clickhouse.command(f"CREATE TABLE {table}{_SUFFIX} AS {table}")
    sink = RequestLogSink(
        ClickHouseSinkStore(clickhouse, suffix=_SUFFIX),
        decode=row_from_message,
        dead_letters=dead_letters,
        log_bounds=source.bounds,
        on_rows=lambda _rows: None,
    )
    target = _UntilNow(sink, source, topic.partitions)
    pump = Pump(topic=topic, group="", target=target, source=source, batch_max=10_000)
    await _pump_until_done(pump, target)
    carried_over = await _carry_over(clickhouse, topic, target.starts)
    before, after = [
        (await clickhouse.query(_SUMS.format(table=table)))[0]
        for table in ("requests", f"requests{_SUFFIX}")
    ]
    for table in _TABLES:
        await clickhouse.command(f"EXCHANGE TABLES {table} AND {table}{_SUFFIX}")
    return RebuildReport(before[0], after[0], before[1], after[1], carried_over)


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


async def _carry_over(clickhouse: ClickHouse, topic: Topic, starts: Mapping[int, int]) -> int:
    """Copies the rows whose events are no longer in the log; returns how many there were."""
    columns = ", ".join((*COLUMNS, "stored_at"))
    # Parameters of the statement: a partition and the first offset that it still has.
    older = (
        "log_topic = {topic:String} AND log_partition = {partition:Int32}"
        " AND log_offset < {start:Int64}"
    )
    count = 0
    for partition, start in starts.items():
        parameters = {"topic": topic.name, "partition": partition, "start": start}
        rows = await clickhouse.query(f"SELECT count() FROM requests WHERE {older}", parameters)  # noqa: S608
        count += int(rows[0][0])
        await clickhouse.command(
            f"INSERT INTO requests{_SUFFIX} ({columns})"  # noqa: S608 - our own names
            f" SELECT {columns} FROM requests WHERE {older}"
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
    source = KafkaSource(
        bootstrap=settings.kafka_bootstrap, topic=USAGE.name, group=new_id("mesh-usage-rebuild")
    )
    try:
        await clickhouse.open()
        report = await rebuild(clickhouse, source, letters_of(settings, producer))
    finally:
        await producer.stop()
        await clickhouse.close()
    print(json.dumps(asdict(report)))
    return 0


if __name__ == "__main__":
    run(main())
