"""Billing's database and ClickHouse: the production twins, with time, failures and lost answers.

A unit of work is the twin's own; here is what a database adds: transactions wait for one another,
a commit may fail or succeed without an answer, and the locks of a dead client are let go.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from services.billing.adapters.ledger_memory import (
    LedgerTables,
    MemoryLedger,
    OutboxRow,
    _MemoryUnit,
)
from services.billing.domain.state import Grant
from services.billing.ports import LedgerUnit
from services.common.errors import Unavailable
from services.common.kafka import Batch, Claim, LogMessage
from services.usage.adapters.sink_store_memory import MemorySinkStore
from services.usage.domain.row import RequestRow
from services.usage.ports import REQUESTS, Bounds
from tests.sim.log import SimLog, SimProducer
from tests.sim.loop import PROCESS, Process
from tests.sim.world import World

Advance = tuple[str, int, int]


class WatchedUnit(_MemoryUnit):
    """The twin's unit, which remembers whose cursor it moved and by which epoch."""

    def __init__(self, tables: LedgerTables, log: SimLog) -> None:
        super().__init__(tables)
        # Where a mutant publishes to, past the outbox.
        self.log = log
        self.advanced: list[Advance] = []

    async def advance(self, batch: Batch) -> Sequence[LogMessage]:
        messages = await super().advance(batch)
        if messages:
            self.advanced.append((batch.topic, batch.partition, batch.epoch))
        return messages


class SimLedger(MemoryLedger):
    """The twin as a server that many processes use at once."""

    def __init__(
        self,
        world: World,
        log: SimLog,
        *,
        on_commit: Callable[[LedgerTables, list[Advance]], None],
        on_claim: Callable[[str, int, int], None],
    ) -> None:
        super().__init__()
        self._world = world
        self._log = log
        self._on_commit = on_commit
        self._on_claim = on_claim
        self.outbox: deque[OutboxRow] = deque()
        self.relaying: Process | None = None
        self._holder: object | None = None
        self._queue: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def unit(self) -> AsyncIterator[LedgerUnit]:
        """One transaction. Raises Unavailable: nothing was written, or nobody knows."""
        world = self._world
        await self._reach()
        holder = object()
        await self._take(holder)
        try:
            tables = self.tables.copy()
            unit = WatchedUnit(tables, self._log)
            yield unit
            world.point("before the commit")
            await world.pause(0.001, 3.0)
            self._check()
            if world.chance(world.odds.store_fails):
                raise Unavailable("the transaction was rolled back")
            self._commit(tables, unit.advanced)
            world.point("after the commit")
        finally:
            self._let_go(holder)
        await self._answer()

    async def claim(self, topic: str, partitions: Sequence[int]) -> Mapping[int, Claim]:
        """Takes over partitions."""
        await self._reach()
        holder = object()
        await self._take(holder)
        try:
            claims = await super().claim(topic, partitions)
        finally:
            self._let_go(holder)
        for partition, claim in claims.items():
            self._on_claim(topic, partition, claim.epoch)
        self._world.point("after the claim")
        await self._answer()
        return claims

    async def lapsed_grants(self, expired_before_ms: int, limit: int) -> list[Grant]:
        """In an order that does not depend on how ids are hashed."""
        await self._reach()
        found = await super().lapsed_grants(expired_before_ms, 1_000_000)
        return sorted(found, key=lambda grant: (grant.expires_at_ms, grant.grant_id))[:limit]

    async def unresolved_grants(self, expired_before_ms: int, limit: int) -> list[Grant]:
        """As above."""
        await self._reach()
        found = await super().unresolved_grants(expired_before_ms, 1_000_000)
        return sorted(found, key=lambda grant: (grant.expires_at_ms, grant.grant_id))[:limit]

    def _commit(self, tables: LedgerTables, advanced: list[Advance]) -> None:
        self.tables = tables
        self._on_commit(tables, advanced)
        self.outbox.extend(tables.outbox)
        tables.outbox.clear()

    async def _reach(self) -> None:
        self._world.point("asking the ledger")
        await self._world.pause(0.001)
        self._check()

    async def _answer(self) -> None:
        await self._world.pause(0.001)
        if self._world.chance(self._world.odds.answer_lost):
            raise Unavailable("the connection was lost")

    async def _take(self, holder: object) -> None:
        process = PROCESS.get()
        process.on_death.append(lambda: self._let_go(holder))
        while self._holder is not None:
            turn: asyncio.Future[None] = self._world.loop.create_future()
            self._queue.append(turn)
            await turn
        self._holder = holder

    def _let_go(self, holder: object) -> None:
        if self._holder is holder:
            self._holder = None
            waiting, self._queue = self._queue, deque()
            for turn in waiting:
                if not turn.done():
                    turn.set_result(None)


