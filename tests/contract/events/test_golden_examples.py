"""The golden examples say the same in JSON and in bytes, and there is one of every event type."""

from __future__ import annotations

import pytest
from google.protobuf import json_format

from services.common.events import EventRecord
from services.common.topics import TOPICS
from tests.contract.events.golden import EXAMPLES, Example, examples


def described(example: Example) -> str:
    return f"{example.type}-{example.number}"


def test_every_event_type_of_the_table_of_topics_has_an_example() -> None:
    declared = {event_type for topic in TOPICS for event_type in topic.event_types}
    assert {path.stem for path in EXAMPLES.glob("*.json")} == declared


@pytest.mark.parametrize("example", examples(), ids=described)
def test_an_example_says_the_same_in_json_and_in_bytes(example: Example) -> None:
    record = EventRecord.from_bytes(example.envelope)
    assert record.type == example.type
    payload = json_format.MessageToDict(record.message(), preserving_proto_field_name=True)
    assert payload == example.payload


@pytest.mark.parametrize("example", examples(), ids=described)
def test_an_example_written_again_is_the_same_bytes(example: Example) -> None:
    assert EventRecord.from_bytes(example.envelope).to_bytes() == example.envelope
