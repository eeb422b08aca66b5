"""What a key may be told of its requests as a whole: `/v1/usage`, spend over time, attempts, files.

A key is told of its own requests, whatever it asks for: `org_id` and `team_id` are taken and change
nothing, and another key's id finds nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import Field
from starlette.responses import Response, StreamingResponse

from services.common.money import usd_from_nanousd
from services.common.streams import continued
from services.gateway.account_reads import UsageQuery
from services.gateway.entrypoints import account_docs as docs
from services.gateway.entrypoints.account_routes import (
    Reader,
    Reads,
    UsageFilter,
    iso_from_unix_ms,
    query_from_filter,
)
from services.gateway.entrypoints.system_routes import json_response
from services.gateway.usage_reports import ExportFormat, Granularity, LoggedAttempt, UsageTotals

router = APIRouter(prefix="/v1/usage", tags=["account"])

_MEDIA_TYPES: dict[ExportFormat, str] = {
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
_ZERO_USD = usd_from_nanousd(0)


class ReportFilter(UsageFilter):
    """The body of POST /v1/usage; `limit` and `offset` page through the models."""

    limit: int = Field(50, ge=1, le=1_000)


def _filter_from_query(
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    model: Annotated[list[str] | None, Query(max_length=100)] = None,
    status: Annotated[list[str] | None, Query(max_length=100)] = None,
    end_user_id: Annotated[list[str] | None, Query(max_length=100)] = None,
    session_id: Annotated[list[str] | None, Query(max_length=100)] = None,
) -> UsageQuery:
    """The filter of a GET, from its query."""
    given = {"since": since, "until": until, "model": model, "status": status}
    given |= {"end_user_id": end_user_id, "session_id": session_id}
    return query_from_filter(UsageFilter.model_validate(given))


Wanted = Annotated[UsageQuery, Depends(_filter_from_query)]


@router.post("", response_model=docs.UsageSums)
async def usage(wanted: ReportFilter, reads: Reads, caller: Reader) -> Response:
    """Sums over the caller's requests, in all and by model. Always fresh."""
    report = await reads.request_log.report(caller, query_from_filter(wanted))
    total = report.total
    page = report.by_model[wanted.offset : wanted.offset + wanted.limit]
    return json_response(
        {
            **_totals(total, cost_name="total_cost_usd", prefix="total_"),
            "by_model": [
                {"model": model, **_totals(sums, cost_name="cost_usd")} for model, sums in page
            ],
            "by_model_total": len(report.by_model),
            "limit": wanted.limit,
            "offset": wanted.offset,
            # There is no fee of the platform's, and every request is the platform's.
            "total_platform_fee_usd": _ZERO_USD,
            "total_byok_platform_fee_usd": _ZERO_USD,
            "total_byok_cost_usd": _ZERO_USD,
            "total_byok_requests": 0,
            "total_platform_requests": total.requests,
            "total_byok_tokens": 0,
            "total_platform_tokens": total.prompt_tokens + total.completion_tokens,
            "cached_at": None,
        }
    )


@router.get("/spend-trend", response_model=docs.SpendTrend)
async def spend_trend(
    reads: Reads, caller: Reader, wanted: Wanted, *, granularity: Granularity = "day"
) -> Response:
    """The caller's spend by hour or day, with the average of each bucket and the two before it."""
    buckets = await reads.request_log.spend_trend(caller, wanted, granularity)
    return json_response(
        {
            "granularity": granularity,
            "buckets": [
                {
                    "start": iso_from_unix_ms(bucket.start_ms),
                    "requests": bucket.requests,
                    "cost_usd": usd_from_nanousd(bucket.cost_nanousd),
                    "trailing_average_usd": usd_from_nanousd(bucket.trailing_average_nanousd),
                }
                for bucket in buckets
            ],
            "total_requests": sum(bucket.requests for bucket in buckets),
            "total_cost_usd": usd_from_nanousd(sum(bucket.cost_nanousd for bucket in buckets)),
        }
    )


@router.get(
    "/events/export",
    response_class=Response,
    responses={
        200: {"content": {kind: {"schema": {"type": "string"}} for kind in _MEDIA_TYPES.values()}}
    },
)
async def export(
    reads: Reads,
    caller: Reader,
    wanted: Wanted,
    *,
    file_format: Annotated[ExportFormat, Query(alias="format")] = "csv",
) -> Response:
    """The caller's requests as a file, newest first."""
    pieces = aiter(reads.request_log.export(caller, wanted, file_format))
    # The first piece is waited for, so that what is wrong becomes an answer and not a torn file.
    first = await anext(pieces, b"")
    return StreamingResponse(
        continued(first, pieces),
        media_type=_MEDIA_TYPES[file_format],
        headers={
            "content-disposition": f'attachment; filename="requests.{file_format}"',
            "cache-control": "no-store",
        },
    )


@router.get("/events/{event_id}/attempts", response_model=docs.Attempts)
async def attempts(event_id: str, reads: Reads, caller: Reader) -> Response:
    """Every attempt that shares the request id of this event, oldest first."""
    found = await reads.request_log.attempts(caller, event_id)
    return json_response({"event_id": event_id, "attempts": [_attempt(one) for one in found]})


# Any: JSON.
def _totals(sums: UsageTotals, *, cost_name: str, prefix: str = "") -> dict[str, Any]:
    """`prefix` goes before the names that the public API has with `total_` in the whole."""
    return {
        f"{prefix}requests": sums.requests,
        "successful_requests": sums.successful_requests,
        "error_requests": sums.requests - sums.successful_requests,
        "prompt_tokens": sums.prompt_tokens,
        "completion_tokens": sums.completion_tokens,
        "total_tokens": sums.prompt_tokens + sums.completion_tokens,
        cost_name: usd_from_nanousd(sums.cost_nanousd),
        "latency_p50_ms": round(sums.latency_p50_ms, 1),
        "latency_p95_ms": round(sums.latency_p95_ms, 1),
        "first_token_p50_ms": round(sums.first_token_p50_ms, 1),
        "first_token_p95_ms": round(sums.first_token_p95_ms, 1),
    }


def _attempt(one: LoggedAttempt) -> dict[str, Any]:  # Any: JSON
    return {
        "event_id": one.usage_id,
        "request_id": one.request_id,
        "attempt": one.number,
        "http_status": one.http_status,
        "error_code": one.error_code or None,
        "started_at": iso_from_unix_ms(one.started_at_ms),
        "latency_ms": one.latency_ms,
        "served": one.served,
    }
