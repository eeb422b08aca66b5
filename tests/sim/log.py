"""The log with what brokers do: late and repeated messages, lost acknowledgements, outages,
rebalances, and owners that were taken for dead and work on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from services.common.errors import Unavailable
from services.common.kafka.memory import MemoryLog
from services.common.kafka.ports import AssignmentListener, Headers, LogMessage, Position
from services.common.topics import BALANCES, KEYS, LEDGER, TOPICS, USAGE
from tests.sim.loop import NETWORK, PROCESS, call_in, spawn
from tests.sim.world import SimClock, World

PARTITIONS = {USAGE.name: 2, KEYS.name: 1, LEDGER.name: 1, BALANCES.name: 1}
DELIVERY_TIMEOUT_S = 8.0


class SimLog(MemoryLog):
    """The production twin's storage under a coordinator of our own; `on_append` sees everything."""

    def __init__(self, world: World, on_append: Callable[[LogMessage], None]) -> None:
        topics = [replace(one, partitions=PARTITIONS.get(one.name, 1)) for one in TOPICS]
        super().__init__(topics, clock=SimClock(world))
        self.world = world
        self._on_append = on_append
        self._waiting: dict[tuple[str, int], list[asyncio.Future[None]]] = {}
        self._sources: dict[tuple[str, str], list[SimSource]] = {}
        self._rebalancing: dict[tuple[str, str], asyncio.Lock] = {}

    def append(self, topic: str, key: bytes, value: bytes | None) -> Position:
        """Writes one message and wakes who waits for that partition."""
        position = super().append(topic, key, value)
        partition = self.partitions(topic)[position.partition]
        self._on_append(partition.messages[-1])
        for future in self._waiting.pop((topic, position.partition), []):
            if not future.done():
                future.set_result(None)
        return position

    def _wake(self) -> None:
        """Waiters are woken by partition."""

    async def grown(self, topic: str, partition: int, timeout_s: float) -> None:
        """Waits for a message of that partition, or for this long."""
        future: asyncio.Future[None] = self.world.loop.create_future()
        waiting = self._waiting.setdefault((topic, partition), [])
        waiting.append(future)
        timer = self.world.loop.call_later(timeout_s, _resolve, future)
        try:
            await future
        finally:
            timer.cancel()
            if future in waiting:
                waiting.remove(future)

    def members(self, topic: str, group: str) -> list[SimSource]:
        """Who is in the group."""
        return self._sources.setdefault((topic, group), [])

    def is_away(self) -> bool:
        """True where it does not answer, asked again after a wait."""
        return not self.available

    def groups(self) -> list[list[SimSource]]:
        """The members of every group."""
        return list(self._sources.values())

    async def rebalance(self, topic: str, group: str) -> None:
        """Takes all partitions back and deals them out anew."""
        lock = self._rebalancing.setdefault((topic, group), asyncio.Lock())
        async with lock:
            members = [one for one in self.members(topic, group) if one.process.alive]
            for member in members:
                taken, member.assignment = member.assignment, frozenset()
                await _told(member, "revoked", taken)
            members = [one for one in self.members(topic, group) if one.process.alive]
            count = len(self._topics[topic])
            for number, member in enumerate(members):
                given = frozenset(range(number, count, len(members)))
                member.assignment = given
                await _told(member, "assigned", given)
            owners = [f"{one.process.name}:{sorted(one.assignment)}" for one in members]
            self.world.note(f"group {group} {' '.join(owners)}")

    def rebalance_soon(self, topic: str, group: str, delay_s: float = 0.0) -> None:
        """The coordinator's own work, in nobody's process."""
        call_in(
            NETWORK,
            self.world.loop.call_later,
            delay_s,
            lambda: spawn(NETWORK, self.rebalance(topic, group)),
        )

    def expel(self, source: SimSource) -> None:  # type: ignore[override]  # our own members
        """Takes a member for dead. It hears of that much later, and works on until then."""
        members = self.members(source.topic, source.group)
        if source in members:
            members.remove(source)
            self.world.note(f"expelled {source.process.name} from {source.group}")
            self.rebalance_soon(source.topic, source.group)
            spawn(source.process, source.hear_late(1.0 + 8 * self.world.rng.random()))


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _told(source: SimSource, news: str, partitions: frozenset[int]) -> None:
    """Waits until the member has taken the news in its own process, or is dead."""
    listener = source.listener
    # Whoever died while another was being told hears nothing more, and nobody may wait for him.
    if listener is None or not source.process.alive:
        return
    work = listener.revoked if news == "revoked" else listener.assigned
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def tell() -> None:
        try:
            await work(partitions)
        except Exception as error:  # noqa: BLE001 - no listener may ever fail
            source.world.fail("defect", f"{news} {sorted(partitions)}: {error!r}")
        finally:
            _resolve(done)

    spawn(source.process, tell())
    source.process.on_death.append(lambda: _resolve(done))
    await done


