"""Limits of requests as a client meets them, over all workers of a running stack."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import aiohttp

from tests.e2e.market import Customer, Market, served_everywhere
from tests.e2e.stack import Stack, gateway_names

LIMIT = 60
REQUESTS = 150
# A minute with less than this left is not begun.
ROOM_S = 20.0


async def limited_customer(stack: Stack, market: Market, email: str) -> Customer:
    """An account whose second key has a limit."""
    owner = await market.customer(email)
    [key] = await stack.admin(
        "keys", "create", "--account", owner.account_id, "--label", "few", "--rpm", str(LIMIT)
    )
    limited = Customer(
        owner.account_id, str(key["key_id"]), str(key["secret"]), owner.start_nanousd
    )
    await served_everywhere(stack, limited.key, 200)
    return limited


async def ask(stack: Stack, key: str, model: str) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Status, headers and body of one request on a connection of its own."""
    body = {"model": model, "max_tokens": 16, "cache": False,
            "messages": [{"role": "user", "content": "Hello"}]}  # fmt: skip
    url = f"{stack.demo['MESH_BASE_URL']}/v1/chat/completions"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json=body, headers={"authorization": f"Bearer {key}"}) as answer,
    ):
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return answer.status, headers, await answer.json()


async def fresh_minute(stack: Stack, key: str) -> int:
    """Waits, once and if it must, for a minute with room; its number, by the stack's clock."""
    url = f"{stack.demo['MESH_BASE_URL']}/v1/usage/rate-limits"
    async with aiohttp.ClientSession() as session:
        for _ in range(2):
            async with session.get(url, headers={"authorization": f"Bearer {key}"}) as answer:
                told = await answer.json()
            now = datetime.fromisoformat(told["as_of"])
            left_s = 60 - now.timestamp() % 60
            if left_s >= ROOM_S:
                break
            await asyncio.sleep(left_s + 0.2)
    return int(now.timestamp() // 60)


async def test_exactly_sixty_of_a_crowd_pass_in_a_minute_over_three_workers(
    stack: Stack, market: Market
) -> None:
    assert len(gateway_names(stack)) == 3
    customer = await limited_customer(stack, market, "limited@example.com")
    minute = await fresh_minute(stack, customer.key)
    # Free models count as priced ones do.
    models = ["test/ok-priced", "test/ok-free"]
    answers = await asyncio.gather(
        *(ask(stack, customer.key, models[number % 2]) for number in range(REQUESTS))
    )
    assert datetime.now(UTC).timestamp() // 60 == minute, "the machine was too slow for one minute"
    assert Counter(status for status, _, _ in answers) == {200: LIMIT, 429: REQUESTS - LIMIT}
    for status, headers, body in answers:
        assert headers["x-ratelimit-limit-requests"] == str(LIMIT)
        assert int(headers["x-ratelimit-remaining-requests"]) < LIMIT
        assert 0 < int(headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 60
        if status == 429:
            assert body["error"]["code"] == "rate_limit_exceeded"
            assert f"{LIMIT} requests per minute" in body["error"]["message"]
            assert 0 < int(headers["retry-after"]) <= 60
            assert body["error"]["retry_after_seconds"] == int(headers["retry-after"])
    # Every request is in the log, the refused ones at no cost.
    refused = next(headers for status, headers, _ in answers if status == 429)
    url = f"{stack.demo['MESH_BASE_URL']}/v1/usage/requests/{refused['x-request-id']}"
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers={"authorization": f"Bearer {customer.key}"}) as answer,
    ):
        logged = (await answer.json())["event"]
    assert (logged["http_status"], logged["failure_stage"]) == (429, "guard_rate_limit")
    assert float(logged["cost_usd"]) == 0
