"""One chaos run: a stack with load on it, processes killed under it, and the books afterwards."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from services.common.errors import AppError
from services.common.money import nanousd_from_usd
from services.common.pb.mesh.common.v1 import common_pb2
from tests.chaos import facts, invariants
from tests.chaos.killer import Killer
from tests.chaos.quiet import Quiet
from tests.chaos.traffic import PROBE, Traffic, session
from tests.chaos.watch import Watch
from tests.e2e.market import served_everywhere
from tests.e2e.operator import Account, Operator, operator_of
from tests.e2e.stack import Stack, free_ports_from, read_env
from tests.fixtures.upstream import upstream_server
from tests.fixtures.waiting import eventually_async

WORKERS = 3
QUIET_WITHIN_S = 240.0
LOGGED_WITHIN_S = 60.0
TOP_UP_EVERY_S = 8.0
# Shorter than in production: grants lapse while their worker is away, and the end of an hour is
# sealed within the run.
ENVIRONMENT = {
    "MESH_BILLING_GRANT_TTL_S": "20",
    "MESH_BILLING_GRANT_GRACE_S": "4",
    "MESH_BILLING_SEAL_DELAY_S": "31",
    "MESH_BILLING_SEAL_EVERY_S": "10",
}
# Marks in the logs of defects that heal: an invariant that was asserted, money without a grant.
ALARMS = ("AssertionError", "usage_grant_unknown", "usage_cost_differs", "journal_damaged")


@dataclass(slots=True)
class Report:
    """The figures of a run; `violations` has one sentence for each."""

    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    quiet_s: float = 0.0
    back_within_s: float = 0.0
    requests: int = 0
    endings: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0
    logged: int = 0
    repeated: int = 0
    billed_nanousd: int = 0
    samples: int = 0
    violations: list[str] = field(default_factory=list)

    @property
    def line(self) -> str:
        """Everything in one line."""
        kills = ",".join(f"{name}:{count}" for name, count in sorted(self.kills.items()))
        endings = " ".join(f"{name}={count}" for name, count in sorted(self.endings.items()))
        return (
            f"chaos seed={self.seed} kills={self.kills.total()} ({kills}) "
            f"seconds={self.seconds:.0f} quiet_s={self.quiet_s:.1f} "
            f"back_within_s={self.back_within_s:.1f} requests={self.requests} {endings} "
            f"unanswered={self.unanswered} logged={self.logged} repeated={self.repeated} "
            f"billed_nanousd={self.billed_nanousd} samples={self.samples} "
            f"violations={len(self.violations)}"
        )


@dataclass(frozen=True, slots=True)
class Cast:
    """Who sends: an account with plenty, one with capped keys, one that is always nearly empty."""

    rich: Account
    capped: Account
    poor: Account
    capped_key: str

    @property
    def everyone(self) -> Sequence[Account]:
        return (self.rich, self.capped, self.poor)

    def keys(self) -> list[str]:
        """Plain keys; those of the rich twice, because the others are refused at times."""
        rich = list(self.rich.keys.values())
        return [*rich, *rich, *self.capped.keys.values(), *self.poor.keys.values()]


async def cast_of(operator: Operator) -> Cast:
    """Makes the accounts and keys; no process must be killed meanwhile."""
    rich = await operator.new_account("rich", nanousd=nanousd_from_usd("1000"))
    capped = await operator.new_account("capped", nanousd=nanousd_from_usd("1000"))
    poor = await operator.new_account("poor", nanousd=nanousd_from_usd("0.01"))
    for _ in range(2):
        await operator.new_key(rich)
    cap = nanousd_from_usd("0.005")
    key = await operator.new_key(capped, cap_nanousd=cap, window=common_pb2.CAP_WINDOW_LIFETIME)
    await operator.new_key(capped, cap_nanousd=4 * cap, window=common_pb2.CAP_WINDOW_DAY)
    for _ in range(2):
        await operator.new_key(poor)
    return Cast(rich, capped, poor, key)


async def top_up(operator: Operator, cast: Cast, stop: asyncio.Event) -> None:
    """Raises a cap and credits an account now and then, so that both are reached again and again.

    What was begun is ended, so that the sum of the credits is known.
    """
    cap = nanousd_from_usd("0.005")
    while not stop.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), TOP_UP_EVERY_S)
        cap += nanousd_from_usd("0.002")
        await operator.set_cap(cast.capped, cast.capped_key, cap)
        await operator.credit(cast.poor, nanousd_from_usd("0.003"))


@dataclass(slots=True)
class ChaosRun:
    """Kills `kills` processes of a stack under load. The data stays where something was wrong."""

    kills: int
    seed: int
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="mesh-chaos-")))

    async def run(self) -> Report:
        """The figures and violations; what prevents a verdict is raised, and leaves the data."""
        stack = Stack(self.folder / "data", free_ports_from(), WORKERS, dict(ENVIRONMENT))
        started = time.monotonic()
        report = Report(self.seed)
        await asyncio.to_thread(stack.start)
        try:
            async with upstream_server() as upstream, operator_of(stack) as operator:
                await operator.open_market(upstream.base_url)
                cast = await cast_of(operator)
                for key in set(cast.keys()):
                    await served_everywhere(stack, key, 200)
                traffic = Traffic(stack.demo["MESH_BASE_URL"], cast.keys(), seed=self.seed)
                await self._chaos(stack, operator, cast=cast, traffic=traffic, report=report)
                quiet = Quiet(stack, operator, cast.everyone)
                report.quiet_s = await quiet.wait(within_s=QUIET_WITHIN_S)
                ledger, log = await self._books(stack, quiet)
        finally:
            code = await asyncio.to_thread(stack.stop)
        report.violations += _of_the_stop(stack.data_dir, code)
        rows = await facts.request_log(stack.data_dir)
        report.violations += [
            *invariants.of_the_ledger(ledger, cast.everyone),
            *invariants.of_the_log(ledger, log),
            *invariants.of_the_request_log(ledger, log, rows),
            *invariants.of_the_clients(traffic.seen, rows),
        ]
        report.logged = rows.count
        report.repeated = log.usage_messages - len(log.usage)
        report.billed_nanousd = sum(bill.cost_nanousd for bill in ledger.bills.values())
        report.seconds = time.monotonic() - started
        if not report.violations:
            shutil.rmtree(self.folder)
        return report

    async def _chaos(
        self, stack: Stack, operator: Operator, *, cast: Cast, traffic: Traffic, report: Report
    ) -> None:
        probe_key = next(iter(cast.rich.keys.values()))
        stop = asyncio.Event()
        async with session() as open_session:

            async def serves() -> bool:
                seen = await traffic.send(open_session, probe_key, PROBE)
                return seen is not None and seen.ending == "complete"

            killer = Killer(stack, self.kills, random.Random(self.seed).randrange(2**32), serves)
            watch = Watch(operator, cast.everyone)
            beside = [
                asyncio.create_task(traffic.run(stop)),
                asyncio.create_task(top_up(operator, cast, stop)),
            ]
            watching = asyncio.create_task(watch.run())
            try:
                await killer.run()
            finally:
                stop.set()
                await asyncio.gather(*beside)
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
        report.kills = killer.killed
        report.back_within_s = killer.longest_s
        report.samples = watch.samples
        report.violations += watch.violations
        report.requests = len(traffic.seen) + traffic.unanswered
        report.unanswered = traffic.unanswered
        report.endings = Counter(one.ending for one in traffic.seen)

    async def _books(self, stack: Stack, quiet: Quiet) -> tuple[facts.Ledger, facts.Log]:
        """Ledger and log; by then the request log has everything, or it never will."""
        variables = read_env(stack.data_dir / "stack.env")
        log = await facts.log(variables["MESH_KAFKA_BOOTSTRAP"])
        accounts = {one.account_id for one in quiet.customers}
        ours = sum(event.account_id in accounts for event in log.usage.values())

        async def logged() -> bool:
            return await _sum_of(quiet) == ours

        with suppress(TimeoutError):
            await eventually_async(logged, timeout_s=LOGGED_WITHIN_S)
        return await facts.ledger(variables["MESH_BILLING_DSN"]), log


async def _sum_of(quiet: Quiet) -> int:
    try:
        return sum(await quiet.logged())
    except AppError:
        return -1


def _of_the_stop(data_dir: Path, code: int) -> Iterator[str]:
    """After a clean stop: exit code 0, write-ahead files empty, no alarm in any log."""
    if code != 0:
        yield f"the stack ended with code {code}"
    for index in range(WORKERS):
        left = list((data_dir / "state" / f"gateway-{index}").glob("*.wal"))
        if left:
            yield f"gateway-{index} left {[path.name for path in left]}"
    for path in sorted((data_dir / "logs").glob("*.log*")):
        text = path.read_text(errors="replace")
        for alarm in ALARMS:
            if alarm in text:
                yield f"{path.name} says {alarm} {text.count(alarm)} times"
