"""Drops what is older than it is to be kept, a whole month at a time: never a DELETE.

`python -m services.usage.retention [--dry-run]` does so once, while an embedded store's service is
stopped; the service does so every hour. A month goes when its last day is older than the retention.
The figures of whole days and the ledger's transactions stay: spend history outlives the log.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from services.common.clock import Clock, SystemClock
from services.common.config import load_settings
from services.common.errors import Unavailable
from services.common.runtime import run
from services.common.telemetry import configure_logging, get_logger
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.migrations import migrate
from services.usage.config import UsageSettings
from services.usage.metrics import PARTITIONS_DROPPED

_EVERY_S = 3_600.0
PARTITIONS = """
SELECT DISTINCT partition FROM system.parts
WHERE database = currentDatabase() AND table = {table:String} AND active ORDER BY partition
"""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Retention:
    """`days` is how long requests are kept; 0 is for ever."""

    clickhouse: ClickHouse
    clock: Clock
    days: int

    async def run(self) -> None:
        """Drops until cancelled."""
        while True:
            try:
                await self.apply()
            except Unavailable as error:
                _log.warning("nothing is dropped", error=error.message)
            await asyncio.sleep(_EVERY_S)

    async def apply(self, *, dry_run: bool = False) -> list[str]:
        """Drops the months that are over the time and returns them as YYYYMM, oldest first."""
        if not self.days:
            return []
        rows = await self.clickhouse.query(PARTITIONS, {"table": "requests"})
        months = [month for (month,) in rows if self._is_over(month)]
        for month in [] if dry_run else months:
            await self.clickhouse.work(f"ALTER TABLE requests DROP PARTITION {int(month)}")
            PARTITIONS_DROPPED.labels("requests").inc()
            _log.info("month dropped", table="requests", month=month)
        return months

    def _is_over(self, month: str) -> bool:
        """True where every moment of the month is older than what is kept."""
        year, number = divmod(int(month), 100)
        end = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)
        now = datetime.fromtimestamp(self.clock.now_ms() / 1000, UTC)
        return end <= now - timedelta(days=self.days)


async def main() -> int:
    """Applies the retention of the environment once and prints the months as JSON."""
    settings = load_settings(UsageSettings)
    configure_logging("usage", settings)
    clickhouse = ClickHouse(
        settings.clickhouse_dsn.get_secret_value(), database=settings.clickhouse_database
    )
    try:
        await clickhouse.open()
        await migrate(clickhouse)
        retention = Retention(clickhouse, SystemClock(), settings.retention_days)
        dropped = await retention.apply(dry_run="--dry-run" in sys.argv[1:])
    finally:
        await clickhouse.close()
    print(json.dumps({"months": dropped}))
    return 0


if __name__ == "__main__":
    run(main())
