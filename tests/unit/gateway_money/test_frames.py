"""What a segment's bytes say: every cut is a prefix, every other damage is seen."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.journal.frames import (
    HEADER_BYTES,
    MARKER,
    FrameKind,
    JournalDamaged,
    frame_to_bytes,
    frames_in,
    good_bytes,
)

PAYLOADS = st.lists(st.binary(max_size=60), min_size=1, max_size=8)


def _segment(payloads: list[bytes]) -> tuple[bytes, list[int]]:
    data, ends = b"", [0]
    for payload in payloads:
        data += frame_to_bytes(FrameKind.USAGE, payload)
        ends.append(len(data))
    return data, ends


@given(payloads=PAYLOADS)
def test_every_cut_of_a_segment_is_a_prefix_of_its_records(payloads: list[bytes]) -> None:
    data, ends = _segment(payloads)
    for cut in range(len(data) + 1):
        whole = max(place for place, end in enumerate(ends) if end <= cut)
        assert good_bytes(data[:cut], name="s", last=True) == ends[whole]
        assert [frame.payload for frame in frames_in(data[:cut])] == payloads[:whole]


@given(payloads=PAYLOADS, data=st.data())
def test_no_flipped_bit_is_read_as_a_record(payloads: list[bytes], data: st.DataObject) -> None:
    segment, ends = _segment(payloads)
    bit = data.draw(st.integers(0, len(segment) * 8 - 1))
    flipped = bytearray(segment)
    flipped[bit // 8] ^= 1 << (bit % 8)
    hit = max(place for place, end in enumerate(ends) if end <= bit // 8)
    with pytest.raises(JournalDamaged):
        good_bytes(bytes(flipped), name="s", last=False)
    if hit < len(payloads) - 1:
        # A sound record behind a bad one: no torn end looks like that.
        with pytest.raises(JournalDamaged):
            good_bytes(bytes(flipped), name="s", last=True)
    else:
        assert good_bytes(bytes(flipped), name="s", last=True) == ends[hit]


def test_a_cut_segment_that_was_finished_is_damage() -> None:
    data, _ = _segment([b"one", b"two"])
    with pytest.raises(JournalDamaged, match="finished"):
        good_bytes(data[:-1], name="s", last=False)


def test_zeros_and_markers_behind_the_end_are_a_torn_end() -> None:
    data, ends = _segment([b"one", b"two"])
    for rest in (bytes(100), MARKER * 50, MARKER + bytes(HEADER_BYTES)):
        assert good_bytes(data + rest, name="s", last=True) == ends[-1]


def test_a_record_of_a_later_build_is_not_passed_over() -> None:
    later = bytearray(frame_to_bytes(FrameKind.USAGE, b"x"))
    with pytest.raises(JournalDamaged, match="later build"):
        list(frames_in(_with_kind(later, 99)))


def _with_kind(frame: bytearray, kind: int) -> bytes:

    frame[2] = kind
    checked = zlib.crc32(bytes(frame[HEADER_BYTES:]), zlib.crc32(bytes(frame[2:8])))
    frame[8:12] = struct.pack("<I", checked)
    return bytes(frame)
