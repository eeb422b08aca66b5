"""One seed from its beginning to its rest: builds the town, lets it live and settle, checks."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from services.billing.domain.grants import GrantRules
from services.gateway.budget.limits import BudgetLimits
from services.gateway.journal.limits import JournalLimits
from tests.sim.auditor import Auditor
from tests.sim.chaos import Chaos
from tests.sim.disk import SimOs
from tests.sim.final import check_all
from tests.sim.hosts import Billing, Gateway, Host, Rules, Sink, Town
from tests.sim.log import SimLog
from tests.sim.loop import NETWORK, Stuck, spawn
from tests.sim.network import Network
from tests.sim.patches import patched, simulated
from tests.sim.store import SimLedger, SimSinkStore
from tests.sim.workers_audit import WorkerAudit
from tests.sim.workload import Workload
from tests.sim.world import World

# How long rest may take, in virtual seconds.
REST_S = 240.0
Target = tuple[Any, str, object]  # Any: modules and classes


@dataclass(frozen=True, slots=True)
class Result:
    """What one seed came to; `violation` is empty where all held."""

    seed: int
    steps: int
    requests: int
    crashes: int
    digest: str
    violation: str = ""
    trace: list[str] = field(default_factory=list)

    @property
    def invariant(self) -> str:
        """The name of what was violated."""
        return self.violation.partition(":")[0]


def run_seed(seed: int, mutations: Sequence[Target] = ()) -> Result:
    """Runs one seed, with parts of production code replaced where that is asked for."""
    world = World(seed)
    disks = SimOs(world)
    run = _Run(world, disks)
    with patched(list(mutations)), simulated(world, disks, run.defect):
        try:
            world.loop.run_until_complete(spawn_main(world, run))
        except Stuck as error:
            world.fail("stuck", str(error))
        except asyncio.CancelledError:
            pass
        for failure in world.loop.failures:
            world.fail("defect", failure)
        result = Result(
            seed,
            world.loop.step,
            run.workload.requests if run.workload else 0,
            world.crashes,
            world.digest(),
            str(world.violation or ""),
            world.trace(),
        )
        dispose(world)
    return result


def spawn_main(world: World, run: _Run) -> asyncio.Task[None]:
    """The run's own task; a violation ends it at once."""
    task = asyncio.Task(run.live(), loop=world.loop)
    NETWORK.tasks.append(task)
    world.on_violation = lambda: bool(task.cancel())
    return task


class _Run:
    """The town of one run."""

    def __init__(self, world: World, disks: SimOs) -> None:
        self.world = world
        self._disks = disks
        self.workload: Workload | None = None

    def defect(self, what: str) -> None:
        """Something broke that never may."""
        self.world.fail("defect", what)

    async def live(self) -> None:
        """Everything."""
        world, rng = self.world, self.world.rng
        rules = _rules(world)
        auditor = Auditor(world, rules.grants)
        sink_store = SimSinkStore(world, auditor.part_written)
        auditor.recorded_bounds = lambda: sink_store.recorded
        log = SimLog(world, auditor.appended)
        town = Town(
            world,
            log,
            SimLedger(world, log, on_commit=auditor.committed, on_claim=auditor.claimed),
            sink_store,
            Network(world, auditor.called, self.defect),
            self._disks,
            rules,
            self.defect,
        )
        audit = WorkerAudit(auditor)

        def life_ended(gateway: Gateway, certain: bytes | None) -> None:
            audit.life_ended(gateway.name, gateway.lives, certain)

        gateways = [Gateway(town, f"w{n}", on_life=life_ended) for n in range(rng.randint(2, 3))]
        others: list[Host] = [Billing(town, "b0"), Billing(town, "b1"), Sink(town, "s0")]
        if rng.random() < 0.3:
            others.append(Sink(town, "s1"))
            auditor.sink_is_alone = False
        for host in [*gateways, *others]:
            host.start()
        self.workload = Workload(town, audit, gateways)
        self.workload.open_accounts()
        chaos = Chaos(town, self.workload, [*gateways, *others])
        await chaos.storm()
        await chaos.calm()
        await self._rest(town, auditor, gateways)
        check_all(auditor, town.ledger.tables, sink_store.parts)

    async def _rest(self, town: Town, auditor: Auditor, gateways: list[Gateway]) -> None:
        """Waits until nothing is under way anywhere; some workers drain, others just lie idle."""
        assert self.workload is not None
        since_s = self.world.loop.time()
        drained = {g.name: g for g in gateways if self.world.rng.random() < 0.6}
        while self.world.loop.time() - since_s < REST_S:
            await asyncio.sleep(0.25)
            if self.workload.busy():
                continue
            for gateway in gateways:
                if gateway.money is not None and gateway.money.journal._owed:
                    # A worker that could not write an event owes it to its next request or start.
                    self.world.kill(gateway.process)
            for gateway in list(drained.values()):
                if gateway.money is not None:
                    del drained[gateway.name]
                    gateway.draining = True
                    spawn(gateway.process, gateway.money.drain(timeout_s=60.0))
            if drained:
                continue
            left = [loan for loan in auditor.books.loans.values() if not loan.ended]
            if left and all(loan.grant_id in auditor.books.forgotten for loan in left):
                # Nobody can say what became of these: they are written off in the end.
                self.world.loop.jump(town.rules.grants.write_off_after_ms / 1000)
                since_s = self.world.loop.time()
            if not _unfinished(town, auditor, gateways):
                return
        self.world.fail("comes_to_rest", "; ".join(_unfinished(town, auditor, gateways)))


