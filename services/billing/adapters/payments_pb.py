"""Payment events to and from protobuf: messages have the names and fields of the classes."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from google.protobuf.message import Message

from services.billing.domain.payment_events import PAYMENT_EVENTS, PaymentEvent
from services.common.pb.mesh.events.v1 import payments_pb2

_CLASSES: dict[str, Any] = {one.__name__: one for one in PAYMENT_EVENTS}  # Any: their constructors
_FIELDS = {name: tuple(one.name for one in fields(_CLASSES[name])) for name in _CLASSES}


def message_from_payment_event(event: PaymentEvent) -> Message:
    """The protobuf message of an event."""
    name = type(event).__name__
    made: Message = getattr(payments_pb2, name)(
        **{one: getattr(event, one) for one in _FIELDS[name]}
    )
    return made


def payment_event_from_message(message: Message) -> PaymentEvent | None:
    """The event of a message; None where it is none of payments."""
    name = type(message).__name__
    if name not in _CLASSES:
        return None
    event: PaymentEvent = _CLASSES[name](**{one: getattr(message, one) for one in _FIELDS[name]})
    return event
