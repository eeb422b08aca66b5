"""A rebuild makes the log anew from the events and keeps what only the old log still has."""

from __future__ import annotations

from services.common.kafka import Pump
from services.common.kafka.memory import MemoryLog, MemorySource
from services.common.topics import LEDGER, USAGE
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.sink_store_clickhouse import ClickHouseSinkStore
from services.usage.adapters.usage_event import row_from_message
from services.usage.ports import REQUESTS
from services.usage.rebuild import rebuild
from services.usage.sink.target import RowSink
from tests.fixtures.waiting import eventually_async, running
from tests.unit.usage.builders import message
from tests.unit.usage.test_sink import Letters

EVENTS = 120
ROWS = "SELECT * EXCEPT (stored_at) FROM request_log ORDER BY usage_id"


def write(log: MemoryLog, start: int, count: int) -> None:
    for number in range(start, start + count):
        log.append(USAGE.name, f"acc_{number % 13}".encode(), message(number).value)


def ledger_source(log: MemoryLog) -> MemorySource:
    return MemorySource(log, topic=LEDGER, group="rebuild-ledger")


async def fill(clickhouse: ClickHouse, log: MemoryLog, count: int) -> None:
    """Runs the sink until so many rows are stored."""
    source = MemorySource(log, topic=USAGE, group="log")
    sink = RowSink(
        ClickHouseSinkStore(clickhouse, REQUESTS),
        decode=row_from_message,
        dead_letters=Letters(),
        log_bounds=source.bounds,
        on_rows=lambda rows: None,
    )

    async def is_filled() -> bool:
        return await clickhouse.query("SELECT count() FROM request_log") == [(count,)]

    async with running(Pump(topic=USAGE, group="log", target=sink, source=source).run):
        await eventually_async(is_filled)


async def test_a_damaged_log_is_as_it_was_after_a_rebuild_and_goes_on(
    clickhouse: ClickHouse,
) -> None:
    log = MemoryLog()
    write(log, 0, EVENTS)
    await fill(clickhouse, log, EVENTS)
    whole = await clickhouse.query(ROWS)
    oldest = min(p for p, part in enumerate(log.partitions(USAGE.name)) if part.end > 5)
    log.remove_before(USAGE.name, oldest, 5)
    await clickhouse.command(
        "ALTER TABLE requests UPDATE cost_nanousd = 0"
        f" WHERE log_offset >= 5 OR log_partition != {oldest} SETTINGS mutations_sync = 1"
    )
    source = MemorySource(log, topic=USAGE, group="rebuild")
    report = await rebuild(
        clickhouse, source, ledger_source=ledger_source(log), dead_letters=Letters()
    )
    assert report.carried_over == 5
    assert (report.requests_before, report.requests_after) == (EVENTS, EVENTS)
    assert report.cost_nanousd_before == 5 * 12_345
    assert report.cost_nanousd_after == EVENTS * 12_345
    assert await clickhouse.query(ROWS) == whole
    write(log, EVENTS, 30)
    await fill(clickhouse, log, EVENTS + 30)
    assert await clickhouse.query("SELECT count() FROM requests") == [(EVENTS + 30,)]


async def test_a_rebuild_of_an_empty_event_log_keeps_every_row(clickhouse: ClickHouse) -> None:
    log = MemoryLog()
    write(log, 0, 20)
    await fill(clickhouse, log, 20)
    for number, partition in enumerate(log.partitions(USAGE.name)):
        log.remove_before(USAGE.name, number, partition.end)
    source = MemorySource(log, topic=USAGE, group="rebuild")
    report = await rebuild(
        clickhouse, source, ledger_source=ledger_source(log), dead_letters=Letters()
    )
    assert (report.carried_over, report.requests_after) == (20, 20)


async def test_what_was_put_aside_before_is_not_put_aside_again(clickhouse: ClickHouse) -> None:
    log = MemoryLog()
    write(log, 0, 10)
    log.append(USAGE.name, b"acc_1", b"not an event")
    write(log, 10, 10)
    await fill(clickhouse, log, 20)
    unread = log.append(USAGE.name, b"acc_1", b"nor is this")
    letters = Letters()
    report = await rebuild(
        clickhouse,
        MemorySource(log, topic=USAGE, group="rebuild"),
        ledger_source=ledger_source(log),
        dead_letters=letters,
    )
    assert (report.requests_after, report.undecodable) == (20, 2)
    assert letters.put_aside == [unread.offset]
