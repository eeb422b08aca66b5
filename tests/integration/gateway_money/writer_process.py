"""A worker in a process of its own, to be killed: it says on stdout what it has been promised.

`A <usage id>` after a request was admitted, `R <usage id> <cost>` after its event was on disk.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from services.common.clock import SystemClock
from services.common.ids import WorkerId
from services.common.kafka.memory import MemoryLog, MemoryProducer
from services.gateway.adapters.grants_memory import MemoryGrants
from services.gateway.journal.limits import JournalLimits
from services.gateway.money import Money
from tests.unit.gateway_money.builders import ACCOUNT, admitted, event, wants

LIMITS = JournalLimits(reserve_bytes=0, segment_bytes=20_000)


def _say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


async def _request(money: Money, name: str, number: int) -> None:
    hold = await money.budget.place(wants(name, 1_000))
    money.journal.admitted(admitted(name, hold))
    _say(f"A use_{name}")
    await asyncio.sleep(0.001 * (number % 5))
    await money.journal.record(event(name, number), hold)
    _say(f"R use_{name} {number}")


async def _serve(directory: Path, life: str) -> None:
    clock = SystemClock()
    billing = MemoryGrants(clock=clock)
    billing.balances[ACCOUNT] = 10**12
    # Kafka is not reachable in this life, so that nothing is trimmed.
    producer = MemoryProducer(MemoryLog())
    money = Money.open(
        directory,
        billing=billing,
        producer=producer,
        worker_id=WorkerId("w1"),
        clock=clock,
        journal_limits=LIMITS,
    )
    await money.recover()
    _say("ready")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(money.run())
        for lane in range(8):
            tasks.create_task(_lane(money, life, lane))


async def _lane(money: Money, life: str, lane: int) -> None:
    number = 0
    while True:
        number += 1
        await _request(money, f"{life}x{lane}x{number}", number)


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), sys.argv[2]))
