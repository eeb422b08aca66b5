"""How long the worker may go on with what it knows when it does not hear from the log.

MESH_GATEWAY_STALE_MAX_S, 60 s unless set: long enough for a broker to be restarted, short enough
that a key revoked meanwhile does not work for long. Past it every request is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from services.common.clock import Clock
from services.common.errors import Unavailable


class TableSource(Protocol):
    """A reader of a compacted topic."""

    # Set once it was read to its end.
    ready: asyncio.Event
    # The monotonic second at which it was last known to be at its end.
    caught_up_at: float

    async def run(self) -> None:
        """Reads until cancelled."""


class LogFreshness:
    """The `Freshness` over the readers, by topic."""

    def __init__(self, tables: Mapping[str, TableSource], *, clock: Clock, limit_s: float) -> None:
        self._tables = dict(tables)
        self._clock = clock
        self._limit_s = limit_s

    def ready(self) -> bool:
        """See `ports.Freshness.ready`."""
        return all(table.ready.is_set() for table in self._tables.values())

    def parts(self) -> Mapping[str, bool]:
        """See `ports.Freshness.parts`."""
        return {name: table.ready.is_set() for name, table in self._tables.items()}

    def stale_for_s(self) -> float:
        """See `ports.Freshness.stale_for_s`."""
        oldest_s = min(table.caught_up_at for table in self._tables.values())
        return max(0.0, self._clock.monotonic_s() - oldest_s)

    def require(self) -> None:
        """See `ports.Freshness.require`."""
        if self.stale_for_s() <= self._limit_s:
            return
        if self.ready():
            raise Unavailable("this worker has lost touch with the log", retry_after_s=2)
        raise Unavailable("this worker is starting", retry_after_s=1)
