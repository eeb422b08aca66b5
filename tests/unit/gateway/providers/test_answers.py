"""What providers answer, in our words: the same however it was cut, and whole or streamed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.money import TokenKind
from services.gateway.ports import ProviderKind
from services.gateway.providers.formats import FORMATS
from services.gateway.providers.parts import ANTHROPIC_REASONING, GEMINI_REASONING
from services.gateway.providers.port import AttemptFailed
from services.gateway.providers.wire import AnswerReader
from tests.fixtures import answers
from tests.fixtures.answers import Block, Call, Counts, Text, Thought
from tests.fixtures.attempts import attempt, heard, read_all

Write = Callable[[Sequence[Block], Counts], bytes]
STREAMS: dict[ProviderKind, Write] = {
    "anthropic": answers.anthropic_stream,
    "gemini": answers.gemini_stream,
    "bedrock": answers.bedrock_stream,
}
WHOLES: dict[ProviderKind, Write] = {
    "anthropic": answers.anthropic_whole,
    "gemini": answers.gemini_whole,
    "bedrock": answers.bedrock_whole,
}
KINDS = sorted(STREAMS)

_PIECES = st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=4).map(tuple)
_NAME = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
_ARGUMENTS = st.dictionaries(_NAME, st.none() | st.booleans() | st.text(max_size=6), max_size=3)
_TEXTS = st.builds(Text, _PIECES)
_CALLS = st.builds(Call, st.uuids().map(str), _NAME, _ARGUMENTS)
_THOUGHTS = st.builds(Thought, _PIECES, _NAME)


@st.composite
def blocks_of_an_answer(draw: st.DrawFn) -> list[Block]:
    """Perhaps a thought, then texts and calls."""
    said: list[Block] = draw(st.lists(_TEXTS | _CALLS, min_size=1, max_size=4))
    thought: list[Block] = draw(st.lists(_THOUGHTS, max_size=1))
    return [*thought, *said]


_COUNTS = st.builds(
    Counts,
    prompt=st.integers(1, 10**6),
    cached=st.integers(0, 1000),
    written=st.integers(0, 1000),
    completion=st.integers(1, 10**5),
)


def _reader(kind: ProviderKind) -> AnswerReader:
    return FORMATS[kind].reader(attempt(kind, {"messages": []}))


@pytest.mark.parametrize("kind", KINDS)
@given(blocks=blocks_of_an_answer(), cuts=st.lists(st.integers(0, 10**6), max_size=12))
def test_chunks_are_the_same_however_the_bytes_were_cut(
    kind: ProviderKind, blocks: list[Block], cuts: list[int]
) -> None:
    raw = STREAMS[kind](blocks, Counts())
    bounds = [0, *sorted({cut % (len(raw) + 1) for cut in cuts}), len(raw)]
    # Ids that a provider did not give are made up; here it gives them all.
    cut_up = read_all(_reader(kind), *(raw[a:b] for a, b in pairwise(bounds)))
    assert cut_up == read_all(_reader(kind), raw)


@pytest.mark.parametrize("kind", KINDS)
@given(blocks=blocks_of_an_answer(), counts=_COUNTS)
def test_a_streamed_and_a_whole_answer_say_the_same_and_are_metered_the_same(
    kind: ProviderKind, blocks: list[Block], counts: Counts
) -> None:
    streamed = _reader(kind)
    chunks = read_all(streamed, STREAMS[kind](blocks, counts))
    assert streamed.complete
    whole = _reader(kind).whole(WHOLES[kind](blocks, counts))
    assert heard(chunks) == heard(whole)


@pytest.mark.parametrize("kind", KINDS)
@given(blocks=blocks_of_an_answer(), counts=_COUNTS)
def test_nothing_that_both_sides_can_say_is_lost(
    kind: ProviderKind, blocks: list[Block], counts: Counts
) -> None:
    found = heard(read_all(_reader(kind), STREAMS[kind](blocks, counts)))
    texts = [piece for block in blocks if isinstance(block, Text) for piece in block.pieces]
    assert (found.message["content"] or "") == "".join(texts)
    calls = [block for block in blocks if isinstance(block, Call)]
    assert [
        (call["id"], call["function"]["name"], orjson.loads(call["function"]["arguments"]))
        for call in found.message.get("tool_calls", ())
    ] == [(call.id, call.name, call.arguments) for call in calls]
    thoughts = [block for block in blocks if isinstance(block, Thought)]
    thought = "".join(piece for block in thoughts for piece in block.pieces)
    assert found.message.get("reasoning_content", "") == thought
    signed = str(found.message)
    assert all(block.signature in signed for block in thoughts)
    assert sum(found.quantities.values()) == sum(
        (counts.prompt, counts.cached, counts.completion)
    ) + (3 if kind == "gemini" else counts.written)


def test_tokens_of_a_cache_are_told_apart() -> None:
    blocks = [Text(("Hello",))]
    for kind in ("anthropic", "bedrock"):
        found = heard(read_all(_reader(kind), STREAMS[kind](blocks, Counts())))
        assert found.quantities == {
            TokenKind.PROMPT: 20,
            TokenKind.CACHED_PROMPT: 4,
            TokenKind.CACHE_WRITE: 2,
            TokenKind.COMPLETION: 7,
        }
    found = heard(read_all(_reader("gemini"), STREAMS["gemini"](blocks, Counts())))
    assert found.quantities == {
        TokenKind.PROMPT: 20,
        TokenKind.CACHED_PROMPT: 4,
        TokenKind.COMPLETION: 7,
        TokenKind.REASONING: 3,
    }


def test_gemini_tells_what_was_heard() -> None:
    heard_tokens = {"modality": "AUDIO", "tokenCount": 90}
    usage = {"promptTokenCount": 100, "candidatesTokenCount": 5, "promptTokensDetails": [
        {"modality": "TEXT", "tokenCount": 10}, heard_tokens]}  # fmt: skip
    event = {"candidates": [{"finishReason": "STOP"}], "usageMetadata": usage}
    found = heard([*_reader("gemini").whole(orjson.dumps(event))])
    assert found.quantities[TokenKind.AUDIO_PROMPT] == 90
    assert found.quantities[TokenKind.PROMPT] == 10


@pytest.mark.parametrize(
    ("kind", "stop", "finish"),
    [
        ("anthropic", "max_tokens", "length"),
        ("anthropic", "stop_sequence", "stop"),
        ("anthropic", "tool_use", "tool_calls"),
        ("anthropic", "refusal", "content_filter"),
        ("gemini", "MAX_TOKENS", "length"),
        ("gemini", "SAFETY", "content_filter"),
        ("bedrock", "max_tokens", "length"),
        ("bedrock", "guardrail_intervened", "content_filter"),
    ],
)
def test_why_an_answer_ended_is_said_in_the_usual_words(
    kind: ProviderKind, stop: str, finish: str
) -> None:
    write = {
        "anthropic": answers.anthropic_stream,
        "gemini": answers.gemini_stream,
        "bedrock": answers.bedrock_stream,
    }[kind]
    raw = write([Text(("Hi",))], Counts(), stop=stop)
    assert heard(read_all(_reader(kind), raw)).finish_reason == finish


def test_thinking_comes_with_what_proves_it() -> None:
    blocks: list[Block] = [
        Thought(("Let me ", "see."), "sig-1"),
        Call("toolu_1", "look", {"at": "sky"}),
    ]
    found = heard(read_all(_reader("anthropic"), answers.anthropic_stream(blocks, Counts())))
    detail = {"type": "reasoning.text", "text": "Let me see.", "signature": "sig-1"}
    assert found.message["reasoning_details"] == [{**detail, "format": ANTHROPIC_REASONING}]
    found = heard(read_all(_reader("gemini"), answers.gemini_stream(blocks, Counts())))
    assert found.message["tool_calls"][0]["thought_signature"] == "sig-1"
    assert found.finish_reason == "tool_calls"
    spoken: list[Block] = [Thought(("Hm.",), "sig-2"), Text(("Yes",))]
    found = heard(read_all(_reader("gemini"), answers.gemini_stream(spoken, Counts())))
    encrypted = {"type": "reasoning.encrypted", "data": "sig-2", "format": GEMINI_REASONING}
    assert found.message["reasoning_details"] == [encrypted]


@pytest.mark.parametrize(
    ("kind", "raw", "status", "code"),
    [
        (
            "anthropic",
            answers.sse({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}),
            503,
            "provider_not_available",
        ),
        (
            "anthropic",
            answers.sse({"type": "error", "error": {"type": "rate_limit_error", "message": "x"}}),
            429,
            "upstream_rate_limit_error",
        ),
        ("anthropic", b"data: [1]\n\n", 502, "upstream_error"),
        ("anthropic", b"data: {oops\n\n", 502, "upstream_error"),
        (
            "gemini",
            answers.sse({"error": {"code": 503, "message": "x", "status": "UNAVAILABLE"}}),
            503,
            "provider_not_available",
        ),
        (
            "gemini",
            answers.sse({"promptFeedback": {"blockReason": "SAFETY"}}),
            400,
            "content_policy_violation",
        ),
        (
            "bedrock",
            answers.frame("throttlingException", {"message": "slow down"}, exception=True),
            429,
            "upstream_rate_limit_error",
        ),
        ("bedrock", b"\x00\x00\x00\x20 no frame at all..............", 502, "upstream_error"),
    ],
)
def test_failures_inside_a_stream_are_said_in_our_words(
    kind: ProviderKind, raw: bytes, status: int, code: str
) -> None:
    with pytest.raises(AttemptFailed) as raised:
        read_all(_reader(kind), raw)
    assert (raised.value.error.http_status, raised.value.error.code) == (status, code)
    assert raised.value.stage == "upstream_stream"


def test_what_came_before_a_failure_is_kept() -> None:
    stream = answers.anthropic_stream([Text(("Par", "is"))], Counts())
    cut = stream[: stream.index(b"event: content_block_stop")]
    error = answers.sse({"type": "error", "error": {"type": "api_error", "message": "x"}})
    reader = _reader("anthropic")
    chunks: list[Any] = []  # Any: JSON of chunks
    with pytest.raises(AttemptFailed):
        reader.feed(cut + error, chunks)
    assert heard(chunks).message["content"] == "Paris"
