"""Jobs to messages and back."""

from __future__ import annotations

from collections.abc import Mapping

from services.common.errors import InvalidArgument
from services.common.pb.mesh.jobs.v1 import jobs_pb2 as pb
from services.jobs.domain.job import Item, ItemState, Job, JobKind, JobState, NewItem, Run, Work

KINDS: Mapping[JobKind, pb.JobKind.ValueType] = {
    "response": pb.JOB_KIND_RESPONSE,
    "batch": pb.JOB_KIND_BATCH,
}
STATES: Mapping[JobState, pb.JobState.ValueType] = {
    "in_progress": pb.JOB_STATE_IN_PROGRESS,
    "completed": pb.JOB_STATE_COMPLETED,
    "cancelling": pb.JOB_STATE_CANCELLING,
    "cancelled": pb.JOB_STATE_CANCELLED,
    "expired": pb.JOB_STATE_EXPIRED,
}
ITEM_STATES: Mapping[ItemState, pb.ItemState.ValueType] = {
    "queued": pb.ITEM_STATE_QUEUED,
    "running": pb.ITEM_STATE_RUNNING,
    "done": pb.ITEM_STATE_DONE,
    "cancelled": pb.ITEM_STATE_CANCELLED,
}


def kind_from(value: pb.JobKind.ValueType) -> JobKind:
    """Raises InvalidArgument where it names no kind."""
    for kind, number in KINDS.items():
        if number == value:
            return kind
    raise InvalidArgument.of("kind", "must be a kind of job")


def job_to_pb(job: Job) -> pb.Job:
    """The job without its items."""
    return pb.Job(
        job_id=job.job_id,
        kind=KINDS[job.kind],
        state=STATES[job.state],
        model=job.model,
        created_at_ms=job.created_at_ms,
        completed_at_ms=job.completed_at_ms,
        expires_at_ms=job.expires_at_ms,
        metadata_json=job.metadata_json,
        context=job.context,
        total=job.total,
        completed=job.completed,
        failed=job.failed,
        background=job.background,
    )


def item_to_pb(item: Item) -> pb.Item:
    """The item with its answer, if it has one."""
    return pb.Item(
        number=item.number,
        custom_id=item.custom_id,
        route=item.route,
        body=item.body,
        state=ITEM_STATES[item.state],
        http_status=item.http_status,
        answer=item.answer,
        request_id=item.request_id,
    )


def new_item_from(message: pb.Item) -> NewItem:
    """An item as it is handed in."""
    return NewItem(
        number=message.number,
        route=message.route,
        body=message.body,
        custom_id=message.custom_id,
        http_status=message.http_status,
        answer=message.answer,
        request_id=message.request_id,
    )


def run_from(message: pb.RunRef) -> Run:
    return Run(message.job_id, message.number, message.run)


def run_to_pb(run: Run) -> pb.RunRef:
    return pb.RunRef(job_id=run.job_id, number=run.number, run=run.run)


def work_to_pb(work: Work) -> pb.Work:
    return pb.Work(
        job_id=work.run.job_id,
        number=work.run.number,
        run=work.run.run,
        account_id=work.owner.account_id,
        key_id=work.owner.key_id,
        route=work.route,
        body=work.body,
        kind=KINDS[work.kind],
    )
