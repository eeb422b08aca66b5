"""Batches, and responses that are kept or run in the background."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from services.gateway.chat_request import body_from_bytes
from services.gateway.dialects.port import Json
from services.gateway.entrypoints.app import caller_of, head_of
from services.gateway.entrypoints.chat_lane import ChatLane
from services.gateway.entrypoints.dialect_docs import Open, ResponseObject, described
from services.gateway.entrypoints.system_routes import json_response
from services.gateway.jobs.batches import Batches
from services.gateway.jobs.responses import Responses
from services.gateway.ports import KeyPrincipal

router = APIRouter(prefix="/v1")

Caller = Annotated[KeyPrincipal, Depends(caller_of)]
JobId = Annotated[str, Path(max_length=64)]
AnyJson = dict[str, Any]  # Any: JSON


class PageQuery(BaseModel):
    """Which page: what comes after that id."""

    after: str = Field("", max_length=64)
    limit: int = Field(20, ge=1, le=100)


class BatchRequest(Open):
    """Requests of one model, to be answered within a day."""

    requests: list[AnyJson]
    completion_window: str = "24h"
    metadata: dict[str, str] | None = None


class Batch(Open):
    """A batch; its results are there once it is over."""

    id: str
    status: str
    model: str
    created_at: int
    request_counts: dict[str, int]
    results: list[AnyJson] | None


class BatchPage(Open):
    """A page of batches, newest first, without their results."""

    object: str
    data: list[Batch]
    has_more: bool


class ResponseSummary(Open):
    """A response in the background, without what it says."""

    id: str
    object: str
    model: str
    status: str
    created_at: int
    completed_at: int | None
    usage_synced: bool


class ResponsePage(Open):
    """A page of responses in the background, newest first."""

    object: str
    data: list[ResponseSummary]
    has_more: bool


BATCH = described(
    BatchRequest,
    Batch,
    body={
        "requests": [
            {
                "custom_id": "a",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {
                    "model": "openai/gpt-4o-mini",
                    "messages": [{"role": "user", "content": "What is the capital of France?"}],
                },
            }
        ]
    },
    shown={
        "id": "batch_01JZ0000000000000000000000",
        "status": "in_progress",
        "model": "openai/gpt-4o-mini",
        "created_at": 1760000000,
        "request_counts": {"total": 1, "completed": 0, "failed": 0},
        "results": None,
    },
)


def batches_of(request: Request) -> Batches:
    """Dependency: the keys' batches."""
    batches: Batches = request.app.state.batches
    return batches


def responses_of(request: Request) -> Responses:
    """Dependency: the keys' responses."""
    responses: Responses = request.app.state.responses
    return responses


Kept = Annotated[Responses, Depends(responses_of)]
Handed = Annotated[Batches, Depends(batches_of)]


@router.post("/batches", tags=["batches"], **BATCH)
async def create_batch(request: Request, caller: Caller, batches: Handed) -> Response:
    """Hand in requests that are run when there is room, each metered for itself."""
    return json_response(await batches.create(caller, await _body(request)))


@router.get("/batches", tags=["batches"], response_model=BatchPage)
async def list_batches(
    caller: Caller, batches: Handed, page: Annotated[PageQuery, Query()]
) -> Response:
    """This key's batches."""
    return json_response(await batches.page(caller, after=page.after, limit=page.limit))


@router.get("/batches/{batch_id}", tags=["batches"], response_model=Batch)
async def get_batch(batch_id: JobId, caller: Caller, batches: Handed) -> Response:
    """A batch; its results are inline once it is over."""
    return json_response(await batches.view(caller, batch_id))


@router.post("/batches/{batch_id}/cancel", tags=["batches"], response_model=Batch)
async def cancel_batch(batch_id: JobId, caller: Caller, batches: Handed) -> Response:
    """No further request begins; those under way are finished."""
    return json_response(await batches.cancel(caller, batch_id))


@router.get("/responses", tags=["responses"], response_model=ResponsePage)
async def list_responses(
    caller: Caller, responses: Kept, page: Annotated[PageQuery, Query()]
) -> Response:
    """This key's responses in the background."""
    return json_response(await responses.page(caller, after=page.after, limit=page.limit))


@router.get("/responses/{response_id}", tags=["responses"], response_model=ResponseObject)
async def get_response(response_id: JobId, caller: Caller, responses: Kept) -> Response:
    """A response that is kept or run in the background, as it stands."""
    return json_response(await responses.view(caller, response_id))


async def _body(request: Request) -> Json:
    lane: ChatLane = request.app.state.lane
    reader = lane.reader(head_of(request), request.receive)
    try:
        return body_from_bytes(await reader.read())
    finally:
        reader.stop()
