"""The decoder of server-sent events."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.providers.sse import EventTooLong, SseDecoder

_LINE = st.binary(max_size=30).filter(lambda line: b"\n" not in line and b"\r" not in line)
_END = st.sampled_from([b"\n", b"\r\n", b"\r"])


def _chunks(raw: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(raw) + 1) for cut in cuts})
    bounds = [0, *places, len(raw)]
    return [raw[a:b] for a, b in pairwise(bounds)]


@given(
    events=st.lists(st.lists(_LINE, min_size=1, max_size=3), max_size=6),
    end=_END,
    cuts=st.lists(st.integers(0, 10_000), max_size=20),
    noise=st.sampled_from([b"", b": ping", b"event: x", b"id: 7"]),
)
def test_events_are_the_same_however_the_bytes_were_cut(
    events: list[list[bytes]], end: bytes, cuts: list[int], noise: bytes
) -> None:
    raw = b""
    for lines in events:
        raw += b"".join(b"data: " + line + end for line in lines)
        raw += (noise + end if noise else b"") + end
    # The LF that would tell a CR from a CR LF; the decoder may wait for it.
    raw += b": end\n"
    decoder = SseDecoder()
    found = [event for chunk in _chunks(raw, cuts) for event in decoder.feed(chunk)]
    assert found == [b"\n".join(lines) for lines in events]


@given(raw=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300), max_size=10))
def test_no_bytes_break_the_decoder_and_cuts_change_nothing(raw: bytes, cuts: list[int]) -> None:
    whole, pieces = SseDecoder(), SseDecoder()
    found = [event for chunk in _chunks(raw, cuts) for event in pieces.feed(chunk)]
    assert found == whole.feed(raw)


def test_the_space_behind_the_colon_is_optional_and_only_one_is_dropped() -> None:
    assert SseDecoder().feed(b"data:a\n\ndata: b\n\ndata:  c\n\n") == [b"a", b"b", b" c"]


def test_an_event_that_is_cut_off_is_none() -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"data: half") == []
    assert decoder.feed(b"\n") == []


def test_an_event_that_is_too_long_is_refused_however_it_comes() -> None:
    with pytest.raises(EventTooLong):
        SseDecoder(100).feed(b"data: " + b"x" * 200)
    decoder = SseDecoder(100)
    for _ in range(12):
        assert decoder.feed(b"data: abcdefgh\n") == []
    with pytest.raises(EventTooLong):
        decoder.feed(b"data: abcdefgh\n")
