"""Who tails the log: each subscriber has a bounded queue, fed by the sink as rows become
durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager

from services.common.errors import RateLimitExceeded, Unavailable
from services.usage.domain.filter import RequestFilter, Scope
from services.usage.domain.row import RequestRow


class Subscription:
    """One tail. Iterating gives rows until the subscriber stops or falls too far behind."""

    def __init__(self, scope: Scope, wanted: RequestFilter, queue_max: int) -> None:
        self._scope = scope
        self._wanted = wanted
        self._queue: asyncio.Queue[RequestRow | None] = asyncio.Queue(queue_max)
        self._queue_max = queue_max
        self.is_dropped = False

    def offer(self, row: RequestRow) -> None:
        """Queues the row where it is wanted; a full queue ends the tail rather than skip rows in
        silence.
        """
        if self.is_dropped or not (self._scope.sees(row) and self._wanted.matches(row)):
            return
        try:
            self._queue.put_nowait(row)
        except asyncio.QueueFull:
            self.is_dropped = True

    def close(self) -> None:
        """Ends the tail after what is queued."""
        try:
            self._queue.put_nowait(None)
        except asyncio.QueueFull:
            self.is_dropped = True

    async def rows(self) -> AsyncIterator[RequestRow]:
        """Rows as they arrive. Raises RateLimitExceeded, after those queued, where the reader
        was too slow.
        """
        while not (self.is_dropped and self._queue.empty()):
            row = await self._queue.get()
            if row is None:
                raise Unavailable("the service is stopping; tail again")
            yield row
        raise RateLimitExceeded(
            f"this tail fell {self._queue_max} rows behind and was ended;"
            " narrow its filter or read faster"
        )


class TailHub:
    """All tails of this process, by account; at most `subscribers_max`, each with `queue_max`
    rows waiting.
    """

    def __init__(self, *, subscribers_max: int = 64, queue_max: int = 1_000) -> None:
        self._subscribers_max = subscribers_max
        self._queue_max = queue_max
        # An empty account id is an operator's tail of all accounts.
        self._by_account: dict[str, list[Subscription]] = {}

    @property
    def count(self) -> int:
        """How many tails are open."""
        return sum(len(group) for group in self._by_account.values())

    @contextmanager
    def subscribe(self, scope: Scope, wanted: RequestFilter) -> Iterator[Subscription]:
        """Opens a tail for as long as the context lasts. Raises RateLimitExceeded where there
        are too many.
        """
        if self.count >= self._subscribers_max:
            raise RateLimitExceeded(f"{self._subscribers_max} tails are open already")
        subscription = Subscription(scope, wanted, self._queue_max)
        group = self._by_account.setdefault(scope.account_id, [])
        group.append(subscription)
        try:
            yield subscription
        finally:
            group.remove(subscription)
            if not group:
                self._by_account.pop(scope.account_id, None)

    def close(self) -> None:
        """Ends all tails, because the process is stopping."""
        for group in self._by_account.values():
            for subscription in group:
                subscription.close()

    def publish(self, rows: Sequence[RequestRow]) -> None:
        """Offers rows to those who may want them."""
        if not self._by_account:
            return
        everyone = self._by_account.get("", [])
        for row in rows:
            for subscription in (*self._by_account.get(row.account_id, ()), *everyone):
                subscription.offer(row)
