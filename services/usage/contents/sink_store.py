"""The sink's store of contents, which knows what was erased and what the log has no more.

Contents leave the store before the log of the sink's position does: by retention, and when an
account erases its own. A missing row is then no batch that was cut off, so where the log cannot
give the batch again it counts as complete.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.common.telemetry import get_logger
from services.usage.adapters.sink_store_clickhouse import ClickHouseSinkStore
from services.usage.contents.erasures import Erasures
from services.usage.domain.content_row import ContentRow
from services.usage.ports import Bounds
from services.usage.sink.position import LogBounds
from services.usage.sink.store_over import SinkStoreOver

_log = get_logger(__name__)


class ContentSinkStore(SinkStoreOver[ContentRow]):
    """A `SinkStore` of contents."""

    def __init__(
        self, store: ClickHouseSinkStore[ContentRow], erasures: Erasures, log_bounds: LogBounds
    ) -> None:
        super().__init__(store)
        self._erasures = erasures
        self._log_bounds = log_bounds

    async def last_batch(self, topic: str, partition: int) -> Bounds | None:
        """The newest bounds; None where the log begins behind them, so that it is read from its
        start.
        """
        bounds = await self._store.last_batch(topic, partition)
        if bounds is None:
            return None
        start, _ = await self._log_bounds(partition)
        if start <= bounds.last_offset + 1:
            return bounds
        _log.warning("contents lost", partition=partition, offsets=start - bounds.last_offset - 1)
        return None

    async def insert(self, bounds: Bounds, rows: Sequence[ContentRow]) -> None:
        await self._store.insert(bounds, await self._erasures.left_of(rows))

    async def insert_missing(self, rows: Sequence[ContentRow]) -> None:
        await self._store.insert_missing(await self._erasures.left_of(rows))

    async def stored_count(self, bounds: Bounds) -> int:
        start, _ = await self._log_bounds(bounds.partition)
        if start > bounds.first_offset:
            return bounds.row_count
        return await self._store.stored_count(bounds)
