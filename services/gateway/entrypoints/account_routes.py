"""What a key may read of its account: the balance and its own requests; people see all of it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, BeforeValidator, Field
from starlette.responses import Response

from services.common.errors import InvalidArgument, NotFound
from services.common.ids import AccountId
from services.common.money import nanousd_from_usd, usd_from_nanousd
from services.common.scopes import ScopeKind, kind_of
from services.common.security.tokens import Principal
from services.gateway.account_reads import LoggedRequest, Result, UsageQuery
from services.gateway.auto_route import is_auto
from services.gateway.entrypoints import account_docs as docs
from services.gateway.entrypoints.app import PublicReads, caller_of, reads_of
from services.gateway.entrypoints.callers import reader_of
from services.gateway.entrypoints.model_docs import shown
from services.gateway.entrypoints.system_routes import json_response
from services.gateway.ports import QuotaLimit, QuotaMeter

router = APIRouter(prefix="/v1", tags=["account"])

Reads = Annotated[PublicReads, Depends(reads_of)]
Reader = Annotated[Principal, Depends(reader_of)]

# A request is in the log a moment after its answer; who asks at once waits for that moment, not
# longer.
LOOKUP_TRIES = 15
LOOKUP_PAUSE_S = 0.1
_COSTS = ("min_cost_usd", "max_cost_usd")
_LIMIT_NAMES: tuple[QuotaLimit, ...] = ("rpm", "rpd", "tpm")
_OWNERS: dict[ScopeKind, str] = {
    "key": "key",
    "member": "member",
    "team": "team",
    "account": "org",
}


def _as_list(value: object) -> object:
    """Filters may be given one by one or as lists; empty strings mean no filter."""
    if value is None or value == "":
        return []
    return value if isinstance(value, list) else [value]


Filter = Annotated[list[str], BeforeValidator(_as_list), Field(max_length=100)]


class UsageFilter(BaseModel):
    """The body of POST /v1/usage/events. A key sees its own requests, whatever it asks for."""

    since: datetime | None = None
    until: datetime | None = None
    model: Filter = []
    status: Filter = []
    session_id: Filter = []
    end_user_id: Filter = []
    tags: dict[str, str] = {}
    key_id: Filter = []
    member_user_id: Filter = []
    error_code: Filter = []
    failure_stage: Filter = []
    trace_id: str = ""
    min_latency_ms: int = Field(0, ge=0)
    max_latency_ms: int = Field(0, ge=0)
    min_cost_usd: str = "0"
    max_cost_usd: str = "0"
    limit: int = Field(50, ge=1, le=200)
    offset: int = Field(0, ge=0, le=10_000)
    # `next_cursor` of the page before: as quick on the last page as on the first, and no row twice
    # where new ones come in meanwhile.
    cursor: str = Field("", max_length=200)


@router.get("/balance", response_model=docs.Balance, responses=shown(docs.BALANCE))
async def balance(reads: Reads, caller: Reader) -> Response:
    """The wallet of the caller's account, in dollars."""
    wallet = await reads.balances.balance(caller)
    reserved = wallet.granted_nanousd
    available = max(0, wallet.posted_nanousd - reserved)
    held = usd_from_nanousd(reserved)
    response = json_response(
        {
            "balance_usd": usd_from_nanousd(wallet.posted_nanousd),
            "reserved_usd": held,
            "available_usd": usd_from_nanousd(available),
            "reserved_breakdown": {"requests": held} if reserved else {},
            "updated_at": iso_from_unix_ms(wallet.updated_at_ms) if wallet.updated_at_ms else None,
            "message": None,
        }
    )
    response.headers["cache-control"] = "no-store"
    return response


