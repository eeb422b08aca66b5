"""Event records on the wire."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.events import (
    MESSAGE_BY_TYPE,
    EventRecord,
    UndecodableEvent,
    UnknownEventType,
    record_of,
)
from services.common.pb.mesh.events.v1 import dead_letter_pb2, envelope_pb2, usage_pb2
from services.common.telemetry import span
from services.common.topics import TOPICS


def test_every_event_type_of_every_topic_has_a_message() -> None:
    types = {event_type for topic in TOPICS for event_type in topic.event_types}
    assert set(MESSAGE_BY_TYPE) == types
    assert MESSAGE_BY_TYPE["gateway.UsageRecorded"] is usage_pb2.UsageRecorded


def test_a_record_survives_its_bytes() -> None:
    message = usage_pb2.UsageRecorded(usage_id="use_1", request_id="req_1")
    record = record_of(message, account_id="acc_1", occurred_at_ms=1_700_000_000_123)
    back = EventRecord.from_bytes(record.to_bytes())
    assert back == record
    assert back.type == "gateway.UsageRecorded"
    assert back.message() == message


def test_a_record_carries_the_trace_it_was_made_in() -> None:
    with span("test") as current:
        record = record_of(usage_pb2.UsageRecorded(), account_id="acc_1", occurred_at_ms=1)
    assert record.traceparent == current.traceparent


def test_a_message_with_several_types_needs_to_be_told_which() -> None:
    letter = dead_letter_pb2.DeadLetter(consumer="billing")
    with pytest.raises(UnknownEventType):
        record_of(letter, account_id="", occurred_at_ms=1)
    record = record_of(letter, account_id="", occurred_at_ms=1, event_type="usage.DeadLetter")
    assert record.message() == letter


def test_a_message_that_no_topic_names_is_refused() -> None:
    with pytest.raises(UnknownEventType):
        record_of(envelope_pb2.Envelope(), account_id="", occurred_at_ms=1)


@pytest.mark.parametrize("raw", [None, b"", b"\xff\xff\xff", b"\x0a\x03abc", b"not an envelope"])
def test_bytes_that_are_no_envelope_are_undecodable(raw: bytes | None) -> None:
    with pytest.raises(UndecodableEvent):
        EventRecord.from_bytes(raw)


def test_an_unknown_type_is_undecodable_only_when_decoded() -> None:
    raw = EventRecord("evt_1", "billing.Nothing", 1, 1, "acc_1", "", b"").to_bytes()
    record = EventRecord.from_bytes(raw)
    with pytest.raises(UndecodableEvent, match=r"billing\.Nothing"):
        record.message()


def test_a_corrupt_payload_is_undecodable() -> None:
    record = EventRecord("evt_1", "gateway.UsageRecorded", 1, 1, "acc_1", "", b"\xff\xff")
    with pytest.raises(UndecodableEvent, match="payload"):
        record.message()


@given(st.binary(max_size=200))
def test_no_bytes_break_the_decoder_otherwise(raw: bytes) -> None:
    try:
        EventRecord.from_bytes(raw).message()
    except UndecodableEvent:
        return
