"""`mesh.common.v1.OperationsService`: how far a service's consumers are, what they put aside, and
what becomes of it.

Every service that consumes the log serves it for itself, over its own positions and its own topic
of dead letters.
"""

# ruff: noqa: ARG002 - gRPC gives every method a request and a context

from __future__ import annotations

from typing import Any

from services.common.consumers import ConsumerWatch
from services.common.errors import InvalidArgument, NotFound
from services.common.grpc import Access, GrpcServer, principal
from services.common.pb.mesh.common.v1 import operations_pb2, operations_pb2_grpc
from services.common.put_aside import DeadLetterDesk, Letter, Status, contents_of

SERVICE = "mesh.common.v1.OperationsService"
_OPERATOR = Access(frozenset({"dashboard", "cli"}), "operator")
METHODS = (
    "ListConsumerLag", "ListDeadLetters", "GetDeadLetter", "RetryDeadLetter", "DiscardDeadLetter",
)  # fmt: skip
POLICIES = {f"/{SERVICE}/{method}": _OPERATOR for method in METHODS}
LETTERS_DEFAULT = 50
LETTERS_MAX = 200
KEY_LENGTH_SHOWN = 200
_STATUSES: dict[Status, operations_pb2.DeadLetterStatus.ValueType] = {
    "open": operations_pb2.DEAD_LETTER_STATUS_OPEN,
    "sent_again": operations_pb2.DEAD_LETTER_STATUS_SENT_AGAIN,
    "discarded": operations_pb2.DEAD_LETTER_STATUS_DISCARDED,
}


class OperationsServicer(operations_pb2_grpc.OperationsServiceServicer):
    """Over the consumers of a service and its topic of dead letters, if it has one."""

    def __init__(self, consumers: ConsumerWatch, desk: DeadLetterDesk | None = None) -> None:
        self._consumers = consumers
        self._letters = desk

    def serve_on(self, server: GrpcServer) -> None:
        """Adds itself to a server that has `POLICIES` among its own."""
        operations_pb2_grpc.add_OperationsServiceServicer_to_server(self, server.grpc)
        server.reflect(SERVICE)

    async def ListConsumerLag(
        self,
        request: operations_pb2.ListConsumerLagRequest,
        context: Any,  # Any: grpc's own class
    ) -> operations_pb2.ListConsumerLagResponse:
        found = await self._consumers.lags()
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
                for one in found.parts
            ],
            log_away=found.log_away,
        )

    async def ListDeadLetters(
        self,
        request: operations_pb2.ListDeadLettersRequest,
        context: Any,  # Any: as above
    ) -> operations_pb2.ListDeadLettersResponse:
        if request.limit > LETTERS_MAX:
            raise InvalidArgument.of("limit", f"must be at most {LETTERS_MAX}")
        if request.status and request.status not in _STATUSES.values():
            raise InvalidArgument.of("status", "is not known")
        if self._letters is None:
            return operations_pb2.ListDeadLettersResponse()
        shelf = await self._letters.newest()
        wanted = [
            one
            for one in shelf.letters
            if not request.status or _STATUSES[one.status] == request.status
        ]
        shown = wanted[: request.limit or LETTERS_DEFAULT]
        return operations_pb2.ListDeadLettersResponse(
            letters=[_put_aside(one) for one in shown],
            open=sum(one.status == "open" for one in shelf.letters),
            older=shelf.older or len(shown) < len(wanted),
        )

    async def GetDeadLetter(
        self,
        request: operations_pb2.GetDeadLetterRequest,
        context: Any,  # Any: as above
    ) -> operations_pb2.GetDeadLetterResponse:
        letter = await self._desk().letter(request.position)
        inside = contents_of(letter.content.value if letter.content is not None else b"")
        record = inside.record
        return operations_pb2.GetDeadLetterResponse(
            letter=_put_aside(letter),
            event_type=record.type if record else "",
            event_id=record.event_id if record else "",
            account_id=record.account_id if record else "",
            occurred_at_ms=record.occurred_at_ms if record else 0,
            event_json=inside.event_json,
            undecodable=inside.undecodable,
            preview=inside.preview,
        )

    async def RetryDeadLetter(
        self,
        request: operations_pb2.RetryDeadLetterRequest,
        context: Any,  # Any: as above
    ) -> operations_pb2.RetryDeadLetterResponse:
        sent = await self._desk().send_again(request.position, actor=principal().user_id)
        return operations_pb2.RetryDeadLetterResponse(
            topic=sent.topic, partition=sent.partition, offset=sent.offset
        )

    async def DiscardDeadLetter(
        self,
        request: operations_pb2.DiscardDeadLetterRequest,
        context: Any,  # Any: as above
    ) -> operations_pb2.PutAside:
        actor = principal().user_id
        letter = await self._desk().discard(request.position, reason=request.reason, actor=actor)
        return _put_aside(letter)

    def _desk(self) -> DeadLetterDesk:
        if self._letters is None:
            raise NotFound("this service puts nothing aside")
        return self._letters


def _put_aside(letter: Letter) -> operations_pb2.PutAside:
    content, decision = letter.content, letter.decision
    shown = operations_pb2.PutAside(
        position=letter.position,
        put_at_ms=letter.put_at_ms,
        value_bytes=letter.size_bytes,
        retryable=letter.retryable,
        status=_STATUSES[letter.status],
        reason="not a dead letter",
    )
    if content is not None:
        shown.consumer, shown.topic, shown.reason = content.consumer, content.topic, content.reason
        shown.partition, shown.offset = content.partition, content.offset
        shown.key = content.key.decode(errors="replace")[:KEY_LENGTH_SHOWN]
    if decision is not None:
        shown.decided_at_ms, shown.decided_by = decision.at_ms, decision.actor
        shown.decision_reason = decision.reason
    return shown
