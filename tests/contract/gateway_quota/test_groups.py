"""Groups of calls over billing's quotas, its twin and its own: each counts once on what its key
shares, and once on the limits of every model that is in it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from services.common.errors import RateLimitExceeded
from services.common.ids import UserId
from services.gateway.compare.quota import GroupQuotas
from services.gateway.ports import KeyPrincipal, QuotaTicket
from services.gateway.quota.ports import Lease, LeaseId
from services.gateway.quota.service import LeasedQuotas
from services.gateway.scoped import Scoped, ScopeRates
from tests.contract.gateway_quota.lenders import ACCOUNT, KEY, MODEL, TEAM, Lender, draw, lenders
from tests.fixtures.waiting import running

# Those without "m" have no limits of their own.
MODELS = ("m", "a", "b", "c")
SPENT = 27


@pytest.fixture(params=["memory", "grpc"])
async def lender(request: pytest.FixtureRequest) -> AsyncIterator[Lender]:
    async for one in lenders(request.param):
        yield one


def principal(*, team: int, model: int) -> KeyPrincipal:
    """The key, as a worker knows it; requests a minute of its team and of its model `m`."""
    shared = (ScopeRates(TEAM, rpm=team, tpm=10**9),)
    models = {"m": (ScopeRates(MODEL, rpm=model),)}
    return KeyPrincipal(
        ACCOUNT, KEY, UserId("usr_1"), 1, scoped=Scoped("a", shared=shared, models=models)
    )


async def run_group(quotas: LeasedQuotas, key: KeyPrincipal, models: list[str]) -> list[bool]:
    """One group of calls, all at once; which of them were let in."""
    group = GroupQuotas(quotas, len(models))
    tickets: list[QuotaTicket | None] = []

    async def call(model: str) -> bool:
        try:
            group.check(key)
            tickets.append(await group.admit(key, SPENT, model_id=model))
        except RateLimitExceeded:
            return False
        return True

    let_in = list(await asyncio.gather(*(call(model) for model in models)))
    for ticket in tickets:
        if ticket is not None:
            group.settle(ticket, SPENT)
    await group.end(SPENT * sum(let_in))
    return let_in


async def counted(lender: Lender) -> dict[tuple[str, str], int]:
    """What billing has counted, by scope and limit."""
    found = await lender.source.meters(ACCOUNT, KEY)
    nothing = replace(draw(), lease_id=LeaseId("ql_read"), needed_requests=0, wanted_requests=0)
    alone = replace(nothing, model_id="m", model_scopes_only=True)
    read = await lender.source.draw(alone, timeout_s=5)
    assert isinstance(read, Lease)
    return {(one.scope, one.limit): one.taken for one in (*found, *read.meters)}


@pytest.mark.parametrize("seed", range(4))
async def test_every_group_counts_once_on_what_is_shared_and_once_on_each_models_own(
    lender: Lender, seed: int
) -> None:
    chance = random.Random(seed)
    await lender.limit_team({"rpm": 10_000, "tpm": 10**9}, {"rpm": 10_000})
    key = principal(team=10_000, model=10_000)
    groups = [chance.sample(MODELS, chance.randint(1, 4)) for _ in range(12)]
    quotas = LeasedQuotas(lender.source, clock=lender.clock)
    async with running(quotas.run):
        if seed % 2:
            done = await asyncio.gather(*(run_group(quotas, key, one) for one in groups))
        else:
            done = [await run_group(quotas, key, one) for one in groups]
        assert all(all(one) for one in done)
        await quotas.drain()
    calls = sum(len(one) for one in groups)
    assert await counted(lender) == {
        (TEAM, "rpm"): len(groups),
        (TEAM, "tpm"): SPENT * calls,
        (MODEL, "rpm"): sum("m" in one for one in groups),
    }


async def test_a_model_at_its_limit_is_refused_alone(lender: Lender) -> None:
    await lender.limit_team({"rpm": 3, "tpm": 10**9}, {"rpm": 1})
    key = principal(team=3, model=1)
    quotas = LeasedQuotas(lender.source, clock=lender.clock)
    async with running(quotas.run):
        assert await run_group(quotas, key, ["m", "a"]) == [True, True]
        assert await run_group(quotas, key, ["m", "a"]) == [False, True]
        assert await run_group(quotas, key, ["b", "a"]) == [True, True]
        # The key's own are used up: nobody is let in, and the model is not counted.
        assert await run_group(quotas, key, ["m", "a"]) == [False, False]
        await quotas.drain()
    found = await counted(lender)
    assert (found[TEAM, "rpm"], found[MODEL, "rpm"]) == (3, 1)
