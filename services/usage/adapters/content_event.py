"""From a message of the content topic to the row it makes; protobuf stops here."""

from __future__ import annotations

from services.common.events import UndecodableEvent, message_of_type
from services.common.kafka import LogMessage
from services.common.pb.mesh.events.v1 import content_pb2
from services.usage.domain.content_row import ContentRow, checked
from services.usage.domain.usage import BadUsage

_VERSION_MAX = 1
_EVENT_TYPE = "gateway.ContentRecorded"


def content_row_from_message(message: LogMessage) -> ContentRow:
    """The row of a message. Raises UndecodableEvent where it is no content or cannot be a row."""
    event_id, wire = message_of_type(
        message.value, content_pb2.ContentRecorded, event_type=_EVENT_TYPE, version_max=_VERSION_MAX
    )
    row = ContentRow(
        account_id=wire.account_id,
        received_at=wire.received_at_ms,
        usage_id=wire.usage_id,
        request_id=wire.request_id,
        key_id=wire.key_id,
        model_id=wire.model_id,
        prompt=wire.prompt,
        answer=wire.answer,
        prompt_truncated=wire.prompt_truncated,
        answer_truncated=wire.answer_truncated,
        event_id=event_id,
        log_topic=message.topic,
        log_partition=message.partition,
        log_offset=message.offset,
    )
    try:
        return checked(row)
    except BadUsage as error:
        raise UndecodableEvent(error.message) from error