@router.get("/usage/rate-limits", response_model=docs.RateLimits)
async def rate_limits(
    request: Request,
    reads: Reads,
    caller: Reader,
    *,
    key_id: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """How far this key is into each of its limits; null where it has none. People and admin keys
    see their account's limits, and with `key_id` everything that binds that key.
    """
    if caller.kind == "key":
        # A key sees its own limits; those of the scopes that it is in are for people.
        shown = _by_owner(await reads.quotas.meters(caller_of(request)), ("key",))
    elif key_id:
        reads.freshness.require()
        named = reads.keys.find_key(key_id)
        if named is None or named.account_id != caller.account_id:
            raise NotFound(f"there is no key {key_id!r}")
        shown = _by_owner(await reads.quotas.meters(named), ("key", "member", "team", "account"))
    else:
        found = await reads.quotas.account_meters(AccountId(caller.account_id))
        shown = _by_owner(found, ("account",))
    response = json_response({"as_of": iso_from_unix_ms(reads.clock.now_ms()), **shown})
    response.headers["cache-control"] = "no-store"
    return response


@router.post("/usage/events", response_model=docs.UsageEvents)
async def usage_events(wanted: UsageFilter, reads: Reads, caller: Reader) -> Response:
    """Requests, newest first: of this key, or of the account where a person asks."""
    page = await reads.request_log.requests(caller, query_from_filter(wanted))
    return json_response(
        {
            "events": [_event(row) for row in page.rows],
            "total": page.total,
            "limit": wanted.limit,
            "offset": wanted.offset,
            "next_cursor": page.next_cursor or None,
        }
    )


@router.get("/usage/requests/{request_id}", response_model=docs.SettledRequest)
async def usage_request(request_id: str, reads: Reads, caller: Reader) -> Response:
    """One request by its id; 404 until it is settled."""
    for last in [False] * (LOOKUP_TRIES - 1) + [True]:
        try:
            row = await reads.request_log.request(caller, request_id)
        except NotFound:
            if last or not request_id.startswith("req_"):
                raise
            await asyncio.sleep(LOOKUP_PAUSE_S)
            continue
        return json_response(
            {"request_id": row.request_id, "outcome": row.outcome, "event": _event(row)}
        )
    raise AssertionError("unreachable: the last turn returns or raises")


def query_from_filter(wanted: UsageFilter) -> UsageQuery:
    """What a body asks for. Raises InvalidArgument naming the field that cannot be."""
    results, statuses = _statuses(wanted.status)
    since_ms, until_ms = _unix_ms(wanted.since), _unix_ms(wanted.until)
    if until_ms and until_ms <= since_ms:
        raise InvalidArgument.of("until", "is not after since")
    if wanted.cursor and wanted.offset:
        raise InvalidArgument.of("offset", "excludes cursor")
    costs = {name: _nanousd(name, getattr(wanted, name)) for name in _COSTS}
    if 0 < wanted.max_latency_ms < wanted.min_latency_ms:
        raise InvalidArgument.of("max_latency_ms", "is below min_latency_ms")
    if 0 < costs["max_cost_usd"] < costs["min_cost_usd"]:
        raise InvalidArgument.of("max_cost_usd", "is below min_cost_usd")
    return UsageQuery(
        since_ms=since_ms,
        until_ms=until_ms,
        model_ids=wanted.model,
        results=results,
        http_statuses=statuses,
        session_ids=wanted.session_id,
        end_user_ids=wanted.end_user_id,
        key_ids=wanted.key_id,
        user_ids=wanted.member_user_id,
        error_codes=wanted.error_code,
        failure_stages=wanted.failure_stage,
        trace_id=wanted.trace_id,
        min_latency_ms=wanted.min_latency_ms,
        max_latency_ms=wanted.max_latency_ms,
        min_cost_nanousd=costs["min_cost_usd"],
        max_cost_nanousd=costs["max_cost_usd"],
        tags=wanted.tags,
        limit=wanted.limit,
        offset=wanted.offset,
        cursor=wanted.cursor,
    )


def _nanousd(name: str, usd: str) -> int:
    try:
        nanousd = nanousd_from_usd(usd)
    except ValueError as error:
        raise InvalidArgument.of(name, "is not an amount in USD") from error
    if nanousd < 0:
        raise InvalidArgument.of(name, "is negative")
    return nanousd


def _by_owner(
    meters: Sequence[QuotaMeter], kinds: Sequence[ScopeKind]
) -> dict[str, dict[str, Any]]:  # Any: JSON
    """The limits of each of these, by the public API's name for it."""
    found = {(kind_of(meter.scope or "key"), meter.limit): meter for meter in meters}
    return {
        _OWNERS[kind]: {name: _metric(found.get((kind, name))) for name in _LIMIT_NAMES}
        for kind in kinds
    }


def _metric(meter: QuotaMeter | None) -> dict[str, Any] | None:  # Any: JSON
    if meter is None:
        return None
    current = meter.limit_value - meter.left
    # Where nothing is allowed, all of it is used up.
    share = min(1.0, current / meter.limit_value) if meter.limit_value else 1.0
    return {
        "current": current,
        "limit": meter.limit_value,
        "pct": round(100 * share, 2),
        "resets_in_seconds": math.ceil(meter.resets_in_s),
        # There are no limits but those that an owner set.
        "is_default_limit": False,
    }


def _event(row: LoggedRequest) -> dict[str, Any]:  # Any: JSON
    succeeded = row.outcome in ("success", "limit_reached")
    return {
        "event_id": row.usage_id,
        "request_id": row.request_id,
        "key_id": row.key_id,
        "trace_id": row.trace_id or None,
        "route": row.route,
        "model": row.model_id or row.requested_model,
        "requested_model": row.requested_model,
        "stream": row.stream,
        "status": "success" if succeeded else "error",
        "outcome": row.outcome,
        "http_status": row.http_status,
        "error_code": row.error_code or None,
        "failure_stage": row.failure_stage or None,
        "finish_reason": row.finish_reason or None,
        "created_at": iso_from_unix_ms(row.received_at_ms),
        "first_token_ms": row.first_token_ms or None,
        "latency_ms": row.latency_ms,
        "prompt_tokens": row.prompt_tokens,
        "completion_tokens": row.completion_tokens,
        "total_tokens": row.prompt_tokens + row.completion_tokens,
        "cost_usd": usd_from_nanousd(row.cost_nanousd),
        "routing_fallback": _fell_back(row),
        "service_tier": "default",
        "session_id": row.session_id or None,
        "end_user_id": row.end_user_id or None,
        "tags": dict(row.tags),
    }


def _fell_back(row: LoggedRequest) -> bool:
    """True where another model served than the one that was asked for; `auto` asks for none."""
    served = bool(row.model_id) and not is_auto(row.requested_model)
    return served and row.model_id != row.requested_model


def _statuses(given: Sequence[str]) -> tuple[list[Result], list[int]]:
    results: list[Result] = []
    statuses: list[int] = []
    for status in given:
        if status in ("success", "error"):
            results.append("success" if status == "success" else "error")
        elif status.isdecimal() and 100 <= int(status) <= 599:
            statuses.append(int(status))
        else:
            raise InvalidArgument.of("status", "give success, error or an HTTP status")
    return results, statuses


def _unix_ms(moment: datetime | None) -> int:
    if moment is None:
        return 0
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(zoned.timestamp() * 1000)


def iso_from_unix_ms(unix_ms: int) -> str:
    """The moment in UTC, with milliseconds."""
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="milliseconds")
