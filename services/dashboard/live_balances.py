"""Newest balances as they change: fed by the compacted topic, read by the pages that are open.

A page that is slow skips what it missed: only the newest balance counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from services.common.events import EventRecord, UndecodableEvent
from services.common.pb.mesh.events.v1 import ledger_pb2

WATCHERS_MAX = 10_000


class LiveBalances:
    """The newest balance of each account that somebody looks at."""

    def __init__(self) -> None:
        self._watchers: dict[str, set[asyncio.Queue[ledger_pb2.BalanceState]]] = {}
        self._count = 0

    def apply(self, account_id: str, value: bytes | None) -> None:
        """Takes one message of `mesh.balances.v1`. Raises UndecodableEvent."""
        watchers = self._watchers.get(account_id)
        if value is None or not watchers:
            return
        state = EventRecord.from_bytes(value).message()
        if not isinstance(state, ledger_pb2.BalanceState):
            raise UndecodableEvent(f"a {type(state).__name__} among the balances")
        for queue in watchers:
            with suppress(asyncio.QueueEmpty):
                queue.get_nowait()
            queue.put_nowait(state)

    @property
    def watchers(self) -> int:
        """How many pages watch."""
        return self._count

    @property
    def full(self) -> bool:
        """True where no more pages can watch."""
        return self._count >= WATCHERS_MAX

    @contextmanager
    def watching(self, account_id: str) -> Iterator[asyncio.Queue[ledger_pb2.BalanceState]]:
        """A queue that holds the newest balance that was not taken yet."""
        queue: asyncio.Queue[ledger_pb2.BalanceState] = asyncio.Queue(maxsize=1)
        self._watchers.setdefault(account_id, set()).add(queue)
        self._count += 1
        try:
            yield queue
        finally:
            self._count -= 1
            watchers = self._watchers[account_id]
            watchers.remove(queue)
            if not watchers:
                del self._watchers[account_id]
