"""Prompts and answers as text: bounded, without secrets, and dropped rather than waited for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.common.clock import FakeClock
from services.common.events import EventRecord
from services.common.ids import AccountId, KeyId, RequestId, UsageId, UserId
from services.common.kafka.memory import MemoryLog, MemoryProducer
from services.common.pb.mesh.events.v1.content_pb2 import ContentRecorded
from services.common.topics import CONTENT
from services.gateway.chat_request import chat_request_from_body
from services.gateway.contents.limits import ContentLimits
from services.gateway.contents.recorder import CONTENTS_DROPPED, ContentRecorder
from services.gateway.contents.text import REMOVED, bounded, prompt_pieces, without_secrets
from services.gateway.ports import KeyPrincipal, KeySettings
from services.gateway.requests import request_from_body
from services.gateway.usage_entry import UsageEntry
from tests.fixtures.waiting import eventually, running

SMALL = ContentLimits(bytes_max=300, waiting_bytes_max=2_000, backoff_first_s=0.1)


def entry(number: int = 1, *, stored: bool = True, text: str = "Hello") -> UsageEntry:
    principal = KeyPrincipal(
        account_id=AccountId("acc_1"),
        key_id=KeyId("key_1"),
        user_id=UserId("usr_1"),
        key_version=1,
        settings=KeySettings(content_stored=stored),
    )
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    return UsageEntry(
        usage_id=UsageId(f"use_{number}"),
        request_id=RequestId(f"req_{number}"),
        worker_id="w",
        trace_id="",
        route="/v1/chat/completions",
        received_at_ms=1_790_000_000_000 + number,
        principal=principal,
        requested_model="m",
        request=chat_request_from_body(body),
    )


def stored(log: MemoryLog) -> list[ContentRecorded]:
    found = [EventRecord.from_bytes(one.value).message() for one in log.messages(CONTENT.name)]
    return [one for one in found if isinstance(one, ContentRecorded)]


@pytest.mark.parametrize(
    ("pieces", "limit", "expected"),
    [
        (["ab", "", "cd"], 4, ("abcd", False)),
        (["ab", "cde"], 4, ("abcd", True)),
        (["äöü"], 4, ("äö", True)),
        (["aäöü"], 4, ("aä", True)),
        (["", ""], 4, ("", False)),
        (["😀"], 3, ("", True)),
        (["a" * 10_000], 4, ("aaaa", True)),
    ],
)
def test_text_is_cut_between_characters_and_says_so(
    pieces: list[str], limit: int, expected: tuple[str, bool]
) -> None:
    assert bounded(pieces, limit) == expected


def test_no_more_of_a_prompt_is_read_than_is_kept() -> None:
    def pieces() -> Any:  # Any: an iterator that must not be drained
        yield "a" * 10
        raise AssertionError("read on")

    assert bounded(pieces(), 5) == ("aaaaa", True)


def test_a_prompt_is_written_by_role_and_names_what_is_no_text() -> None:
    body = {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "c",
                        "type": "function",
                        "function": {"name": "look", "arguments": '{"at": 1}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "c", "content": "a cat"},
        ],
    }
    assert "".join(prompt_pieces(chat_request_from_body(body))) == (
        "[system]\nBe brief.\n\n[user]\nWhat is this?[image_url]\n\n"
        '[assistant]\n[tool_call look] {"at": 1}\n\n[tool]\na cat'
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [("one", "one\n"), (["one", "two"], "one\ntwo\n"), ([[1, 2], [3]], "[tokens]")],
)
def test_what_is_embedded_is_written_line_by_line(given: object, expected: str) -> None:
    request = request_from_body("embeddings", {"model": "m", "input": given}, KeySettings())
    assert "".join(prompt_pieces(request)) == expected


@pytest.mark.parametrize(
    "secret",
    [
        "rsk_01KDVDQ3G0AAAAAAAAAAAAAA05",
        "rsk_01",
        "mss_abcdef",
        "mak_abcdef",
        "mas_abcdef",
        f"min_{'x' * 43}",
        "whsec_abcdef",
        "sk-proj-abcdefghijklmnop1234",
        "rk_test_abcdefghijklmnop1234",
        "AIzaSyA-abcdefghijklmnopqrstuvw",
        "AKIAABCDEFGHIJKLMNOP",
        "Bearer abcdefghijklmnopqrstuv.wxyz==",
    ],
)
def test_what_looks_like_a_secret_is_removed(secret: str) -> None:
    assert without_secrets(f"use {secret} now") == f"use {REMOVED} now"


def test_ordinary_words_stay() -> None:
    text = "a risk_01 of sk-8 boards, bearer of news, task_rsky"
    assert without_secrets(text) == text


async def test_only_keys_whose_owners_want_it_are_kept() -> None:
    log = MemoryLog()
    recorder = ContentRecorder(MemoryProducer(log), clock=FakeClock(0), limits=SMALL)
    async with running(recorder.run):
        recorder.note(entry(1, stored=False), ["no"])
        recorder.note(entry(2, text="a key: rsk_01KDVDQ3G0"), ["ye", "s" * 400])
        await eventually(lambda: len(stored(log)) == 1)
    (content,) = stored(log)
    assert content.usage_id == "use_2"
    assert content.prompt == f"[user]\na key: {REMOVED}"
    assert (content.answer[:4], len(content.answer)) == ("yess", 300)
    assert (content.prompt_truncated, content.answer_truncated) == (False, True)


async def test_while_kafka_is_away_contents_wait_in_bounds_and_the_rest_is_counted() -> None:
    log, clock = MemoryLog(), FakeClock(0)
    producer = MemoryProducer(log)
    await producer.start()
    recorder = ContentRecorder(producer, clock=clock, limits=SMALL)
    dropped = CONTENTS_DROPPED.labels("full")
    before = dropped._value.get()
    log.available = False
    async with running(recorder.run):
        for number in range(50):
            recorder.note(entry(number), ["x" * 200])
            await asyncio.sleep(0)
        lost = int(dropped._value.get() - before)
        assert 30 <= lost < 50
        log.available = True
        await clock.advance(10)
        await eventually(lambda: len({one.usage_id for one in stored(log)}) == 50 - lost)
        recorder.note(entry(99), ["again"])
        await eventually(lambda: "use_99" in {one.usage_id for one in stored(log)})
