"""For staff: how far the consumers of the log are, and what they put aside.

A service that is away is named among the answers, so that the others are still seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi import APIRouter

from services.common.errors import AppError
from services.common.grpc.channel import GrpcChannel
from services.common.pb.mesh.common.v1 import operations_pb2, operations_pb2_grpc
from services.dashboard.api import operator_models as models
from services.dashboard.api.staff import Operator, OperatorDep
from services.dashboard.api.translate import moment

router = APIRouter(prefix="/operator", tags=["operator"])
KEEPERS: tuple[models.Keeper, ...] = ("billing", "usage")
LETTERS_SHOWN_MAX = 100
T = TypeVar("T")


def channel_of(operator: Operator, service: models.Keeper) -> GrpcChannel:
    found = operator.backends
    return found.billing_channel if service == "billing" else found.usage_channel


def stub_of(channel: GrpcChannel) -> operations_pb2_grpc.OperationsServiceAsyncStub:
    stub: operations_pb2_grpc.OperationsServiceAsyncStub = (
        operations_pb2_grpc.OperationsServiceStub(channel.channel())
    )
    return stub


async def asked_of_each(
    ask: Callable[[models.Keeper], Awaitable[list[T]]],
) -> tuple[list[T], list[models.ServiceAway]]:
    """The answers of all services in one list, and those that did not answer."""
    answers = await asyncio.gather(*map(ask, KEEPERS), return_exceptions=True)
    found: list[T] = []
    away: list[models.ServiceAway] = []
    for service, answer in zip(KEEPERS, answers, strict=True):
        if isinstance(answer, AppError):
            away.append(models.ServiceAway(service=service, message=answer.message))
        elif isinstance(answer, BaseException):
            raise answer
        else:
            found += answer
    return found, away


@router.get("/consumers")
async def consumers(operator: OperatorDep) -> models.ConsumersOut:
    """Each consumer's partitions, with how many messages it has yet to apply."""

    async def ask(service: models.Keeper) -> list[models.ConsumerPart]:
        channel = channel_of(operator, service)
        answer = await channel.call(
            stub_of(channel).ListConsumerLag,
            operations_pb2.ListConsumerLagRequest(),
            principal=operator.acting(),
        )
        return [
            models.ConsumerPart(
                service=service,
                group=one.group,
                topic=one.topic,
                partition=one.partition,
                next_offset=one.next_offset,
                end_offset=one.end_offset,
                lag_messages=one.lag_messages,
            )
            for one in answer.partitions
        ]

    parts, away = await asked_of_each(ask)
    return models.ConsumersOut(parts=parts, away=away)


@router.get("/dead-letters")
async def dead_letters(operator: OperatorDep) -> models.DeadLettersOut:
    """Messages that a consumer could not take, newest first."""

    async def ask(service: models.Keeper) -> list[models.DeadLetterOut]:
        channel = channel_of(operator, service)
        answer = await channel.call(
            stub_of(channel).ListDeadLetters,
            operations_pb2.ListDeadLettersRequest(limit=LETTERS_SHOWN_MAX),
            principal=operator.acting(),
        )
        return [letter_out(service, one) for one in answer.letters]

    letters, away = await asked_of_each(ask)
    letters.sort(key=lambda one: one.put_at, reverse=True)
    return models.DeadLettersOut(letters=letters, away=away)


def letter_out(service: models.Keeper, one: operations_pb2.PutAside) -> models.DeadLetterOut:
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
