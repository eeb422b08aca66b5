"""The playground's requests, relayed to the public API as they are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import aiohttp
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from services.dashboard.api.session import SessionDep
from services.dashboard.playground import Playground

router = APIRouter(tags=["playground"])
# What of the public API's answer the page is told.
PASSED_HEADERS = ("content-type", "retry-after", "x-cache")
# The gateway's id of the request; `x-request-id` is that of the panel's own.
REQUEST_ID = "x-mesh-request-id"


@router.post("/playground/chat", response_class=StreamingResponse)
async def playground_chat(request: Request, session: SessionDep) -> Response:
    """One chat completion, as `POST /v1/chat/completions` takes and answers it, streamed or not.

    It is sent with a key of the person's own, and so costs and is logged like any other.
    """
    playground: Playground = request.app.state.playground
    body = await request.body()
    async with AsyncExitStack() as stack:
        answer = await stack.enter_async_context(
            playground.chat(session.caller, session.principal.email, body)
        )
        kept = stack.pop_all()
    headers = {name: answer.headers[name] for name in PASSED_HEADERS if name in answer.headers}
    headers[REQUEST_ID] = answer.headers.get("x-request-id", "")
    return StreamingResponse(_relayed(answer, kept), status_code=answer.status, headers=headers)


async def _relayed(answer: aiohttp.ClientResponse, kept: AsyncExitStack) -> AsyncIterator[bytes]:
    async with kept:
        async for piece in answer.content.iter_any():
            yield piece
