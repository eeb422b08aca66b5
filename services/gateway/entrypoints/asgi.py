"""The ASGI types of the edge, and how an ending is sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from services.gateway.envelope import Ending

# Any: ASGI's own types; each message has fields of its own.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
HeaderList = list[tuple[bytes, bytes]]

# Where a scope has its `HangUp`.
HANG_UP = "mesh.hang_up"

EXPOSED = (
    b"access-control-expose-headers",
    b"x-request-id, x-mesh-version, retry-after, deprecation, sunset",
)


class HangUp:
    """Says that the caller of one request has hung up. ASGI's own way to know it takes a task for
    every request, which waits for a message.
    """

    __slots__ = ("_told",)

    def __init__(self) -> None:
        self._told: Callable[[], None] | None = None

    def watch(self, told: Callable[[], None] | None) -> None:
        """Calls `told` when it happens, outside of any task; None calls nobody any more."""
        self._told = told

    def tell(self) -> None:
        """It has happened."""
        if self._told is not None:
            self._told()


async def send_whole(send: Send, ending: Ending, headers: HeaderList) -> None:
    """A whole answer in two messages."""
    await send(
        {
            "type": "http.response.start",
            "status": ending.status,
            "headers": [
                (b"content-type", ending.content_type),
                (b"content-length", str(len(ending.body)).encode()),
                *headers,
                *ending.headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": ending.body})
