"""How readiness is asked for: small requests on loopback, without a client library."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

PROBE_TIMEOUT_S = 3.0


async def http_status(port: int, path: str, headers: str = "") -> int:
    """The status of `GET path` on 127.0.0.1:`port`, or 0 where nothing answers in time."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
                writer.write(f"{request}{headers}\r\n".encode())
                status = (await reader.readline()).split()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return 0
    return int(status[1]) if len(status) > 1 and status[1].isdigit() else 0


def http_ok(port: int, path: str) -> Callable[[], Awaitable[bool]]:
    """A probe that is true once `GET path` answers 200."""

    async def probe() -> bool:
        return await http_status(port, path) == 200

    return probe


def in_thread(answers: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    """A probe that blocks, asked from a thread."""

    async def probe() -> bool:
        return await asyncio.to_thread(answers)

    return probe
