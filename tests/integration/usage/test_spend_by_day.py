"""What requests cost by day, provider, model and key, from the log alone."""

from __future__ import annotations

from typing import Any

import pytest

from services.common.errors import InvalidArgument
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.sink_store_clickhouse import ClickHouseSinkStore
from services.usage.domain.filter import Scope
from services.usage.ports import REQUESTS
from services.usage.spend_by_day import SpendDay, spend_by_day
from tests.unit.usage.builders import row

# 2026-03-10T00:00:00Z
MIDNIGHT_MS = 1_773_100_800_000
DAY_MS = 86_400_000


async def test_a_request_counts_on_the_day_of_its_admission_and_of_its_account_alone(
    clickhouse: ClickHouse,
) -> None:
    # Any: fields of a row
    shared: dict[str, Any] = {"account_id": "acc_1", "provider_id": "far", "model_id": "a/one"}
    rows = [
        row(1, **shared, key_id="key_1", received_at_ms=MIDNIGHT_MS - 5,
            admitted_at_ms=MIDNIGHT_MS - 1, cost_nanousd=7),
        # It came before midnight and was let in after it.
        row(2, **shared, key_id="key_1", received_at_ms=MIDNIGHT_MS - 5,
            admitted_at_ms=MIDNIGHT_MS + 1, cost_nanousd=11),
        row(3, **shared, key_id="key_1", received_at_ms=MIDNIGHT_MS + 9,
            admitted_at_ms=MIDNIGHT_MS + 10, cost_nanousd=13),
        row(4, **shared, key_id="key_2", received_at_ms=MIDNIGHT_MS + 9,
            admitted_at_ms=MIDNIGHT_MS + 10, cost_nanousd=17),
        row(5, **shared, key_id="key_1", received_at_ms=MIDNIGHT_MS + 9,
            admitted_at_ms=MIDNIGHT_MS + 10, cost_nanousd=0),
        row(6, **(shared | {"account_id": "acc_2"}), key_id="key_3",
            received_at_ms=MIDNIGHT_MS + 9, admitted_at_ms=MIDNIGHT_MS + 10, cost_nanousd=19),
    ]  # fmt: skip
    await ClickHouseSinkStore(clickhouse, REQUESTS).insert_missing(rows)
    whole = {"from_ms": 0, "to_ms": MIDNIGHT_MS + DAY_MS}
    assert await spend_by_day(clickhouse, Scope("acc_1"), **whole) == [
        SpendDay("2026-03-09", "far", "a/one", "key_1", 7, 1),
        SpendDay("2026-03-10", "far", "a/one", "key_1", 24, 2),
        SpendDay("2026-03-10", "far", "a/one", "key_2", 17, 1),
    ]
    today = await spend_by_day(
        clickhouse, Scope("acc_1", "key_1"), from_ms=MIDNIGHT_MS, to_ms=MIDNIGHT_MS + DAY_MS
    )
    assert [(one.day, one.cost_nanousd) for one in today] == [("2026-03-10", 24)]
    with pytest.raises(InvalidArgument, match="from_ms"):
        await spend_by_day(clickhouse, Scope("acc_1"), from_ms=2, to_ms=1)
