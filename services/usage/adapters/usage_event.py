"""From a message of the usage topic to the row it makes; protobuf stops here."""

from __future__ import annotations

from services.common.events import EventRecord, UndecodableEvent
from services.common.kafka import LogMessage
from services.common.pb.mesh.events.v1 import usage_pb2
from services.usage.domain.row import RequestRow, row_from_event
from services.usage.domain.usage import Attempt, BadUsage, LogPosition, RecordedUsage

_VERSION_MAX = 1


def row_from_message(message: LogMessage) -> RequestRow:
    """The row of a message. Raises UndecodableEvent where it is no usage event or cannot be a
    row.
    """
    record = EventRecord.from_bytes(message.value)
    payload = record.message()
    if not isinstance(payload, usage_pb2.UsageRecorded):
        raise UndecodableEvent(f"not a usage event: {record.type}")
    if record.version > _VERSION_MAX:
        raise UndecodableEvent(f"version {record.version} of {record.type} is newer than ours")
    position = LogPosition(message.topic, message.partition, message.offset)
    try:
        return row_from_event(usage_from_wire(record.event_id, payload), position)
    except BadUsage as error:
        raise UndecodableEvent(error.message) from error


def usage_from_wire(event_id: str, wire: usage_pb2.UsageRecorded) -> RecordedUsage:
    """The content of a usage event; quantities of one kind that come in several pieces are
    summed.
    """
    quantities: dict[int, int] = {}
    for quantity in wire.quantities:
        quantities[quantity.kind] = quantities.get(quantity.kind, 0) + quantity.tokens
    return RecordedUsage(
        event_id=event_id,
        usage_id=wire.usage_id,
        request_id=wire.request_id,
        account_id=wire.account_id,
        key_id=wire.key_id,
        user_id=wire.user_id,
        trace_id=wire.trace_id,
        worker_id=wire.worker_id,
        route=wire.route,
        requested_model=wire.requested_model,
        model_id=wire.model_id,
        provider_id=wire.provider_id,
        upstream_model=wire.upstream_model,
        stream=wire.stream,
        outcome=wire.outcome,
        http_status=wire.http_status,
        error_code=wire.error_code,
        failure_stage=wire.failure_stage,
        finish_reason=wire.finish_reason,
        received_at_ms=wire.received_at_ms,
        admitted_at_ms=wire.admitted_at_ms,
        first_token_ms=wire.first_token_ms,
        latency_ms=wire.latency_ms,
        quantities=quantities,
        usage_basis=wire.usage_basis,
        price_version_id=wire.price.price_version_id,
        cost_nanousd=wire.cost_nanousd,
        grant_id=wire.grant_id,
        held_nanousd=wire.held_nanousd,
        session_id=wire.session_id,
        end_user_id=wire.end_user_id,
        tags=wire.tags,
        attempts=tuple(_attempt(attempt) for attempt in wire.attempts),
    )


def _attempt(wire: usage_pb2.Attempt) -> Attempt:
    return Attempt(
        provider_id=wire.provider_id,
        upstream_model=wire.upstream_model,
        http_status=wire.http_status,
        error_code=wire.error_code,
        started_at_ms=wire.started_at_ms,
        latency_ms=wire.latency_ms,
        served=wire.served,
    )
