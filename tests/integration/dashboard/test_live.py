"""What is pushed to an open page: one stream, whatever it shows."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from services.common.config import HostPort
from services.common.events import EventRecord
from services.common.ids import new_id
from services.common.pb.mesh.events.v1 import ledger_pb2
from services.dashboard.config import DashboardSettings
from tests.fixtures.waiting import eventually
from tests.integration.dashboard.conftest import Browser, Panel, serve_panel

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
    async with ada.client.get(f"{panel.url}/api/events?topic=balance") as response:
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


async def said_by(response: aiohttp.ClientResponse, *topics: str) -> dict[str, Any]:  # Any: JSON
    """The first message of each of these topics, which come on one stream."""
    found: dict[str, Any] = {}  # Any: JSON
    topic = ""
    async with asyncio.timeout(WITHIN_S):
        async for line in response.content:
            if line.startswith(b"event: "):
                topic = line[7:].decode().strip()
            elif line.startswith(b"data: "):
                found.setdefault(topic, json.loads(line[6:]))
            if set(topics) <= found.keys():
                return found
    raise AssertionError(f"the stream ended; it said {sorted(found)}")


async def test_one_stream_carries_every_topic_that_a_page_asks_for(
    ada: Browser, panel: Panel
) -> None:
    wanted = "topic=balance&topic=live&topic=requests&model=local/smol"
    async with ada.client.get(f"{panel.url}/api/events?{wanted}") as response:
        found = await said_by(response, "balance", "live")
        assert panel.balances.watchers == 1
    assert (found["balance"]["posted_usd"], found["live"]["requests"]) == ("0.00", 0)
    await eventually(lambda: panel.balances.watchers == 0)


async def test_a_topic_that_is_away_is_said_to_be_and_the_others_go_on(
    ada: Browser, settings_for: Callable[..., DashboardSettings]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = HostPort(f"127.0.0.1:{taken.getsockname()[1]}")
    cookie = next(one for one in ada.client.cookie_jar if one.key == "mesh_session")
    async with serve_panel(settings_for(usage_live_address=nobody)) as panel:
        async with ada.client.get(
            f"{panel.url}/api/events?topic=live&topic=balance",
            headers={"cookie": f"mesh_session={cookie.value}"},
        ) as response:
            found = await said_by(response, "balance", "away")
            assert found["away"] == {"topic": "live"}
            account_id = ada.session["account_id"]
            panel.balances.apply(account_id, message(account_id, 7_000_000_000, 1_000))
            # In between it may be said once more that the other is away.
            while (told := await next_balance(response)).get("topic") == "live":
                pass
            assert told["posted_usd"] == "7.00"


@pytest.mark.parametrize(
    ("query", "field"),
    [("", "topic"), ("topic=everything", "topic"), ("topic=requests&status=1000", "status")],
)
async def test_a_stream_of_something_unknown_is_refused_by_its_field(
    query: str, field: str, ada: Browser
) -> None:
    answer = await ada.call("GET", f"/api/events?{query}")
    assert (answer.status, answer.code) == (422, "validation_error")
    assert field in answer.json["error"]["message"]
