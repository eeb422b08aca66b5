"""Runs items of jobs through the pipeline, a few at a time.

An item's answer is handed in before its usage event is written, and the event bills only what was
accepted: a run that another worker has taken over cannot be accepted, so that no item is billed for
two runs. A worker that dies between the two leaves a crashed event, which bills nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from services.common.clock import Clock
from services.common.errors import AppError, Unauthorized, Unavailable
from services.common.ids import RequestId, UsageId, moment_of_id, ulid_from_bytes
from services.common.telemetry import get_logger, span_from
from services.gateway.calls import ChatCall
from services.gateway.dialects.port import Dialect
from services.gateway.envelope import Ending, error_ending
from services.gateway.interrupt import Interrupt
from services.gateway.jobs.limits import RunnerLimits
from services.gateway.jobs.ports import Jobs, Work
from services.gateway.pipeline import ChatPipeline
from services.gateway.ports import KeyPrincipal
from services.gateway.usage_entry import UsageEntry

_log = get_logger(__name__)

# Refusals that time heals, and how often other failures of providers are tried again.
_WAIT_STATUSES = frozenset({429, 503})
_RETRY_STATUSES = frozenset({502, 504})
_RETRY_RUNS = 3
_WAIT_RUNS = 15
_DELAY_MAX_S = 60.0
_FINISH_TRIES = 3


class NoReply:
    """Nobody waits for the answer."""

    def announce(self, meters: object) -> None:
        """There is no head."""

    def add_headers(self, headers: object) -> None:
        """There is no head."""

    async def begin_stream(self) -> None:
        """Items do not stream."""

    async def write(self, data: bytes) -> None:
        """Items do not stream."""

    async def finish(self, ending: Ending) -> None:
        """The answer was handed in before."""


class JobRunner:
    """One worker's runner. `run` it until cancelled; then `drain`."""

    def __init__(
        self,
        jobs: Jobs,
        pipeline: ChatPipeline,
        *,
        clock: Clock,
        limits: RunnerLimits,
        dialect_for: Callable[[Work], Dialect],
    ) -> None:
        self._jobs = jobs
        self._pipeline = pipeline
        self._clock = clock
        self._limits = limits
        self._dialect_for = dialect_for
        self._running: dict[Work, tuple[asyncio.Task[None], Interrupt]] = {}
        self._away = False
        self._draining = False

    @property
    def running(self) -> int:
        """How many items are being run."""
        return len(self._running)

    async def run(self) -> None:
        """Claims and runs until cancelled; items under way go on."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep())
            while True:
                free = self._limits.parallel - len(self._running)
                if self._draining or not free or not await self._claim(free):
                    await self._clock.sleep(self._limits.poll_s)

    async def drain(self) -> None:
        """Gives up what is under way; each item is put back. The caller bounds the wait."""
        self._draining = True
        tasks = [task for task, _ in self._running.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _claim(self, free: int) -> bool:
        try:
            self._pipeline.freshness.require()
            claimed = await self._jobs.claim(free, lease_s=self._limits.lease_s)
        except AppError as error:
            if not self._away:
                _log.warning("no work can be claimed", error=error.message)
            self._away = True
            return False
        self._away = False
        for work in claimed:
            interrupt = Interrupt()
            task = asyncio.create_task(self._one(work, interrupt))
            self._running[work] = (task, interrupt)
            task.add_done_callback(partial(self._ended, work))
        return bool(claimed)

    def _ended(self, work: Work, task: asyncio.Task[None]) -> None:
        del self._running[work]
        if not task.cancelled() and task.exception() is not None:
            # The lease runs out, and another run begins.
            _log.error("an item failed inside", job_id=work.job_id, exc_info=task.exception())

    async def _keep(self) -> None:
        """Prolongs the leases; what is another worker's by now is given up."""
        while True:
            await self._clock.sleep(self._limits.lease_s / 3)
            running = list(self._running)
            if not running:
                continue
            with suppress(AppError):
                held = await self._jobs.renew(running, lease_s=self._limits.lease_s)
                for work in running:
                    if work not in held and work in self._running:
                        self._running[work][1].trigger()

    async def _one(self, work: Work, interrupt: Interrupt) -> None:
        request_id = RequestId(f"{work.job_id}:{work.number}")
        caller = self._pipeline.keys.find_key(work.key_id)
        now_ms = self._clock.now_ms()
        if caller is None or caller.account_id != work.account_id or caller.expired(now_ms):
            gone = error_ending(Unauthorized("the API key was revoked or has expired"), request_id)
            await self._finish(work, gone, request_id)
            return
        with span_from("", "job item") as trace:
            trace.set("mesh.request_id", request_id)
            call = self._call(work, caller, request_id)
            try:
                await self._pipeline.serve(call, NoReply(), interrupt=interrupt, trace=trace)
            except AppError:
                # Nothing was let in: the worker has lost touch with the log.
                with suppress(AppError):
                    await self._jobs.put_back(work, delay_s=self._limits.poll_s)

    def _call(self, work: Work, caller: KeyPrincipal, request_id: RequestId) -> ChatCall:
        async def read_body() -> bytes:
            return work.body

        return ChatCall(
            request_id=request_id,
            route=work.route,
            authorization=None,
            received_at_ms=self._clock.now_ms(),
            received_s=self._clock.monotonic_s(),
            read_body=read_body,
            dialect=self._dialect_for(work),
            principal=caller,
            usage_id=usage_id_of(work),
            seal=partial(self._seal, work),
        )

    async def _seal(self, work: Work, entry: UsageEntry, ending: Ending) -> None:
        """Hands the answer in, or has the item wait; what is not accepted is not billed."""
        delay_s = _delay_s(work, ending)
        if entry.outcome == "client_gone":
            accepted = False
        elif delay_s is not None:
            with suppress(AppError):
                await self._jobs.put_back(work, delay_s=delay_s)
            return
        else:
            accepted = await self._finish(work, ending, entry.request_id)
        if not accepted:
            entry.basis, entry.quantities = "none", {}
            entry.outcome, entry.error_code = "client_gone", "superseded"

    async def _finish(self, work: Work, ending: Ending, request_id: RequestId) -> bool:
        """False where the run is not ours any more, or nobody can say whether it is."""
        for left in reversed(range(_FINISH_TRIES)):
            try:
                return await self._jobs.finish(
                    work, http_status=ending.status, answer=ending.body, request_id=request_id
                )
            except Unavailable:
                if not left:
                    break
                await self._clock.sleep(self._limits.poll_s)
            except AppError as error:
                _log.error("an answer was not taken", job_id=work.job_id, error=error.message)
                break
        return False


def usage_id_of(work: Work) -> UsageId:
    """The same for the same run, whoever asks: its moment is the job's, the rest is a digest."""
    moment_ms = moment_of_id(work.job_id) or 0
    digest = hashlib.sha256(f"{work.job_id}/{work.number}/{work.run}".encode()).digest()
    return UsageId("use_" + ulid_from_bytes(moment_ms.to_bytes(6, "big") + digest[:10]))


def _delay_s(work: Work, ending: Ending) -> float | None:
    """How long the item is to wait for its next run; None where this answer is its last."""
    waits = ending.status in _WAIT_STATUSES and work.run < _WAIT_RUNS
    if not waits and not (ending.status in _RETRY_STATUSES and work.run < _RETRY_RUNS):
        return None
    named = [value for name, value in ending.headers if name == b"retry-after"]
    asked = float(named[0]) if named else 0.0
    return min(_DELAY_MAX_S, max(asked, 2.0 ** (work.run - 1)))
