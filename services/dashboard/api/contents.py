"""Stored prompts and answers, where operator and key want them stored: read, searched, erased."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.usage.v1 import content_pb2, content_pb2_grpc
from services.dashboard.api.reads import Moment
from services.dashboard.api.session import BackendsDep, PathId, SessionDep
from services.dashboard.api.translate import moment
from services.dashboard.ports import Backends
from services.dashboard.snippets import snippet, words_of

router = APIRouter(tags=["contents"])
HITS_PAGE = 20


class ContentOut(BaseModel):
    """What one request asked and was answered."""

    prompt: str
    answer: str
    # True where only the beginning was stored.
    prompt_truncated: bool
    answer_truncated: bool


class PartOut(BaseModel):
    """A piece of text; `marked` where it is one of the words that were looked for."""

    text: str
    marked: bool


class ContentHitOut(BaseModel):
    """A request in whose prompt or answer the words occur, with what stands around them."""

    usage_id: str
    key_id: str
    model_id: str
    received_at: str
    prompt: list[PartOut]
    answer: list[PartOut]


class ContentHitsOut(BaseModel):
    hits: list[ContentHitOut]
    next_page_token: str


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


def parts_out(text: str, words: frozenset[str]) -> list[PartOut]:
    return [PartOut(text=one.text, marked=one.marked) for one in snippet(text, words)]


@router.get("/contents")
async def search_contents(
    session: SessionDep,
    backends: BackendsDep,
    words: Annotated[str, Query(max_length=200)],
    *,
    since_ms: Moment = 0,
    until_ms: Moment = 0,
    page_token: str = "",
) -> ContentHitsOut:
    """Requests in which every word occurs, in prompt or answer; for owners and admins."""
    found = await backends.usage_channel.call(
        stub_of(backends).SearchContent,
        content_pb2.SearchContentRequest(
            words=words,
            since_ms=since_ms,
            until_ms=until_ms,
            page=common_pb2.PageRequest(page_size=HITS_PAGE, page_token=page_token),
        ),
        principal=session.caller,
    )
    looked_for = words_of(words)
    return ContentHitsOut(
        hits=[
            ContentHitOut(
                usage_id=one.usage_id,
                key_id=one.key_id,
                model_id=one.model_id,
                received_at=moment(one.received_at_ms) or "",
                prompt=parts_out(one.prompt, looked_for),
                answer=parts_out(one.answer, looked_for),
            )
            for one in found.contents
        ],
        next_page_token=found.page.next_page_token,
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
