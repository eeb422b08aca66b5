"""ClickHouse notes an insert's token before it commits the part: a crash between the two leaves a
token without rows, and the sink must bring the rows back all the same.
"""

from __future__ import annotations

from services.common.kafka import Batch
from services.common.topics import USAGE
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.sink_store_clickhouse import ClickHouseSinkStore
from services.usage.adapters.usage_event import row_from_message
from services.usage.ports import REQUESTS
from services.usage.sink.target import RowSink
from tests.unit.usage.builders import message
from tests.unit.usage.test_sink import Letters

MESSAGES = tuple(message(offset) for offset in range(12))


async def bounds(partition: int) -> tuple[int, int]:
    return 0, len(MESSAGES)


async def read_as_a_new_process(clickhouse: ClickHouse) -> int:
    """Claims the partition and reads what is asked for; returns the offset it had to begin with."""
    sink = RowSink(
        ClickHouseSinkStore(clickhouse, REQUESTS),
        decode=row_from_message,
        dead_letters=Letters(),
        log_bounds=bounds,
        on_rows=lambda _rows: None,
    )
    claim = (await sink.claim(USAGE.name, [0]))[0]
    todo = MESSAGES[claim.next_offset :]
    if todo:
        await sink.apply(Batch(USAGE.name, 0, claim.epoch, todo))
    return claim.next_offset


async def lose_rows(clickhouse: ClickHouse) -> None:
    """Removes half the rows and leaves every token that was noted for them."""
    await clickhouse.command(
        "ALTER TABLE requests DELETE WHERE log_offset % 2 = 0 SETTINGS mutations_sync = 1"
    )


async def test_rows_whose_token_is_noted_are_brought_back_each_time_they_are_lost(
    clickhouse: ClickHouse,
) -> None:
    count = "SELECT count(), uniqExact(usage_id) FROM requests"
    assert await read_as_a_new_process(clickhouse) == 0
    whole = [(len(MESSAGES), len(MESSAGES))]
    assert await clickhouse.query(count) == whole
    # The second time the repair of the first is itself an insert that was seen before.
    for _ in range(3):
        await lose_rows(clickhouse)
        assert await clickhouse.query(count) != whole
        assert await read_as_a_new_process(clickhouse) == 0
        assert await clickhouse.query(count) == whole
    assert await read_as_a_new_process(clickhouse) == len(MESSAGES)
