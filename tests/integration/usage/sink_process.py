"""The sink in a process of its own, for tests that kill it: `python -m
tests.integration.usage.sink_process DSN COUNT BATCH_MAX`.

It reads the first COUNT events of a log that is the same in each process, in batches of random
size, and prints `applying` before its first batch and `done` when all are stored.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Mapping, Sequence

from services.common.kafka import Batch, Claim
from services.common.topics import USAGE
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.migrations import migrate
from services.usage.adapters.sink_store_clickhouse import ClickHouseSinkStore
from services.usage.adapters.usage_event import row_from_message
from services.usage.domain.row import RequestRow
from services.usage.ports import REQUESTS
from services.usage.sink.target import RowSink
from tests.unit.usage.builders import message
from tests.unit.usage.test_sink import Letters

DATABASE = "killed"
PARTITIONS = 2


async def bounds(partition: int) -> tuple[int, int]:
    """The log begins at 0; nobody asks for its end."""
    return 0, 0


async def pump(
    sink: RowSink[RequestRow], claims: Mapping[int, Claim], *, counts: Sequence[int], batch_max: int
) -> None:
    """Reads each partition to its count, the partitions at the same time."""
    chance = random.Random()

    async def carry(partition: int, claim: Claim) -> None:
        offset = claim.next_offset
        while offset < counts[partition]:
            size = min(chance.randint(1, batch_max), counts[partition] - offset)
            messages = (message(offset + n, partition=partition) for n in range(size))
            await sink.apply(Batch(USAGE.name, partition, claim.epoch, tuple(messages)))
            offset += size

    await asyncio.gather(*(carry(partition, claim) for partition, claim in claims.items()))


async def main(dsn: str, count: int, batch_max: int) -> None:
    """Stores the events and ends."""
    clickhouse = ClickHouse(dsn, database=DATABASE)
    await clickhouse.open()
    await migrate(clickhouse)
    sink = RowSink(
        ClickHouseSinkStore(clickhouse, REQUESTS),
        decode=row_from_message,
        dead_letters=Letters(),
        log_bounds=bounds,
        on_rows=lambda rows: None,
    )
    claims = await sink.claim(USAGE.name, range(PARTITIONS))
    print("applying", flush=True)
    counts = [count // PARTITIONS] * PARTITIONS
    await pump(sink, claims, counts=counts, batch_max=batch_max)
    print("done", flush=True)
    await clickhouse.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
