"""Every reader of a topic takes every golden example of it, and a repeated message changes
nothing.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.common.events import MESSAGE_BY_TYPE, EventRecord
from services.common.topics import TOPICS, Topic
from tests.contract.events.golden import examples
from tests.contract.events.readers import OUTSIDE, OUTSIDE_ONLY, READERS, REFUSALS

TOPIC_BY_NAME = {topic.name: topic for topic in TOPICS}
PAIRS = sorted(READERS)
TAKEN = [
    pytest.param(topic, reader, event_type, id=f"{reader}-{event_type}")
    for topic, reader in PAIRS
    for event_type in TOPIC_BY_NAME[topic].event_types
]


def test_every_reader_that_the_table_of_topics_names_is_tested() -> None:
    assert set(READERS) == {(topic.name, one) for topic in TOPICS for one in topic.consumers}


def test_every_event_type_has_a_reader_in_a_service_unless_its_topic_is_for_others() -> None:
    read = {
        event_type
        for (topic, _), reader in READERS.items()
        if reader is not OUTSIDE
        for event_type in TOPIC_BY_NAME[topic].event_types
    }
    unread = {name for topic in OUTSIDE_ONLY for name in TOPIC_BY_NAME[topic].event_types}
    assert read | unread == set(MESSAGE_BY_TYPE)
    assert not read & unread


@pytest.mark.parametrize(("topic", "reader", "event_type"), TAKEN)
async def test_a_message_that_comes_twice_counts_once(
    topic: str, reader: str, event_type: str
) -> None:
    read = READERS[topic, reader]
    found = examples(event_type)
    assert found, f"no golden example of {event_type}"
    for example in found:
        once = await read([example])
        assert await read([example, example]) == once


@pytest.mark.parametrize(("topic", "reader"), PAIRS)
async def test_all_examples_of_a_topic_one_after_the_other_and_each_twice(
    topic: str, reader: str
) -> None:
    read = READERS[topic, reader]
    found = examples(*TOPIC_BY_NAME[topic].event_types)
    doubled = [example for example in found for _ in range(2)]
    assert await read(doubled) == await read(found)


def misplaced(topic: Topic) -> list[str]:
    """The event types of other topics, as far as there are examples of them."""
    return [one.type for one in examples() if one.number == 0 and one.type not in topic.event_types]


@pytest.mark.parametrize(
    ("topic", "reader"), [pair for pair in PAIRS if READERS[pair] is not OUTSIDE]
)
async def test_a_message_of_another_topic_is_refused(topic: str, reader: str) -> None:
    read = READERS[topic, reader]
    for event_type in misplaced(TOPIC_BY_NAME[topic]):
        with pytest.raises(REFUSALS):
            await read(examples(event_type)[:1])


@pytest.mark.parametrize(
    ("topic", "reader"), [pair for pair in PAIRS if READERS[pair] is not OUTSIDE]
)
async def test_a_type_that_this_build_does_not_know_is_refused(topic: str, reader: str) -> None:
    first = examples(TOPIC_BY_NAME[topic].event_types[0])[0]
    unknown = replace(EventRecord.from_bytes(first.envelope), type="mesh.NotYetInvented")
    with pytest.raises(REFUSALS):
        await READERS[topic, reader]([replace(first, envelope=unknown.to_bytes())])
