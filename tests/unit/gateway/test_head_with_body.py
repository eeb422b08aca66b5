"""The head of an answer goes out with what follows it, and alone where nothing does."""

from __future__ import annotations

import asyncio

from services.gateway.entrypoints.server import HeadWithBody

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class Wire(asyncio.Transport):
    """Notes what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.written.append(bytes(data))

    def close(self) -> None:
        self.closed = True


async def test_a_head_goes_out_with_the_first_of_its_body() -> None:
    wire = Wire()
    joined = HeadWithBody(wire, asyncio.get_running_loop())
    joined.write(HEAD)
    joined.write(b"one")
    joined.write(b"two")
    assert wire.written == [HEAD + b"one", b"two"]
    await asyncio.sleep(0)
    assert wire.written == [HEAD + b"one", b"two"]


async def test_a_head_without_a_body_waits_for_one_turn_of_the_loop_only() -> None:
    wire = Wire()
    joined = HeadWithBody(wire, asyncio.get_running_loop())
    joined.write(HEAD)
    assert wire.written == []
    await asyncio.sleep(0)
    assert wire.written == [HEAD]
    joined.write(b"one")
    assert wire.written == [HEAD, b"one"]


async def test_closing_sends_what_waits() -> None:
    wire = Wire()
    joined = HeadWithBody(wire, asyncio.get_running_loop())
    joined.write(HEAD)
    joined.close()
    assert (wire.written, wire.closed) == ([HEAD], True)
    await asyncio.sleep(0)
    assert wire.written == [HEAD]
