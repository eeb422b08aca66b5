"""Routes whose callers speak another format than chat completions, or ask for something else than
a conversation: all through the one pipeline.

The framework only describes them and finds them; the body is read, checked and answered by the
lane, after the caller is known.
"""

from __future__ import annotations

from copy import copy

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.common.errors import AppError
from services.gateway.chat_request import body_from_bytes
from services.gateway.dialects.chat import ChatDialect
from services.gateway.dialects.messages import MessagesDialect
from services.gateway.dialects.port import Dialect, Json
from services.gateway.entrypoints import dialect_docs as docs
from services.gateway.entrypoints.app import caller_of, head_of
from services.gateway.entrypoints.asgi import send_whole
from services.gateway.entrypoints.chat_lane import BodyReader, ChatLane
from services.gateway.envelope import Ending, error_ending
from services.gateway.jobs.responses import ROUTE, Responses

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
    """An answer in the format of the Responses API, whole or as `response.*` events, or at once a
    response that is made in the background.
    """
    return ResponsesResponse(request)


class ResponsesResponse(Response):
    """A response that is answered now, or handed in."""

    def __init__(self, request: Request) -> None:
        super().__init__()
        self._request = request
        self._lane: ChatLane = request.app.state.lane
        self._responses: Responses = request.app.state.responses

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        head, lane = head_of(self._request), self._lane
        reader = lane.reader(head, receive)
        try:
            body = await self._background_body(reader)
            if body is not None:
                caller = caller_of(self._request)
                response = await self._responses.enqueue(caller, body)
                reader.stop()
                await send_whole(send, Ending(200, orjson.dumps(response)), [])
                return
        except AppError as error:
            reader.stop()
            await send_whole(send, error_ending(error, head.request_id), [])
            return
        dialect = self._responses.dialect()
        await lane.serve(
            head,
            receive,
            send,
            dialect=dialect,
            route=ROUTE,
            stamped=True,
            reader=reader,
            seal=self._responses.keeping(dialect),
        )

    async def _background_body(self, reader: BodyReader) -> Json | None:
        """The body, where it asks for the background; None leaves everything to the pipeline."""
        try:
            caller_of(self._request)
            raw = await reader.read()
            body = body_from_bytes(raw) if b'"background"' in raw else {}
        except AppError:
            return None
        return body if body.get("background") is True else None
