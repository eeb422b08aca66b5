"""Jobs in memory: the twin of the PostgreSQL store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.common.errors import Conflict
from services.jobs.domain.job import (
    ACTIVE_MAX,
    CRASHED_STATUS,
    RUNS_MAX,
    Item,
    Job,
    JobKind,
    NewJob,
    Owner,
    Run,
    Work,
    is_success,
)
from services.jobs.errors import no_such_job, too_many_jobs
from services.jobs.ports import PAGE_BYTES, Answer


@dataclass(slots=True)
class _Entry:
    item: Item
    run: int = 0
    worker_id: str = ""
    due_at_ms: int = 0


class MemoryJobs:
    """The `JobStore` of tests."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._keep_until: dict[str, int] = {}
        self._items: dict[str, list[_Entry]] = {}

    async def create(self, job: NewJob) -> Job:
        if job.job_id in self._jobs:
            raise Conflict(f"there is a job {job.job_id!r} already")
        active = [
            other
            for other in self._jobs.values()
            if (other.owner, other.kind) == (job.owner, job.kind) and other.open
        ]
        if job.background and len(active) >= ACTIVE_MAX[job.kind]:
            raise too_many_jobs(job.kind)
        done = [item for item in job.items if item.done]
        well = sum(is_success(item.http_status) for item in done)
        self._jobs[job.job_id] = Job(
            job_id=job.job_id,
            kind=job.kind,
            owner=job.owner,
            model=job.model,
            created_at_ms=job.created_at_ms,
            completed_at_ms=0 if job.background else job.created_at_ms,
            expires_at_ms=job.expires_at_ms,
            metadata_json=job.metadata_json,
            context=job.context,
            background=job.background,
            total=len(job.items),
            completed=well,
            failed=len(done) - well,
            open=len(job.items) - len(done),
        )
        self._keep_until[job.job_id] = job.keep_until_ms
        self._items[job.job_id] = [
            _Entry(
                Item(
                    item.number,
                    item.custom_id,
                    item.route,
                    item.body,
                    "done" if item.done else "queued",
                    item.http_status,
                    item.answer,
                    item.request_id,
                )
            )
            for item in job.items
        ]
        return self._jobs[job.job_id]

    async def get(self, owner: Owner, kind: JobKind, job_id: str) -> Job:
        job = self._jobs.get(job_id)
        if job is None or job.owner != owner or job.kind != kind:
            raise no_such_job(kind, job_id)
        return job

    async def page(
        self, owner: Owner, kind: JobKind, *, after: str, limit: int
    ) -> tuple[list[Job], bool]:
        if after:
            await self.get(owner, kind, after)
        found = [
            job
            for job in self._jobs.values()
            if (job.owner, job.kind) == (owner, kind)
            and job.background
            and (not after or job.job_id < after)
        ]
        found.sort(key=lambda job: job.job_id, reverse=True)
        return found[:limit], len(found) > limit

    async def cancel(self, owner: Owner, kind: JobKind, job_id: str, *, now_ms: int) -> Job:
        job = await self.get(owner, kind, job_id)
        if not job.open:
            return job
        return self._end_queued(replace(job, cancelled=True), now_ms)

    async def items(
        self, owner: Owner, kind: JobKind, job_id: str, *, after_number: int
    ) -> tuple[list[Item], bool]:
        await self.get(owner, kind, job_id)
        rest = [entry.item for entry in self._items[job_id] if entry.item.number > after_number]
        page: list[Item] = []
        size = 0
        for item in rest:
            if page and size >= PAGE_BYTES:
                break
            page.append(item)
            size += len(item.body) + len(item.answer)
        return page, len(page) < len(rest)

    async def claim(self, worker_id: str, *, limit: int, now_ms: int, lease_ms: int) -> list[Work]:
        due = [
            (entry.run, entry.item.number, job_id, entry)
            for job_id, entries in self._items.items()
            for entry in entries
            if entry.item.state in ("queued", "running")
            and entry.due_at_ms <= now_ms < self._jobs[job_id].expires_at_ms
            and entry.run < RUNS_MAX
        ]
        work = []
        for _, number, job_id, entry in sorted(due, key=lambda found: found[:3])[:limit]:
            entry.item = replace(entry.item, state="running")
            entry.run += 1
            entry.worker_id = worker_id
            entry.due_at_ms = now_ms + lease_ms
            job = self._jobs[job_id]
            run = Run(job_id, number, entry.run)
            work.append(Work(run, job.kind, job.owner, entry.item.route, entry.item.body))
        return work

    async def renew(
        self, worker_id: str, runs: Sequence[Run], *, now_ms: int, lease_ms: int
    ) -> list[Run]:
        held = []
        for run in runs:
            entry = self._held(worker_id, run)
            if entry is not None:
                entry.due_at_ms = now_ms + lease_ms
                held.append(run)
        return held

    async def finish(self, worker_id: str, run: Run, answer: Answer, *, now_ms: int) -> bool:
        entry = self._held(worker_id, run)
        if entry is None:
            # The same run may say it twice.
            return any(
                (entry.item.number, entry.item.state) == (run.number, "done")
                and (entry.worker_id, entry.run) == (worker_id, run.run)
                for entry in self._items.get(run.job_id, [])
            )
        self._end(run.job_id, entry, answer=answer, now_ms=now_ms)
        return True

    async def put_back(self, worker_id: str, run: Run, not_before_ms: int) -> bool:
        entry = self._held(worker_id, run)
        if entry is None:
            return False
        job = self._jobs[run.job_id]
        if job.cancelled:
            entry.item = replace(entry.item, state="queued")
            self._end_queued(job, not_before_ms)
            return True
        entry.item = replace(entry.item, state="queued")
        entry.worker_id, entry.due_at_ms = "", not_before_ms
        return True

    async def sweep(self, now_ms: int) -> int:
        count = 0
        for job in [*self._jobs.values()]:
            if job.open and job.expires_at_ms <= now_ms:
                self._end_queued(replace(job, expired=True), now_ms)
                count += 1
            for entry in self._items[job.job_id]:
                over = entry.run >= RUNS_MAX or job.expires_at_ms <= now_ms
                if entry.item.state in ("queued", "running") and entry.due_at_ms <= now_ms and over:
                    entry.worker_id = ""
                    self._end(
                        job.job_id, entry, answer=Answer(CRASHED_STATUS, b"", ""), now_ms=now_ms
                    )
                    count += 1
            if self._keep_until[job.job_id] <= now_ms:
                del self._jobs[job.job_id], self._items[job.job_id], self._keep_until[job.job_id]
                count += 1
        return count

    def _held(self, worker_id: str, run: Run) -> _Entry | None:
        entries = self._items.get(run.job_id, [])
        for entry in entries:
            if entry.item.number == run.number:
                same = (entry.item.state, entry.worker_id, entry.run)
                return entry if same == ("running", worker_id, run.run) else None
        return None

    def _end(self, job_id: str, entry: _Entry, *, answer: Answer, now_ms: int) -> None:
        entry.item = replace(
            entry.item,
            state="done",
            body=b"",
            http_status=answer.http_status,
            answer=answer.body,
            request_id=answer.request_id,
        )
        job = self._jobs[job_id]
        well = is_success(answer.http_status)
        self._jobs[job_id] = replace(
            job,
            completed=job.completed + well,
            failed=job.failed + (not well),
            open=job.open - 1,
            completed_at_ms=now_ms if job.open == 1 else 0,
        )

    def _end_queued(self, job: Job, now_ms: int) -> Job:
        ended = 0
        for entry in self._items[job.job_id]:
            if entry.item.state == "queued":
                entry.item = replace(entry.item, state="cancelled", body=b"")
                ended += 1
        left = job.open - ended
        changed = replace(job, open=left, completed_at_ms=0 if left else now_ms)
        self._jobs[job.job_id] = changed
        return changed
