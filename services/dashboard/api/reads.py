"""Balance, ledger entries, the request log and the catalogue."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from services.common.errors import NotFound
from services.common.money import INT64_MAX, nanousd_from_field
from services.common.pb.mesh.accounts.v1 import keys_pb2
from services.common.pb.mesh.billing.v1 import billing_pb2
from services.common.pb.mesh.catalog.v1 import catalog_pb2
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import usage_pb2 as events_pb2
from services.common.pb.mesh.usage.v1 import usage_pb2
from services.dashboard.api import models
from services.dashboard.api.session import BackendsDep, PathId, Session, SessionDep
from services.dashboard.api.translate import (
    balance_out,
    bucket_out,
    cost_out,
    line_out,
    model_out,
    moment,
    price_out,
    request_out,
    transaction_out,
)
from services.dashboard.ports import Backends

router = APIRouter(tags=["reads"])
PageSize = Annotated[int, Query(ge=1, le=200)]
# Unix milliseconds; 0 means ever.
Moment = Annotated[int, Query(ge=0, le=INT64_MAX)]
# Hours of a month, with room.
BUCKETS_MAX = 1_000
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


class Filters(BaseModel):
    """The filters of the request log, as a page's address has them. Absent means any."""

    model_config = ConfigDict(extra="ignore")

    since_ms: int = Field(default=0, ge=0, le=INT64_MAX)
    until_ms: int = Field(default=0, ge=0, le=INT64_MAX)
    model: str = ""
    provider: str = ""
    key_id: str = ""
    status: int = Field(default=0, ge=0, le=599)
    outcome: Literal[
        "", "success", "refused", "upstream_error", "client_gone", "limit_reached", "crashed"
    ] = ""
    error_code: str = ""
    failure_stage: str = ""
    session_id: str = ""
    end_user_id: str = ""
    tag: str = Field(default="", description="name:value")
    trace_id: str = ""
    min_latency_ms: int = Field(default=0, ge=0, le=INT64_MAX)
    min_cost_usd: str = ""

    def to_pb(self) -> usage_pb2.RequestFilter:
        """As the usage service takes it. Raises InvalidArgument."""
        name, _, value = self.tag.partition(":")
        outcome = f"REQUEST_OUTCOME_{self.outcome.upper()}"
        return usage_pb2.RequestFilter(
            since_ms=self.since_ms,
            until_ms=self.until_ms,
            model_ids=[self.model] if self.model else [],
            provider_ids=[self.provider] if self.provider else [],
            key_ids=[self.key_id] if self.key_id else [],
            http_statuses=[self.status] if self.status else [],
            outcomes=[events_pb2.RequestOutcome.Value(outcome)] if self.outcome else [],
            error_codes=[self.error_code] if self.error_code else [],
            failure_stages=[self.failure_stage] if self.failure_stage else [],
            session_ids=[self.session_id] if self.session_id else [],
            end_user_ids=[self.end_user_id] if self.end_user_id else [],
            tags={name: value} if name else {},
            trace_id=self.trace_id,
            min_latency_ms=self.min_latency_ms,
            min_cost_nanousd=nanousd_from_field("min_cost_usd", self.min_cost_usd or "0"),
        )


class Page(Filters):
    """One page of the request log."""

    page_size: int = Field(default=50, ge=1, le=200)
    page_token: str = ""


class Grouping(Filters):
    """Figures of the request log by one dimension."""

    group_by: GroupBy = ""
    # Percentiles of latency and of the time to the first token, which are 0 without.
    times: bool = True


