"""The processes of a run, put together from production code as their own bootstraps do it, and
started again after they die.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from services.billing.domain.grants import GrantRules
from services.billing.entrypoints.grants import GrantsServicer
from services.billing.expiry import ExpirySweeper
from services.billing.grant_desk import GrantDesk
from services.billing.settlement.keys import KeyCaps
from services.billing.settlement.settle import UsageSettlement
from services.common.errors import Unavailable
from services.common.ids import WorkerId
from services.common.kafka import DeadLetters, Pump
from services.common.topics import BILLING_DEAD, KEYS, USAGE, USAGE_DEAD
from services.gateway.adapters.grants_grpc import GrpcGrants
from services.gateway.budget.limits import BudgetLimits
from services.gateway.journal.limits import JournalLimits
from services.gateway.journal.wal import WriteAheadFile
from services.gateway.money import Money
from services.usage.adapters.usage_event import row_from_message
from services.usage.sink.target import RowSink
from tests.sim.disk import SimDisk, SimOs, SimPath
from tests.sim.log import SimLog, SimProducer, SimSource
from tests.sim.loop import Killed, Process, spawn
from tests.sim.network import Network, Replica
from tests.sim.store import SimLedger, SimRelay, SimSinkStore
from tests.sim.world import SimClock, World


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings of a run."""

    grants: GrantRules
    budget: BudgetLimits
    journal: JournalLimits
    batch_max: int


@dataclass(frozen=True, slots=True)
class Town:
    """Where the processes live: what they share and what outlives them."""

    world: World
    log: SimLog
    ledger: SimLedger
    sink_store: SimSinkStore
    network: Network
    disks: SimOs
    rules: Rules
    on_defect: Callable[[str], None]


class Host:
    """One machine with one process on it, which is started again some time after it dies."""

    def __init__(self, town: Town, name: str) -> None:
        self.town = town
        self.name = name
        self.lives = 0
        self.clock = SimClock(town.world, town.world.rng.choice([0, 0, -700, 400, 2_500]))
        self.process = self._new_process()

    def start(self) -> None:
        """The first life."""
        self._run()

    def _new_process(self) -> Process:
        self.lives += 1
        process = self.town.world.process(f"{self.name}.{self.lives}")
        process.on_death.append(self._died)
        return process

    def _died(self) -> None:
        world = self.town.world
        self.on_death()
        delay_s = 0.05 + world.rng.random() * world.rng.choice([0.5, 3.0, 20.0])
        world.loop.call_later(0.2 if world.calm else delay_s, self._restart)

    def _restart(self) -> None:
        self.process = self._new_process()
        self._run()

    def _run(self) -> None:
        self.town.world.note(f"starts {self.process.name}")
        task = spawn(self.process, self.work(), self.process.name)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            error = task.exception()
            if isinstance(error, OSError | Unavailable):
                # A worker whose disk is full at its start ends, and its supervisor tries again.
                self.town.world.kill(self.process)
            elif not isinstance(error, Killed):
                self.town.on_defect(f"{self.process.name} ended: {_causes(error)}")

    async def work(self) -> None:
        """What the process does until it dies."""
        raise NotImplementedError

    def on_death(self) -> None:
        """What its machine does when it dies."""


def _causes(error: BaseException | None) -> str:
    if isinstance(error, BaseExceptionGroup):
        return ", ".join(_causes(one) for one in error.exceptions)
    return repr(error)


class Gateway(Host):
    """A worker: purse, journal, delivery. `money` is None while it is not serving.

    `on_life` hears of each death, with what is on the disk for certain where the power went too.
    """

    def __init__(
        self, town: Town, name: str, *, on_life: Callable[[Gateway, bytes | None], None]
    ) -> None:
        self.disk = SimDisk(town.world)
        self.money: Money | None = None
        self.draining = False
        self._on_life = on_life
        super().__init__(town, name)

    async def work(self) -> None:
        town = self.town
        worker = WorkerId(self.name)
        money = Money(
            WriteAheadFile(
                # The journal uses no more of a path than this has.
                cast(Path, SimPath(self.disk)),
                town.rules.journal,
                town.disks.disk_calls(),
            ),
            billing=GrpcGrants(town.network.channel(), worker),
            producer=SimProducer(town.log),
            worker_id=worker,
            clock=self.clock,
            budget_limits=town.rules.budget,
            journal_limits=town.rules.journal,
        )
        await money.recover()
        self.money = money
        self.draining = False
        await money.run()

    def on_death(self) -> None:
        self.money = None
        power = self.town.world.chance(self.town.world.odds.power)
        certain = self.disk.certain() if power else None
        if power:
            self.town.world.note(f"{self.name} loses its power")
            self.disk.lose_power()
        self._on_life(self, certain)


class Billing(Host):
    """A replica: desk, pumps, sweeper, relay."""

    async def work(self) -> None:
        town, clock, rules = self.town, self.clock, self.town.rules
        producer = SimProducer(town.log)
        letters = DeadLetters(
            producer, consumer="billing", topic=BILLING_DEAD, limit=3, clock=clock
        )
        desk = GrantDesk(
            town.ledger,
            clock,
            rules.grants,
            linger_s=0.003,
            group_max=16,
            waiting_max=200,
            fence_s=0.5,
            fence_poll_s=0.1,
        )
        usage = Pump(
            topic=USAGE,
            group="billing-usage",
            target=UsageSettlement(town.ledger, letters, clock),
            batch_max=rules.batch_max,
            source=SimSource(town.log, topic=USAGE.name, group="billing-usage"),
        )
        keys = Pump(
            topic=KEYS,
            group="billing-keys",
            target=KeyCaps(town.ledger, letters, clock),
            source=SimSource(town.log, topic=KEYS.name, group="billing-keys"),
        )
        sweeper = ExpirySweeper(town.ledger, clock, rules.grants, every_s=2.0, batch_max=5)
        relay = SimRelay(town.world, town.ledger, producer)
        town.network.replicas.append(Replica(self.process, GrantsServicer(desk)))
        async with asyncio.TaskGroup() as tasks:
            for work in (desk.run, usage.run, keys.run, sweeper.run, relay.run):
                tasks.create_task(work())

    def on_death(self) -> None:
        network = self.town.network
        network.replicas = [one for one in network.replicas if one.process.alive]


class Sink(Host):
    """The usage service's sink."""

    async def work(self) -> None:
        town = self.town
        source = SimSource(town.log, topic=USAGE.name, group="usage-sink")
        letters = DeadLetters(
            SimProducer(town.log), consumer="usage", topic=USAGE_DEAD, limit=3, clock=self.clock
        )
        sink = RowSink(
            town.sink_store,
            decode=row_from_message,
            dead_letters=letters,
            log_bounds=source.bounds,
            on_rows=lambda rows: None,
        )
        await Pump(
            topic=USAGE,
            group="usage-sink",
            target=sink,
            batch_max=town.rules.batch_max,
            source=source,
        ).run()
