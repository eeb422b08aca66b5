"""Jobs in PostgreSQL. Workers that claim at the same time pass each other by (SKIP LOCKED)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from services.common.errors import Conflict
from services.common.ids import AccountId, KeyId
from services.common.postgres import translated
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

Row = Any  # Any: asyncpg's record, whose columns are the tables'
Connection = Any  # Any: the pool's proxy has a connection's methods without being one

_INSERT_JOB = """
INSERT INTO jobs (job_id, kind, account_id, key_id, user_id, model, created_at_ms, completed_at_ms,
    expires_at_ms, keep_until_ms, metadata_json, context, background, total, completed, failed,
    open)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
RETURNING *
"""
_INSERT_ITEM = """
INSERT INTO items (job_id, number, custom_id, route, body, state, http_status, answer, request_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""
_GET = "SELECT * FROM jobs WHERE job_id = $1 AND kind = $2 AND account_id = $3 AND key_id = $4"
# Items of few runs first, then by number, so that no long batch keeps a short one waiting.
_CLAIM = """
WITH due AS (
    SELECT i.job_id, i.number FROM items i JOIN jobs j USING (job_id)
    WHERE i.state IN ('queued', 'running') AND i.due_at_ms <= $2 AND i.run < $5
    AND j.expires_at_ms > $2
    ORDER BY i.run, i.number, i.job_id LIMIT $4 FOR UPDATE OF i SKIP LOCKED
)
UPDATE items i SET state = 'running', run = run + 1, worker_id = $1,
    due_at_ms = $2::bigint + $3::bigint
FROM due, jobs j
WHERE i.job_id = due.job_id AND i.number = due.number AND j.job_id = i.job_id
RETURNING i.job_id, i.number, i.run, i.route, i.body, j.kind, j.account_id, j.key_id
"""
_LOCK_JOB = "SELECT cancelled FROM jobs WHERE job_id = $1 FOR UPDATE"
_RENEW = """
UPDATE items SET due_at_ms = $5
WHERE job_id = $1 AND number = $2 AND run = $3 AND worker_id = $4 AND state = 'running' RETURNING 1
"""
_FINISH = """
UPDATE items SET state = 'done', body = '', http_status = $5, answer = $6, request_id = $7
WHERE job_id = $1 AND number = $2 AND run = $3 AND worker_id = $4 AND state = 'running' RETURNING 1
"""
_ENDED_BY = """
SELECT 1 FROM items
WHERE job_id = $1 AND number = $2 AND run = $3 AND worker_id = $4 AND state = 'done'
"""
_PUT_BACK = """
UPDATE items SET state = 'queued', worker_id = '', due_at_ms = $5
WHERE job_id = $1 AND number = $2 AND run = $3 AND worker_id = $4 AND state = 'running' RETURNING 1
"""
_COUNT_END = """
UPDATE jobs SET completed = completed + $2, failed = failed + $3, open = open - 1,
    completed_at_ms = CASE WHEN open = 1 THEN $4::bigint ELSE 0 END
WHERE job_id = $1
"""
_END_QUEUED = """
WITH ended AS (
    UPDATE items SET state = 'cancelled', body = '' WHERE job_id = $1 AND state = 'queued'
    RETURNING 1
), counted AS (SELECT count(*)::int AS n FROM ended)
UPDATE jobs SET open = open - n, completed_at_ms = CASE WHEN open = n THEN $2::bigint ELSE 0 END
FROM counted WHERE job_id = $1 RETURNING jobs.*
"""


class PostgresJobs:
    """The `JobStore` over a pool whose migrations are applied."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def create(self, job: NewJob) -> Job:
        done = [item for item in job.items if item.done]
        well = sum(is_success(item.http_status) for item in done)
        async with self._transaction() as connection:
            if job.background:
                await self._make_room(connection, job)
            try:
                row = await connection.fetchrow(
                    _INSERT_JOB, job.job_id, job.kind, job.owner.account_id, job.owner.key_id,
                    job.user_id, job.model, job.created_at_ms,
                    0 if job.background else job.created_at_ms, job.expires_at_ms,
                    job.keep_until_ms, job.metadata_json, job.context, job.background,
                    len(job.items), well, len(done) - well, len(job.items) - len(done),
                )  # fmt: skip
            except asyncpg.UniqueViolationError as error:
                raise Conflict(f"there is a job {job.job_id!r} already") from error
            await connection.executemany(
                _INSERT_ITEM,
                [
                    (job.job_id, item.number, item.custom_id, item.route, item.body,
                     "done" if item.done else "queued", item.http_status, item.answer,
                     item.request_id)
                    for item in job.items
                ],
            )  # fmt: skip
        return _job_from(row)

    async def get(self, owner: Owner, kind: JobKind, job_id: str) -> Job:
        async with self._transaction() as connection:
            return await self._own(connection, owner, kind, job_id=job_id)

    async def page(
        self, owner: Owner, kind: JobKind, *, after: str, limit: int
    ) -> tuple[list[Job], bool]:
        async with self._transaction() as connection:
            if after:
                await self._own(connection, owner, kind, job_id=after)
            rows = await connection.fetch(
                "SELECT * FROM jobs WHERE account_id = $1 AND key_id = $2 AND kind = $3"
                " AND background AND ($4 = '' OR job_id < $4) ORDER BY job_id DESC LIMIT $5",
                owner.account_id,
                owner.key_id,
                kind,
                after,
                limit + 1,
            )
        return [_job_from(row) for row in rows[:limit]], len(rows) > limit

    async def cancel(self, owner: Owner, kind: JobKind, job_id: str, *, now_ms: int) -> Job:
        async with self._transaction() as connection:
            job = await self._own(connection, owner, kind, job_id=job_id, lock=True)
            if not job.open:
                return job
            await connection.execute("UPDATE jobs SET cancelled = true WHERE job_id = $1", job_id)
            return _job_from(await connection.fetchrow(_END_QUEUED, job_id, now_ms))

    async def items(
        self, owner: Owner, kind: JobKind, job_id: str, *, after_number: int
    ) -> tuple[list[Item], bool]:
        page: list[Item] = []
        size, more = 0, False
        async with self._transaction() as connection:
            await self._own(connection, owner, kind, job_id=job_id)
            cursor = connection.cursor(
                "SELECT * FROM items WHERE job_id = $1 AND number > $2 ORDER BY number",
                job_id,
                after_number,
                prefetch=50,
            )
            async for row in cursor:
                if page and size >= PAGE_BYTES:
                    more = True
                    break
                page.append(_item_from(row))
                size += len(row["body"]) + len(row["answer"])
        return page, more

    async def claim(self, worker_id: str, *, limit: int, now_ms: int, lease_ms: int) -> list[Work]:
        async with self._transaction() as connection:
            rows = await connection.fetch(_CLAIM, worker_id, now_ms, lease_ms, limit, RUNS_MAX)
        return [
            Work(
                Run(row["job_id"], row["number"], row["run"]),
                row["kind"],
                Owner(AccountId(row["account_id"]), KeyId(row["key_id"])),
                row["route"],
                row["body"],
            )
            for row in rows
        ]

    async def renew(
        self, worker_id: str, runs: Sequence[Run], *, now_ms: int, lease_ms: int
    ) -> list[Run]:
        held = []
        async with self._transaction() as connection:
            for run in sorted(runs, key=lambda run: (run.job_id, run.number)):
                found = await connection.fetchrow(
                    _RENEW,
                    *_ref(run, worker_id),
                    now_ms + lease_ms,
                )
                if found is not None:
                    held.append(run)
        return held

    async def finish(self, worker_id: str, run: Run, answer: Answer, *, now_ms: int) -> bool:
        async with self._transaction() as connection:
            # The job first, as those that cancel and sweep do.
            await connection.execute(_LOCK_JOB, run.job_id)
            found = await connection.fetchrow(
                _FINISH,
                *_ref(run, worker_id),
                answer.http_status,
                answer.body,
                answer.request_id,
            )
            if found is None:
                # The same run may say it twice.
                again = await connection.fetchval(_ENDED_BY, *_ref(run, worker_id))
                return again is not None
            well = is_success(answer.http_status)
            await connection.execute(_COUNT_END, run.job_id, int(well), int(not well), now_ms)
        return True

    async def put_back(self, worker_id: str, run: Run, not_before_ms: int) -> bool:
        async with self._transaction() as connection:
            job = await connection.fetchrow(_LOCK_JOB, run.job_id)
            found = await connection.fetchrow(
                _PUT_BACK,
                *_ref(run, worker_id),
                not_before_ms,
            )
            if found is None:
                return False
            if job["cancelled"]:
                await connection.fetchrow(_END_QUEUED, run.job_id, not_before_ms)
        return True

    async def sweep(self, now_ms: int) -> int:
        async with self._transaction() as connection:
            expired = await connection.fetch(
                "UPDATE jobs SET expired = true WHERE open > 0 AND expires_at_ms <= $1"
                " RETURNING job_id",
                now_ms,
            )
            for row in expired:
                await connection.execute(_END_QUEUED, row["job_id"], now_ms)
            crashed = await connection.fetch(
                "UPDATE items SET state = 'done', worker_id = '', body = '', http_status = $3"
                " WHERE state IN ('queued', 'running') AND due_at_ms <= $1 AND (run >= $2 OR job_id"
                " IN (SELECT job_id FROM jobs WHERE open > 0 AND expires_at_ms <= $1))"
                " RETURNING job_id",
                now_ms,
                RUNS_MAX,
                CRASHED_STATUS,
            )
            for row in crashed:
                await connection.execute(_COUNT_END, row["job_id"], 0, 1, now_ms)
            forgotten = await connection.fetch(
                "DELETE FROM jobs WHERE keep_until_ms <= $1 RETURNING 1", now_ms
            )
        return len(expired) + len(crashed) + len(forgotten)

    async def _make_room(self, connection: Connection, job: NewJob) -> None:
        """Two jobs that are handed in at once must not both take the last place."""
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))",
            f"{job.owner.account_id}/{job.owner.key_id}/{job.kind}",
        )
        active = await connection.fetchval(
            "SELECT count(*) FROM jobs WHERE account_id = $1 AND key_id = $2 AND kind = $3"
            " AND background AND open > 0",
            job.owner.account_id,
            job.owner.key_id,
            job.kind,
        )
        if active >= ACTIVE_MAX[job.kind]:
            raise too_many_jobs(job.kind)

    async def _own(
        self,
        connection: Connection,
        owner: Owner,
        kind: JobKind,
        *,
        job_id: str,
        lock: bool = False,
    ) -> Job:
        row = await connection.fetchrow(
            _GET + " FOR UPDATE" if lock else _GET,
            job_id,
            kind,
            owner.account_id,
            owner.key_id,
        )
        if row is None:
            raise no_such_job(kind, job_id)
        return _job_from(row)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        with translated():
            async with self._pool.acquire() as connection, connection.transaction():
                yield connection


def _ref(run: Run, worker_id: str) -> tuple[str, int, int, str]:
    return run.job_id, run.number, run.run, worker_id


def _job_from(row: Row) -> Job:
    return Job(
        job_id=row["job_id"],
        kind=row["kind"],
        owner=Owner(AccountId(row["account_id"]), KeyId(row["key_id"])),
        model=row["model"],
        created_at_ms=row["created_at_ms"],
        completed_at_ms=row["completed_at_ms"],
        expires_at_ms=row["expires_at_ms"],
        metadata_json=row["metadata_json"],
        context=row["context"],
        background=row["background"],
        total=row["total"],
        completed=row["completed"],
        failed=row["failed"],
        open=row["open"],
        cancelled=row["cancelled"],
        expired=row["expired"],
    )


def _item_from(row: Row) -> Item:
    return Item(
        number=row["number"],
        custom_id=row["custom_id"],
        route=row["route"],
        body=row["body"],
        state=row["state"],
        http_status=row["http_status"],
        answer=row["answer"],
        request_id=row["request_id"],
    )
