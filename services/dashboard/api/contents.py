"""Stored prompts and answers, where operator and key want them stored."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from services.common.pb.mesh.usage.v1 import content_pb2, content_pb2_grpc
from services.dashboard.api.session import BackendsDep, PathId, SessionDep
from services.dashboard.api.translate import moment
from services.dashboard.ports import Backends

router = APIRouter(tags=["contents"])


class ContentOut(BaseModel):
    """What one request asked and was answered."""

    prompt: str
    answer: str
    # True where only the beginning was stored.
    prompt_truncated: bool
    answer_truncated: bool


class ErasedOut(BaseModel):
    """Of how many requests there was something, and until when they were received."""

    erased: int
    erased_until: str


def stub_of(backends: Backends) -> content_pb2_grpc.ContentServiceAsyncStub:
    stub: content_pb2_grpc.ContentServiceAsyncStub = content_pb2_grpc.ContentServiceStub(
        backends.usage_channel.channel()
    )
    return stub


@router.get("/requests/{request_id}/content")
async def get_content(request_id: PathId, session: SessionDep, backends: BackendsDep) -> ContentOut:
    """Prompt and answer by the usage id of the request; for owners and admins."""
    found = await backends.usage_channel.call(
        stub_of(backends).GetContent,
        content_pb2.GetContentRequest(usage_id=request_id),
        principal=session.caller,
    )
    return ContentOut(
        prompt=found.prompt,
        answer=found.answer,
        prompt_truncated=found.prompt_truncated,
        answer_truncated=found.answer_truncated,
    )


@router.delete("/contents")
async def erase_contents(session: SessionDep, backends: BackendsDep) -> ErasedOut:
    """Erases all prompts and answers of the account until now; for owners and admins."""
    done = await backends.usage_channel.call(
        stub_of(backends).EraseContent,
        content_pb2.EraseContentRequest(),
        principal=session.caller,
    )
    return ErasedOut(erased=done.erased, erased_until=moment(done.erased_until_ms) or "")