@router.get("/requests")
async def list_requests(
    session: SessionDep, backends: BackendsDep, wanted: Annotated[Page, Query()]
) -> models.RequestsOut:
    """The account's requests, newest first."""
    page = common_pb2.PageRequest(page_size=wanted.page_size, page_token=wanted.page_token)
    answer = await backends.usage_channel.call(
        backends.usage.ListRequests,
        usage_pb2.ListRequestsRequest(
            filter=wanted.to_pb(), page=page, view=usage_pb2.REQUEST_VIEW_BASIC
        ),
        principal=session.caller,
    )
    return models.RequestsOut(
        requests=[line_out(r) for r in answer.requests],
        next_page_token=answer.page.next_page_token,
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


@router.get("/requests/{request_id}/cost")
async def get_request_cost(
    request_id: PathId, session: SessionDep, backends: BackendsDep
) -> models.CostOut:
    """How the cost of a request came about; not found where it has no price."""
    row = await backends.usage_channel.call(
        backends.usage.GetRequest,
        usage_pb2.GetRequestRequest(request_id=request_id),
        principal=session.caller,
    )
    prices = await backends.catalog_channel.call(
        backends.catalog.ListPrices,
        catalog_pb2.ListPricesRequest(model_id=row.model_id),
        principal=session.caller,
    )
    for price in prices.prices:
        if price.price_version_id == row.price_version_id:
            return cost_out(row, price)
    raise NotFound("the request has no price")


async def summarized(
    backends: Backends,
    session: Session,
    wanted: usage_pb2.RequestFilter,
    *,
    group_by: str,
    with_times: bool,
) -> models.SummaryOut:
    answer = await backends.usage_channel.call(
        backends.usage.SummarizeUsage,
        usage_pb2.SummarizeUsageRequest(
            filter=wanted, group_by=group_by, limit=BUCKETS_MAX, without_times=not with_times
        ),
        principal=session.caller,
    )
    buckets = [bucket_out(bucket) for bucket in answer.buckets]
    if group_by in ("day", "hour"):
        buckets.sort(key=lambda bucket: bucket.value)
    return models.SummaryOut(total=bucket_out(answer.total), buckets=buckets)


@router.get("/summary")
async def get_summary(
    session: SessionDep, backends: BackendsDep, wanted: Annotated[Grouping, Query()]
) -> models.SummaryOut:
    """Totals of the requests that fit, and by one dimension: time in its order, others by cost."""
    return await summarized(
        backends, session, wanted.to_pb(), group_by=wanted.group_by, with_times=wanted.times
    )


@router.get("/keys/{key_id}/usage")
async def get_key_usage(
    key_id: PathId,
    session: SessionDep,
    backends: BackendsDep,
    *,
    since_ms: Moment = 0,
    by: Literal["hour", "day"] = "hour",
) -> models.KeyUsageOut:
    """What a key did since a moment."""
    wanted = usage_pb2.RequestFilter(since_ms=since_ms, key_ids=[key_id])
    newest = usage_pb2.ListRequestsRequest(
        filter=usage_pb2.RequestFilter(key_ids=[key_id]),
        page=common_pb2.PageRequest(page_size=1),
        view=usage_pb2.REQUEST_VIEW_BASIC,
    )
    _, summary, last = await asyncio.gather(
        # Another account's key has no figures here anyhow; that there is no such key is said.
        backends.accounts_channel.call(
            backends.keys.GetKey, keys_pb2.GetKeyRequest(key_id=key_id), principal=session.caller
        ),
        summarized(backends, session, wanted, group_by=by, with_times=False),
        backends.usage_channel.call(backends.usage.ListRequests, newest, principal=session.caller),
    )
    return models.KeyUsageOut(
        total=summary.total,
        buckets=summary.buckets,
        last_used_at=moment(last.requests[0].received_at_ms) if last.requests else None,
    )


@router.get("/prices")
async def list_prices(
    session: SessionDep, backends: BackendsDep, model: str
) -> list[models.PriceOut]:
    """Every price that a model had, has or will have, newest first."""
    answer = await backends.catalog_channel.call(
        backends.catalog.ListPrices,
        catalog_pb2.ListPricesRequest(model_id=model),
        principal=session.caller,
    )
    prices = sorted(answer.prices, key=lambda price: price.valid_from_ms, reverse=True)
    return [price_out(price) for price in prices]


@router.get("/models")
async def list_models(session: SessionDep, backends: BackendsDep) -> list[models.ModelOut]:
    """The models that are served now."""
    answer = await backends.catalog_channel.call(
        backends.catalog.ListModels, catalog_pb2.ListModelsRequest(), principal=session.caller
    )
    return [model_out(m) for m in answer.models]