class SimSource:
    """A `LogSource` of one process."""

    def __init__(self, log: SimLog, *, topic: str, group: str) -> None:
        self._log = log
        self.world = log.world
        self.topic = topic
        self.group = group
        self.process = PROCESS.get()
        self.listener: AssignmentListener | None = None
        self.assignment: frozenset[int] = frozenset()
        self._positions: dict[int, int] = {}
        self.process.on_death.append(self._died)

    async def start(self, listener: AssignmentListener) -> None:
        """Joins the group."""
        await self._log.world.pause()
        self._log.partitions(self.topic)
        self.listener = listener
        await self._join()

    async def stop(self) -> None:
        """Leaves it."""
        self.listener = None
        self.assignment = frozenset()
        members = self._log.members(self.topic, self.group)
        if self in members:
            members.remove(self)
            self._log.rebalance_soon(self.topic, self.group)

    async def bounds(self, partition: int) -> tuple[int, int]:
        """First and next offset."""
        part = self._log.partitions(self.topic)[partition]
        return part.start, part.end

    async def seek(self, partition: int, offset: int) -> None:
        """Where to read on."""
        self._positions[partition] = offset

    async def fetch(
        self, partition: int, *, messages_max: int, timeout_s: float
    ) -> list[LogMessage]:
        """Messages, late now and then, and few at a time now and then."""
        world = self.world
        if not self._log.available:
            await asyncio.sleep(max(timeout_s, 0.1))
            if world.chance(0.3):
                raise Unavailable("the log is away")
            return []
        part = self._log.partitions(self.topic)[partition]
        position = self._positions[partition]
        if position >= part.end:
            await self._log.grown(self.topic, partition, timeout_s)
        if world.chance(world.odds.slow):
            await asyncio.sleep(3 * world.rng.random())
        if self._log.is_away():
            return []
        most = world.rng.randint(1, messages_max) if world.chance(0.3) else messages_max
        found = part.read(self._positions[partition], most)
        if found:
            self._positions[partition] = found[-1].offset + 1
        return found

    def end(self, partition: int) -> int | None:
        """The end of the log."""
        return self._log.partitions(self.topic)[partition].end if self._log.available else None

    async def commit(self, next_offsets: Mapping[int, int]) -> None:
        """Nobody ever reads it back; every commit is lost."""

    async def hear_late(self, delay_s: float) -> None:
        """The expelled member's heartbeat is answered at last: it lets go and joins again."""
        await asyncio.sleep(delay_s)
        if self.listener is not None and self not in self._log.members(self.topic, self.group):
            await self.listener.revoked(self.assignment)
            await self._join()

    async def _join(self) -> None:
        members = self._log.members(self.topic, self.group)
        # Its heartbeat and its own error may both have told it to join again.
        if self not in members:
            members.append(self)
        await asyncio.shield(spawn(NETWORK, self._log.rebalance(self.topic, self.group)))

    def _died(self) -> None:
        members = self._log.members(self.topic, self.group)
        if self in members:
            members.remove(self)
            world = self._log.world
            self._log.rebalance_soon(self.topic, self.group, 0.5 + 5 * world.rng.random())


@dataclass(slots=True)
class _Queued:
    topic: str
    key: bytes
    value: bytes | None
    future: asyncio.Future[Position]
    since_s: float


class SimProducer:
    """A `LogProducer`: messages arrive in order, once or twice, and answers may be lost."""

    def __init__(self, log: SimLog) -> None:
        self._log = log
        self._process = PROCESS.get()
        self._queue: deque[_Queued] = deque()
        self._sending = False
        self._process.on_death.append(self._died)

    @property
    def connected(self) -> bool:
        """Whether the brokers answer."""
        return self._log.available

    async def start(self) -> None:
        """Connects."""

    async def stop(self) -> None:
        """Disconnects."""

    async def send(
        self, topic: str, key: bytes, value: bytes | None, *, headers: Headers = ()
    ) -> Position:
        """Writes and waits."""
        return await (await self.enqueue(topic, key, value))

    async def enqueue(
        self, topic: str, key: bytes, value: bytes | None, *, headers: Headers = ()
    ) -> asyncio.Future[Position]:
        """Takes the message into its place in the order."""
        world = self._log.world
        world.point("produce")
        future: asyncio.Future[Position] = world.loop.create_future()
        self._queue.append(_Queued(topic, key, value, future, world.loop.time()))
        if not self._sending:
            self._sending = True
            spawn(NETWORK, self._work())
        return future

    async def _work(self) -> None:
        world = self._log.world
        while self._queue:
            await world.pause(0.002, 1.0)
            if not self._queue:
                break
            message = self._queue[0]
            if self._log.available:
                self._queue.popleft()
                self._arrive(message)
            elif world.loop.time() - message.since_s > DELIVERY_TIMEOUT_S:
                self._queue.popleft()
                _refuse(message.future, "the log did not take it in time")
            else:
                await asyncio.sleep(0.2)
        self._sending = False

    def _arrive(self, message: _Queued) -> None:
        world = self._log.world
        position = self._log.append(message.topic, message.key, message.value)
        if world.chance(world.odds.duplicate / 4):
            self._log.append(message.topic, message.key, message.value)
        lost = world.chance(world.odds.ack_lost)
        answer = world.delay_s(0.001)
        if lost:
            world.loop.call_later(answer, _refuse, message.future, "the acknowledgement was lost")
        else:
            world.loop.call_later(answer, _accept, message.future, position)

    def _died(self) -> None:
        """What was on its way may still arrive."""
        for _ in range(self._log.world.rng.randint(0, len(self._queue))):
            self._queue.pop()


def _refuse(future: asyncio.Future[Position], why: str) -> None:
    if not future.done():
        future.set_exception(Unavailable(why))
        future.exception()


def _accept(future: asyncio.Future[Position], position: Position) -> None:
    if not future.done():
        future.set_result(position)
