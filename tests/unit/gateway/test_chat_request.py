"""Chat requests from bytes."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import AppError, BadRequest, InvalidArgument
from services.gateway.chat_request import (
    OWN_FIELDS,
    UPSTREAM_FIELDS,
    body_from_bytes,
    chat_request_from_body,
)
from services.gateway.errors import CapabilityNotSupported

HELLO = [{"role": "user", "content": "Hello"}]
_SCALAR = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
)
_JSON = st.recursive(
    _SCALAR,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
_BODY = st.dictionaries(
    st.sampled_from([*UPSTREAM_FIELDS, *OWN_FIELDS, "messages", "other"]), _JSON, max_size=6
)
_ROLE = st.sampled_from(["user", "tool", "assistant"])
_MESSAGE = st.dictionaries(
    st.sampled_from(["role", "content", "name", "tool_calls", "tool_call_id", "x"]), _JSON
) | st.fixed_dictionaries({"role": _ROLE, "content": _JSON})


def _fault_of(raw: bytes) -> AppError | None:
    """What is wrong with a body; None where it is a request, which is then checked."""
    try:
        request = chat_request_from_body(body_from_bytes(raw), default_model="m")
    except AppError as fault:
        return fault
    orjson.dumps(request.upstream)
    assert request.upstream.keys() <= {*UPSTREAM_FIELDS, "messages"}
    assert None not in request.upstream.values()
    return None


@given(body=_BODY, messages=st.lists(_MESSAGE, max_size=3))
def test_any_json_is_either_a_request_or_a_named_fault(
    body: dict[str, object], messages: list[object]
) -> None:
    fault = _fault_of(orjson.dumps({"messages": messages, **body}))
    assert fault is None or fault.http_status in (400, 422, 501)
    if fault is not None and fault.http_status == 422:
        assert fault.details


@given(raw=st.binary(max_size=200))
def test_any_bytes_are_an_object_or_a_bad_request(raw: bytes) -> None:
    fault = _fault_of(raw)
    assert fault is None or fault.http_status in (400, 422)


def test_nesting_is_bounded_but_length_is_not_mistaken_for_it() -> None:
    deep = b'{"a":' * 200 + b"1" + b"}" * 200
    with pytest.raises(BadRequest, match="nested"):
        body_from_bytes(deep)
    assert len(body_from_bytes(b'{"a":[' + b"[],{}," * 1_000 + b"1]}")["a"]) == 2_001


def test_every_fault_is_reported_at_once() -> None:
    with pytest.raises(InvalidArgument) as refused:
        chat_request_from_body({"messages": HELLO, "model": "m", "top_p": 2, "temperature": -1})
    assert [fault.loc for fault in refused.value.details] == [
        ("body", "top_p"), ("body", "temperature"),
    ]  # fmt: skip
    assert refused.value.message.startswith("top_p: ")


def test_the_model_comes_from_the_request_then_the_list_then_the_key() -> None:
    def models(**body: object) -> tuple[str, ...]:
        return chat_request_from_body({"messages": HELLO, **body}, default_model="key").models

    assert models(model="a") == ("a",)
    assert models(model="a", models=["b", "a"]) == ("a", "b")
    assert models(models=["b", "c"]) == ("b", "c")
    assert models() == ("key",)


def test_unknown_parts_of_messages_stay_behind_and_null_content_of_a_call_goes_on() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "x", "colour": "red", "name": None},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "7", "tool_call_id": "c"},
    ]
    request = chat_request_from_body({"messages": messages, "model": "m"})
    assert request.upstream["messages"] == [
        {"role": "user", "content": "x"}, messages[1], messages[2],
    ]  # fmt: skip
    assert request.prompt.texts == ["x", "f", "{}", "7"]


def test_parts_count_by_what_they_are() -> None:
    content = [
        {"type": "text", "text": "Look"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "input_audio", "input_audio": {"data": "A" * 4_000, "format": "wav"}},
        {"type": "video_url", "video_url": {"url": "https://example.org/v"}},
    ]
    request = chat_request_from_body(
        {"messages": [{"role": "user", "content": content}], "model": "m"}
    )
    parts = request.prompt
    assert (parts.texts, parts.images, parts.audio_bytes, parts.videos) == (["Look"], 1, 3_000, 1)


def test_tools_count_as_prompt_and_a_choice_among_none_is_dropped() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    with_tools = chat_request_from_body({"messages": HELLO, "model": "m", "tools": [tool]})
    assert "parameters" in with_tools.prompt.texts[-1]
    without = chat_request_from_body(
        {"messages": HELLO, "model": "m", "tools": [], "tool_choice": "auto"}
    )
    assert without.upstream.keys() == {"messages"}


@pytest.mark.parametrize(
    ("given_effort", "sent"),
    [
        ({"reasoning": {"effort": "low"}}, "low"),
        ({"reasoning": {"enabled": False}}, "none"),
        ({"reasoning": {"effort": "low"}, "reasoning_effort": "high"}, "high"),
    ],
)
def test_reasoning_is_spelt_as_openai_spells_it(given_effort: dict[str, object], sent: str) -> None:
    request = chat_request_from_body({"messages": HELLO, "model": "m", **given_effort})
    assert request.upstream["reasoning_effort"] == sent


def test_the_flex_tier_is_refused_not_downgraded() -> None:
    with pytest.raises(CapabilityNotSupported):
        chat_request_from_body({"messages": HELLO, "model": "m", "service_tier": "flex"})


def test_more_faults_than_are_told_do_not_hide_that_a_message_is_malformed() -> None:
    messages = [{"role": "user", "content": 7}] * 30
    calls = [{"id": "c", "type": "function"}]
    messages.append({"role": "assistant", "content": None, "tool_calls": calls})
    messages.append({"role": "user", "content": [{"type": "text"}]})
    with pytest.raises(InvalidArgument) as refused:
        chat_request_from_body({"messages": messages, "model": "m"})
    assert len(refused.value.details) == 20
