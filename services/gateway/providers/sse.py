"""Server-sent events from bytes, however the network cut them."""

from __future__ import annotations

from services.common.errors import UpstreamError

_LF = 10
_CR = 13


class EventTooLong(UpstreamError):
    """One event is longer than the decoder holds."""


class SseDecoder:
    """Turns chunks of bytes into the data of whole events.

    Lines end with LF, CR LF or CR; several `data` lines of one event are joined by LF; comments and
    other fields are dropped; an event without data is none. An event that the end of the stream
    cuts off is dropped too, as the standard says. Raises `EventTooLong` where one event exceeds
    `event_bytes_max`.
    """

    __slots__ = ("_buffer", "_data", "_event_bytes_max", "_size")

    def __init__(self, event_bytes_max: int = 8 * 1024 * 1024) -> None:
        self._event_bytes_max = event_bytes_max
        self._buffer = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of every event that `chunk` completes, in order."""
        buffer = self._buffer + chunk if self._buffer else chunk
        if _CR in buffer:
            # A CR at the very end may be half of a CR LF; it waits for its other half.
            held = b"\r" if buffer[-1] == _CR else b""
            if held:
                buffer = buffer[:-1]
            buffer = buffer.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        else:
            held = b""
        events: list[bytes] = []
        blocks = buffer.split(b"\n\n")
        lines = blocks.pop().split(b"\n")
        for block in blocks:
            if not self._data and block.startswith(b"data: ") and b"\n" not in block:
                # Nearly every event is this one.
                events.append(block[6:])
            else:
                for line in block.split(b"\n"):
                    self._line(line, events)
                self._line(b"", events)
        self._buffer = lines.pop() + held
        for line in lines:
            self._line(line, events)
        if self._size + len(self._buffer) > self._event_bytes_max:
            raise EventTooLong("the upstream sent an event that is too long")
        return events

    def _line(self, line: bytes, events: list[bytes]) -> None:
        if line.startswith(b"data:"):
            value = line[6:] if line[5:6] == b" " else line[5:]
            self._data.append(value)
            self._size += len(value)
        elif not line and self._data:
            events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
            self._data = []
            self._size = 0
