"""Gives up what the event log let go before the sink had read it, so that the sink goes on.

`python -m services.usage.accept_loss [--dry-run]`. An embedded store's service is to be stopped
first; on a server it goes on by itself. What is given up is printed as JSON, by offsets; which
requests it was the comparison with the ledger tells (`mesh usage differences`).
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

from services.common.config import load_settings
from services.common.kafka import KafkaGroups
from services.common.runtime import run
from services.common.telemetry import configure_logging
from services.common.topics import LEDGER, USAGE, Topic
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.migrations import migrate
from services.usage.adapters.sink_store_clickhouse import ClickHouseSinkStore
from services.usage.bootstrap import store_of
from services.usage.config import UsageSettings
from services.usage.ports import LEDGER_TRANSACTIONS, REQUESTS, RowTable
from services.usage.sink.lost import Loss, accept


async def _accept(
    clickhouse: ClickHouse,
    bootstrap: str,
    *,
    topic: Topic,
    table: RowTable[Any],  # Any: a table of any rows.
    dry_run: bool,
) -> list[Loss]:
    bounds = await KafkaGroups(bootstrap).bounds([topic.name])

    async def bounds_of(partition: int) -> tuple[int, int]:
        return bounds[topic.name, partition]

    store = ClickHouseSinkStore(clickhouse, table)
    return await accept(store, topic, bounds_of, dry_run=dry_run)


async def main() -> int:
    """Accepts the losses of both sinks, or with `--dry-run` only tells them."""
    settings = load_settings(UsageSettings)
    configure_logging("usage", settings)
    clickhouse = store_of(settings)
    losses: list[Loss] = []
    try:
        await clickhouse.open()
        await migrate(clickhouse)
        for topic, table in ((USAGE, REQUESTS), (LEDGER, LEDGER_TRANSACTIONS)):
            losses += await _accept(
                clickhouse,
                settings.kafka_bootstrap,
                topic=topic,
                table=table,
                dry_run="--dry-run" in sys.argv[1:],
            )
    finally:
        await clickhouse.close()
    print(json.dumps({"lost": [asdict(loss) for loss in losses]}))
    return 0


if __name__ == "__main__":
    run(main())