class SimRelay:
    """Carries committed outbox rows to the log, in order, at least once; one relay at a time."""

    def __init__(self, world: World, ledger: SimLedger, producer: SimProducer) -> None:
        self._world = world
        self._ledger = ledger
        self._producer = producer

    async def run(self) -> None:
        """Relays until cancelled."""
        me = PROCESS.get()
        while True:
            owner = self._ledger.relaying
            if owner is not me and owner is not None and owner.alive:
                await asyncio.sleep(0.5)
                continue
            self._ledger.relaying = me
            rows = list(self._ledger.outbox)[: self._world.rng.randint(1, 50)]
            if not rows:
                await asyncio.sleep(0.1)
                continue
            futures = [
                await self._producer.enqueue(topic.name, key.encode(), value)
                for topic, key, value in rows
            ]
            try:
                for future in futures:
                    await future
            except Unavailable:
                continue
            self._world.point("relayed")
            for _ in rows:
                self._ledger.outbox.popleft()


class SimSinkStore(MemorySinkStore[RequestRow]):
    """ClickHouse's twin: inserts cut between parts, lost answers; `on_part` sees each part."""

    def __init__(self, world: World, on_part: Callable[[list[RequestRow], bool], None]) -> None:
        super().__init__(REQUESTS)
        self._world = world
        self._on_part = on_part
        self._by_token = False
        self.recorded: list[Bounds] = []
        self.available = True

    async def claim(self, topic: str, partition: int) -> int:
        await self._reach()
        return await super().claim(topic, partition)

    async def epoch(self, topic: str, partition: int) -> int:
        await self._reach()
        return await super().epoch(topic, partition)

    async def last_batch(self, topic: str, partition: int) -> Bounds | None:
        await self._reach()
        return await super().last_batch(topic, partition)

    async def record(self, bounds: Bounds, epoch: int) -> None:
        await self._reach()
        await super().record(bounds, epoch)
        self.recorded.append(bounds)
        self._world.point("bounds recorded")
        await self._answer()

    async def insert(self, bounds: Bounds, rows: Sequence[RequestRow]) -> None:
        await self._reach()
        self._by_token = True
        try:
            await super().insert(bounds, rows)
        finally:
            self._by_token = False
        await self._answer()

    async def insert_missing(self, rows: Sequence[RequestRow]) -> None:
        await self._reach()
        await super().insert_missing(rows)
        await self._answer()

    async def stored_count(self, bounds: Bounds) -> int:
        await self._reach()
        return await super().stored_count(bounds)

    async def stored_ids(self, rows: Sequence[RequestRow]) -> set[str]:
        await self._reach()
        return await super().stored_ids(rows)

    def note_token(self, token: str, month: str) -> None:
        self._may_fail("before the token")
        super().note_token(token, month)
        self._may_fail("after the token")

    def write_part(self, rows: list[RequestRow]) -> None:
        super().write_part(rows)
        self._on_part(rows, self._by_token)
        self._may_fail("after the part")

    def _may_fail(self, where: str) -> None:
        self._world.point(where)
        if self._world.chance(self._world.odds.store_fails):
            raise Unavailable(f"the insert broke off {where}")

    async def _reach(self) -> None:
        self._world.point("asking the log store")
        await self._world.pause(0.002)
        if not self.available:
            raise Unavailable("the log store is away")

    async def _answer(self) -> None:
        await self._world.pause(0.001)
        if self._world.chance(self._world.odds.answer_lost):
            raise Unavailable("the connection was lost")
