"""What people see of dead letters, what they decide about them, and that nothing is lost by it."""

from __future__ import annotations

import json

import pytest

from services.common.clock import FakeClock
from services.common.errors import InvalidArgument, NotFound
from services.common.events import record_of
from services.common.kafka import DeadLetters, LogMessage
from services.common.kafka.memory import MemoryArchive, MemoryLog, MemoryProducer
from services.common.pb.mesh.events.v1 import accounts_pb2, usage_pb2
from services.common.put_aside import DeadLetterDesk, contents_of, shelf_of
from services.common.topics import BILLING_DEAD, KEYS, USAGE

SECRET = "rsk_01KDVDQ3G0AAAAAAAAAAAAAA01"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def log(clock: FakeClock) -> MemoryLog:
    return MemoryLog(clock=clock)


@pytest.fixture
async def desk(log: MemoryLog, clock: FakeClock) -> DeadLetterDesk:
    producer = MemoryProducer(log)
    await producer.start()
    return DeadLetterDesk(MemoryArchive(log), producer, dead=BILLING_DEAD, clock=clock)


async def put(log: MemoryLog, *messages: LogMessage) -> None:
    producer = MemoryProducer(log)
    await producer.start()
    letters = DeadLetters(producer, consumer="billing", topic=BILLING_DEAD)
    for message in messages:
        await letters.put(message, "no envelope")


def usage(offset: int) -> LogMessage:
    return LogMessage(USAGE.name, 1, offset, 1, b"acc_1", b"not an event")


async def test_a_letter_is_open_until_somebody_decides(
    log: MemoryLog, desk: DeadLetterDesk
) -> None:
    await put(log, usage(1), usage(2))
    shelf = await desk.newest()
    assert [(one.position, one.status) for one in shelf.letters] == [(1, "open"), (0, "open")]
    assert not shelf.older


async def test_a_discarded_letter_stays_listed_with_who_discarded_it_and_why(
    log: MemoryLog, desk: DeadLetterDesk, clock: FakeClock
) -> None:
    await put(log, usage(1), usage(2))
    await clock.advance(5)
    letter = await desk.discard(0, reason="  a test message ", actor="usr_1")
    assert letter.decision is not None
    assert (letter.status, letter.decision.actor, letter.decision.reason) == (
        "discarded", "usr_1", "a test message",
    )  # fmt: skip
    assert letter.decision.at_ms == clock.now_ms()
    shelf = await desk.newest()
    assert [(one.position, one.status) for one in shelf.letters] == [(1, "open"), (0, "discarded")]
    assert log.messages(USAGE.name) == []


async def test_discarding_twice_writes_one_event_and_keeps_the_first_reason(
    log: MemoryLog, desk: DeadLetterDesk
) -> None:
    await put(log, usage(1))
    await desk.discard(0, reason="first", actor="usr_1")
    again = await desk.discard(0, reason="second", actor="usr_2")
    assert again.decision is not None
    assert again.decision.reason == "first"
    assert len(log.messages(BILLING_DEAD.name)) == 2


async def test_a_discarded_letter_can_still_be_sent_again(
    log: MemoryLog, desk: DeadLetterDesk
) -> None:
    await put(log, usage(1))
    await desk.discard(0, reason="a mistake", actor="usr_1")
    sent = await desk.send_again(0, actor="usr_2")
    assert (sent.topic, log.messages(USAGE.name)[0].value) == (USAGE.name, b"not an event")
    letter = await desk.letter(0)
    assert letter.decision is not None
    assert (letter.status, letter.decision.actor) == ("sent_again", "usr_2")


async def test_what_is_of_a_compacted_topic_is_not_sent_again_but_can_be_discarded(
    log: MemoryLog, desk: DeadLetterDesk
) -> None:
    await put(log, LogMessage(KEYS.name, 0, 3, 1, b"k", b"older"))
    with pytest.raises(InvalidArgument, match=r"mesh\.keys\.v1 is not sent again"):
        await desk.send_again(0, actor="usr_1")
    assert (await desk.letter(0)).status == "open"
    assert (await desk.discard(0, reason="superseded", actor="usr_1")).status == "discarded"


@pytest.mark.parametrize("reason", ["", "   ", "x" * 401])
async def test_a_letter_is_not_discarded_without_a_reason(
    reason: str, log: MemoryLog, desk: DeadLetterDesk
) -> None:
    await put(log, usage(1))
    with pytest.raises(InvalidArgument, match="reason"):
        await desk.discard(0, reason=reason, actor="usr_1")
    assert (await desk.letter(0)).status == "open"


@pytest.mark.parametrize("position", [1, 7])
async def test_neither_a_decision_nor_nothing_can_be_decided_about(
    position: int, log: MemoryLog, desk: DeadLetterDesk
) -> None:
    await put(log, usage(1))
    await desk.discard(0, reason="a test", actor="usr_1")
    with pytest.raises(NotFound):
        await desk.discard(position, reason="what is it", actor="usr_1")
    with pytest.raises(NotFound):
        await desk.send_again(position, actor="usr_1")


def test_what_is_no_letter_is_listed_as_well() -> None:
    shelf = shelf_of([LogMessage(BILLING_DEAD.name, 0, 4, 9, b"k", b"garbage")], older=True)
    [letter] = shelf.letters
    assert (letter.position, letter.content, letter.retryable, shelf.older) == (
        4,
        None,
        False,
        True,
    )


def test_an_opened_letter_shows_its_event_without_secrets() -> None:
    state = accounts_pb2.KeyState(key_hash="0f" * 32, key_id="key_1", account_id="acc_1")
    state.settings.label = f"the key {SECRET} of Ada"
    found = contents_of(record_of(state, account_id="acc_1", occurred_at_ms=7).to_bytes())
    assert found.record is not None
    assert (found.record.type, found.record.account_id) == ("accounts.KeyState", "acc_1")
    shown = json.loads(found.event_json)
    assert (shown["key_id"], shown["key_hash"]) == ("key_1", "[redacted]")
    assert shown["settings"]["label"] == "the key [redacted] of Ada"


def test_a_letter_that_cannot_be_decoded_says_why_and_shows_its_text_without_secrets() -> None:
    found = contents_of(b"\x1b[2Jheader " + SECRET.encode() + b" tail")
    assert (found.event_json, found.record) == ("", None)
    assert "not an envelope" in found.undecodable
    assert SECRET not in found.preview
    assert "tail" in found.preview
    assert "\x1b" not in found.preview


def test_tokens_that_are_counted_are_no_secrets() -> None:
    event = usage_pb2.UsageRecorded(usage_id="use_1", first_token_ms=11)
    found = contents_of(record_of(event, account_id="acc_1", occurred_at_ms=7).to_bytes())
    assert "11" in found.event_json
    assert "[redacted]" not in found.event_json
