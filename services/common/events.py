"""Event records: what every topic and every event store holds, one `mesh.events.v1.Envelope` each.

The registry from type name to protobuf class is made from the table of topics, so that a type that
no topic names can neither be written nor read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from services.common.ids import new_id
from services.common.pb.mesh.events.v1 import (
    accounts_pb2,
    catalog_pb2,
    content_pb2,
    dead_letter_pb2,
    envelope_pb2,
    ledger_pb2,
    payments_pb2,
    templates_pb2,
    usage_pb2,
)
from services.common.telemetry.tracing import current_traceparent
from services.common.topics import TOPICS

_MODULES = (
    accounts_pb2,
    catalog_pb2,
    content_pb2,
    dead_letter_pb2,
    ledger_pb2,
    payments_pb2,
    templates_pb2,
    usage_pb2,
)


class UndecodableEvent(Exception):
    """Bytes that are not an envelope, or an envelope whose type or payload this build does not
    know.
    """


class UnknownEventType(Exception):
    """A message that no topic names was to be written: a defect of the writer."""


def _message_class(event_type: str) -> type[Message]:
    name = event_type.rpartition(".")[2]
    for module in _MODULES:
        found = getattr(module, name, None)
        if isinstance(found, type) and issubclass(found, Message):
            return found
    raise UnknownEventType(f"no message in mesh.events.v1 for the event type {event_type}")


MESSAGE_BY_TYPE: dict[str, type[Message]] = {
    event_type: _message_class(event_type) for topic in TOPICS for event_type in topic.event_types
}
_TYPES_BY_MESSAGE: dict[type[Message], list[str]] = {}
for _type, _class in MESSAGE_BY_TYPE.items():
    _TYPES_BY_MESSAGE.setdefault(_class, []).append(_type)


@dataclass(frozen=True, slots=True)
class EventRecord:
    """One event with everything the envelope says about it; times are Unix milliseconds."""

    event_id: str
    type: str
    version: int
    occurred_at_ms: int
    account_id: str
    traceparent: str
    payload: bytes
    stream_id: str = ""
    stream_version: int = 0

    def to_bytes(self) -> bytes:
        """The serialised envelope."""
        return envelope_pb2.Envelope(
            event_id=self.event_id,
            type=self.type,
            version=self.version,
            occurred_at_ms=self.occurred_at_ms,
            account_id=self.account_id,
            traceparent=self.traceparent,
            payload=self.payload,
            stream_id=self.stream_id,
            stream_version=self.stream_version,
        ).SerializeToString()

    @classmethod
    def from_bytes(cls, raw: bytes | None) -> EventRecord:
        """The record of a serialised envelope; its payload stays undecoded. Raises
        UndecodableEvent.
        """
        if not raw:
            raise UndecodableEvent("an event message without a value")
        envelope = envelope_pb2.Envelope()
        try:
            envelope.ParseFromString(raw)
        except DecodeError as error:
            raise UndecodableEvent(f"{len(raw)} bytes that are not an envelope") from error
        if not (envelope.event_id and envelope.type and envelope.version):
            raise UndecodableEvent("an envelope without an event id, a type or a version")
        return cls(
            event_id=envelope.event_id,
            type=envelope.type,
            version=envelope.version,
            occurred_at_ms=envelope.occurred_at_ms,
            account_id=envelope.account_id,
            traceparent=envelope.traceparent,
            payload=envelope.payload,
            stream_id=envelope.stream_id,
            stream_version=envelope.stream_version,
        )

    def message(self) -> Message:
        """The decoded payload, of the class that `type` names. Raises UndecodableEvent."""
        found = MESSAGE_BY_TYPE.get(self.type)
        if found is None:
            raise UndecodableEvent(f"unknown event type {self.type!r}")
        try:
            return found.FromString(self.payload)
        except DecodeError as error:
            raise UndecodableEvent(f"the payload is not a {self.type}") from error


M = TypeVar("M", bound=Message)


def message_of_type(
    raw: bytes | None, message_class: type[M], *, event_type: str, version_max: int
) -> tuple[str, M]:
    """Event id and payload of an envelope that must hold this type, without a record in between:
    for consumers of one type that take very many. Raises UndecodableEvent.
    """
    if not raw:
        raise UndecodableEvent("an event message without a value")
    try:
        envelope = envelope_pb2.Envelope.FromString(raw)
    except DecodeError as error:
        raise UndecodableEvent(f"{len(raw)} bytes that are not an envelope") from error
    event_id, version = envelope.event_id, envelope.version
    if envelope.type != event_type:
        raise UndecodableEvent(f"not a {event_type}: {envelope.type!r}")
    if not (event_id and version):
        raise UndecodableEvent("an envelope without an event id or a version")
    if version > version_max:
        raise UndecodableEvent(f"version {version} of {event_type} is newer than ours")
    try:
        return event_id, message_class.FromString(envelope.payload)
    except DecodeError as error:
        raise UndecodableEvent(f"the payload is not a {event_type}") from error


def record_of(
    message: Message,
    *,
    account_id: str,
    occurred_at_ms: int,
    event_id: str | None = None,
    event_type: str | None = None,
    version: int = 1,
    stream_id: str = "",
    stream_version: int = 0,
) -> EventRecord:
    """The record of a new event, with the trace context of the current span.

    `event_type` is needed only where several types share one message (dead letters). Raises
    UnknownEventType.
    """
    known = _TYPES_BY_MESSAGE.get(type(message), [])
    if event_type is None and len(known) == 1:
        event_type = known[0]
    if event_type not in known:
        raise UnknownEventType(
            f"{type(message).__name__} is no {event_type or 'single event type'}; known: {known}"
        )
    return EventRecord(
        event_id=event_id or new_id("evt", occurred_at_ms),
        type=event_type,
        version=version,
        occurred_at_ms=occurred_at_ms,
        account_id=account_id,
        traceparent=current_traceparent(),
        payload=message.SerializeToString(),
        stream_id=stream_id,
        stream_version=stream_version,
    )
