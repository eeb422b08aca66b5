"""Exact limits while many ask at once: three workers, two replicas of billing, one PostgreSQL.

The workers speak gRPC to billing. Wall time is moved so that no window ends within a test.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import asyncpg
import pytest

from services.billing.adapters.ledger_memory import MemoryLedger
from services.billing.adapters.quotas_postgres import PostgresQuotas
from services.billing.domain.quotas import QuotaRules
from services.billing.entrypoints.quotas import POLICIES, QuotasServicer
from services.billing.quota_desk import QuotaDesk
from services.billing.settlement.keys import KeyCaps
from services.common import scopes
from services.common.errors import AppError, RateLimitExceeded
from services.common.events import record_of
from services.common.grpc import GrpcChannel, GrpcServer, TokenSigner, TokenVerifier
from services.common.ids import AccountId, KeyId, UserId, WorkerId
from services.common.pb.mesh.billing.v1 import quotas_pb2_grpc
from services.common.pb.mesh.events.v1 import accounts_pb2
from services.common.postgres import migrate, open_pool
from services.common.topics import KEYS
from services.gateway.adapters.quotas_grpc import GrpcQuotas
from services.gateway.ports import KeyPrincipal, KeySettings, QuotaTicket
from services.gateway.quota.limits import QuotaLimits
from services.gateway.quota.service import LeasedQuotas
from services.gateway.scoped import Scoped, ScopeRates
from tests.fixtures.clocks import EarlyClock
from tests.fixtures.engines import PostgresServer
from tests.fixtures.ledger import Feed, LetterBox
from tests.fixtures.waiting import running

SECRET = "a-secret-of-the-tests-that-is-long-enough"
ACCOUNT, KEY = AccountId("acc_1"), KeyId("key_1")
# The machine may be slow; who waits for what another worker holds is not to give up for that.
PATIENT = QuotaLimits(place_deadline_s=15.0)


@dataclass
class World:
    """Replicas of billing on one database, and the workers that ask them."""

    pool: asyncpg.Pool
    keys: Feed
    clock: EarlyClock
    ports: list[int]
    stack: AsyncExitStack
    workers: list[LeasedQuotas] = field(default_factory=list)

    async def limit(self, **limits: int) -> KeyPrincipal:
        """The key gets these limits, as accounts would say; who calls with it."""
        settings = accounts_pb2.KeySettings()
        for name, value in limits.items():
            setattr(settings, f"{name}_limit", value)
        state = accounts_pb2.KeyState(
            key_hash="hash", key_id=KEY, account_id=ACCOUNT, settings=settings, version=1
        )
        await self.keys.send(record_of(state, account_id=ACCOUNT, occurred_at_ms=1))
        ours = KeySettings(**{f"{name}_limit": value for name, value in limits.items()})  # type: ignore[arg-type]  # only the three limits are given
        return KeyPrincipal(ACCOUNT, KEY, UserId("usr_1"), 1, ours)

    async def limit_account(self, **limits: int) -> list[KeyPrincipal]:
        """Ten keys of an account with these limits; who calls with them."""
        shared = accounts_pb2.Limits(**{f"{name}_limit": value for name, value in limits.items()})  # type: ignore[arg-type]  # only the three limits are given
        ours = Scoped(shared=(ScopeRates(scopes.ACCOUNT, **limits),))  # type: ignore[arg-type]  # as above
        found = []
        for number in range(10):
            key_id = KeyId(f"key_{number}")
            state = accounts_pb2.KeyState(
                key_hash="hash",
                key_id=key_id,
                account_id=ACCOUNT,
                version=1,
                scopes=[accounts_pb2.ScopeLimits(scope="account", limits=shared, version=1)],
            )
            await self.keys.send(record_of(state, account_id=ACCOUNT, occurred_at_ms=1))
            found.append(KeyPrincipal(ACCOUNT, key_id, UserId("usr_1"), 1, scoped=ours))
        return found

    async def worker(self, number: int, *, runs: bool = True) -> LeasedQuotas:
        """A gateway worker; one that does not run returns nothing, as if it had died."""
        channel = GrpcChannel(
            f"127.0.0.1:{self.ports[number % len(self.ports)]}", TokenSigner(SECRET, "gateway")
        )
        self.stack.push_async_callback(channel.close)
        source = GrpcQuotas(channel, WorkerId(f"gateway-{number}"))
        made = LeasedQuotas(source, clock=self.clock, limits=PATIENT)
        if runs:
            await self.stack.enter_async_context(running(made.run))
        self.workers.append(made)
        return made

    async def counted(self, kind: str) -> tuple[int, int]:
        """Requests and tokens of the one window of this kind."""
        [row] = await self.pool.fetch(
            "SELECT requests, tokens FROM quota_window WHERE kind = $1", kind
        )
        return row["requests"], row["tokens"]


@pytest.fixture
async def world(postgres_dsn: PostgresServer) -> AsyncIterator[World]:
    dsn = postgres_dsn("quotas")
    clock, ports = EarlyClock(), []
    async with AsyncExitStack() as stack:
        pools = []
        for _ in range(2):
            pool = await open_pool(dsn, size_max=4)
            stack.push_async_callback(pool.close)
            await migrate(pool, "services.billing")
            desk = QuotaDesk(PostgresQuotas(pool, unit_timeout_s=10.0), clock, QuotaRules())
            server = GrpcServer(
                listen="127.0.0.1:0", verifier=TokenVerifier(SECRET), policies=POLICIES
            )
            quotas_pb2_grpc.add_QuotasServiceServicer_to_server(QuotasServicer(desk), server.grpc)
            await stack.enter_async_context(running(desk.run))
            await server.start()
            stack.push_async_callback(server.stop, 0.1)
            ports.append(server.port)
            pools.append(pool)
        limits = PostgresQuotas(pools[0], unit_timeout_s=10.0)
        keys = Feed(KEYS, KeyCaps(MemoryLedger(), LetterBox(), clock, quotas=limits))
        yield World(pools[0], keys, clock, ports, stack)


async def ask(
    worker: LeasedQuotas, who: KeyPrincipal, tokens: int = 0, actual: int = 0
) -> QuotaTicket | AppError | None:
    """One request: let in, answered a moment later, settled."""
    try:
        ticket = await worker.admit(who, tokens)
    except AppError as error:
        return error
    await asyncio.sleep(0)
    assert ticket is not None
    worker.settle(ticket, actual)
    return ticket


async def test_exactly_60_of_300_requests_pass_in_a_minute_over_three_workers(
    world: World,
) -> None:
    who = await world.limit(rpm=60)
    workers = [await world.worker(number) for number in range(3)]
    found = await asyncio.gather(*(ask(workers[number % 3], who) for number in range(300)))
    assert sum(isinstance(one, QuotaTicket) for one in found) == 60
    errors = [one for one in found if isinstance(one, AppError)]
    assert {type(error) for error in errors} == {RateLimitExceeded}
    assert len(errors) == 240
    assert await world.counted("minute") == (60, 0)
    assert await world.counted("day") == (60, 0)
    world.clock.skip(60)
    await asyncio.sleep(PATIENT.gone_s)
    again = await asyncio.gather(*(ask(workers[number % 3], who) for number in range(90)))
    assert sum(isinstance(one, QuotaTicket) for one in again) == 60


async def test_exactly_60_requests_of_an_account_pass_over_ten_keys_and_three_workers(
    world: World,
) -> None:
    callers = await world.limit_account(rpm=60)
    workers = [await world.worker(number) for number in range(3)]
    found = await asyncio.gather(
        *(ask(workers[number % 3], callers[number % 10]) for number in range(300))
    )
    assert sum(isinstance(one, QuotaTicket) for one in found) == 60
    errors = [one for one in found if isinstance(one, AppError)]
    assert {str(error.extra) for error in errors} == {"{'limit': 'rpm', 'scope': 'account'}"}
    assert "the account's limit of 60 requests per minute" in errors[0].message
    assert await world.counted("minute") == (60, 0)


async def test_exactly_the_tokens_of_a_minute_pass_over_three_workers(world: World) -> None:
    who = await world.limit(tpm=6_000)
    workers = [await world.worker(number) for number in range(3)]
    found = await asyncio.gather(
        *(ask(workers[number % 3], who, tokens=100, actual=100) for number in range(300))
    )
    assert sum(isinstance(one, QuotaTicket) for one in found) == 60
    assert await world.counted("minute") == (0, 6_000)


async def test_the_day_and_the_minute_bind_together(world: World) -> None:
    who = await world.limit(rpm=50, rpd=20, tpm=100_000)
    workers = [await world.worker(number) for number in range(3)]
    found = await asyncio.gather(
        *(ask(workers[number % 3], who, tokens=90, actual=7) for number in range(100))
    )
    assert sum(isinstance(one, QuotaTicket) for one in found) == 20
    for worker in workers:
        await worker.drain()
    assert await world.counted("day") == (20, 0)
    assert await world.counted("minute") == (20, 140)


async def test_what_a_worker_that_was_killed_had_leased_is_not_given_out_again(
    world: World,
) -> None:
    who = await world.limit(rpm=60)
    dead = await world.worker(0, runs=False)
    first = await asyncio.gather(*(ask(dead, who) for _ in range(3)))
    assert all(isinstance(one, QuotaTicket) for one in first)
    rows = await world.pool.fetch("SELECT requests FROM quota_lease WHERE revision = 0")
    lost = sum(row["requests"] for row in rows)
    assert 3 <= lost <= 15
    # Its lease lapses; nobody has heard of it since.
    world.clock.skip(20)
    workers = [await world.worker(number) for number in (1, 2)]
    found = await asyncio.gather(*(ask(workers[number % 2], who) for number in range(150)))
    assert sum(isinstance(one, QuotaTicket) for one in found) == 60 - lost
    assert await world.counted("minute") == (60, 0)


async def test_the_steady_state_draws_seldom(world: World) -> None:
    who = await world.limit(rpm=100_000)
    [worker] = [await world.worker(0)]
    started = time.monotonic()
    for _ in range(100):
        await asyncio.gather(*(ask(worker, who) for _ in range(10)))
    assert time.monotonic() - started < 50
    await worker.drain()
    assert await world.counted("minute") == (1_000, 0)
    draws = await world.pool.fetchval("SELECT count(*) FROM quota_lease")
    assert draws <= 20
