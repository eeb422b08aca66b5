"""Prints the request log of a stopped stack as JSON, one request a line.

`python -m tests.chaos.log_rows chdb:///path`: in a process of its own, because a process can open
one embedded store in its life.
"""

from __future__ import annotations

import asyncio
import json
import sys

from services.common.topics import USAGE
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.config import UsageSettings

COLUMNS = {
    "usage_id": "usage_id",
    "request_id": "request_id",
    "account_id": "account_id",
    "model_id": "model_id",
    "outcome": "outcome",
    "status": "http_status",
    "usage_basis": "usage_basis",
    "prompt": "prompt_tokens",
    "completion": "completion_tokens",
    "cost_nanousd": "cost_nanousd",
    "hour": "ifNull(intDiv(toUnixTimestamp(admitted_at), 3600), 0)",
}
_SQL = f"SELECT {', '.join(COLUMNS.values())} FROM requests FINAL"
_BATCHES = f"""
SELECT partition, max(last_offset) FROM sink_batches WHERE topic = '{USAGE.name}' GROUP BY partition
"""


async def main(dsn: str) -> None:
    """First the position of the sink by partition, then the rows."""
    default = UsageSettings.model_fields["clickhouse_database"].default
    clickhouse = ClickHouse(dsn, database=default, read_timeout_s=120)
    await clickhouse.open()
    batches = await clickhouse.query(_BATCHES)
    print(json.dumps({str(partition): last + 1 for partition, last in batches}))
    for row in await clickhouse.query(_SQL):
        print(json.dumps(dict(zip(COLUMNS, row, strict=True))))
    await clickhouse.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
