"""The port of ingress formats: a body in the caller's words becomes a chat body, uniform chunks
become the caller's answer.

One object serves one call: `chat_body` is called once, then either `whole` or `frames` and `last`;
`refusal` where no stream has begun, `broken` where one has. The plain chat format keeps nothing and
is shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from services.common.errors import AppError
from services.common.ids import RequestId
from services.gateway.answer import Chunk
from services.gateway.chat_request import Operation
from services.gateway.envelope import Ending
from services.gateway.ports import KeyPrincipal

Json = dict[str, Any]  # Any: JSON


class Dialect(Protocol):
    """How the callers of one route speak."""

    @property
    def operation(self) -> Operation:
        """What is asked of the model."""

    async def chat_body(self, body: Json, caller: KeyPrincipal, /) -> Json:
        """The body of the operation. Raises InvalidArgument, which names the caller's field."""

    def frames(self, chunks: Sequence[Chunk]) -> bytes:
        """Frames of the stream for chunks that have just come; empty where they say nothing."""

    def around_words(self, chunk: Chunk) -> tuple[bytes, bytes] | None:
        """What stands before and behind the JSON of the words in the frame of a chunk that says
        nothing else, where that is so simple; `chunk` is one with empty words.
        """

    def last(self, usage_chunk: Chunk) -> bytes:
        """The frames that end a stream in good order; the chunk has the usage that is billed."""

    def whole(self, answer: Json) -> bytes:
        """The whole answer, from the operation's."""

    def refusal(self, error: AppError, request_id: RequestId, /) -> Ending:
        """A whole answer that says what went wrong."""

    def broken(self, error: AppError, request_id: RequestId, /) -> bytes:
        """The last frames of a stream that broke off."""
