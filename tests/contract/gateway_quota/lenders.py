"""Billing's quotas for a worker's tests: the twin, and the gRPC adapter with billing behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace

from services.billing.adapters import quotas_memory as billing_memory
from services.billing.domain.quotas import KeyLimits, QuotaRules, ScopeLimits
from services.billing.entrypoints.quotas import POLICIES, QuotasServicer
from services.billing.quota_desk import QuotaDesk
from services.common import scopes
from services.common.grpc import GrpcChannel, GrpcServer, TokenSigner, TokenVerifier
from services.common.ids import AccountId, KeyId, WorkerId
from services.common.pb.mesh.billing.v1 import quotas_pb2_grpc
from services.gateway.adapters.quotas_grpc import GrpcQuotas
from services.gateway.adapters.quotas_memory import MemoryQuotas
from services.gateway.ports import QuotaLimit
from services.gateway.quota.ports import Draw, LeaseId, QuotaSource
from tests.fixtures.clocks import EarlyClock
from tests.fixtures.waiting import running

SECRET = "a-secret-of-the-tests-that-is-long-enough"
ACCOUNT, KEY, OTHER = AccountId("acc_1"), KeyId("key_1"), KeyId("key_2")
TEAM, MODEL = scopes.team("a"), scopes.key_model(KEY, "m")


@dataclass
class Lender:
    """One implementation, its clock, and how a test sets the key's limits."""

    source: QuotaSource
    clock: EarlyClock
    limit: Callable[[dict[QuotaLimit, int]], Awaitable[None]]
    # The key and another are in a team with these limits, and a model of the key has some.
    limit_team: Callable[[dict[QuotaLimit, int], dict[QuotaLimit, int]], Awaitable[None]]
    # The key's account has these limits, the key none.
    limit_account: Callable[[dict[QuotaLimit, int]], Awaitable[None]]
    address: str = ""


async def _memory() -> AsyncIterator[Lender]:
    clock = EarlyClock()
    twin = MemoryQuotas(clock=clock)

    async def limit(limits: dict[QuotaLimit, int]) -> None:
        twin.limits[KEY] = limits

    async def limit_team(limits: dict[QuotaLimit, int], model: dict[QuotaLimit, int]) -> None:
        twin.limits |= {KEY: {}, OTHER: {}}
        twin.scopes_of |= {KEY: (TEAM,), OTHER: (TEAM,)}
        twin.scope_limits |= {TEAM: limits, MODEL: model}

    async def limit_account(limits: dict[QuotaLimit, int]) -> None:
        twin.limits[KEY] = {}
        twin.account_id = ACCOUNT
        twin.scopes_of[KEY] = (scopes.ACCOUNT,)
        twin.scope_limits[scopes.ACCOUNT] = limits

    yield Lender(twin, clock, limit, limit_team, limit_account)


async def remote_lender() -> AsyncIterator[Lender]:
    clock, store = EarlyClock(), billing_memory.MemoryQuotas()
    desk = QuotaDesk(store, clock, QuotaRules(), linger_s=0.0, fence_s=0.0)
    server = GrpcServer(listen="127.0.0.1:0", verifier=TokenVerifier(SECRET), policies=POLICIES)
    quotas_pb2_grpc.add_QuotasServiceServicer_to_server(QuotasServicer(desk), server.grpc)
    await server.start()
    channel = GrpcChannel(f"127.0.0.1:{server.port}", TokenSigner(SECRET, "gateway"))

    async def limit(limits: dict[QuotaLimit, int]) -> None:
        key = KeyLimits(ACCOUNT, KEY, 1, True)
        await store.put_limits([replace(key, **limits)])  # type: ignore[arg-type]  # only limits

    async def limit_team(limits: dict[QuotaLimit, int], model: dict[QuotaLimit, int]) -> None:
        keys = [KeyLimits(ACCOUNT, one, 1, True, team_id="a") for one in (KEY, OTHER)]
        scoped = {TEAM: limits, MODEL: model}
        await store.put_limits(
            [replace(keys[0], model_ids=("m",)), keys[1]],
            [
                replace(ScopeLimits(ACCOUNT, scope, 1), **found)  # type: ignore[arg-type]  # only limits
                for scope, found in scoped.items()
            ],
        )

    async def limit_account(limits: dict[QuotaLimit, int]) -> None:
        account = ScopeLimits(ACCOUNT, scopes.ACCOUNT, 1)
        await store.put_limits(
            [KeyLimits(ACCOUNT, KEY, 1, True)],
            [replace(account, **limits)],  # type: ignore[arg-type]  # only limits
        )

    async with running(desk.run):
        source = GrpcQuotas(channel, WorkerId("w1"))
        address = f"127.0.0.1:{server.port}"
        yield Lender(source, clock, limit, limit_team, limit_account, address)
        await channel.close()
        await server.stop(0.1)


async def lenders(kind: str) -> AsyncIterator[Lender]:
    """The one that is meant: "memory" or "grpc"."""
    async for one in _memory() if kind == "memory" else remote_lender():
        yield one


def draw(number: int = 1, *, requests: int = 1, tokens: int = 0, wanted: int = 0) -> Draw:
    return Draw(
        LeaseId(f"ql_{number}"), ACCOUNT, KEY, 1, requests, wanted or requests, tokens, tokens
    )
