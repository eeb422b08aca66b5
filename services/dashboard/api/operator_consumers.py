"""For staff: how far every consumer group of the log is.

The services that consume tell the positions that they keep with their data; the broker tells of all
other groups what they committed, and how many processes are in each.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Request

from services.common.errors import Unavailable
from services.common.kafka import Lag, LogGroups
from services.common.pb.mesh.common.v1 import operations_pb2
from services.common.topics import TOPICS
from services.dashboard.api import operator_models as models
from services.dashboard.api.operator_log import asked_of_each, channel_of, stub_of
from services.dashboard.api.staff import Operator, OperatorDep

router = APIRouter(prefix="/operator", tags=["operator"])
READERS: tuple[models.Reader, ...] = ("billing", "usage", "usage-live")


def log_groups(request: Request) -> LogGroups:
    found: LogGroups = request.app.state.log_groups
    return found


LogGroupsDep = Annotated[LogGroups, Depends(log_groups)]


@router.get("/consumers")
async def consumers(operator: OperatorDep, broker: LogGroupsDep) -> models.ConsumersOut:
    """Each consumer group with how many messages it has yet to apply, by partition."""
    (told, away, notes), (members, committed, log_away) = await asyncio.gather(
        _told_by_services(operator), _told_by(broker)
    )
    found = [_group(service, lags, members.get(lags[0].group)) for service, lags in told]
    owned = {(one.group, one.topic) for one in found}
    others = [
        _group(None, lags, members[lags[0].group])
        for lags in _by_group(committed)
        if (lags[0].group, lags[0].topic) not in owned
    ]
    return models.ConsumersOut(
        groups=found + [one for one in others if one.members],
        leftover=[one for one in others if not one.members],
        away=away,
        log_away=log_away or next((note for note in notes if note), ""),
    )


async def _told_by_services(
    operator: Operator,
) -> tuple[list[tuple[models.Reader, Sequence[Lag]]], list[models.ServiceAway], list[str]]:
    """The groups of each service that answers, those that do not, and what they say of the log."""
    notes: list[str] = []

    async def ask(service: models.Reader) -> list[tuple[models.Reader, Sequence[Lag]]]:
        channel = channel_of(operator, service)
        answer = await channel.call(
            stub_of(channel).ListConsumerLag,
            operations_pb2.ListConsumerLagRequest(),
            principal=operator.acting(),
        )
        notes.append(answer.log_away)
        lags = [
            Lag(one.group, one.topic, one.partition, one.next_offset, one.end_offset)
            for one in answer.partitions
        ]
        return [(service, group) for group in _by_group(lags)]

    told, away = await asked_of_each(READERS, ask)
    return told, away, notes


async def _told_by(broker: LogGroups) -> tuple[dict[str, int], list[Lag], str]:
    """How many are in each group, what the groups committed, or why the broker does not tell."""
    try:
        known = await broker.groups([topic.name for topic in TOPICS])
        topics = sorted({topic for group in known for topic, _ in group.committed})
        bounds = await broker.bounds(topics) if topics else {}
    except Unavailable as error:
        return {}, [], error.message
    committed = [
        Lag(group.name, topic, partition, offset, bounds[topic, partition][1])
        for group in known
        for (topic, partition), offset in sorted(group.committed.items())
        if (topic, partition) in bounds
    ]
    return {group.name: group.members for group in known}, committed, ""


def _by_group(lags: Iterable[Lag]) -> list[Sequence[Lag]]:
    """The lags of each group and topic; never empty."""
    found: dict[tuple[str, str], list[Lag]] = defaultdict(list)
    for one in lags:
        found[one.group, one.topic].append(one)
    return list(found.values())


def _group(
    service: models.Reader | None, lags: Sequence[Lag], members: int | None
) -> models.ConsumerGroup:
    return models.ConsumerGroup(
        service=service,
        group=lags[0].group,
        topic=lags[0].topic,
        members=members,
        lag_messages=sum(one.messages for one in lags),
        parts=[
            models.ConsumerPart(
                partition=one.partition,
                next_offset=one.next_offset,
                end_offset=one.end,
                lag_messages=one.messages,
            )
            for one in lags
        ],
    )
