"""The gRPC API of stored prompts and answers: who may read, search and erase them."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc

from services.common.grpc import Access
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.usage.v1 import content_pb2, content_pb2_grpc
from services.usage.contents.erasures import Erasures
from services.usage.contents.views import ContentViews
from services.usage.domain.content_row import ContentRow
from services.usage.entrypoints.grpc_analysts import account_of_principal

_ADMINS = Access(services=frozenset({"dashboard", "cli"}), principal="user", role_min="admin")
POLICIES = {
    f"/mesh.usage.v1.ContentService/{method}": _ADMINS
    for method in ("GetContent", "SearchContent", "EraseContent")
}

# Any: nothing here reads or writes messages through the context.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class ContentServicer(content_pb2_grpc.ContentServiceServicer):
    """`mesh.usage.v1.ContentService`."""

    def __init__(self, views: ContentViews, erasures: Erasures) -> None:
        self._views = views
        self._erasures = erasures

    async def GetContent(
        self, request: content_pb2.GetContentRequest, _context: Context
    ) -> content_pb2.StoredContent:
        return _to_wire(await self._views.get(account_of_principal(), request.usage_id))

    async def SearchContent(
        self, request: content_pb2.SearchContentRequest, _context: Context
    ) -> content_pb2.SearchContentResponse:
        page = await self._views.search(
            account_of_principal(),
            request.words,
            since_ms=request.since_ms,
            until_ms=request.until_ms,
            page_size=request.page.page_size,
            page_token=request.page.page_token,
        )
        return content_pb2.SearchContentResponse(
            contents=[_to_wire(row) for row in page.rows],
            page=common_pb2.PageResponse(next_page_token=page.next_page_token),
        )

    async def EraseContent(
        self, _request: content_pb2.EraseContentRequest, _context: Context
    ) -> content_pb2.EraseContentResponse:
        erased, until = await self._erasures.erase(account_of_principal())
        return content_pb2.EraseContentResponse(erased=erased, erased_until_ms=until)


def _to_wire(row: ContentRow) -> content_pb2.StoredContent:
    return content_pb2.StoredContent(
        usage_id=row.usage_id,
        request_id=row.request_id,
        key_id=row.key_id,
        model_id=row.model_id,
        received_at_ms=row.received_at,
        prompt=row.prompt,
        answer=row.answer,
        prompt_truncated=row.prompt_truncated,
        answer_truncated=row.answer_truncated,
    )
