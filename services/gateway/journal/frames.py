"""How records lie in a segment: frames with a length and a checksum, and how to tell a torn end.

A frame is a header of 12 bytes - marker, kind, version, length of the payload, CRC-32 over all but
the marker and the checksum itself - and the payload. Appends are single writes, so a process that
dies leaves a prefix. Whatever does not check and has a good frame behind it is damage, not a torn
end, and is never passed over.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

MARKER = b"\xa5\x5a"
VERSION = 1
_HEADER = struct.Struct("<2sBBII")
_CHECKED = struct.Struct("<BBI")
HEADER_BYTES = _HEADER.size
PAYLOAD_BYTES_MAX = 64 * 1024 * 1024


class FrameKind(IntEnum):
    """What a frame holds."""

    # Frames of the kinds GRANT_OPENED and ADMITTED: all that was open when the segment began.
    CHECKPOINT = 1
    # A `UsageRecorded` that says the request crashed.
    ADMITTED = 2
    # An envelope with the `UsageRecorded` of a request that ended.
    USAGE = 3
    # JSON of a `GrantTotal`.
    GRANT_OPENED = 4
    # A grant id.
    GRANT_CLOSED = 5
    # A position: every USAGE before it is in Kafka.
    DELIVERED = 6


class JournalDamaged(Exception):
    """The file says something that no crash can have written. A person has to look at it."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One record and where the next one begins, in bytes from where the reading began."""

    kind: FrameKind
    payload: bytes
    next_offset: int


def frame_to_bytes(kind: FrameKind, payload: bytes) -> bytes:
    """The bytes of one record. Raises ValueError where it is too large."""
    length = len(payload)
    if length > PAYLOAD_BYTES_MAX:
        raise ValueError(f"a record of {length} bytes")
    check = zlib.crc32(payload, zlib.crc32(_CHECKED.pack(kind, VERSION, length)))
    return _HEADER.pack(MARKER, kind, VERSION, length, check) + payload


def frame_at(data: bytes, offset: int) -> Frame | None:
    """The frame that begins there; None where there is no whole and sound one."""
    if offset + HEADER_BYTES > len(data):
        return None
    marker, kind, version, length, check = _HEADER.unpack_from(data, offset)
    start = offset + HEADER_BYTES
    if marker != MARKER or length > PAYLOAD_BYTES_MAX or start + length > len(data):
        return None
    payload = data[start : start + length]
    if check != zlib.crc32(payload, zlib.crc32(_CHECKED.pack(kind, version, length))):
        return None
    if version != VERSION or kind not in FrameKind.__members__.values():
        raise JournalDamaged(
            f"a record of kind {kind}, version {version}: written by a later build?"
        )
    return Frame(FrameKind(kind), payload, start + length)


def wanted_bytes(data: bytes, offset: int) -> int:
    """How many bytes the frame that begins there has; 0 where its header is not sound."""
    if offset + HEADER_BYTES > len(data):
        return HEADER_BYTES
    marker, _, _, length, _ = _HEADER.unpack_from(data, offset)
    return HEADER_BYTES + length if marker == MARKER and length <= PAYLOAD_BYTES_MAX else 0


def frames_in(data: bytes) -> Iterator[Frame]:
    """The sound frames from the beginning on, until the first that is not."""
    offset = 0
    while (frame := frame_at(data, offset)) is not None:
        yield frame
        offset = frame.next_offset


def good_bytes(data: bytes, *, name: str, last: bool) -> int:
    """Up to where a segment is sound. Raises JournalDamaged unless the rest can be a torn end.

    Only the last segment can have one, and nothing sound can follow it.
    """
    end = 0
    for frame in frames_in(data):
        end = frame.next_offset
    if end == len(data):
        return end
    if not last:
        raise JournalDamaged(f"{name}: a bad record at byte {end}, in a segment that was finished")
    found = data.find(MARKER, end + 1)
    while found >= 0:
        if frame_at(data, found) is not None:
            raise JournalDamaged(f"{name}: a bad record at byte {end}, a sound one at {found}")
        found = data.find(MARKER, found + 1)
    return end
