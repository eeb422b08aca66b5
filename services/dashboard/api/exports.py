"""The request log as files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from services.common.pb.mesh.usage.v1 import usage_pb2
from services.common.streams import continued
from services.dashboard.api.reads import Filters
from services.dashboard.api.session import BackendsDep, Session, SessionDep
from services.dashboard.api.translate import moment
from services.dashboard.ports import Backends

router = APIRouter(tags=["exports"])
EXPORT_TIMEOUT_S = 3_600.0
FORMATS = {
    "csv": (usage_pb2.EXPORT_FORMAT_CSV, "text/csv; charset=utf-8"),
    "parquet": (usage_pb2.EXPORT_FORMAT_PARQUET, "application/vnd.apache.parquet"),
}


@router.get("/requests/export/{form}", response_class=StreamingResponse)
async def export_requests(
    form: Literal["csv", "parquet"],
    request: Request,
    *,
    session: SessionDep,
    backends: BackendsDep,
    wanted: Annotated[Filters, Query()],
) -> StreamingResponse:
    """Every request that fits, newest first, as a file."""
    file_format, content_type = FORMATS[form]
    parts = export_parts(
        backends,
        session,
        usage_pb2.ExportRequestsRequest(filter=wanted.to_pb(), format=file_format),
    )
    # A refusal is said before anything of the file is.
    first = await anext(parts, b"")
    day = (moment(request.app.state.clock.now_ms()) or "")[:10]
    return StreamingResponse(
        continued(first, parts),
        media_type=content_type,
        headers={"content-disposition": f'attachment; filename="requests-{day}.{form}"'},
    )


async def export_parts(
    backends: Backends, session: Session, wanted: usage_pb2.ExportRequestsRequest
) -> AsyncIterator[bytes]:
    chunks = backends.usage_channel.stream(
        backends.usage.ExportRequests,
        wanted,
        principal=session.caller,
        timeout_s=EXPORT_TIMEOUT_S,
    )
    async with aclosing(chunks):
        async for chunk in chunks:
            yield chunk.data
