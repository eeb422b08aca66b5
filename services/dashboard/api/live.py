"""What is pushed to pages that are open, as server-sent events: the balance as it changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from services.common.errors import AppError, Unavailable
from services.common.pb.mesh.billing.v1 import billing_pb2
from services.common.pb.mesh.events.v1 import ledger_pb2
from services.dashboard.api.models import BalanceOut
from services.dashboard.api.session import BackendsDep, Session, SessionDep
from services.dashboard.api.sse import (
    HEARTBEAT_S,
    STILL_HERE,
    STREAM_LIFE_S,
    event,
    event_stream,
)
from services.dashboard.api.translate import balance_out
from services.dashboard.live_balances import LiveBalances
from services.dashboard.ports import Backends

router = APIRouter(tags=["live"])


@router.get("/balance/live")
async def live_balance(
    request: Request, session: SessionDep, backends: BackendsDep
) -> StreamingResponse:
    """The balance now and whenever it changes; each event is a `BalanceOut`."""
    balances: LiveBalances = request.app.state.balances
    if balances.full:
        raise Unavailable("too many pages are open", retry_after_s=5)
    return event_stream(_frames(balances, backends, session))


async def _frames(
    balances: LiveBalances, backends: Backends, session: Session
) -> AsyncIterator[bytes]:
    ends_s = time.monotonic() + STREAM_LIFE_S
    account_id = session.caller.account_id
    # Without an answer the stream ends, and the page asks again.
    with balances.watching(account_id) as changes, suppress(AppError):
        now = await backends.billing_channel.call(
            backends.billing.GetBalance, billing_pb2.GetBalanceRequest(), principal=session.caller
        )
        version = now.version
        yield event(balance_out(now))
        while time.monotonic() < ends_s:
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    state = await changes.get()
            except TimeoutError:
                yield STILL_HERE
                continue
            # What came through the log may be older than the first answer.
            if state.version > version:
                version = state.version
                yield event(balance_of(state))


def balance_of(state: ledger_pb2.BalanceState) -> BalanceOut:
    return balance_out(
        billing_pb2.Balance(
            posted_nanousd=state.posted_nanousd,
            granted_nanousd=state.granted_nanousd,
            available_nanousd=state.posted_nanousd - state.granted_nanousd,
            updated_at_ms=state.updated_at_ms,
        )
    )
