"""One call as the edge hands it to the pipeline, and the way back to the caller."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.common.ids import RequestId, UsageId
from services.gateway.dialects.chat import CHAT
from services.gateway.dialects.port import Dialect
from services.gateway.envelope import Ending
from services.gateway.ports import KeyPrincipal, QuotaMeter
from services.gateway.usage_entry import UsageEntry


class Reply(Protocol):
    """The way back to the caller."""

    def announce(self, meters: Sequence[QuotaMeter]) -> None:
        """Has the head of the answer, which is not sent yet, say how far the key is."""

    def add_headers(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Has the head of the answer, which is not sent yet, say this too."""

    async def begin_stream(self) -> None:
        """Sends the head of a stream."""

    async def write(self, data: bytes) -> None:
        """Sends a part of the stream; waits while the caller does not read."""

    async def finish(self, ending: Ending) -> None:
        """Sends the last bytes, or the whole answer where no stream has begun."""


@dataclass(frozen=True, slots=True)
class ChatCall:
    """One call as the edge took it. `read_body` may be awaited once, after the caller is known."""

    request_id: RequestId
    route: str
    authorization: bytes | None
    received_at_ms: int
    received_s: float
    read_body: Callable[[], Awaitable[bytes | bytearray]]
    # The format of this caller's body and of the answer.
    dialect: Dialect = CHAT
    # What the caller's header says that it wants most of model "auto".
    weight_profile: str = ""
    # True where the caller's header says that the response cache is not to be used.
    cache_bypass: bool = False
    # Who calls, where it is known already; whoever knows also makes the id of the event.
    principal: KeyPrincipal | None = None
    usage_id: UsageId | None = None
    # Sees the answer before the event is written, and may say that nothing is billed.
    seal: Callable[[UsageEntry, Ending], Awaitable[None]] | None = None
