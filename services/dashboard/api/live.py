"""What an open page is told as it changes: the balance, and requests as they end."""

from __future__ import annotations

from contextlib import aclosing

from services.common.pb.mesh.billing.v1 import billing_pb2
from services.common.pb.mesh.events.v1 import ledger_pb2
from services.common.pb.mesh.usage.v1 import usage_pb2
from services.dashboard.api.models import BalanceOut
from services.dashboard.api.session import Session
from services.dashboard.api.sse import STREAM_LIFE_S, Messages
from services.dashboard.api.translate import balance_out, line_out
from services.dashboard.live_balances import LiveBalances
from services.dashboard.ports import Backends


async def live_balance(balances: LiveBalances, backends: Backends, session: Session) -> Messages:
    """The balance now and whenever it changes. Raises Unavailable where it cannot be asked for."""
    with balances.watching(session.caller.account_id) as changes:
        now = await backends.billing_channel.call(
            backends.billing.GetBalance, billing_pb2.GetBalanceRequest(), principal=session.caller
        )
        version = now.version
        yield balance_out(now)
        while True:
            state = await changes.get()
            # What came through the log may be older than the first answer.
            if state.version > version:
                version = state.version
                yield balance_of(state)


def balance_of(state: ledger_pb2.BalanceState) -> BalanceOut:
    return balance_out(
        billing_pb2.Balance(
            posted_nanousd=state.posted_nanousd,
            granted_nanousd=state.granted_nanousd,
            available_nanousd=state.posted_nanousd - state.granted_nanousd,
            updated_at_ms=state.updated_at_ms,
        )
    )


async def live_requests(
    backends: Backends, session: Session, wanted: usage_pb2.RequestFilter
) -> Messages:
    """New requests that fit, as they end. Raises Unavailable where the log is away."""
    rows = backends.usage_channel.stream(
        backends.usage.TailRequests,
        usage_pb2.TailRequestsRequest(filter=wanted),
        principal=session.caller,
        timeout_s=STREAM_LIFE_S * 2,
    )
    async with aclosing(rows):
        async for row in rows:
            yield line_out(row)
