"""One cap over many keys, several workers and two replicas of billing on one PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import asyncpg
import pytest

from services.billing.adapters.ledger_postgres import PostgresLedger
from services.billing.domain.grants import GrantRules
from services.billing.entrypoints.grants import POLICIES, GrantsServicer
from services.billing.grant_desk import GrantDesk
from services.billing.handlers import CreditAccount, credit_account
from services.billing.rebuild import rebuild
from services.billing.settlement.keys import KeyCaps
from services.billing.settlement.settle import UsageSettlement
from services.billing.verify import verify
from services.common.clock import SystemClock
from services.common.errors import SpendLimitExceeded
from services.common.grpc import GrpcChannel, GrpcServer, TokenSigner, TokenVerifier
from services.common.ids import AccountId, UsageId, WorkerId
from services.common.pb.mesh.billing.v1 import grants_pb2_grpc
from services.common.postgres import migrate, open_pool
from services.common.topics import KEYS, USAGE
from services.gateway.adapters.grants_grpc import GrpcGrants
from services.gateway.budget.limits import BudgetLimits
from services.gateway.budget.service import PurseBudget
from services.gateway.ports import HoldRequest
from tests.fixtures.engines import PostgresServer
from tests.fixtures.ledger import Feed, LetterBox, key_record, usage_record
from tests.fixtures.waiting import running
from tests.unit.gateway_money.builders import PRICE, MemoryGrantLog, principal

SECRET = "a-secret-of-the-tests-that-is-long-enough"
ACCOUNT = "acc_1"
COST = 1_000
SERVED = 40
TEAM = "team:a"
# The machine may be slow; who waits for what another worker holds is not to give up for that.
PATIENT = BudgetLimits(place_deadline_s=30.0, rpc_timeout_s=20.0)


@dataclass
class World:
    """Replicas, workers, and the sums that the cap is checked by while they work."""

    pool: asyncpg.Pool
    keys: Feed
    usage: Feed
    budgets: list[PurseBudget]
    logs: list[MemoryGrantLog]
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    # The most that was ever spent and held in the team at once.
    peak: int = 0
    # What refusals named.
    limits: set[str] = field(default_factory=set)

    async def one(self, number: int) -> bool:
        """One request of exactly COST; False where it was refused because the money is gone."""
        worker, key_id = number % len(self.budgets), f"key_{number % 50}"
        budget, log = self.budgets[worker], self.logs[worker]
        request = HoldRequest(principal(key_id), PRICE, UsageId(f"use_{number}"), COST)
        try:
            hold = await budget.place(request)
        except SpendLimitExceeded as error:
            self.limits.add(str(error.extra["limit"]))
            return False
        await self.look()
        log.spent[hold.grant_id] += COST
        budget.settle(hold, COST)
        async with self.lock:
            await self.usage.send(
                usage_record(
                    f"use_{number}",
                    account_id=ACCOUNT,
                    key_id=key_id,
                    grant_id=hold.grant_id,
                    tokens=COST,
                )
            )
        return True

    async def look(self) -> None:
        row = await self.pool.fetchrow(
            "SELECT granted_nanousd + coalesce((SELECT sum(spent_nanousd) FROM scope_day"
            " WHERE scope = $1), 0)::bigint AS used FROM scope_account WHERE scope = $1",
            TEAM,
        )
        assert row is not None
        self.peak = max(self.peak, row["used"])


@pytest.fixture
async def world(postgres_dsn: PostgresServer) -> AsyncIterator[World]:
    dsn, clock = postgres_dsn("scopes"), SystemClock()
    async with AsyncExitStack() as stack:
        ports, stores = [], []
        for _ in range(2):
            pool = await open_pool(dsn, size_max=5)
            stack.push_async_callback(pool.close)
            await migrate(pool, "services.billing")
            stores.append(PostgresLedger(pool, unit_timeout_s=30.0))
            desk = GrantDesk(
                stores[-1],
                clock,
                GrantRules(),
                linger_s=0.003,
                group_max=64,
                waiting_max=1_000,
                fence_s=0.5,
                fence_poll_s=0.02,
            )
            await stack.enter_async_context(running(desk.run))
            server = GrpcServer(
                listen="127.0.0.1:0", verifier=TokenVerifier(SECRET), policies=POLICIES
            )
            grants_pb2_grpc.add_GrantsServiceServicer_to_server(GrantsServicer(desk), server.grpc)
            await server.start()
            stack.push_async_callback(server.stop, 0.1)
            ports.append(server.port)
        dead = LetterBox()
        found = World(
            pool,
            Feed(KEYS, KeyCaps(stores[0], dead, clock)),
            Feed(USAGE, UsageSettlement(stores[1], dead, clock)),
            [],
            [],
        )
        for number in range(3):
            channel = GrpcChannel(f"127.0.0.1:{ports[number % 2]}", TokenSigner(SECRET, "gateway"))
            stack.push_async_callback(channel.close)
            worker, log = WorkerId(f"w{number}"), MemoryGrantLog()
            grants = GrpcGrants(channel, worker)
            budget = PurseBudget(grants, log, worker_id=worker, clock=clock, limits=PATIENT)
            await stack.enter_async_context(running(budget.run))
            found.budgets.append(budget)
            found.logs.append(log)
        await credit_account(
            stores[0], clock, CreditAccount(AccountId(ACCOUNT), 1_000 * COST, "", "first")
        )
        yield found
        assert dead.letters == []


async def test_fifty_keys_of_a_team_spend_its_cap_exactly_and_never_above(world: World) -> None:
    limits: dict[str, tuple[int | None, int]] = {TEAM: (SERVED * COST, 1)}
    await world.keys.send(
        *(
            key_record(f"key_{number}", account_id=ACCOUNT, team_id="a", scopes=limits)
            for number in range(50)
        )
    )
    async with asyncio.timeout(120):
        answers = await asyncio.gather(*(world.one(number) for number in range(150)))
    assert sum(answers) == SERVED
    assert world.limits == {"team_cap"}
    assert world.peak <= SERVED * COST
    async with asyncio.timeout(30):
        await asyncio.gather(*(budget.drain() for budget in world.budgets))
    await world.look()
    assert world.peak == SERVED * COST
    rows = await world.pool.fetch("SELECT scope, granted_nanousd FROM scope_account")
    assert {row["granted_nanousd"] for row in rows} == {0}
    verified = await verify(world.pool)
    assert verified.is_sound, verified.findings
    assert (await rebuild(world.pool)).is_equal
