"""The balance as it is pushed to an open page."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp

from services.common.events import EventRecord
from services.common.ids import new_id
from services.common.pb.mesh.events.v1 import ledger_pb2
from tests.fixtures.waiting import eventually
from tests.integration.dashboard.conftest import Browser, Panel

WITHIN_S = 20.0


def message(account_id: str, posted_nanousd: int, version: int) -> bytes:
    """As billing writes it to the compacted topic."""
    state = ledger_pb2.BalanceState(
        account_id=account_id, posted_nanousd=posted_nanousd, version=version, updated_at_ms=1
    )
    return EventRecord(
        event_id=new_id("evt"),
        type="billing.BalanceState",
        version=1,
        occurred_at_ms=1,
        account_id=account_id,
        traceparent="",
        payload=state.SerializeToString(),
    ).to_bytes()


async def next_balance(response: aiohttp.ClientResponse) -> dict[str, Any]:  # Any: JSON
    async with asyncio.timeout(WITHIN_S):
        async for line in response.content:
            if line.startswith(b"data: "):
                found: dict[str, Any] = json.loads(line[6:])  # Any: JSON
                return found
    raise AssertionError("the stream ended")


async def test_an_open_page_is_told_each_newer_balance_of_its_own_account(
    ada: Browser, panel: Panel
) -> None:
    account_id = ada.session["account_id"]
    async with ada.client.get(f"{panel.url}/api/balance/live") as response:
        assert response.content_type == "text/event-stream"
        first = await next_balance(response)
        assert first["posted_usd"] == "0.00"
        panel.balances.apply("acc_of_somebody_else", message("acc_of_somebody_else", 7, 900))
        panel.balances.apply(account_id, message(account_id, 5_000_000_000, 1_000))
        assert (await next_balance(response))["posted_usd"] == "5.00"
        # Delivered again and out of order: what is older says nothing new.
        panel.balances.apply(account_id, message(account_id, 1, 999))
        await asyncio.sleep(0)
        panel.balances.apply(account_id, message(account_id, 6_000_000_000, 1_001))
        assert (await next_balance(response))["posted_usd"] == "6.00"
    await eventually(lambda: panel.balances.watchers == 0)
