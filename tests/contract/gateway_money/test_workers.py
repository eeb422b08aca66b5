"""Several workers on one key, billing itself behind them: the cap is hard and money returns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from services.billing.adapters.ledger_memory import MemoryLedger
from services.billing.domain.grants import GrantRules
from services.billing.domain.state import KeyAccount, Wallet
from services.billing.entrypoints.grants import POLICIES, GrantsServicer
from services.billing.grant_desk import GrantDesk
from services.common.clock import SystemClock
from services.common.errors import SpendLimitExceeded
from services.common.grpc import GrpcChannel, GrpcServer, TokenSigner, TokenVerifier
from services.common.ids import WorkerId
from services.common.pb.mesh.billing.v1 import grants_pb2_grpc
from services.gateway.adapters.grants_grpc import GrpcGrants
from services.gateway.budget.service import PurseBudget
from services.gateway.ports import Hold
from tests.unit.gateway_money.builders import (
    ACCOUNT,
    KEY,
    MemoryGrantLog,
    gather_answers,
    wants,
)

SECRET = "a-secret-of-the-tests-that-is-long-enough"
WORKERS = 4
MONEY = 400_000
HOLD = 1_000


@dataclass
class Fleet:
    """Workers of one billing, and its books."""

    ledger: MemoryLedger
    budgets: list[PurseBudget]
    logs: list[MemoryGrantLog]

    def wallet(self) -> Wallet:
        return self.ledger.tables.wallets[ACCOUNT]


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    """Four workers on one key with a cap and more balance than that."""
    ledger, clock = MemoryLedger(), SystemClock()
    ledger.tables.wallets[ACCOUNT] = Wallet(ACCOUNT, posted_nanousd=10 * MONEY)
    ledger.tables.keys[ACCOUNT, KEY] = KeyAccount(
        ACCOUNT, KEY, spend_cap_nanousd=MONEY, version=1, active=True
    )
    desk = GrantDesk(
        ledger,
        clock,
        GrantRules(),
        linger_s=0.002,
        group_max=100,
        waiting_max=1_000,
        fence_s=0.1,
        fence_poll_s=0.01,
    )
    server = GrpcServer(listen="127.0.0.1:0", verifier=TokenVerifier(SECRET), policies=POLICIES)
    grants_pb2_grpc.add_GrantsServiceServicer_to_server(GrantsServicer(desk), server.grpc)
    await server.start()
    found = Fleet(ledger, [], [])
    channels = []
    for number in range(WORKERS):
        channel = GrpcChannel(f"127.0.0.1:{server.port}", TokenSigner(SECRET, "gateway"))
        worker, log = WorkerId(f"w{number}"), MemoryGrantLog()
        grants = GrpcGrants(channel, worker)
        found.budgets.append(PurseBudget(grants, log, worker_id=worker, clock=clock))
        found.logs.append(log)
        channels.append(channel)
    tasks = [asyncio.create_task(desk.run())]
    tasks += [asyncio.create_task(budget.run()) for budget in found.budgets]
    yield found
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for channel in channels:
        await channel.close()
    await server.stop(0.0)


async def test_a_thousand_at_once_over_four_workers_never_pass_the_cap(fleet: Fleet) -> None:
    answers = await asyncio.gather(
        *(
            gather_answers(budget, [wants(f"{worker}x{n}", HOLD) for n in range(250)])
            for worker, budget in enumerate(fleet.budgets)
        )
    )
    held = [hold for some in answers for hold in some if isinstance(hold, Hold)]
    refused = [error for some in answers for error in some if not isinstance(error, Hold)]
    assert len(held) + len(refused) == 1_000
    assert sum(hold.amount_nanousd for hold in held) <= MONEY
    # What does not fit a whole hold may lie about in each grant, no more.
    assert len(held) >= 0.9 * MONEY / HOLD
    for error in refused:
        assert isinstance(error, SpendLimitExceeded)
        assert error.extra == {"limit": "key_cap", "state": "held"}
    for budget, log, some in zip(fleet.budgets, fleet.logs, answers, strict=True):
        for hold in some:
            if isinstance(hold, Hold):
                log.spent[hold.grant_id] += 1
                budget.settle(hold, 1)
    async with asyncio.timeout(10):
        await asyncio.gather(*(budget.drain() for budget in fleet.budgets))
    # Of all that was held, only what was spent still is, until its events are booked.
    assert fleet.wallet().granted_nanousd == fleet.wallet().closing_nanousd == len(held)


async def _spend(fleet: Fleet, worker: int, requests: int) -> int:
    """Requests one after another until the money is gone; what they cost."""
    budget, log, spent = fleet.budgets[worker], fleet.logs[worker], 0
    for number in range(requests):
        try:
            hold = await budget.place(wants(f"{worker}s{number}", 2 * HOLD, HOLD))
        except SpendLimitExceeded:
            return spent
        await asyncio.sleep(0)
        cost = hold.amount_nanousd // 2
        log.spent[hold.grant_id] += cost
        budget.settle(hold, cost)
        spent += cost
    return spent


async def test_four_workers_spend_a_cap_to_its_end_and_not_beyond(fleet: Fleet) -> None:
    async with asyncio.timeout(60):
        spent = sum(
            await asyncio.gather(
                *(_spend(fleet, number % WORKERS, 500) for number in range(WORKERS))
            )
        )
        await asyncio.gather(*(budget.drain() for budget in fleet.budgets))
    assert 0.95 * MONEY < spent <= MONEY
    assert fleet.wallet().granted_nanousd == spent
