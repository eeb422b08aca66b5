"""`mesh.common.v1.OperationsService`: how far a service's consumers are, what they put aside, and
the way back for it.

Every service that pumps the log serves it for itself, over its own pumps and its own topic of dead
letters.
"""

# ruff: noqa: ARG002 - gRPC gives every method a request and a context

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from services.common.errors import InvalidArgument, NotFound
from services.common.events import EventRecord, UndecodableEvent
from services.common.grpc import Access, GrpcServer
from services.common.kafka import Lag, LogArchive, LogMessage, LogProducer
from services.common.pb.mesh.common.v1 import operations_pb2, operations_pb2_grpc
from services.common.pb.mesh.events.v1 import dead_letter_pb2
from services.common.telemetry import get_logger
from services.common.topics import USAGE, Topic

SERVICE = "mesh.common.v1.OperationsService"
_OPERATOR = Access(frozenset({"dashboard", "cli"}), "operator")
POLICIES = {
    f"/{SERVICE}/{method}": _OPERATOR
    for method in ("ListConsumerLag", "ListDeadLetters", "RetryDeadLetter")
}
LETTERS_DEFAULT = 50
LETTERS_MAX = 200
KEY_LENGTH_SHOWN = 200
# Its consumers tell each event by its id, so that one that comes late or twice does no harm. On a
# compacted topic an old message would stand for the newest; a ledger has its own order.
RETRYABLE_TOPICS = frozenset({USAGE.name})

_log = get_logger(__name__)


class Lagging(Protocol):
    """A consumer that knows how far it is."""

    def lags(self) -> list[Lag]: ...


class OperationsServicer(operations_pb2_grpc.OperationsServiceServicer):
    """Over the pumps of this process and its topic of dead letters."""

    def __init__(
        self,
        pumps: Sequence[Lagging],
        archive: LogArchive,
        producer: LogProducer,
        *,
        dead: Topic,
    ) -> None:
        self._pumps = pumps
        self._archive = archive
        self._producer = producer
        self._dead = dead.name

    def serve_on(self, server: GrpcServer) -> None:
        """Adds itself to a server that has `POLICIES` among its own."""
        operations_pb2_grpc.add_OperationsServiceServicer_to_server(self, server.grpc)
        server.reflect(SERVICE)

    async def ListConsumerLag(
        self,
        request: operations_pb2.ListConsumerLagRequest,
        context: Any,  # Any: grpc's own class
    ) -> operations_pb2.ListConsumerLagResponse:
        return operations_pb2.ListConsumerLagResponse(
            partitions=[
                operations_pb2.PartitionLag(
                    group=one.group,
                    topic=one.topic,
                    partition=one.partition,
                    next_offset=one.next_offset,
                    end_offset=one.end,
                    lag_messages=one.messages,
                )
                for pump in self._pumps
                for one in pump.lags()
            ]
        )

    async def ListDeadLetters(
        self,
        request: operations_pb2.ListDeadLettersRequest,
        context: Any,  # Any: as above
    ) -> operations_pb2.ListDeadLettersResponse:
        if request.limit > LETTERS_MAX:
            raise InvalidArgument.of("limit", f"must be at most {LETTERS_MAX}")
        found = await self._archive.newest(self._dead, request.limit or LETTERS_DEFAULT)
        return operations_pb2.ListDeadLettersResponse(letters=[_put_aside(one) for one in found])

    async def RetryDeadLetter(
        self,
        request: operations_pb2.RetryDeadLetterRequest,
        context: Any,  # Any: as above
    ) -> operations_pb2.RetryDeadLetterResponse:
        message = await self._archive.at(self._dead, request.position)
        letter = None if message is None else _letter(message)
        if letter is None:
            raise NotFound("there is no such dead letter")
        if letter.topic not in RETRYABLE_TOPICS:
            raise InvalidArgument.of("position", f"what came from {letter.topic} is not sent again")
        sent = await self._producer.send(letter.topic, letter.key, letter.value)
        _log.warning("dead letter sent again", topic=letter.topic, position=request.position)
        return operations_pb2.RetryDeadLetterResponse(
            topic=sent.topic, partition=sent.partition, offset=sent.offset
        )


def _letter(message: LogMessage) -> dead_letter_pb2.DeadLetter | None:
    """What was put aside; None for what is no letter."""
    try:
        found = EventRecord.from_bytes(message.value or b"").message()
    except UndecodableEvent:
        return None
    return found if isinstance(found, dead_letter_pb2.DeadLetter) else None


def _put_aside(message: LogMessage) -> operations_pb2.PutAside:
    letter = _letter(message)
    if letter is None:
        return operations_pb2.PutAside(
            position=message.offset,
            put_at_ms=message.timestamp_ms,
            reason="not a dead letter",
            value_bytes=len(message.value or b""),
        )
    return operations_pb2.PutAside(
        position=message.offset,
        put_at_ms=message.timestamp_ms,
        consumer=letter.consumer,
        topic=letter.topic,
        partition=letter.partition,
        offset=letter.offset,
        key=letter.key.decode(errors="replace")[:KEY_LENGTH_SHOWN],
        value_bytes=len(letter.value),
        reason=letter.reason,
        retryable=letter.topic in RETRYABLE_TOPICS,
    )
