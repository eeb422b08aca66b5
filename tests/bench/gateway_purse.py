"""What the money costs a request in the gateway: microseconds of one core, one JSON line a figure.

`place_settle` is the purse alone, `admit` one write(2), `record` the event from message to file
with its hold settled, without waiting for the disk; `record_durable` is the wait of one request
alone, `durable_per_s` what a worker records in a second with 64 requests at once. The baseline of
each is what the machine does without us in the same run: an await of an empty coroutine, a bare
write(2), a bare fdatasync.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from services.common.clock import SystemClock
from services.common.ids import WorkerId
from services.common.kafka.memory import MemoryLog, MemoryProducer
from services.common.pb.mesh.events.v1.usage_pb2 import UsageRecorded
from services.gateway.adapters.grants_memory import MemoryGrants
from services.gateway.journal.limits import JournalLimits
from services.gateway.money import Money
from services.gateway.ports import AdmittedRecord, HoldRequest
from tests.unit.gateway_money.builders import ACCOUNT, admitted, event, wants

T = TypeVar("T")
ROUNDS = 5_000
TAKES = 5
AT_ONCE = 64


def _say(figure: str, micros: float, baseline: str, baseline_micros: float) -> None:
    line = {
        "bench": "gateway_purse",
        "figure": figure,
        "us": round(micros, 2),
        "baseline": baseline,
        "baseline_us": round(baseline_micros, 2),
    }
    print(json.dumps(line))


async def _best(make: Callable[[int], T], work: Callable[[T], Awaitable[None]]) -> float:
    """Processor microseconds a round, of the best of a few takes, without what `make` takes."""
    best = float("inf")
    for take in range(TAKES):
        things = [make(take * ROUNDS + number) for number in range(ROUNDS)]
        start = time.process_time()
        for thing in things:
            await work(thing)
        best = min(best, time.process_time() - start)
    return best / ROUNDS * 1e6


async def _nothing(_number: int) -> None:
    return


async def _measure(directory: Path) -> None:
    clock = SystemClock()
    billing = MemoryGrants(clock=clock, lifetime_s=3_600)
    billing.balances[ACCOUNT] = 10**15
    money = Money.open(
        directory,
        billing=billing,
        producer=MemoryProducer(MemoryLog()),
        worker_id=WorkerId("bench"),
        clock=clock,
        journal_limits=JournalLimits(reserve_bytes=0),
    )
    await money.budget.place(wants("first", 10**13))
    empty = await _best(int, _nothing)
    purse = await _best(lambda n: wants(f"p{n}", 1_000), lambda wish: _purse(money, wish))
    _say("place_settle", purse, "empty await", empty)
    written = _bare_write(directory)
    admit = await _best(lambda n: admitted(f"a{n}"), lambda record: _admit(money, record))
    _say("admit", admit, "write(2)", written)
    record = await _best(lambda n: event(f"a{n}"), lambda ended: _record(money, ended))
    _say("record", record, "write(2)", written)
    synced = _bare_sync(directory)
    start = time.perf_counter()
    for number in range(200):
        await _durable(money, number)
    alone = (time.perf_counter() - start) / 200 * 1e6
    _say("record_durable", alone, "write(2) and fdatasync", synced)
    start = time.perf_counter()
    await asyncio.gather(*(_lane(money, lane) for lane in range(AT_ONCE)))
    per_s = AT_ONCE * 100 / (time.perf_counter() - start)
    line = {"bench": "gateway_purse", "figure": "durable_per_s", "value": round(per_s)}
    print(json.dumps({**line, "baseline": "one at a time", "baseline_value": round(1e6 / synced)}))
    await money.close(drained=False)


async def _purse(money: Money, wish: HoldRequest) -> None:
    hold = await money.budget.place(wish)
    money.budget.settle(hold, 0)


async def _admit(money: Money, record: AdmittedRecord) -> None:
    money.journal.admitted(record)


async def _record(money: Money, ended: UsageRecorded) -> None:
    money.journal.write(ended)


async def _durable(money: Money, number: int) -> None:
    hold = await money.budget.place(wants(f"d{number}", 1_000))
    money.journal.admitted(admitted(f"d{number}", hold))
    await money.journal.record(event(f"d{number}", 3), hold)


async def _lane(money: Money, lane: int) -> None:
    for number in range(100):
        await _durable(money, 1_000_000 * (lane + 1) + number)


def _bare_write(directory: Path) -> float:
    handle = os.open(directory / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    data = bytes(200)
    start = time.process_time()
    for _ in range(ROUNDS):
        os.write(handle, data)
    elapsed = time.process_time() - start
    os.close(handle)
    return elapsed / ROUNDS * 1e6


def _bare_sync(directory: Path) -> float:
    handle = os.open(directory / "bare", os.O_WRONLY | os.O_APPEND)
    start = time.perf_counter()
    for _ in range(200):
        os.write(handle, bytes(200))
        os.fdatasync(handle)
    elapsed = time.perf_counter() - start
    os.close(handle)
    return elapsed / 200 * 1e6


def main() -> None:
    """Measures on the disk of the temporary directory."""
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(_measure(Path(directory)))


if __name__ == "__main__":
    main()
