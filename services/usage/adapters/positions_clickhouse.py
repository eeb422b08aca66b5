"""Where the sinks' positions stand: behind the newest batch of each partition."""

from __future__ import annotations

from collections.abc import Mapping

from services.usage.adapters.clickhouse import ClickHouse

_BEHIND_THE_NEWEST = """
SELECT partition, max(last_offset) + 1 FROM sink_batches WHERE topic = {topic:String}
GROUP BY partition
"""


class ClickHousePositions:
    """The `Positions` of every sink of the store; each topic has one sink."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse

    async def positions(self, topic: str) -> Mapping[int, int]:
        """See `Positions.positions`."""
        rows = await self._clickhouse.query(_BEHIND_THE_NEWEST, {"topic": topic})
        return {int(partition): int(following) for partition, following in rows}
