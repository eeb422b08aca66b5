"""Suspension, caps and balances as a client meets them, on every worker."""

from __future__ import annotations

import asyncio
import time

import aiohttp

from tests.e2e.market import Customer, Market, served_everywhere
from tests.e2e.stack import Stack

PRICED, FREE = "test/ok-priced", "test/ok-free"
IN_FORCE_WITHIN_S = 1.0


async def ask(stack: Stack, customer: Customer, model: str) -> tuple[int, dict[str, object]]:
    """Status and body of one request on a connection of its own."""
    body = {"model": model, "max_tokens": 16, "cache": False,
            "messages": [{"role": "user", "content": "Hello"}]}  # fmt: skip
    url = f"{stack.demo['MESH_BASE_URL']}/v1/chat/completions"
    headers = {"authorization": f"Bearer {customer.key}"}
    async with aiohttp.ClientSession() as session:
        async with session.post(url, json=body, headers=headers) as answer:
            return answer.status, await answer.json()


async def statuses(stack: Stack, customer: Customer, model: str) -> set[int]:
    """The statuses of enough requests to meet every worker."""
    answers = await asyncio.gather(*(ask(stack, customer, model) for _ in range(16)))
    return {status for status, _ in answers}


async def test_a_suspended_key_is_refused_by_every_worker_within_a_second(
    stack: Stack, market: Market
) -> None:
    customer = await market.customer("suspended@example.com")
    assert await statuses(stack, customer, PRICED) == {200}
    suspending = asyncio.create_task(
        stack.admin("keys", "suspend", customer.key_id, "--account", customer.account_id)
    )
    await suspending
    done = time.monotonic()
    await served_everywhere(stack, customer.key, 403, within_s=IN_FORCE_WITHIN_S)
    assert time.monotonic() - done <= IN_FORCE_WITHIN_S
    assert await statuses(stack, customer, FREE) == {403}
    await stack.admin("keys", "resume", customer.key_id, "--account", customer.account_id)
    await served_everywhere(stack, customer.key, 200, within_s=IN_FORCE_WITHIN_S)


async def test_a_cap_of_zero_refuses_a_priced_model_with_402_and_still_serves_the_free_one(
    stack: Stack, market: Market
) -> None:
    customer = await market.customer("capped@example.com", cap_usd="0")
    status, body = await ask(stack, customer, PRICED)
    assert status == 402
    error = body["error"]
    assert isinstance(error, dict)
    assert error["code"] == "spend_limit_exceeded"
    assert "cap" in str(error["message"]).lower()
    assert await statuses(stack, customer, PRICED) == {402}
    assert await statuses(stack, customer, FREE) == {200}


async def test_an_empty_wallet_refuses_a_priced_model_with_402_and_still_serves_the_free_one(
    stack: Stack, market: Market
) -> None:
    customer = await market.customer("empty@example.com", usd="0")
    status, body = await ask(stack, customer, PRICED)
    assert status == 402
    error = body["error"]
    assert isinstance(error, dict)
    assert "balance" in str(error["message"]).lower()
    assert await statuses(stack, customer, FREE) == {200}
