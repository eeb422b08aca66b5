"""Billing's quotas: the twin and the gRPC adapter, with billing itself behind it, do the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace

import pytest

from services.billing.adapters import quotas_memory as billing_memory
from services.billing.domain.quotas import KeyLimits, QuotaRules, ScopeLimits
from services.billing.entrypoints.quotas import POLICIES, QuotasServicer
from services.billing.quota_desk import QuotaDesk
from services.common import scopes
from services.common.errors import Conflict, Forbidden, InvalidArgument, NotFound, Unavailable
from services.common.grpc import GrpcChannel, GrpcServer, TokenSigner, TokenVerifier
from services.common.ids import AccountId, KeyId, WorkerId
from services.common.pb.mesh.billing.v1 import quotas_pb2_grpc
from services.gateway.adapters.quotas_grpc import GrpcQuotas
from services.gateway.adapters.quotas_memory import MemoryQuotas
from services.gateway.ports import QuotaLimit
from services.gateway.quota.ports import Draw, Lease, LeaseId, QuotaSource, Refusal, Return
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

    yield Lender(twin, clock, limit, limit_team)


async def _remote() -> AsyncIterator[Lender]:
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

    async with running(desk.run):
        source = GrpcQuotas(channel, WorkerId("w1"))
        yield Lender(source, clock, limit, limit_team, f"127.0.0.1:{server.port}")
        await channel.close()
        await server.stop(0.1)


@pytest.fixture(params=["memory", "grpc"])
async def lender(request: pytest.FixtureRequest) -> AsyncIterator[Lender]:
    async for one in _memory() if request.param == "memory" else _remote():
        yield one


def draw(number: int = 1, *, requests: int = 1, tokens: int = 0, wanted: int = 0) -> Draw:
    return Draw(
        LeaseId(f"ql_{number}"), ACCOUNT, KEY, 1, requests, wanted or requests, tokens, tokens
    )


def give_back(number: int, requests: int, tokens: int = 0, revision: int = 1) -> Return:
    return Return(LeaseId(f"ql_{number}"), ACCOUNT, KEY, requests, tokens, revision)


async def lent(lender: Lender, request: Draw) -> Lease:
    answer = await lender.source.draw(request, timeout_s=5)
    assert isinstance(answer, Lease)
    return answer


async def refused(lender: Lender, request: Draw) -> Refusal:
    answer = await lender.source.draw(request, timeout_s=5)
    assert isinstance(answer, Refusal)
    return answer


async def taken(lender: Lender) -> dict[str, int]:
    return {one.limit: one.taken for one in await lender.source.meters(ACCOUNT, KEY)}


async def test_keys_of_a_team_share_its_limits_and_a_refusal_names_it(lender: Lender) -> None:
    await lender.limit_team({"rpm": 4}, {})
    lease = await lent(lender, draw(1, requests=3))
    assert [(one.scope, one.taken) for one in lease.meters] == [(TEAM, 3)]
    theirs = replace(draw(2, requests=2), key_id=OTHER)
    refusal = await refused(lender, theirs)
    assert (refusal.limit, refusal.scope, refusal.held) == ("rpm", TEAM, True)
    await lender.source.give_back(give_back(1, 1), timeout_s=5)
    assert (await lent(lender, replace(theirs, lease_id=LeaseId("ql_3")))).requests == 2


async def test_a_models_limits_bind_its_requests_alone(lender: Lender) -> None:
    await lender.limit_team({"rpm": 100}, {"rpm": 1})
    of_model = replace(draw(1), model_id="m")
    await lent(lender, of_model)
    refusal = await refused(lender, replace(of_model, lease_id=LeaseId("ql_2")))
    assert (refusal.scope, refusal.limit_value) == (MODEL, 1)
    assert (await lent(lender, draw(3))).requests == 1
    assert [(one.scope, one.taken) for one in await lender.source.meters(ACCOUNT, KEY)] == [
        (TEAM, 2)
    ]


async def test_a_lease_is_a_share_of_what_is_left(lender: Lender) -> None:
    await lender.limit({"rpm": 80, "rpd": 1_000, "tpm": 8_000})
    lease = await lent(lender, draw(requests=1, tokens=200, wanted=100))
    assert (lease.requests, lease.tokens) == (10, 200)
    assert 14 <= lease.usable_s <= 15
    assert 50 < lease.minute_ends_in_s < 58
    assert 86_390 < lease.day_ends_in_s < 86_398
    assert {meter.limit: meter.left for meter in lease.meters} == {
        "rpm": 70,
        "rpd": 990,
        "tpm": 7_800,
    }
    assert await taken(lender) == {"rpm": 10, "rpd": 10, "tpm": 200}


async def test_what_is_not_limited_is_not_lent(lender: Lender) -> None:
    await lender.limit({"tpm": 8_000})
    lease = await lent(lender, draw(tokens=50))
    assert (lease.requests, lease.tokens) == (None, 50)
    assert [meter.limit for meter in lease.meters] == ["tpm"]


async def test_held_is_told_from_gone(lender: Lender) -> None:
    await lender.limit({"rpm": 2})
    await lent(lender, draw(1, requests=2))
    refusal = await refused(lender, draw(2))
    assert (refusal.limit, refusal.limit_value, refusal.held) == ("rpm", 2, True)
    assert refusal.retry_after_s == pytest.approx(0.05)
    await lender.source.give_back(give_back(1, 2), timeout_s=5)
    refusal = await refused(lender, draw(3))
    assert (refusal.limit, refusal.held) == ("rpm", False)
    assert 50 < refusal.retry_after_s < 58
    assert [meter.left for meter in refusal.meters] == [0]


async def test_an_unknown_key_is_held_as_inactive(lender: Lender) -> None:
    refusal = await refused(lender, draw())
    assert (refusal.limit, refusal.held) == ("key_inactive", True)


async def test_the_same_lease_is_drawn_and_returned_once(lender: Lender) -> None:
    await lender.limit({"rpm": 10, "tpm": 1_000})
    first = await lent(lender, draw(1, requests=3, tokens=300))
    again = await lent(lender, draw(1, requests=3, tokens=300))
    assert replace(again, usable_s=0, minute_ends_in_s=0, day_ends_in_s=0, meters=()) == replace(
        first, usable_s=0, minute_ends_in_s=0, day_ends_in_s=0, meters=()
    )
    for revision, tokens in ((1, 200), (3, 40), (2, 90), (3, 40)):
        await lender.source.give_back(give_back(1, 2, tokens, revision), timeout_s=5)
    assert await taken(lender) == {"rpm": 2, "tpm": 40}
    with pytest.raises(Conflict):
        await lender.source.draw(draw(1, requests=3, tokens=300), timeout_s=5)
    with pytest.raises(NotFound):
        await lender.source.give_back(give_back(9, 0), timeout_s=5)


async def test_a_new_minute_is_empty_and_a_lease_of_the_old_one_is_of_no_use(
    lender: Lender,
) -> None:
    await lender.limit({"rpm": 2, "rpd": 5})
    await lent(lender, draw(1, requests=2))
    lender.clock.skip(60)
    assert await taken(lender) == {"rpm": 0, "rpd": 2}
    assert (await lent(lender, draw(1, requests=2))).usable_s == 0
    await lent(lender, draw(2, requests=2))
    await lender.source.give_back(give_back(1, 1), timeout_s=5)
    assert await taken(lender) == {"rpm": 2, "rpd": 3}


async def test_a_billing_that_is_away_is_unavailable() -> None:
    channel = GrpcChannel("127.0.0.1:1", TokenSigner(SECRET, "gateway"))
    source = GrpcQuotas(channel, WorkerId("w1"))
    with pytest.raises(Unavailable):
        await source.draw(draw(), timeout_s=0.5)
    await channel.close()


async def test_billing_lends_to_gateways_only_and_checks_what_it_is_told() -> None:
    async for lender in _remote():
        source = lender.source
        await lender.limit({"rpm": 5})
        with pytest.raises(InvalidArgument):
            await source.draw(replace(draw(), lease_id=LeaseId("")), timeout_s=5)
        with pytest.raises(InvalidArgument):
            await source.draw(draw(requests=10**13), timeout_s=5)
        with pytest.raises(InvalidArgument):
            await source.give_back(give_back(1, 0, revision=0), timeout_s=5)
        other = GrpcChannel(lender.address, TokenSigner(SECRET, "dashboard"))
        with pytest.raises(Forbidden):
            await GrpcQuotas(other, WorkerId("w1")).draw(draw(), timeout_s=5)
        await other.close()
