"""The jobs service over gRPC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from services.common.errors import InternalError
from services.common.grpc import GrpcChannel
from services.common.ids import AccountId, KeyId, WorkerId
from services.common.pb.mesh.jobs.v1 import jobs_pb2 as pb
from services.common.pb.mesh.jobs.v1 import jobs_pb2_grpc
from services.common.security.tokens import Principal
from services.gateway.jobs.ports import Item, Job, JobKind, JobState, NewJob, Work
from services.gateway.ports import KeyPrincipal

# Handing in a long batch, and reading its answers, takes longer than other calls.
BULK_TIMEOUT_S = 30.0

_KINDS: Mapping[JobKind, pb.JobKind.ValueType] = {
    "response": pb.JOB_KIND_RESPONSE,
    "batch": pb.JOB_KIND_BATCH,
}
_KINDS_BACK: Mapping[pb.JobKind.ValueType, JobKind] = {n: kind for kind, n in _KINDS.items()}
_STATES: Mapping[pb.JobState.ValueType, JobState] = {
    pb.JOB_STATE_IN_PROGRESS: "in_progress",
    pb.JOB_STATE_COMPLETED: "completed",
    pb.JOB_STATE_CANCELLING: "cancelling",
    pb.JOB_STATE_CANCELLED: "cancelled",
    pb.JOB_STATE_EXPIRED: "expired",
}


class GrpcJobs:
    """`Jobs` of one worker."""

    def __init__(self, channel: GrpcChannel, worker_id: WorkerId) -> None:
        self._channel = channel
        self._worker_id = worker_id
        self._stub = jobs_pb2_grpc.JobServiceStub(channel.channel())

    async def create(self, caller: KeyPrincipal, job: NewJob) -> Job:
        request = pb.CreateJobRequest(
            job_id=job.job_id,
            kind=_KINDS[job.kind],
            user_id=caller.user_id,
            model=job.model,
            expires_at_ms=job.expires_at_ms,
            keep_until_ms=job.keep_until_ms,
            metadata_json=orjson.dumps(dict(job.metadata)).decode(),
            context=job.context,
            items=[
                pb.Item(
                    number=item.number,
                    custom_id=item.custom_id,
                    route=item.route,
                    body=item.body,
                    http_status=item.http_status,
                    answer=item.answer,
                    request_id=item.request_id,
                )
                for item in job.items
            ],
        )
        made = await self._channel.call(
            self._stub.CreateJob, request, principal=_of(caller), timeout_s=BULK_TIMEOUT_S
        )
        return _job_from(made)

    async def get(self, caller: KeyPrincipal, kind: JobKind, job_id: str) -> Job:
        request = pb.GetJobRequest(job_id=job_id, kind=_KINDS[kind])
        return _job_from(
            await self._channel.call(self._stub.GetJob, request, principal=_of(caller))
        )

    async def page(
        self, caller: KeyPrincipal, kind: JobKind, *, after: str, limit: int
    ) -> tuple[list[Job], bool]:
        request = pb.ListJobsRequest(kind=_KINDS[kind], after=after, limit=limit)
        found = await self._channel.call(self._stub.ListJobs, request, principal=_of(caller))
        return [_job_from(job) for job in found.jobs], found.has_more

    async def cancel(self, caller: KeyPrincipal, kind: JobKind, job_id: str) -> Job:
        request = pb.CancelJobRequest(job_id=job_id, kind=_KINDS[kind])
        return _job_from(
            await self._channel.call(self._stub.CancelJob, request, principal=_of(caller))
        )

    async def items(self, caller: KeyPrincipal, kind: JobKind, job_id: str) -> list[Item]:
        items: list[Item] = []
        more = True
        while more:
            after = items[-1].number if items else 0
            page = await self._channel.call(
                self._stub.ListItems,
                pb.ListItemsRequest(job_id=job_id, kind=_KINDS[kind], after_number=after),
                principal=_of(caller),
                timeout_s=BULK_TIMEOUT_S,
            )
            items += [_item_from(item) for item in page.items]
            more = page.has_more
        return items

    async def claim(self, limit: int, *, lease_s: float) -> list[Work]:
        request = pb.ClaimItemsRequest(
            worker_id=self._worker_id, limit=limit, lease_ms=round(lease_s * 1000)
        )
        claimed = await self._channel.call(self._stub.ClaimItems, request)
        return [_work_from(work) for work in claimed.work]

    async def renew(self, work: Sequence[Work], *, lease_s: float) -> set[Work]:
        request = pb.RenewItemsRequest(
            worker_id=self._worker_id,
            runs=[_ref(one) for one in work],
            lease_ms=round(lease_s * 1000),
        )
        held = (await self._channel.call(self._stub.RenewItems, request)).held
        still = {(ref.job_id, ref.number, ref.run) for ref in held}
        return {one for one in work if (one.job_id, one.number, one.run) in still}

    async def finish(self, work: Work, *, http_status: int, answer: bytes, request_id: str) -> bool:
        request = pb.FinishItemRequest(
            worker_id=self._worker_id,
            run=_ref(work),
            http_status=http_status,
            answer=answer,
            request_id=request_id,
        )
        return (await self._channel.call(self._stub.FinishItem, request)).accepted

    async def put_back(self, work: Work, *, delay_s: float) -> bool:
        request = pb.PutBackItemRequest(
            worker_id=self._worker_id, run=_ref(work), delay_ms=round(delay_s * 1000)
        )
        return (await self._channel.call(self._stub.PutBackItem, request)).accepted


def _of(caller: KeyPrincipal) -> Principal:
    return Principal("key", caller.account_id, user_id=caller.user_id, key_id=caller.key_id)


def _ref(work: Work) -> pb.RunRef:
    return pb.RunRef(job_id=work.job_id, number=work.number, run=work.run)


def _kind(value: pb.JobKind.ValueType) -> JobKind:
    if value not in _KINDS_BACK:
        raise InternalError(f"the jobs service named a kind that is not known: {value}")
    return _KINDS_BACK[value]


def _job_from(message: pb.Job) -> Job:
    if message.state not in _STATES:
        raise InternalError(f"the jobs service named a state that is not known: {message.state}")
    return Job(
        job_id=message.job_id,
        kind=_kind(message.kind),
        state=_STATES[message.state],
        model=message.model,
        created_at_ms=message.created_at_ms,
        completed_at_ms=message.completed_at_ms,
        expires_at_ms=message.expires_at_ms,
        metadata=orjson.loads(message.metadata_json or "{}"),
        context=message.context,
        background=message.background,
        total=message.total,
        completed=message.completed,
        failed=message.failed,
    )


def _item_from(message: pb.Item) -> Item:
    return Item(
        number=message.number,
        custom_id=message.custom_id,
        route=message.route,
        running=message.state == pb.ITEM_STATE_RUNNING,
        http_status=message.http_status,
        answer=message.answer,
        request_id=message.request_id,
    )


def _work_from(message: pb.Work) -> Work:
    return Work(
        job_id=message.job_id,
        number=message.number,
        run=message.run,
        kind=_kind(message.kind),
        account_id=AccountId(message.account_id),
        key_id=KeyId(message.key_id),
        route=message.route,
        body=message.body,
    )
