"""Billing's quotas: the twin and the gRPC adapter, with billing itself behind it, do the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from services.common import scopes
from services.common.errors import Conflict, Forbidden, InvalidArgument, NotFound, Unavailable
from services.common.grpc import GrpcChannel, TokenSigner
from services.common.ids import AccountId, WorkerId
from services.gateway.adapters.quotas_grpc import GrpcQuotas
from services.gateway.quota.ports import Draw, Lease, LeaseId, Refusal, Return
from tests.contract.gateway_quota.lenders import (
    ACCOUNT,
    KEY,
    MODEL,
    OTHER,
    SECRET,
    TEAM,
    Lender,
    draw,
    lenders,
    remote_lender,
)


@pytest.fixture(params=["memory", "grpc"])
async def lender(request: pytest.FixtureRequest) -> AsyncIterator[Lender]:
    async for one in lenders(request.param):
        yield one


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


async def test_a_draw_out_of_a_models_limits_leaves_all_others_alone(lender: Lender) -> None:
    await lender.limit_team({"rpm": 4}, {"rpm": 2, "tpm": 900})
    alone = replace(draw(1, requests=2, tokens=500), model_id="m", model_scopes_only=True)
    lease = await lent(lender, alone)
    assert [(one.scope, one.limit, one.taken) for one in lease.meters] == [
        (MODEL, "rpm", 2),
        (MODEL, "tpm", 500),
    ]
    assert await taken(lender) == {"rpm": 0}
    # The same lease may be asked for again, but not as another draw.
    assert (await lent(lender, alone)).requests == 2
    with pytest.raises(Conflict):
        await lender.source.draw(replace(alone, model_scopes_only=False), timeout_s=5)
    refusal = await refused(lender, replace(alone, lease_id=LeaseId("ql_2"), needed_requests=1))
    assert (refusal.scope, refusal.limit, refusal.held) == (MODEL, "rpm", True)
    await lender.source.give_back(give_back(1, 1, 27), timeout_s=5)
    both = await lent(lender, replace(draw(3), model_id="m"))
    assert {(one.scope, one.limit): one.taken for one in both.meters} == {
        (TEAM, "rpm"): 1,
        (MODEL, "rpm"): 2,
        (MODEL, "tpm"): 27,
    }


async def test_a_draw_out_of_no_limits_lends_without_bound(lender: Lender) -> None:
    await lender.limit_team({"rpm": 1}, {"rpm": 1})
    lease = await lent(lender, replace(draw(1), model_id="other", model_scopes_only=True))
    assert (lease.requests, lease.tokens, lease.meters) == (None, None, ())


async def test_an_account_has_limits_of_its_own(lender: Lender) -> None:
    assert await lender.source.account_meters(ACCOUNT) == ()
    await lender.limit_account({"rpm": 9, "rpd": 50})
    await lent(lender, draw(1, requests=3))
    assert [
        (one.scope, one.limit, one.taken) for one in await lender.source.account_meters(ACCOUNT)
    ] == [(scopes.ACCOUNT, "rpm", 3), (scopes.ACCOUNT, "rpd", 3)]
    assert await lender.source.account_meters(AccountId("acc_2")) == ()


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
    async for lender in remote_lender():
        source = lender.source
        await lender.limit({"rpm": 5})
        with pytest.raises(InvalidArgument):
            await source.draw(replace(draw(), lease_id=LeaseId("")), timeout_s=5)
        with pytest.raises(InvalidArgument):
            await source.draw(draw(requests=10**13), timeout_s=5)
        with pytest.raises(InvalidArgument):
            await source.draw(replace(draw(), model_scopes_only=True), timeout_s=5)
        with pytest.raises(InvalidArgument):
            await source.give_back(give_back(1, 0, revision=0), timeout_s=5)
        other = GrpcChannel(lender.address, TokenSigner(SECRET, "dashboard"))
        with pytest.raises(Forbidden):
            await GrpcQuotas(other, WorkerId("w1")).draw(draw(), timeout_s=5)
        await other.close()
