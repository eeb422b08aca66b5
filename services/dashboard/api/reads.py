"""Balance, ledger entries, the request log and the catalogue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Annotated, Literal

import orjson
from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from services.common.errors import AppError
from services.common.money import INT64_MAX
from services.common.pb.mesh.billing.v1 import billing_pb2
from services.common.pb.mesh.catalog.v1 import catalog_pb2
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.usage.v1 import usage_pb2
from services.dashboard.api import models
from services.dashboard.api.session import BackendsDep, PathId, Session, SessionDep
from services.dashboard.api.translate import (
    balance_out,
    bucket_out,
    model_out,
    request_out,
    transaction_out,
)
from services.dashboard.ports import Backends

router = APIRouter(tags=["reads"])
LIVE_TIMEOUT_S = 3600.0
PageSize = Annotated[int, Query(ge=1, le=200)]
# Unix milliseconds; 0 means ever.
Moment = Annotated[int, Query(ge=0, le=INT64_MAX)]
Status = Annotated[int, Query(ge=0, le=599)]
GroupBy = Literal["", "model", "key", "provider", "day", "hour", "outcome"]


@router.get("/balance")
async def get_balance(session: SessionDep, backends: BackendsDep) -> models.BalanceOut:
    """The wallet: posted, held by requests in flight, available."""
    answer = await backends.billing_channel.call(
        backends.billing.GetBalance, billing_pb2.GetBalanceRequest(), principal=session.caller
    )
    return balance_out(answer)


@router.get("/transactions")
async def list_transactions(
    session: SessionDep, backends: BackendsDep, *, page_size: PageSize = 50, page_token: str = ""
) -> models.TransactionsOut:
    """The account's journal, newest first."""
    page = common_pb2.PageRequest(page_size=page_size, page_token=page_token)
    answer = await backends.billing_channel.call(
        backends.billing.ListTransactions,
        billing_pb2.ListTransactionsRequest(page=page),
        principal=session.caller,
    )
    return models.TransactionsOut(
        transactions=[transaction_out(t) for t in answer.transactions],
        next_page_token=answer.page.next_page_token,
    )


def filter_pb(
    *, since_ms: int, model: str, key_id: str, status: int, error_code: str
) -> usage_pb2.RequestFilter:
    return usage_pb2.RequestFilter(
        since_ms=since_ms,
        model_ids=[model] if model else [],
        key_ids=[key_id] if key_id else [],
        http_statuses=[status] if status else [],
        error_codes=[error_code] if error_code else [],
    )


@router.get("/requests")
async def list_requests(  # noqa: PLR0913 - one parameter a filter, as the page's address has them
    session: SessionDep,
    backends: BackendsDep,
    *,
    since_ms: Moment = 0,
    model: str = "",
    key_id: str = "",
    status: Status = 0,
    error_code: str = "",
    page_size: PageSize = 50,
    page_token: str = "",
) -> models.RequestsOut:
    """The account's requests, newest first."""
    wanted = filter_pb(
        since_ms=since_ms, model=model, key_id=key_id, status=status, error_code=error_code
    )
    page = common_pb2.PageRequest(page_size=page_size, page_token=page_token)
    answer = await backends.usage_channel.call(
        backends.usage.ListRequests,
        usage_pb2.ListRequestsRequest(filter=wanted, page=page),
        principal=session.caller,
    )
    return models.RequestsOut(
        requests=[request_out(r) for r in answer.requests],
        next_page_token=answer.page.next_page_token,
    )


async def live_frames(backends: Backends, session: Session) -> AsyncIterator[bytes]:
    yield b": connected\n\n"
    rows = backends.usage_channel.stream(
        backends.usage.TailRequests,
        usage_pb2.TailRequestsRequest(),
        principal=session.caller,
        timeout_s=LIVE_TIMEOUT_S,
    )
    # The page connects again by itself when the stream ends, for whatever reason.
    with suppress(AppError):
        async with aclosing(rows):
            async for row in rows:
                yield b"data: " + orjson.dumps(request_out(row).model_dump()) + b"\n\n"


@router.get("/requests/live")
async def live_requests(session: SessionDep, backends: BackendsDep) -> StreamingResponse:
    """New requests as they end, as server-sent events."""
    return StreamingResponse(
        live_frames(backends, session),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


@router.get("/requests/{request_id}")
async def get_request(
    request_id: PathId, session: SessionDep, backends: BackendsDep
) -> models.RequestOut:
    """One request."""
    answer = await backends.usage_channel.call(
        backends.usage.GetRequest,
        usage_pb2.GetRequestRequest(request_id=request_id),
        principal=session.caller,
    )
    return request_out(answer)


@router.get("/summary")
async def get_summary(
    session: SessionDep, backends: BackendsDep, *, since_ms: Moment = 0, group_by: GroupBy = ""
) -> models.SummaryOut:
    """Totals since a moment, and by one dimension."""
    request = usage_pb2.SummarizeUsageRequest(
        filter=usage_pb2.RequestFilter(since_ms=since_ms), group_by=group_by, limit=100
    )
    answer = await backends.usage_channel.call(
        backends.usage.SummarizeUsage, request, principal=session.caller
    )
    return models.SummaryOut(
        total=bucket_out(answer.total), buckets=[bucket_out(b) for b in answer.buckets]
    )


@router.get("/models")
async def list_models(session: SessionDep, backends: BackendsDep) -> list[models.ModelOut]:
    """The models that are served now."""
    answer = await backends.catalog_channel.call(
        backends.catalog.ListModels, catalog_pb2.ListModelsRequest(), principal=session.caller
    )
    return [model_out(m) for m in answer.models]
