"""Where the sink goes on in a partition, told from what its store holds of the newest batch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from services.usage.ports import Bounds, Row, SinkStore

# The first offset that a partition still has, and the one after its last.
LogBounds = Callable[[int], Awaitable[tuple[int, int]]]


async def newest_batch(store: SinkStore[Row], topic: str, partition: int) -> Bounds | None:
    """The batch that was recorded last, with `is_complete` as the store says now; None where the
    partition was never read.

    A batch that was noted to be complete stays so, whatever is missing of it later: retention drops
    rows, and of two with one key only one is kept.
    """
    bounds = await store.last_batch(topic, partition)
    if bounds is None or bounds.is_complete:
        return bounds
    stored = await store.stored_count(bounds)
    return replace(bounds, is_complete=stored == bounds.row_count)


def next_offset(bounds: Bounds) -> int:
    """The first offset that is to be read: behind the batch, or its first again."""
    return bounds.last_offset + 1 if bounds.is_complete else bounds.first_offset
