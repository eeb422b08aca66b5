"""A sink that is killed at random points, and is given everything twice, stores each event once;
the figures of days are those of the rows. `KILLS=100` is for more time than continuous integration
has.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from pathlib import Path

import pytest

from tests.integration.usage.sink_process import PARTITIONS, STRETCH

KILLS = int(os.environ.get("KILLS", "6"))
MESSAGES_PER_RUN = 20 * STRETCH
BATCH_MAX = 60
COST_NANOUSD = 12_345


async def start_sink(dsn: str, count: int) -> asyncio.subprocess.Process:
    module = "tests.integration.usage.sink_process"
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, dsn, str(count), str(BATCH_MAX),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def line_of(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    # The last one catches up with all that the killed ones left.
    async with asyncio.timeout(120 + 10 * KILLS):
        return (await process.stdout.readline()).decode().strip()


@pytest.mark.timeout(120 + 30 * KILLS)
async def test_a_sink_killed_at_random_points_and_given_all_twice_stores_each_event_once(
    tmp_path: Path,
) -> None:
    dsn = f"chdb://{tmp_path}/log"
    chance = random.Random(20)
    killed_at_work = 0
    for run in range(1, KILLS + 1):
        sink = await start_sink(dsn, run * MESSAGES_PER_RUN)
        assert await line_of(sink) == "applying"
        # The delay is what makes the point of death random; there is nothing to wait for.
        await asyncio.sleep(chance.uniform(0, 0.25))
        killed_at_work += sink.returncode is None
        if sink.returncode is None:
            sink.kill()
        await sink.wait()
    # Most of them must have died in the middle, or the test shows nothing.
    assert killed_at_work >= KILLS * 3 // 4
    last = await start_sink(dsn, KILLS * MESSAGES_PER_RUN)
    assert await line_of(last) == "applying"
    figures = json.loads(await line_of(last))
    assert await last.wait() == 0
    # Every second stretch of a partition is the one before once more.
    stretches = KILLS * MESSAGES_PER_RUN // PARTITIONS // STRETCH
    events = PARTITIONS * STRETCH * (stretches - stretches // 2)
    assert figures == {
        "rows": events,
        "distinct": events,
        "cost": events * COST_NANOUSD,
        "in_days": events,
        "cost_of_days": events * COST_NANOUSD,
    }
