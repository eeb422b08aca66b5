"""What every store of jobs does: the twin in memory and PostgreSQL pass the same tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from services.common.errors import Conflict, InvalidArgument, NotFound, RateLimitExceeded
from services.common.ids import AccountId, KeyId, UserId
from services.common.postgres import migrate, open_pool
from services.jobs.adapters.store_memory import MemoryJobs
from services.jobs.adapters.store_postgres import PostgresJobs
from services.jobs.domain.job import RUNS_MAX, JobKind, NewItem, NewJob, Owner, Run
from services.jobs.ports import Answer, JobStore
from tests.fixtures.engines import PostgresServer

OWNER = Owner(AccountId("acc_1"), KeyId("key_1"))
OTHERS = Owner(AccountId("acc_1"), KeyId("key_2"))
NOW = 1_795_000_000_000
LEASE = 1_000
DAY = 86_400_000
FINE = Answer(200, b'{"ok":true}', "req_1")


@pytest.fixture(params=["memory", "postgres"])
async def store(
    request: pytest.FixtureRequest, postgres_dsn: PostgresServer
) -> AsyncIterator[JobStore]:
    if request.param == "memory":
        yield MemoryJobs()
        return
    pool = await open_pool(postgres_dsn("jobs"), size_max=4)
    try:
        await migrate(pool, "services.jobs")
        yield PostgresJobs(pool)
    finally:
        await pool.close()


def new_job(
    name: str = "1", *, items: int = 2, kind: JobKind = "batch", owner: Owner = OWNER
) -> NewJob:
    prefix = "batch_" if kind == "batch" else "resp_"
    return NewJob(
        job_id=prefix + name,
        kind=kind,
        owner=owner,
        user_id=UserId("usr_1"),
        model="v/m",
        created_at_ms=NOW,
        expires_at_ms=NOW + DAY,
        keep_until_ms=NOW + 2 * DAY,
        metadata_json='{"a":"b"}',
        context=b"context",
        items=[
            NewItem(number, "/v1/chat/completions", b"body%d" % number, f"c{number}")
            for number in range(1, items + 1)
        ],
    )


async def claim(store: JobStore, worker: str = "w1", now: int = NOW, limit: int = 10) -> list[Run]:
    work = await store.claim(worker, limit=limit, now_ms=now, lease_ms=LEASE)
    return sorted((one.run for one in work), key=lambda run: (run.job_id, run.number))


async def test_a_job_is_what_was_handed_in_and_its_keys_alone(store: JobStore) -> None:
    made = await store.create(new_job())
    assert await store.get(OWNER, "batch", "batch_1") == made
    assert (made.state, made.total, made.open, made.completed) == ("in_progress", 2, 2, 0)
    assert (made.context, made.metadata_json, made.background) == (b"context", '{"a":"b"}', True)
    for owner, kind, name in (
        (OTHERS, "batch", "batch_1"),
        (Owner(AccountId("acc_2"), OWNER.key_id), "batch", "batch_1"),
        (OWNER, "response", "batch_1"),
        (OWNER, "batch", "batch_2"),
    ):
        with pytest.raises(NotFound):
            await store.get(owner, kind, name)  # type: ignore[arg-type]  # literals in a tuple
    with pytest.raises(Conflict):
        await store.create(new_job())


async def test_items_are_claimed_once_finished_once_and_end_the_job(store: JobStore) -> None:
    await store.create(new_job())
    work = await store.claim("w1", limit=1, now_ms=NOW, lease_ms=LEASE)
    assert [(one.run, one.body, one.route, one.owner, one.kind) for one in work] == [
        (Run("batch_1", 1, 1), b"body1", "/v1/chat/completions", OWNER, "batch")
    ]
    assert await claim(store, "w2") == [Run("batch_1", 2, 1)]
    assert await claim(store, "w3") == []
    assert await store.finish("w1", Run("batch_1", 1, 1), FINE, now_ms=NOW + 5)
    assert await store.finish("w1", Run("batch_1", 1, 1), FINE, now_ms=NOW + 6)
    assert not await store.finish("w1", Run("batch_1", 2, 1), FINE, now_ms=NOW + 6)
    failed = Answer(429, b"no", "req_2")
    assert await store.finish("w2", Run("batch_1", 2, 1), failed, now_ms=NOW + 7)
    job = await store.get(OWNER, "batch", "batch_1")
    assert (job.state, job.completed, job.failed, job.open) == ("completed", 1, 1, 0)
    assert job.completed_at_ms == NOW + 7
    items, more = await store.items(OWNER, "batch", "batch_1", after_number=0)
    assert not more
    assert [(i.number, i.custom_id, i.state, i.http_status, i.answer, i.body) for i in items] == [
        (1, "c1", "done", 200, b'{"ok":true}', b""),
        (2, "c2", "done", 429, b"no", b""),
    ]
    rest, _ = await store.items(OWNER, "batch", "batch_1", after_number=1)
    assert [item.number for item in rest] == [2]


async def test_a_worker_whose_lease_ran_out_cannot_answer_any_more(store: JobStore) -> None:
    await store.create(new_job(items=1))
    (first,) = await claim(store)
    assert await store.renew("w1", [first], now_ms=NOW + 900, lease_ms=LEASE) == [first]
    assert await claim(store, "w2", NOW + 1_500) == []
    (second,) = await claim(store, "w2", NOW + 1_900)
    assert second == Run("batch_1", 1, 2)
    assert await store.renew("w1", [first], now_ms=NOW + 1_950, lease_ms=LEASE) == []
    assert not await store.finish("w1", first, FINE, now_ms=NOW + 2_000)
    assert not await store.put_back("w1", first, NOW)
    assert await store.finish("w2", second, FINE, now_ms=NOW + 2_000)


async def test_an_item_that_is_put_back_waits(store: JobStore) -> None:
    await store.create(new_job(items=1))
    (run,) = await claim(store)
    assert await store.put_back("w1", run, NOW + 500)
    assert await claim(store, "w1", NOW + 499) == []
    assert await claim(store, "w1", NOW + 500) == [Run("batch_1", 1, 2)]


async def test_short_jobs_do_not_wait_for_long_ones(store: JobStore) -> None:
    await store.create(new_job("1", items=5))
    await store.create(new_job("2", items=1))
    assert {run.job_id for run in await claim(store, limit=2)} == {"batch_1", "batch_2"}


async def test_a_cancelled_job_begins_nothing_and_waits_for_what_runs(store: JobStore) -> None:
    await store.create(new_job(items=3))
    (first,) = await claim(store, limit=1)
    job = await store.cancel(OWNER, "batch", "batch_1", now_ms=NOW + 1)
    assert (job.state, job.open) == ("cancelling", 1)
    assert await claim(store, "w2") == []
    with pytest.raises(NotFound):
        await store.cancel(OTHERS, "batch", "batch_1", now_ms=NOW)
    assert await store.finish("w1", first, FINE, now_ms=NOW + 2)
    job = await store.get(OWNER, "batch", "batch_1")
    assert (job.state, job.completed, job.completed_at_ms) == ("cancelled", 1, NOW + 2)
    items, _ = await store.items(OWNER, "batch", "batch_1", after_number=0)
    assert [item.state for item in items] == ["done", "cancelled", "cancelled"]


async def test_an_item_put_back_into_a_cancelled_job_does_not_begin_again(store: JobStore) -> None:
    await store.create(new_job(items=1))
    (run,) = await claim(store)
    await store.cancel(OWNER, "batch", "batch_1", now_ms=NOW + 1)
    assert await store.put_back("w1", run, NOW + 2)
    assert (await store.get(OWNER, "batch", "batch_1")).state == "cancelled"


async def test_a_job_that_is_over_cannot_be_cancelled(store: JobStore) -> None:
    await store.create(new_job(items=1))
    (run,) = await claim(store)
    await store.finish("w1", run, FINE, now_ms=NOW)
    assert (await store.cancel(OWNER, "batch", "batch_1", now_ms=NOW)).state == "completed"


async def test_a_key_has_ten_of_a_kind_under_way_at_most(store: JobStore) -> None:
    made = await asyncio.gather(
        *(store.create(new_job(f"{n:02}", items=1)) for n in range(12)), return_exceptions=True
    )
    assert sum(isinstance(one, RateLimitExceeded) for one in made) == 2
    await store.create(new_job("1", items=1, kind="response"))
    await store.create(new_job("99", items=1, owner=OTHERS))
    (run,) = await claim(store, limit=1)
    assert await store.finish("w1", run, FINE, now_ms=NOW)
    await store.create(new_job("98", items=1))


async def test_an_answer_is_kept_without_being_run(store: JobStore) -> None:
    done = NewItem(1, "/v1/responses", b"", http_status=200, answer=b"answer", request_id="req_9")
    kept = replace(new_job(kind="response"), items=[done])
    job = await store.create(kept)
    assert (job.state, job.background, job.completed_at_ms) == ("completed", False, NOW)
    assert await claim(store) == []
    items, _ = await store.items(OWNER, "response", "resp_1", after_number=0)
    assert (items[0].answer, items[0].request_id) == (b"answer", "req_9")
    assert await store.page(OWNER, "response", after="", limit=10) == ([], False)


async def test_pages_are_newest_first(store: JobStore) -> None:
    for name in ("1", "2", "3"):
        await store.create(new_job(name))
    await store.create(new_job("4", owner=OTHERS))
    first, more = await store.page(OWNER, "batch", after="", limit=2)
    assert ([job.job_id for job in first], more) == (["batch_3", "batch_2"], True)
    rest, more = await store.page(OWNER, "batch", after="batch_2", limit=2)
    assert ([job.job_id for job in rest], more) == (["batch_1"], False)
    with pytest.raises(NotFound):
        await store.page(OWNER, "batch", after="batch_4", limit=2)


async def test_what_expires_is_given_up_and_in_the_end_forgotten(store: JobStore) -> None:
    await store.create(new_job(items=2))
    (run,) = await claim(store, limit=1)
    assert await store.sweep(NOW + 1) == 0
    assert await store.sweep(NOW + DAY) > 0
    job = await store.get(OWNER, "batch", "batch_1")
    assert (job.state, job.open, job.failed) == ("expired", 0, 1)
    assert not await store.finish("w1", run, FINE, now_ms=NOW + DAY)
    await store.sweep(NOW + 2 * DAY)
    with pytest.raises(NotFound):
        await store.get(OWNER, "batch", "batch_1")


async def test_an_item_that_never_ends_well_fails_at_last(store: JobStore) -> None:
    await store.create(new_job(items=1))
    for turn in range(RUNS_MAX):
        assert len(await claim(store, now=NOW + turn * LEASE)) == 1
    late = NOW + RUNS_MAX * LEASE
    assert await claim(store, now=late) == []
    await store.sweep(late)
    job = await store.get(OWNER, "batch", "batch_1")
    assert (job.state, job.failed) == ("completed", 1)


def test_what_cannot_be_a_job_is_refused_by_its_field() -> None:
    for job, field in (
        (replace(new_job(), items=[]), "items"),
        (new_job(items=2, kind="response"), "items"),
        (replace(new_job(), job_id="resp_1"), "job_id"),
        (replace(new_job(), expires_at_ms=NOW), "expires_at_ms"),
    ):
        with pytest.raises(InvalidArgument, match=field):
            job.check()
