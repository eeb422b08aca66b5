"""Routes whose callers speak another format than chat completions, or ask for something else than
a conversation: all through the one pipeline.

The framework only describes them and finds them; the body is read, checked and answered by the
lane, after the caller is known.
"""

from __future__ import annotations

from copy import copy

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.common.errors import NotFound
from services.common.ids import new_id
from services.gateway.dialects.chat import ChatDialect
from services.gateway.dialects.messages import MessagesDialect
from services.gateway.dialects.port import Dialect, Json
from services.gateway.dialects.responses import ResponsesDialect
from services.gateway.entrypoints import dialect_docs as docs
from services.gateway.entrypoints.app import head_of
from services.gateway.entrypoints.chat_lane import ChatLane
from services.gateway.ports import KeyPrincipal

router = APIRouter(prefix="/v1")


class LaneResponse(Response):
    """An answer that the lane writes, as it goes."""

    def __init__(self, request: Request, dialect: Dialect, *, takes_api_key: bool = False) -> None:
        super().__init__()
        self._lane: ChatLane = request.app.state.lane
        self._route = request.url.path
        self._dialect = dialect
        head = head_of(request)
        if takes_api_key and head.authorization is None and head.api_key is not None:
            head = copy(head)
            head.authorization = b"Bearer " + (head.api_key or b"")
        self._head = head

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        await self._lane.serve(
            self._head, receive, send, dialect=self._dialect, route=self._route, stamped=True
        )


@router.post("/embeddings", tags=["embeddings"], **docs.EMBEDDINGS)
async def create_embeddings(request: Request) -> Response:
    """Vectors for texts, in the order of the inputs, as numbers or in base 64."""
    return LaneResponse(request, ChatDialect("embeddings"))


@router.post("/moderations", tags=["moderations"], **docs.MODERATIONS)
async def create_moderation(request: Request) -> Response:
    """A moderation model's verdict on each input; 501 where no provider offers one."""
    return LaneResponse(request, ChatDialect("moderations"))


@router.post("/messages", tags=["messages"], **docs.MESSAGES)
async def create_message(request: Request) -> Response:
    """An answer in the format of Anthropic's Messages API, by any model; the key may stand in
    `x-api-key`.
    """
    return LaneResponse(request, MessagesDialect(), takes_api_key=True)


@router.post("/responses", tags=["responses"], **docs.RESPONSES)
async def create_response(request: Request) -> Response:
    """An answer in the format of the Responses API, whole or as `response.*` events."""
    return LaneResponse(request, ResponsesDialect(new_id("resp"), _nothing_stored))


async def _nothing_stored(response_id: str, _: KeyPrincipal) -> list[Json]:
    raise NotFound(f"previous_response_id: there is no stored response {response_id!r}")
