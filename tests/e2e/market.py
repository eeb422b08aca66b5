"""A scripted provider with priced and free models on a running stack, and customers with money."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import aiohttp

from services.common.money import nanousd_from_usd
from tests.e2e.operator import operator_of
from tests.e2e.stack import Stack
from tests.fixtures.upstream import Upstream


@dataclass(frozen=True, slots=True)
class Customer:
    """An account with a key and money; `start_nanousd` is what it was credited."""

    account_id: str
    key_id: str
    key: str
    start_nanousd: int


@dataclass(frozen=True, slots=True)
class Market:
    """The scripted provider of a stack."""

    stack: Stack
    upstream: Upstream

    async def customer(self, email: str, *, usd: str = "1", cap_usd: str | None = None) -> Customer:
        """A new account with credit and a key that every gateway knows."""
        [account] = await self.stack.admin(
            "accounts", "create", email, "--password", "a long password", "--name", email
        )
        account_id = str(account["account_id"])
        if nanousd_from_usd(usd):
            await self.stack.admin("credit", usd, "--account", account_id, "--reason", "test")
        cap = ["--spend-cap", cap_usd] if cap_usd is not None else []
        [key] = await self.stack.admin(
            "keys", "create", "--account", account_id, "--label", "test", *cap
        )
        customer = Customer(
            account_id, str(key["key_id"]), str(key["secret"]), nanousd_from_usd(usd)
        )
        await served_everywhere(self.stack, customer.key, 200)
        return customer


async def open_market(stack: Stack, upstream: Upstream) -> Market:
    """Registers the provider and its models."""
    async with operator_of(stack) as operator:
        await operator.open_market(upstream.base_url)
    return Market(stack, upstream)


async def served_everywhere(
    stack: Stack, key: str, status: int, *, within_s: float = 10.0
) -> float:
    """How long until every worker answers `GET /v1/models` with this status, in seconds.

    Each look is a new connection, so that the kernel spreads them over the workers; twenty equal
    answers in a row stand for all of them.
    """
    url = f"{stack.demo['MESH_BASE_URL']}/v1/models"
    headers = {"authorization": f"Bearer {key}"}
    started = time.monotonic()
    since, in_a_row = started, 0
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        while in_a_row < 20:
            async with session.get(url, headers=headers) as answer:
                if answer.status == status:
                    in_a_row += 1
                else:
                    in_a_row, since = 0, time.monotonic()
            if time.monotonic() - started > within_s:
                raise TimeoutError(f"not {status} everywhere within {within_s} s")
            await asyncio.sleep(0)
    return since - started
