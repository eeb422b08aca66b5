"""A sink that is killed at random points stores each event once: no row is lost, none doubled."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

import pytest

from tests.integration.usage.sink_process import DATABASE

KILLS = 20
EVENTS_PER_RUN = 400
BATCH_MAX = 40

COUNT = """
import sys, clickhouse_connect
client = clickhouse_connect.get_client(dsn=sys.argv[1], database=sys.argv[2])
print(*client.query("SELECT count(), uniqExact(usage_id), sum(log_offset) FROM requests").first_row)
"""


async def start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.PIPE
    )


async def start_sink(dsn: str, count: int) -> asyncio.subprocess.Process:
    module = "tests.integration.usage.sink_process"
    return await start("-m", module, dsn, str(count), str(BATCH_MAX))


async def line_of(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(60):
        return (await process.stdout.readline()).decode().strip()


@pytest.mark.timeout(400)
async def test_a_sink_killed_at_twenty_random_points_stores_each_event_once(
    tmp_path: Path,
) -> None:
    dsn = f"chdb://{tmp_path}/log"
    chance = random.Random(20)
    killed_at_work = 0
    for run in range(1, KILLS + 1):
        sink = await start_sink(dsn, run * EVENTS_PER_RUN)
        assert await line_of(sink) == "applying"
        # The delay is what makes the point of death random; there is nothing to wait for.
        await asyncio.sleep(chance.uniform(0, 0.25))
        killed_at_work += sink.returncode is None
        if sink.returncode is None:
            sink.kill()
        await sink.wait()
    # Most of them must have died in the middle, or the test shows nothing.
    assert killed_at_work >= KILLS * 3 // 4
    events = KILLS * EVENTS_PER_RUN
    last = await start_sink(dsn, events)
    assert [await line_of(last), await line_of(last)] == ["applying", "done"]
    assert await last.wait() == 0
    counter = await start("-c", COUNT, dsn, DATABASE)
    rows, distinct, offsets = map(int, (await line_of(counter)).split())
    each = events // 2
    assert (rows, distinct, offsets) == (events, events, each * (each - 1))
