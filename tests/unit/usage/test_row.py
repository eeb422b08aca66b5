"""A usage event makes one row, the same each time, or is refused with the field that is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.events import EventRecord, UndecodableEvent, record_of
from services.common.kafka import LogMessage
from services.common.pb.mesh.events.v1 import ledger_pb2, usage_pb2
from services.usage.adapters.usage_event import row_from_message, row_from_wire
from services.usage.domain.row import COLUMNS, RequestRow
from services.usage.domain.usage import OUTCOMES, BadUsage, name_of, number_of
from services.usage.entrypoints.messages import request_to_wire
from tests.contract.events.golden import examples
from tests.unit.usage.builders import START_MS, RecordedUsage, envelope, message, usage, wire

AT = LogMessage("mesh.usage.v1", 3, 42, START_MS, None, None)


def row_from_event(event: RecordedUsage, at: LogMessage) -> RequestRow:
    return row_from_wire(event.event_id, wire(event), at)


@pytest.mark.parametrize("example", examples("gateway.UsageRecorded"), ids=lambda e: e.number)
def test_every_golden_event_makes_the_same_row_twice_and_loses_nothing(example: Any) -> None:
    # Any: pytest passes the example through its ids function untyped.
    taken = LogMessage(AT.topic, AT.partition, AT.offset, 0, None, example.envelope)
    row = row_from_message(taken)
    assert row_from_message(taken) == row
    event = EventRecord.from_bytes(example.envelope).message()
    assert isinstance(event, usage_pb2.UsageRecorded)
    logged = request_to_wire(row)
    names = {field.name for field in logged.DESCRIPTOR.fields}
    for field in event.DESCRIPTOR.fields:
        if field.name == "quantities":
            expected = {q.kind: q.tokens for q in event.quantities if q.tokens}
            assert {q.kind: q.tokens for q in logged.quantities} == expected
        elif field.name in names:
            assert getattr(logged, field.name) == getattr(event, field.name), field.name
    assert row.prompt_tokens + row.completion_tokens + sum(row.tokens_other.values()) == sum(
        q.tokens for q in event.quantities
    )


def test_the_row_has_a_column_for_each_token_kind_and_keeps_kinds_it_does_not_know() -> None:
    row = row_from_event(usage(quantities={n: 10**n for n in range(1, 9)}), AT)
    assert (row.tokens_prompt, row.tokens_cached_prompt, row.tokens_cache_write) == (10, 100, 1000)
    assert (row.tokens_completion, row.tokens_reasoning) == (10**4, 10**5)
    assert (row.tokens_audio_prompt, row.tokens_audio_completion) == (10**6, 10**7)
    assert row.tokens_other == {8: 10**8}
    assert row.prompt_tokens == 1_001_110
    assert row.completion_tokens == 10_110_000


def test_the_row_says_where_in_the_log_it_came_from() -> None:
    row = row_from_event(usage(), AT)
    assert (row.log_topic, row.log_partition, row.log_offset) == ("mesh.usage.v1", 3, 42)
    assert len(COLUMNS) == len(RequestRow._fields)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"usage_id": ""}, "usage_id"),
        ({"account_id": ""}, "account_id"),
        ({"received_at_ms": 0}, "received_at_ms"),
        ({"received_at_ms": START_MS * 1000}, "received_at_ms"),
        ({"admitted_at_ms": 5}, "admitted_at_ms"),
        ({"quantities": {1: -1}}, "quantities"),
        ({"cost_nanousd": -1}, "cost_nanousd"),
    ],
)
def test_an_impossible_event_is_refused_by_field(changes: dict[str, Any], field: str) -> None:
    # Any: whatever a field of the event holds.
    with pytest.raises(BadUsage, match=field):
        row_from_event(usage(**changes), AT)
    with pytest.raises(UndecodableEvent, match=field):
        row_from_message(message(1, envelope(usage(**changes))))


def test_what_is_no_usage_event_is_undecodable() -> None:
    other = record_of(ledger_pb2.GrantOpened(), account_id="acc_1", occurred_at_ms=1)
    newer = record_of(wire(usage()), account_id="acc_1", occurred_at_ms=1, version=2)
    for value in (b"", b"\xff\xff", other.to_bytes(), newer.to_bytes()):
        with pytest.raises(UndecodableEvent):
            row_from_message(message(1, value))


@given(st.integers(-(2**31), 2**31 - 1))
def test_an_outcome_keeps_its_number_whatever_it_is(number: int) -> None:
    assert number_of(name_of(number, OUTCOMES), OUTCOMES) == number
