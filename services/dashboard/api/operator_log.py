"""For staff: what the consumers of the log put aside.

A service that is away is named among the answers, so that the others are still seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar, assert_never, cast

from fastapi import APIRouter

from services.common.errors import AppError
from services.common.grpc.channel import GrpcChannel
from services.common.pb.mesh.common.v1 import operations_pb2, operations_pb2_grpc
from services.dashboard.api import operator_models as models
from services.dashboard.api.parts import short
from services.dashboard.api.staff import Operator, OperatorDep
from services.dashboard.api.translate import moment

router = APIRouter(prefix="/operator", tags=["operator"])
KEEPERS: tuple[models.Keeper, ...] = ("billing", "usage")
LETTERS_SHOWN_MAX = 100
STATUS = "DEAD_LETTER_STATUS_"
T = TypeVar("T")
S = TypeVar("S", models.Keeper, models.Reader)


def channel_of(operator: Operator, service: models.Reader) -> GrpcChannel:
    found = operator.backends
    match service:
        case "billing":
            return found.billing_channel
        case "usage":
            return found.usage_channel
        case "usage-live":
            return found.usage_live_channel
        case _:
            assert_never(service)


def stub_of(channel: GrpcChannel) -> operations_pb2_grpc.OperationsServiceAsyncStub:
    stub: operations_pb2_grpc.OperationsServiceAsyncStub = (
        operations_pb2_grpc.OperationsServiceStub(channel.channel())
    )
    return stub


async def asked_of_each(
    services: Sequence[S], ask: Callable[[S], Awaitable[list[T]]]
) -> tuple[list[T], list[models.ServiceAway]]:
    """The answers of all services in one list, and those that did not answer."""
    answers = await asyncio.gather(*map(ask, services), return_exceptions=True)
    found: list[T] = []
    away: list[models.ServiceAway] = []
    for service, answer in zip(services, answers, strict=True):
        if isinstance(answer, AppError):
            away.append(models.ServiceAway(service=service, message=answer.message))
        elif isinstance(answer, BaseException):
            raise answer
        else:
            found += answer
    return found, away


@router.get("/dead-letters")
async def dead_letters(
    operator: OperatorDep, *, status: models.LetterStatus | None = None
) -> models.DeadLettersOut:
    """Messages that a consumer could not take, newest first, and what became of each."""
    wanted = operations_pb2.ListDeadLettersRequest(limit=LETTERS_SHOWN_MAX)
    if status is not None:
        wanted.status = operations_pb2.DeadLetterStatus.Value(f"{STATUS}{status.upper()}")
    open_count, older = 0, False

    async def ask(service: models.Keeper) -> list[models.DeadLetterOut]:
        nonlocal open_count, older
        channel = channel_of(operator, service)
        answer = await channel.call(
            stub_of(channel).ListDeadLetters, wanted, principal=operator.acting()
        )
        open_count += answer.open
        older = older or answer.older
        return [letter_out(service, one) for one in answer.letters]

    letters, away = await asked_of_each(KEEPERS, ask)
    letters.sort(key=lambda one: one.put_at, reverse=True)
    return models.DeadLettersOut(letters=letters, open=open_count, older=older, away=away)


def letter_out(service: models.Keeper, one: operations_pb2.PutAside) -> models.DeadLetterOut:
    status = short(operations_pb2.DeadLetterStatus.Name, one.status, STATUS)
    return models.DeadLetterOut(
        service=service,
        position=one.position,
        put_at=moment(one.put_at_ms) or "",
        topic=one.topic,
        partition=one.partition,
        offset=one.offset,
        key=one.key,
        value_bytes=one.value_bytes,
        reason=one.reason,
        retryable=one.retryable,
        status=cast(models.LetterStatus, status),
        decided_at=moment(one.decided_at_ms),
        decided_by=one.decided_by,
        decision_reason=one.decision_reason,
    )


@router.get("/dead-letters/{keeper}/{position}")
async def open_dead_letter(
    keeper: models.Keeper, position: models.LetterPosition, *, operator: OperatorDep
) -> models.DeadLetterContents:
    """One of them with what is in it; secrets are masked by the service that keeps it."""
    channel = channel_of(operator, keeper)
    found = await channel.call(
        stub_of(channel).GetDeadLetter,
        operations_pb2.GetDeadLetterRequest(position=position),
        principal=operator.acting(),
    )
    return models.DeadLetterContents(
        letter=letter_out(keeper, found.letter),
        event_type=found.event_type,
        event_id=found.event_id,
        account_id=found.account_id,
        occurred_at=moment(found.occurred_at_ms),
        event_json=found.event_json,
        undecodable=found.undecodable,
        preview=found.preview,
    )


@router.post("/dead-letters/{keeper}/{position}/retry")
async def retry_dead_letter(
    keeper: models.Keeper, position: models.LetterPosition, *, operator: OperatorDep
) -> models.SentAgain:
    """Sends the message to its topic again; what was taken meanwhile is not taken twice."""
    await operator.note("dead_letter.retry", f"{keeper}:{position}")
    channel = channel_of(operator, keeper)
    sent = await channel.call(
        stub_of(channel).RetryDeadLetter,
        operations_pb2.RetryDeadLetterRequest(position=position),
        principal=operator.acting(),
    )
    return models.SentAgain(topic=sent.topic, partition=sent.partition, offset=sent.offset)


@router.post("/dead-letters/{keeper}/{position}/discard")
async def discard_dead_letter(
    keeper: models.Keeper,
    position: models.LetterPosition,
    body: models.Discard,
    *,
    operator: OperatorDep,
) -> models.DeadLetterOut:
    """Writes down that nothing will come of it; it stays listed, and can still be sent again."""
    await operator.note("dead_letter.discard", f"{keeper}:{position}", body.reason)
    channel = channel_of(operator, keeper)
    letter = await channel.call(
        stub_of(channel).DiscardDeadLetter,
        operations_pb2.DiscardDeadLetterRequest(position=position, reason=body.reason),
        principal=operator.acting(),
    )
    return letter_out(keeper, letter)
