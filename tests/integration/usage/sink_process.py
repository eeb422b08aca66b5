"""The sink in a process of its own, for tests that kill it: `python -m
tests.integration.usage.sink_process DSN COUNT BATCH_MAX`.

It reads the first COUNT messages of a log that is the same in each process, in batches of random
size, each of which is handed over twice, while days are summed up beside it. Of the log, every
second stretch is the one before once more, as a gateway replays what it does not know to be
written. The process prints `applying` before its first batch, and when all are stored the figures
of rows and of days as JSON.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Mapping, Sequence

from services.common.clock import SystemClock
from services.common.kafka import Batch, Claim, LogMessage
from services.common.topics import USAGE
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.migrations import migrate
from services.usage.adapters.sink_store_clickhouse import ClickHouseSinkStore
from services.usage.adapters.usage_event import row_from_message
from services.usage.domain.row import RequestRow
from services.usage.ports import REQUESTS
from services.usage.rollup.days import DayRoller, valid_days
from services.usage.rollup.marks import MarkingSinkStore
from services.usage.sink.target import RowSink
from tests.unit.usage.builders import message
from tests.unit.usage.test_sink import Letters

DATABASE = "killed"
PARTITIONS = 2
STRETCH = 20
FIGURES = """
SELECT (SELECT count() FROM request_log), (SELECT uniqExact(usage_id) FROM requests),
 (SELECT sum(cost_nanousd) FROM request_log)
"""
DAYS = """
SELECT sum(requests), sum(cost_nanousd) FROM requests_daily WHERE roll IN {rolls:Array(UInt64)}
"""


async def bounds(partition: int) -> tuple[int, int]:
    """The log begins at 0; nobody asks for its end."""
    return 0, 0


def message_at(offset: int, partition: int) -> LogMessage:
    """The message at an offset: in every second stretch, an event of the stretch before."""
    stretch, place = divmod(offset, STRETCH)
    event = stretch // 2 * STRETCH + place
    return LogMessage(
        USAGE.name, partition, offset, 0, None, message(event, partition=partition).value
    )


async def pump(
    sink: RowSink[RequestRow], claims: Mapping[int, Claim], *, counts: Sequence[int], batch_max: int
) -> None:
    """Reads each partition to its count, the partitions at the same time."""
    chance = random.Random()

    async def carry(partition: int, claim: Claim) -> None:
        offset = claim.next_offset
        while offset < counts[partition]:
            size = min(chance.randint(1, batch_max), counts[partition] - offset)
            messages = tuple(message_at(offset + n, partition) for n in range(size))
            for _ in range(2):
                await sink.apply(Batch(USAGE.name, partition, claim.epoch, messages))
            offset += size

    await asyncio.gather(*(carry(partition, claim) for partition, claim in claims.items()))


async def main(dsn: str, count: int, batch_max: int) -> None:
    """Stores the events and ends."""
    clickhouse = ClickHouse(dsn, database=DATABASE)
    await clickhouse.open()
    await migrate(clickhouse)
    clock = SystemClock()
    sink = RowSink(
        MarkingSinkStore(ClickHouseSinkStore(clickhouse, REQUESTS), clickhouse, clock),
        decode=row_from_message,
        dead_letters=Letters(),
        log_bounds=bounds,
        on_rows=lambda rows: None,
    )
    claims = await sink.claim(USAGE.name, range(PARTITIONS))
    print("applying", flush=True)
    roller = DayRoller(clickhouse, clock, every_s=0.05)
    rolling = asyncio.create_task(roller.run())
    counts = [count // PARTITIONS] * PARTITIONS
    await pump(sink, claims, counts=counts, batch_max=batch_max)
    rolling.cancel()
    await asyncio.gather(rolling, return_exceptions=True)
    # What was marked last waits for a round, and is summed up in the next.
    for _ in range(2):
        await roller.round()
    rolls = list((await valid_days(clickhouse)).values())
    rows, distinct, cost = (await clickhouse.query(FIGURES))[0]
    in_days, cost_of_days = (await clickhouse.query(DAYS, {"rolls": rolls}))[0]
    figures = {
        "rows": rows,
        "distinct": distinct,
        "cost": cost,
        "in_days": in_days,
        "cost_of_days": cost_of_days,
    }
    print(json.dumps(figures), flush=True)
    await clickhouse.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
