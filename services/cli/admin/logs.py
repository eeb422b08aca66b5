"""`mesh admin logs`: the request log, as a list, one by one, and live."""

from __future__ import annotations

import json
import re
import time
from contextlib import aclosing, suppress
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from rich.text import Text

from services.cli.admin.common import AccountOption, Count, CountOrNone, Options, Status, call, run
from services.cli.context import Services, operator
from services.cli.output import Row, console, moment, plain, show_one, show_rows, usd
from services.common.errors import InvalidArgument
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import usage_pb2 as events_pb2
from services.common.pb.mesh.usage.v1 import usage_pb2

app = App(name="logs", help="Every request: list, show, tail.")
TAIL_TIMEOUT_S = 86_400.0
PAGE_SIZE_MAX = 200
SINCE_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
TailAccount = Annotated[
    str | None, Parameter(name=["--account", "-a"], help="Default: every account.")
]


def outcome(request: usage_pb2.LoggedRequest) -> str:
    name = events_pb2.RequestOutcome.Name(request.outcome)
    return name.removeprefix("REQUEST_OUTCOME_").lower()


def brief_row(request: usage_pb2.LoggedRequest) -> Row:
    """A line of a list."""
    return {
        "received_at": moment(request.received_at_ms),
        "status": request.http_status,
        "outcome": outcome(request),
        "model_id": request.model_id or request.requested_model,
        "stream": request.stream,
        "prompt": request.prompt_tokens,
        "completion": request.completion_tokens,
        "first_token_ms": request.first_token_ms,
        "latency_ms": request.latency_ms,
        "cost_usd": usd(request.cost_nanousd),
        "request_id": request.request_id,
    }


def full_row(request: usage_pb2.LoggedRequest) -> Row:
    """Everything of one request."""
    kinds = {
        common_pb2.TokenKind.Name(q.kind).removeprefix("TOKEN_KIND_").lower(): str(q.tokens)
        for q in request.quantities
    }
    attempts = [
        f"{a.provider_id}/{a.upstream_model} {a.http_status} {a.error_code} {a.latency_ms} ms"
        for a in request.attempts
    ]
    return {
        **brief_row(request),
        "cost_nanousd": request.cost_nanousd,
        "usage_id": request.usage_id,
        "trace_id": request.trace_id,
        "account_id": request.account_id,
        "key_id": request.key_id,
        "worker_id": request.worker_id,
        "route": request.route,
        "requested_model": request.requested_model,
        "provider_id": request.provider_id,
        "error_code": request.error_code,
        "failure_stage": request.failure_stage,
        "finish_reason": request.finish_reason,
        "tokens": kinds,
        "usage_basis": events_pb2.UsageBasis.Name(request.usage_basis)
        .removeprefix("USAGE_BASIS_").lower(),
        "price_version_id": request.price_version_id,
        "session_id": request.session_id,
        "end_user_id": request.end_user_id,
        "tags": dict(request.tags),
        "attempts": attempts,
    }  # fmt: skip


def since_ms(since: str) -> int:
    """Unix milliseconds of a moment that long ago, for instance `15m` or `2d`."""
    match = re.fullmatch(r"(\d{1,6})([smhd])", since)
    if match is None:
        raise InvalidArgument.of("since", f"not a duration such as 15m, 2h or 7d: {since!r}")
    return int((time.time() - int(match[1]) * SINCE_UNITS_S[match[2]]) * 1000)


def filter_of(
    *, model: str | None, key: str | None, status: int | None, since: str | None
) -> usage_pb2.RequestFilter:
    return usage_pb2.RequestFilter(
        model_ids=[model] if model else [],
        key_ids=[key] if key else [],
        http_statuses=[status] if status else [],
        since_ms=since_ms(since) if since else 0,
    )


@app.command(name="list")
def list_requests(
    *,
    account: AccountOption = None,
    model: str | None = None,
    key: str | None = None,
    status: Status | None = None,
    since: Annotated[str | None, Parameter(help="Such as 15m, 2h or 7d.")] = None,
    limit: Count = 30,
    options: Options = Options(),
) -> None:
    """The account's requests, newest first."""
    wanted = filter_of(model=model, key=key, status=status, since=since)

    async def work(found: Services) -> list[usage_pb2.LoggedRequest]:
        account_id = await found.account_id(account)
        listed: list[usage_pb2.LoggedRequest] = []
        view = usage_pb2.REQUEST_VIEW_FULL if options.json else usage_pb2.REQUEST_VIEW_BASIC
        token = ""
        while len(listed) < limit:
            size = min(PAGE_SIZE_MAX, limit - len(listed))
            page = common_pb2.PageRequest(page_size=size, page_token=token)
            request = usage_pb2.ListRequestsRequest(filter=wanted, page=page, view=view)
            answer = await call(found, "usage", method=found.usage.ListRequests, request=request,
                                account=account_id)  # fmt: skip
            listed.extend(answer.requests)
            token = answer.page.next_page_token
            if not token:
                break
        return listed

    show_rows(
        [full_row(r) if options.json else brief_row(r) for r in run(work)], as_json=options.json
    )


@app.command
def show(request_id: str, *, account: AccountOption = None, options: Options = Options()) -> None:
    """Everything about one request."""

    async def work(found: Services) -> Any:  # Any: a protobuf message
        account_id = await found.account_id(account)
        return await call(found, "usage", method=found.usage.GetRequest,
                          request=usage_pb2.GetRequestRequest(request_id=request_id),
                          account=account_id)  # fmt: skip

    show_one(full_row(run(work)), as_json=options.json)


def show_live(request: usage_pb2.LoggedRequest, form: Literal["line", "json"]) -> None:
    """Prints one request as it arrives, at once."""
    if form == "json":
        print(json.dumps(full_row(request), ensure_ascii=False), flush=True)
        return
    colour = "green" if request.http_status < 400 else "red"
    rest = (
        f"{request.model_id or request.requested_model} "
        f"{'stream' if request.stream else 'whole'} {outcome(request)} "
        f"{request.prompt_tokens}+{request.completion_tokens} tokens "
        f"first {request.first_token_ms} ms total {request.latency_ms} ms "
        f"${usd(request.cost_nanousd)} {request.request_id} trace {request.trace_id}"
        f"{' ' + request.error_code if request.error_code else ''}"
    )
    status = Text(str(request.http_status), style=colour)
    line = Text(" ").join([plain(moment(request.received_at_ms)), status, plain(rest)])
    console().print(line, soft_wrap=True)


@app.command
def tail(
    *,
    account: TailAccount = None,
    model: str | None = None,
    key: str | None = None,
    status: Status | None = None,
    count: Annotated[CountOrNone, Parameter(help="Stop after this many; 0: at Ctrl-C.")] = 0,
    options: Options = Options(),
) -> None:
    """Requests as they end, live."""
    wanted = filter_of(model=model, key=key, status=status, since=None)

    async def work(found: Services) -> None:
        account_id = await found.account_id(account) if account else ""
        requests = found.channels["usage"].stream(
            found.usage.TailRequests,
            usage_pb2.TailRequestsRequest(filter=wanted),
            principal=operator(account_id),
            timeout_s=TAIL_TIMEOUT_S,
        )
        seen = 0
        async with aclosing(requests):
            async for request in requests:
                show_live(request, "json" if options.json else "line")
                seen += 1
                if seen == count:
                    return

    with suppress(KeyboardInterrupt):
        run(work)
