"""One seed of the payments' simulation, from its beginning to its rest.

`python -m tests.sim.stripe_run` is `make sim-stripe`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from deploy.local.stripe_sim.faults import FaultPlan
from deploy.local.stripe_sim.world import World as GatewayWorld
from services.billing.domain.payment_seen import CENT
from services.billing.domain.refills import RefillRules
from services.billing.payments.compare import Comparison
from tests.sim.disk import SimOs
from tests.sim.log import SimLog
from tests.sim.loop import NETWORK, Stuck, spawn
from tests.sim.patches import patched, simulated
from tests.sim.runner import run_all
from tests.sim.simulation import Target, dispose
from tests.sim.store import SimLedger
from tests.sim.stripe_audit import StripeAudit
from tests.sim.stripe_people import People
from tests.sim.stripe_town import (
    OLD_SECRET,
    SECRET,
    Courier,
    PayingBilling,
    SimInbox,
    StripeTown,
)
from tests.sim.world import World

STORM_S = 20 * 3_600.0
# Notices come up to three days late, and the gateway tries those again that were not taken.
REST_S = 8 * 86_400.0
STEPS_MAX = 4_000_000


@dataclass(frozen=True, slots=True)
class StripeResult:
    """What one seed came to; `violation` is empty where all held."""

    seed: int
    steps: int = 0
    payments: int = 0
    refills: int = 0
    reversals: int = 0
    deliveries: int = 0
    forged: int = 0
    crashes: int = 0
    digest: str = ""
    violation: str = ""
    trace: list[str] = field(default_factory=list)

    @property
    def invariant(self) -> str:
        """The name of what was violated."""
        return self.violation.partition(":")[0]


def run_stripe_seed(seed: int, mutations: Sequence[Target] = ()) -> StripeResult:
    """Runs one seed, with parts of production code replaced where that is asked for."""
    world = World(seed, steps_max=STEPS_MAX)
    run = _Run(world)
    disks = SimOs(world)
    with patched(list(mutations)), simulated(world, disks, run.defect):
        try:
            task = asyncio.Task(run.live(), loop=world.loop)
            NETWORK.tasks.append(task)
            world.on_violation = lambda: bool(task.cancel())
            world.loop.run_until_complete(task)
        except Stuck as error:
            world.fail("stuck", str(error))
        except asyncio.CancelledError:
            pass
        for failure in world.loop.failures:
            world.fail("defect", failure)
        result = run.result()
        dispose(world)
    return result


class _Run:
    """The town of one run."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.gateway = GatewayWorld(
            now_ms=world.now_ms, rng=world.rng, secret=SECRET, plan=FaultPlan.seeded(world.rng)
        )
        self.gateway.bank_delay_ms = world.rng.choice([2_000, 7_200_000, 86_400_000])
        self.audit = StripeAudit(world, self.gateway)
        ledger = SimLedger(
            world,
            cast(SimLog, None),
            on_commit=self.audit.committed,
            on_claim=lambda *_: None,
        )
        self.town = StripeTown(
            world,
            self.gateway,
            ledger,
            SimInbox(world),
            RefillRules(),
            world.rng.choice([120.0, 600.0]),
            self.defect,
            world.rng.random() < 0.3,
            [OLD_SECRET],
            [OLD_SECRET],
            asyncio.Event(),
        )
        self.gateway.tax_percent = 8
        self.hosts = [PayingBilling(self.town, f"b{n}") for n in range(2)]
        self.courier = Courier(self.town, self.hosts)
        self.people = People(self.town, self.hosts, self.courier)

    def defect(self, what: str) -> None:
        """Something broke that never may."""
        self.world.fail("defect", what)

    async def live(self) -> None:
        """Everything."""
        world = self.world
        for host in self.hosts:
            host.start()
        courier = spawn(NETWORK, self.courier.run(), "courier")
        rotation = spawn(NETWORK, self._rotate(), "rotation")
        outage = spawn(NETWORK, self._go_away(), "outage")
        await self.people.live(STORM_S)
        await asyncio.gather(rotation, outage)
        world.calm = True
        self.gateway.plan = FaultPlan()
        for process in world.processes:
            world.rearm(process)
        end_s = world.loop.time() + REST_S
        while world.loop.time() < end_s and self._unfinished():
            await self._pass_time()
        left = self._unfinished()
        courier.cancel()
        world.require("comes_to_rest", not left, lambda: "; ".join(left))
        self.audit.at_rest(self.town.ledger.tables)
        await self._compare()

    async def _rotate(self) -> None:
        """The secret of the notices is rotated: processes learn the new one as they start, one
        after the other; then the gateway signs with it; then the old one is forgotten.
        """
        rng, town = self.world.rng, self.town
        for secrets, signs_with in (
            ([SECRET, OLD_SECRET], [OLD_SECRET]),
            # The order of the two must not matter, nor that some processes know the old one alone.
            (rng.choice([[SECRET, OLD_SECRET], [OLD_SECRET, SECRET]]), [SECRET, OLD_SECRET]),
            ([SECRET], [SECRET]),
        ):
            await asyncio.sleep(rng.random() * STORM_S / 4)
            town.secrets[:], town.signs_with[:] = secrets, signs_with
            if rng.random() < 0.7:
                self.world.kill(rng.choice(self.hosts).process)
        await asyncio.sleep(rng.random() * STORM_S / 4)
        for host in self.hosts:
            self.world.kill(host.process)

    async def _go_away(self) -> None:
        """In some runs all of billing is away for longer than the gateway's keys live, or than it
        takes to give a charge up; at any moment, mostly in the middle of a charge.
        """
        rng, charged = self.world.rng, self.town.charged
        if rng.random() < 0.5:
            return
        await asyncio.sleep(rng.random() * STORM_S / 2)
        charged.clear()
        if rng.random() < 0.8:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(charged.wait(), STORM_S / 2)
        away_s = rng.choice([13.0, 26.0, 40.0]) * 3_600.0
        for host in self.hosts:
            host.go_away(away_s + rng.random() * 3_600.0)
        await asyncio.sleep(away_s + 3_600.0)

    async def _pass_time(self) -> None:
        """Half an hour, and then on to the next thing that the gateway has planned."""
        await asyncio.sleep(1_800.0)
        next_ms = self.gateway.next_at_ms()
        if next_ms is not None:
            away_s = (next_ms - self.world.now_ms()) / 1000 - 60.0
            if away_s > 3_600.0:
                self.world.loop.jump(away_s)

    async def _compare(self) -> None:
        """What the operators' own comparison says, over all of it."""
        observer = next((host.observer for host in self.hosts if host.observer), None)
        if observer is None:
            self.world.fail("comparison_sound", "no process is up")
            return
        found = await Comparison(observer).run(0, self.world.now_ms() + 86_400_000)
        moved = sum(one["amount"] for one in self.gateway.where("balance_transaction"))
        sound = (found.findings, found.repaired, found.foreign) == ([], 0, 0)
        self.world.require("comparison_sound", sound, lambda: str(found))
        same = found.moved_nanousd == moved * CENT
        self.world.require("comparison_sums", same, lambda: f"{found} {moved}")

    def _unfinished(self) -> list[str]:
        """What is still under way, or was put aside for a person, which nothing here needs."""
        tables = self.town.ledger.tables
        rows = tables.payments
        left = [f"{len(self.gateway.outgoing)} deliveries"] if self.gateway.outgoing else []
        left += [f"{len(self.gateway.later)} to come"] if self.gateway.later else []
        left += [
            f"{key} is {row.status}: {row.error}"
            for key, row in self.town.box.rows.items()
            if row.status in ("new", "failed")
        ]
        open_states = ("started", "open", "processing", "requested")
        left += [str(one) for one in rows.top_up.values() if one.status in open_states]
        left += [str(one) for one in rows.refill.values() if one.status in open_states]
        left += [str(one) for one in rows.refund.values() if one.status in open_states]
        undelivered = [key for key, taken in self.gateway.delivered.items() if not taken]
        known = self.town.box.rows
        wanted = ("payment_intent.succeeded", "refund.", "charge.dispute.", "checkout.session.")
        left += [
            f"{key} was never seen"
            for key in undelivered
            if key not in known and self.gateway.objects["event"][key]["type"].startswith(wanted)
        ]
        return left[:5]

    def result(self) -> StripeResult:
        """The figures."""
        world, rows = self.world, self.town.ledger.tables.payments
        return StripeResult(
            world.seed,
            world.loop.step,
            len(rows.payment),
            sum(one.status == "succeeded" for one in rows.refill.values()),
            len(rows.refund) + len(rows.dispute),
            self.courier.deliveries,
            self.courier.forged,
            world.crashes,
            world.digest(),
            str(world.violation or ""),
            world.trace(),
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the seeds that the command line names; one line of figures at the end."""
    parser = argparse.ArgumentParser(prog="tests.sim.stripe_run", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--first", type=int, default=1, help="from this one on")
    parser.add_argument("--seed", type=int, help="this one alone")
    asked = parser.parse_args(arguments)
    alone = asked.seed is not None
    seeds = [asked.seed] if alone else range(asked.first, asked.first + asked.seeds)
    started_s = time.monotonic()
    sums: dict[str, int] = {}
    violations = 0
    for result in run_all(run_stripe_seed, seeds):
        for name in ("payments", "refills", "reversals", "deliveries", "forged", "crashes"):
            sums[name] = sums.get(name, 0) + getattr(result, name)
        if result.violation:
            violations += 1
            lines = [
                f"seed {result.seed} at step {result.steps}: {result.violation}",
                *result.trace,
                f"again: make sim-stripe SEED={result.seed}",
            ]
            print("\n".join(lines), file=sys.stderr)
    elapsed_s = time.monotonic() - started_s
    figures = ", ".join(f"{count} {name}" for name, count in sums.items())
    print(
        f"sim-stripe: {len(seeds)} seeds, {figures}, {violations} violations"
        f" ({elapsed_s:.0f} s, {len(seeds) / elapsed_s:.1f} seeds/s)"
    )
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
