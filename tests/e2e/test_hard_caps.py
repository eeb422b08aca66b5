"""Caps and balances are exact to the last nano-dollar, however many workers spend from them.

The model's answers cost exactly what is held for them: its prompt is free, and every answer has as
many tokens as `max_tokens` allows. So a limit for N requests serves N, no more and no less.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import aiohttp
import pytest

from services.common.errors import AppError
from services.common.pb.mesh.billing.v1 import billing_pb2
from services.common.pb.mesh.common.v1 import common_pb2
from tests.e2e.load import quiescence
from tests.e2e.market import Market, served_everywhere
from tests.e2e.operator import Account, Operator, operator_of
from tests.e2e.stack import Stack, gateway_names
from tests.fixtures.upstream import USAGE

MODEL = "test/exact"
RATE_NANOUSD = 15_000
TOKENS = int(USAGE["completion_tokens"])
COST_NANOUSD = TOKENS * RATE_NANOUSD
ENOUGH_FOR = 300
REQUESTS = 1_000
SAMPLE_EVERY_S = 0.02
ANSWERED_WITHIN_S = 120.0


@dataclass(slots=True)
class Crowd:
    """Clients of one account, one request each, who obey Retry-After until served or told no."""

    market: Market
    account: Account
    prompt: str
    served: int = 0
    refused_as_held: int = 0
    # How many requests had been sent upstream whenever a client was told that the money is gone.
    sent_when_gone: list[int] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    @property
    def sent_upstream(self) -> int:
        """How many requests of this crowd have reached the provider."""
        return sum(
            body["messages"][0]["content"] == self.prompt for body in self.market.upstream.requests
        )

    async def run(self, keys: Sequence[str]) -> None:
        """Everybody at once, the keys in turn."""
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        timeout = aiohttp.ClientTimeout(total=ANSWERED_WITHIN_S)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            async with asyncio.timeout(ANSWERED_WITHIN_S):
                clients = (self._client(session, keys[n % len(keys)]) for n in range(REQUESTS))
                await asyncio.gather(*clients)

    async def _client(self, session: aiohttp.ClientSession, key: str) -> None:
        while True:
            again_s = await self._ask(session, key)
            if again_s is None:
                return
            await asyncio.sleep(again_s)

    async def _ask(self, session: aiohttp.ClientSession, key: str) -> float | None:
        """One request: after how many seconds to send it again, or None where it was answered."""
        body = {
            "model": MODEL,
            "max_tokens": TOKENS,
            "messages": [{"role": "user", "content": self.prompt}],
            "cache": False,
        }
        url = f"{self.market.stack.demo['MESH_BASE_URL']}/v1/chat/completions"
        headers = {"authorization": f"Bearer {key}"}
        async with session.post(url, json=body, headers=headers) as answer:
            said = await answer.json()
            if answer.status == 200:
                self.served += 1
                return None
            error = said["error"]
            if error.get("state") == "gone":
                self.sent_when_gone.append(self.sent_upstream)
                return None
            if answer.status in (402, 503):
                self.refused_as_held += 1
                return float(answer.headers["retry-after"])
            self.others.append(f"{answer.status} {error}")
            return None


@dataclass(slots=True)
class Limits:
    """Samples what an account and its keys have spent and hold, while it is spent."""

    operator: Operator
    account: Account
    samples: int = 0
    most_nanousd: int = 0
    broken: list[str] = field(default_factory=list)

    async def run(self) -> None:
        """Until cancelled; a call that takes too long is one sample less."""
        while True:
            with suppress(AppError):
                await self.sample()
            await asyncio.sleep(SAMPLE_EVERY_S)

    async def sample(self) -> None:
        """One look at the balance and at every key."""
        account = self.account.account_id
        balance = await self.operator.call(
            "billing", "GetBalance", billing_pb2.GetBalanceRequest(), account
        )
        if balance.available_nanousd < 0:
            self.broken.append(f"available: {balance.available_nanousd}")
        spend = await self.operator.call(
            "billing", "ListKeySpend", billing_pb2.ListKeySpendRequest(), account
        )
        for key in spend.keys:
            taken = key.spent_nanousd + key.granted_nanousd
            self.most_nanousd = max(self.most_nanousd, taken)
            if key.HasField("spend_cap_nanousd") and taken > key.spend_cap_nanousd:
                self.broken.append(f"{key.key_id}: {taken} of {key.spend_cap_nanousd}")
        self.samples += 1


async def spent_by(operator: Operator, account: Account) -> int:
    """What all keys have spent, in nano-dollars."""
    spend = await operator.call(
        "billing", "ListKeySpend", billing_pb2.ListKeySpendRequest(), account.account_id
    )
    return sum(key.spent_nanousd for key in spend.keys)


async def everybody_asks(market: Market, operator: Operator, account: Account) -> Crowd:
    """Sends the crowd and asserts what must be true of it whatever limit binds."""
    keys = list(account.keys.values())
    for key in keys[:3]:
        await served_everywhere(market.stack, key, 200)
    crowd = Crowd(market, account, prompt=f"Exactly {account.account_id}")
    limits = Limits(operator, account)
    watching = asyncio.create_task(limits.run())
    started = time.monotonic()
    try:
        await crowd.run(keys)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    print(
        f"{crowd.served} served, {crowd.refused_as_held} held, {time.monotonic() - started:.1f} s"
    )
    assert limits.broken == []
    # How many fit in depends on how fast the crowd is served; that they saw money moving does not.
    assert limits.samples > 0
    assert limits.most_nanousd > 0
    assert crowd.others == []
    assert crowd.served == ENOUGH_FOR == crowd.sent_upstream
    assert len(crowd.sent_when_gone) == REQUESTS - ENOUGH_FOR
    assert set(crowd.sent_when_gone) == {ENOUGH_FOR}, "told that it is gone while it was there"
    await quiescence(market.stack, account.account_id)
    assert await spent_by(operator, account) == ENOUGH_FOR * COST_NANOUSD
    return crowd


@pytest.mark.timeout(300)
async def test_a_thousand_requests_on_one_capped_key_and_three_workers_spend_exactly_the_cap(
    stack: Stack, market: Market
) -> None:
    assert len(gateway_names(stack)) == 3
    async with operator_of(stack) as operator:
        await operator.put_model(MODEL, "ok", rates=(0, RATE_NANOUSD))
        account = await operator.new_account("hard-cap", nanousd=10 * ENOUGH_FOR * COST_NANOUSD)
        await operator.new_key(
            account,
            cap_nanousd=ENOUGH_FOR * COST_NANOUSD,
            window=common_pb2.CAP_WINDOW_LIFETIME,
        )
        await everybody_asks(market, operator, account)


@pytest.mark.timeout(300)
async def test_a_thousand_requests_on_fifty_keys_and_three_workers_spend_exactly_the_balance(
    stack: Stack, market: Market
) -> None:
    async with operator_of(stack) as operator:
        await operator.put_model(MODEL, "ok", rates=(0, RATE_NANOUSD))
        account = await operator.new_account("hard-balance", nanousd=ENOUGH_FOR * COST_NANOUSD)
        for _ in range(50):
            await operator.new_key(account)
        await everybody_asks(market, operator, account)
        [balance] = await stack.admin("balances", "show", account.account_id)
        assert balance["posted_nanousd"] == balance["held_nanousd"] == 0
