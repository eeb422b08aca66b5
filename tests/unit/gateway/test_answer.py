"""Uniform chunks, and their fold into a whole answer."""

from __future__ import annotations

from typing import Any

import pytest

from services.gateway.answer import AnswerFold, BadUpstreamAnswer, ChunkNormaliser

Json = dict[str, Any]  # Any: JSON


def _normaliser() -> ChunkNormaliser:
    return ChunkNormaliser(model_id="vendor/m", answer_id="chatcmpl-1", created_s=7)


def _fold(*chunks: Json) -> Json:
    normaliser, fold = _normaliser(), AnswerFold()
    for raw in chunks:
        chunk = normaliser.take(raw)
        if chunk is not None:
            fold.add(chunk)
    return fold.whole({"total_tokens": 1})


def _delta(delta: Json, index: int = 0, finish: str | None = None) -> Json:
    return {"choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


def test_what_is_missing_is_put_in_and_what_is_private_left_out() -> None:
    raw: Json = {
        "choices": [{"delta": {"content": "x"}}],
        "provider": "secret",
        "timings": {},
        "error": None,
    }
    assert _normaliser().take(raw) == {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 7,
        "model": "vendor/m",
        "choices": [
            {"index": 0, "delta": {"content": "x", "role": "assistant"}, "finish_reason": None}
        ],
    }


def test_the_role_comes_once_for_each_choice() -> None:
    normaliser = _normaliser()
    roles = []
    for index in (0, 1, 0, 1):
        chunk = normaliser.take(_delta({"content": "x", "role": None}, index))
        assert chunk is not None
        roles.append(chunk["choices"][0]["delta"].get("role"))
    assert roles == ["assistant", "assistant", None, None]


def test_usage_goes_to_the_tally_and_an_empty_chunk_nowhere() -> None:
    normaliser = _normaliser()
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    assert normaliser.take({"choices": [], "usage": usage}) is None
    assert normaliser.tally.reported is not None
    assert normaliser.tally.reported.completion == 2


def test_interleaved_choices_and_tool_calls_are_put_together() -> None:
    def call(index: int | None, arguments: str, **more: object) -> Json:
        piece: Json = {"function": {"arguments": arguments}, **more}
        return piece if index is None else {**piece, "index": index}

    first = {"name": "a", "arguments": "{"}
    answer = _fold(
        _delta({"content": "He"}, 0),
        _delta({"content": "Yo"}, 1),
        _delta({"tool_calls": [{"index": 0, "id": "c0", "function": first}]}, 1),
        _delta({"tool_calls": [call(1, "[", id="c1", type="function")]}, 1),
        _delta({"tool_calls": [call(0, "}"), call(1, "]")]}, 1),
        _delta({"content": "llo"}, 0, "stop"),
        _delta({}, 1, "tool_calls"),
    )
    zero, one = answer["choices"]
    assert zero["message"] == {"role": "assistant", "content": "Hello"}
    assert (zero["finish_reason"], one["finish_reason"]) == ("stop", "tool_calls")
    assert one["message"]["content"] == "Yo"
    calls = one["message"]["tool_calls"]
    assert [(c["id"], c["type"], c["function"]["arguments"]) for c in calls] == [
        ("c0", "function", "{}"),
        ("c1", "function", "[]"),
    ]


def test_reasoning_logprobs_and_audio_are_folded_too() -> None:
    def with_logprob(token: str) -> Json:
        chunk = _delta({"content": token})
        chunk["choices"][0]["logprobs"] = {"content": [{"token": token}], "refusal": None}
        return chunk

    answer = _fold(
        _delta({"reasoning_content": "hm"}),
        _delta({"reasoning_content": "m", "reasoning_details": [{"a": 1}]}),
        with_logprob("a"),
        with_logprob("b"),
        _delta({"audio": {"id": "au", "data": "QUJD", "transcript": "hi"}}),
        _delta({"audio": {"data": "REVG", "expires_at": 9}}),
    )
    choice = answer["choices"][0]
    assert choice["message"]["reasoning_content"] == "hmm"
    assert choice["message"]["reasoning_details"] == [{"a": 1}]
    assert choice["message"]["audio"] == {
        "id": "au", "data": "QUJDREVG", "transcript": "hi", "expires_at": 9,
    }  # fmt: skip
    assert [entry["token"] for entry in choice["logprobs"]["content"]] == ["a", "b"]
    assert choice["finish_reason"] == "stop"


def test_a_whole_message_is_one_chunk_of_itself() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    answer = _fold({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
    assert answer["choices"][0]["message"] == message


@pytest.mark.parametrize(
    "raw", [[], "x", {"choices": {"a": 1}}, {"choices": [3]}, _delta({"tool_calls": [3]})]
)
def test_what_is_no_chunk_is_refused(raw: object) -> None:
    with pytest.raises(BadUpstreamAnswer):
        _normaliser().take(raw)


def test_no_chunks_are_no_answer() -> None:
    with pytest.raises(BadUpstreamAnswer):
        AnswerFold().whole({})
