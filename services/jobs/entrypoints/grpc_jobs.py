"""JobService over gRPC: for the key that a gateway speaks for, and for workers."""

from __future__ import annotations

from collections.abc import Mapping

from services.common.clock import Clock
from services.common.errors import Forbidden, InvalidArgument
from services.common.grpc import Access, principal
from services.common.ids import AccountId, KeyId, UserId
from services.common.pb.mesh.jobs.v1 import jobs_pb2 as pb
from services.common.pb.mesh.jobs.v1 import jobs_pb2_grpc
from services.jobs.domain.job import NewJob, Owner
from services.jobs.entrypoints.translation_pb import (
    item_to_pb,
    job_to_pb,
    kind_from,
    new_item_from,
    run_from,
    run_to_pb,
    work_to_pb,
)
from services.jobs.ports import Answer, JobStore

SERVICE = "mesh.jobs.v1.JobService"
LEASE_MS_MAX = 600_000
CLAIM_MAX = 1_000
PAGE_MAX = 100

_FOR_KEYS = Access(frozenset({"gateway"}), "any")
_WORKERS = Access(frozenset({"gateway"}), "none")
POLICIES: Mapping[str, Access] = {
    f"/{SERVICE}/{method}": access
    for access, methods in (
        (_FOR_KEYS, ("CreateJob", "GetJob", "ListJobs", "CancelJob", "ListItems")),
        (_WORKERS, ("ClaimItems", "RenewItems", "FinishItem", "PutBackItem")),
    )
    for method in methods
}


class JobServicer(jobs_pb2_grpc.JobServiceServicer):
    """Translates; decides nothing. The account and the key are the verified principal's."""

    def __init__(self, store: JobStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def CreateJob(self, request: pb.CreateJobRequest, _: object) -> pb.Job:
        job = NewJob(
            job_id=request.job_id,
            kind=kind_from(request.kind),
            owner=_owner(),
            user_id=UserId(request.user_id),
            model=request.model,
            created_at_ms=self._clock.now_ms(),
            expires_at_ms=request.expires_at_ms,
            keep_until_ms=request.keep_until_ms,
            metadata_json=request.metadata_json,
            context=request.context,
            items=[new_item_from(item) for item in request.items],
        )
        job.check()
        return job_to_pb(await self._store.create(job))

    async def GetJob(self, request: pb.GetJobRequest, _: object) -> pb.Job:
        kind = kind_from(request.kind)
        return job_to_pb(await self._store.get(_owner(), kind, request.job_id))

    async def ListJobs(self, request: pb.ListJobsRequest, _: object) -> pb.ListJobsResponse:
        if not 1 <= request.limit <= PAGE_MAX:
            raise InvalidArgument.of("limit", f"must be 1 to {PAGE_MAX}")
        jobs, more = await self._store.page(
            _owner(), kind_from(request.kind), after=request.after, limit=request.limit
        )
        return pb.ListJobsResponse(jobs=[job_to_pb(job) for job in jobs], has_more=more)

    async def CancelJob(self, request: pb.CancelJobRequest, _: object) -> pb.Job:
        kind, now_ms = kind_from(request.kind), self._clock.now_ms()
        return job_to_pb(await self._store.cancel(_owner(), kind, request.job_id, now_ms=now_ms))

    async def ListItems(self, request: pb.ListItemsRequest, _: object) -> pb.ListItemsResponse:
        items, more = await self._store.items(
            _owner(),
            kind_from(request.kind),
            request.job_id,
            after_number=request.after_number,
        )
        return pb.ListItemsResponse(items=[item_to_pb(item) for item in items], has_more=more)

    async def ClaimItems(self, request: pb.ClaimItemsRequest, _: object) -> pb.ClaimItemsResponse:
        if not 1 <= request.limit <= CLAIM_MAX:
            raise InvalidArgument.of("limit", f"must be 1 to {CLAIM_MAX}")
        work = await self._store.claim(
            _worker(request.worker_id),
            limit=request.limit,
            now_ms=self._clock.now_ms(),
            lease_ms=_lease(request.lease_ms),
        )
        return pb.ClaimItemsResponse(work=[work_to_pb(one) for one in work])

    async def RenewItems(self, request: pb.RenewItemsRequest, _: object) -> pb.RenewItemsResponse:
        held = await self._store.renew(
            _worker(request.worker_id),
            [run_from(run) for run in request.runs[:CLAIM_MAX]],
            now_ms=self._clock.now_ms(),
            lease_ms=_lease(request.lease_ms),
        )
        return pb.RenewItemsResponse(held=[run_to_pb(run) for run in held])

    async def FinishItem(self, request: pb.FinishItemRequest, _: object) -> pb.FinishItemResponse:
        if not 100 <= request.http_status <= 599:
            raise InvalidArgument.of("http_status", "must be a status")
        answer = Answer(request.http_status, request.answer, request.request_id)
        accepted = await self._store.finish(
            _worker(request.worker_id), run_from(request.run), answer, now_ms=self._clock.now_ms()
        )
        return pb.FinishItemResponse(accepted=accepted)

    async def PutBackItem(
        self, request: pb.PutBackItemRequest, _: object
    ) -> pb.PutBackItemResponse:
        not_before_ms = self._clock.now_ms() + max(0, request.delay_ms)
        accepted = await self._store.put_back(
            _worker(request.worker_id), run_from(request.run), not_before_ms
        )
        return pb.PutBackItemResponse(accepted=accepted)


def _owner() -> Owner:
    caller = principal()
    if caller.kind != "key" or not caller.key_id:
        raise Forbidden("jobs are a key's")
    return Owner(AccountId(caller.account_id), KeyId(caller.key_id))


def _worker(worker_id: str) -> str:
    if not 1 <= len(worker_id) <= 64:
        raise InvalidArgument.of("worker_id", "must have 1 to 64 characters")
    return worker_id


def _lease(lease_ms: int) -> int:
    if not 1 <= lease_ms <= LEASE_MS_MAX:
        raise InvalidArgument.of("lease_ms", f"must be 1 to {LEASE_MS_MAX}")
    return lease_ms
