"""What is pushed to a page that is open: one stream of server-sent events for everything it shows.

A browser opens at most six connections to one host over HTTP/1.1, so that a page with a stream for
each of its parts would starve the other tabs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import Field

from services.common.errors import Unavailable
from services.dashboard.api.figures import LiveOut, live_figures
from services.dashboard.api.live import live_balance, live_requests
from services.dashboard.api.models import BalanceOut, RequestLineOut
from services.dashboard.api.reads import Filters
from services.dashboard.api.session import BackendsDep, SessionDep
from services.dashboard.api.sse import AwayOut, Messages, event_stream, merged
from services.dashboard.live_balances import LiveBalances

router = APIRouter(tags=["live"])
Topic = Literal["balance", "live", "requests"]


class Wanted(Filters):
    """What a page wants to be told of; the filters are those of the requests."""

    topic: list[Topic] = Field(min_length=1, max_length=3)


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses={200: {"model": BalanceOut | LiveOut | RequestLineOut | AwayOut}},
)
async def events(
    request: Request,
    session: SessionDep,
    backends: BackendsDep,
    *,
    wanted: Annotated[Wanted, Query()],
) -> StreamingResponse:
    """Named events: `balance` (now and whenever it changes), `live` (the last minute likewise),
    `requests` (those that fit, as they end), and `away` for a topic that is not there now.
    """
    balances: LiveBalances = request.app.state.balances
    if balances.full:
        raise Unavailable("too many pages are open", retry_after_s=5)
    sources: dict[str, Callable[[], Messages]] = {
        "balance": partial(live_balance, balances, backends, session),
        "live": partial(live_figures, backends, session),
        "requests": partial(live_requests, backends, session, wanted.to_pb()),
    }
    chosen = {str(topic): sources[topic] for topic in wanted.topic}
    return event_stream(merged(chosen, request.app.state.clock))