def _unfinished(town: Town, auditor: Auditor, gateways: list[Gateway]) -> list[str]:
    """What is still under way."""
    left = []
    for gateway in gateways:
        money = gateway.money
        if money is None:
            left.append(f"{gateway.name} is down")
        elif money.wal.state.admitted or money.budget.holds:
            left.append(f"{gateway.name} has requests under way")
        elif money.budget.grants or money.budget.closer.pending:
            left.append(f"{gateway.name} has grants in its purse or on their way back")
        elif money.delivery._at < money.flusher.synced:
            left.append(f"{gateway.name} has not delivered")
    left += [
        f"{loan.grant_id} is {loan.status} and holds {loan.held}"
        for loan in auditor.books.loans.values()
        if not loan.ended
    ]
    if town.ledger.outbox:
        left.append(f"{len(town.ledger.outbox)} rows in the outbox")
    unbooked = [
        u for u, c in auditor.books.charges.items() if c[3] and u not in auditor.books.booked
    ]
    left += [f"{usage_id} is not settled" for usage_id in unbooked]
    stored = {row.usage_id for part in town.sink_store.parts for row in part}
    left += [f"{one} is not in the request log" for one in auditor.events if one not in stored]
    return left


def _rules(world: World) -> Rules:
    rng = world.rng
    ttl_ms = rng.choice([4_000, 12_000, 60_000])
    return Rules(
        GrantRules(
            ttl_ms=ttl_ms,
            grace_ms=rng.choice([1_000, 5_000]),
            share_max=rng.choice([2, 8]),
            retry_after_ms=rng.choice([50, 1_000]),
        ),
        BudgetLimits(idle_s=rng.choice([1.0, 5.0]), rpc_timeout_s=rng.choice([0.5, 2.0])),
        JournalLimits(
            total_bytes=2_000_000,
            reserve_bytes=rng.choice([500, 20_000]),
            segment_bytes=rng.choice([1_500, 6_000, 60_000]),
            read_bytes=rng.choice([500, 20_000]),
            acknowledge_s=5.0,
            backoff_max_s=2.0,
        ),
        rng.choice([3, 20, 200]),
    )


def dispose(world: World) -> None:
    """Ends every coroutine quietly; nothing of a run may outlive it."""
    world.on_violation = lambda: None
    hook = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        for process in [*world.processes, NETWORK]:
            for task in process.tasks:
                if not task.done():
                    task._log_destroy_pending = False  # type: ignore[attr-defined]  # of asyncio
                    with contextlib.suppress(BaseException):
                        work = task.get_coro()
                        if work is not None:
                            work.close()
                elif not task.cancelled():
                    task.exception()
            process.tasks.clear()
            process.on_death.clear()
        world.loop.close()
        gc.collect()
    finally:
        sys.unraisablehook = hook
