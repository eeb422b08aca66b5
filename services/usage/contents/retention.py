"""Drops prompts and answers that are older than they are kept, a whole day at a time, and carries
out again what was erased.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from services.common.clock import Clock
from services.common.errors import Unavailable
from services.common.telemetry import get_logger
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.contents.erasures import Erasures
from services.usage.metrics import PARTITIONS_DROPPED
from services.usage.retention import PARTITIONS

_EVERY_S = 3_600.0

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ContentRetention:
    """`days` is how long contents are kept."""

    clickhouse: ClickHouse
    clock: Clock
    erasures: Erasures
    days: int

    async def run(self) -> None:
        """Keeps house until cancelled."""
        while True:
            try:
                await self.apply()
                await self.erasures.round()
            except Unavailable as error:
                _log.warning("no content is dropped", error=error.message)
            await asyncio.sleep(_EVERY_S)

    async def apply(self) -> list[str]:
        """Drops the days that are over the time and returns them as YYYYMMDD, oldest first."""
        rows = await self.clickhouse.query(PARTITIONS, {"table": "request_contents"})
        days = [day for (day,) in rows if self._is_over(day)]
        for day in days:
            await self.clickhouse.work(f"ALTER TABLE request_contents DROP PARTITION {int(day)}")
            PARTITIONS_DROPPED.labels("request_contents").inc()
            _log.info("day dropped", table="request_contents", day=day)
        return days

    def _is_over(self, day: str) -> bool:
        """True where every moment of the day is older than what is kept."""
        end = datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC) + timedelta(days=1)
        now = datetime.fromtimestamp(self.clock.now_ms() / 1000, UTC)
        return end <= now - timedelta(days=self.days)
