"""Billing's lending: the twin and the gRPC adapter, with billing itself behind it, do the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

import pytest

from services.billing.adapters.ledger_memory import MemoryLedger
from services.billing.domain.grants import GrantRules
from services.billing.domain.state import KeyAccount, ScopeAccount, Wallet
from services.billing.entrypoints.grants import POLICIES, GrantsServicer
from services.billing.grant_desk import GrantDesk
from services.common import scopes
from services.common.clock import SystemClock
from services.common.errors import Conflict, NotFound, Unavailable
from services.common.grpc import GrpcChannel, GrpcServer, TokenSigner, TokenVerifier
from services.common.ids import AccountId, GrantId, KeyId, WorkerId
from services.common.pb.mesh.billing.v1 import grants_pb2_grpc
from services.gateway.adapters.grants_grpc import GrpcGrants
from services.gateway.adapters.grants_memory import MemoryGrants
from services.gateway.budget.ports import (
    Grant,
    GrantRequest,
    Grants,
    GrantTotal,
    Refusal,
    RenewRequest,
)

SECRET = "a-secret-of-the-tests-that-is-long-enough"
ACCOUNT = AccountId("acc_1")
KEY = KeyId("key_1")
TEAM, MODEL = scopes.team("a"), scopes.key_model(KEY, "m")
WORKER = WorkerId("w1")


@dataclass
class Lender:
    """One implementation, and how the test gives the account money and the key a cap."""

    grants: Grants
    fund: Callable[[int, int | None, bool], None]
    # The key, which has money, is in a team with a cap, and a model of it has one.
    cap_scopes: Callable[[int, int], None]


def _memory() -> Lender:
    twin = MemoryGrants(clock=SystemClock(), share=8)

    def fund(money: int, cap: int | None, active: bool) -> None:
        twin.balances[ACCOUNT] = money
        if cap is not None:
            twin.caps[KEY] = cap
        if not active:
            twin.inactive.add(KEY)

    def cap_scopes(team: int, model: int) -> None:
        twin.scopes_of[KEY] = (TEAM, scopes.ACCOUNT)
        twin.scope_caps |= {TEAM: team, MODEL: model}

    return Lender(twin, fund, cap_scopes)


async def _remote() -> AsyncIterator[Lender]:
    ledger = MemoryLedger()
    desk = GrantDesk(
        ledger,
        SystemClock(),
        GrantRules(share_max=8),
        linger_s=0.0,
        group_max=100,
        waiting_max=100,
        fence_s=0.01,
        fence_poll_s=0.01,
    )
    server = GrpcServer(listen="127.0.0.1:0", verifier=TokenVerifier(SECRET), policies=POLICIES)
    grants_pb2_grpc.add_GrantsServiceServicer_to_server(GrantsServicer(desk), server.grpc)
    await server.start()
    channel = GrpcChannel(f"127.0.0.1:{server.port}", TokenSigner(SECRET, "gateway"))
    desk_task = asyncio.create_task(desk.run())

    def fund(money: int, cap: int | None, active: bool) -> None:
        ledger.tables.wallets[ACCOUNT] = Wallet(ACCOUNT, posted_nanousd=money)
        ledger.tables.keys[ACCOUNT, KEY] = KeyAccount(
            ACCOUNT, KEY, spend_cap_nanousd=cap, version=1, active=active
        )

    def cap_scopes(team: int, model: int) -> None:
        key = ledger.tables.keys[ACCOUNT, KEY]
        ledger.tables.keys[ACCOUNT, KEY] = replace(key, team_id="a", model_ids=("m",))
        for scope, cap in ((TEAM, team), (MODEL, model)):
            ledger.tables.scopes[ACCOUNT, scope] = ScopeAccount(ACCOUNT, scope, cap)

    yield Lender(GrpcGrants(channel, WORKER), fund, cap_scopes)
    desk_task.cancel()
    await asyncio.wait({desk_task})
    await channel.close()
    await server.stop(0.0)


@pytest.fixture(params=["memory", "grpc"])
async def lender(request: pytest.FixtureRequest) -> AsyncIterator[Lender]:
    """Each implementation."""
    if request.param == "memory":
        yield _memory()
        return
    async for found in _remote():
        yield found


def _request(name: str, needed: int, *, least: int = 0, wanted: int = 0) -> GrantRequest:
    return GrantRequest(GrantId(name), ACCOUNT, KEY, 1, needed, least, wanted or needed)


def _total(name: str, spent: int) -> GrantTotal:
    return GrantTotal(GrantId(name), WORKER, ACCOUNT, KEY, spent)


async def _open(lender: Lender, request: GrantRequest) -> Grant | Refusal:
    return await lender.grants.open(request, timeout_s=5)


async def test_what_is_needed_is_lent_and_what_is_wanted_up_to_a_share(lender: Lender) -> None:
    lender.fund(8_000, None, True)
    first = await _open(lender, _request("gr_1", 100, wanted=10_000))
    assert isinstance(first, Grant)
    assert (first.grant_id, first.amount_nanousd) == ("gr_1", 1_000)
    second = await _open(lender, _request("gr_2", 5_000))
    assert isinstance(second, Grant)
    assert second.amount_nanousd == 5_000
    assert second.expires_at_ms > SystemClock().now_ms()


async def test_less_is_lent_where_less_would_do(lender: Lender) -> None:
    lender.fund(70, None, True)
    assert await _open(lender, _request("gr_1", 100)) == Refusal(
        "balance", held=False, retry_after_ms=0, available_nanousd=70
    )
    lent = await _open(lender, _request("gr_2", 100, least=50))
    assert isinstance(lent, Grant)
    assert lent.amount_nanousd == 70


async def test_held_money_is_told_from_money_that_is_gone(lender: Lender) -> None:
    lender.fund(100, None, True)
    assert isinstance(await _open(lender, _request("gr_1", 80)), Grant)
    held = await _open(lender, _request("gr_2", 60))
    assert isinstance(held, Refusal)
    assert (held.limit, held.held, held.available_nanousd) == ("balance", True, 20)
    assert held.retry_after_ms > 0
    gone = await _open(lender, _request("gr_3", 101))
    assert isinstance(gone, Refusal)
    assert not gone.held
    # What is spent does not come back, though no event was booked yet.
    await lender.grants.close(_total("gr_1", 50), timeout_s=5)
    spent = await _open(lender, _request("gr_4", 60))
    assert isinstance(spent, Refusal)
    assert (spent.held, spent.available_nanousd) == (False, 50)


async def test_the_cap_of_the_key_binds_before_the_balance(lender: Lender) -> None:
    lender.fund(1_000, 50, True)
    refusal = await _open(lender, _request("gr_1", 60))
    assert isinstance(refusal, Refusal)
    assert (refusal.limit, refusal.held, refusal.available_nanousd) == ("key_cap", False, 50)


async def test_an_inactive_key_gets_nothing(lender: Lender) -> None:
    lender.fund(1_000, None, False)
    refusal = await _open(lender, _request("gr_1", 60))
    assert isinstance(refusal, Refusal)
    assert (refusal.limit, refusal.held) == ("key_inactive", False)


async def test_the_same_question_twice_is_one_grant(lender: Lender) -> None:
    lender.fund(100, None, True)
    request = _request("gr_1", 60)
    first = await _open(lender, request)
    assert await _open(lender, request) == first
    assert await _open(lender, replace(request, key_version=0)) == first
    with pytest.raises(Conflict):
        await _open(lender, replace(request, needed_nanousd=61))
    await lender.grants.close(_total("gr_1", 0), timeout_s=5)
    with pytest.raises(Conflict):
        await _open(lender, request)


async def test_closing_returns_what_was_not_spent_however_often_it_is_said(lender: Lender) -> None:
    lender.fund(100, None, True)
    await _open(lender, _request("gr_1", 60))
    for _ in range(3):
        assert await lender.grants.close(_total("gr_1", 25), timeout_s=5) == 35
    again = await _open(lender, _request("gr_2", 75))
    assert isinstance(again, Grant)


async def test_a_grant_that_was_never_opened_is_not_found(lender: Lender) -> None:
    lender.fund(100, None, True)
    with pytest.raises(NotFound):
        await lender.grants.close(_total("gr_unknown", 0), timeout_s=5)


async def test_a_grant_that_was_given_up_is_not_opened_any_more(lender: Lender) -> None:
    lender.fund(1_000, None, True)
    with pytest.raises(NotFound):
        await lender.grants.close(_total("gr_1", 0), timeout_s=5)
    with pytest.raises(Conflict):
        await _open(lender, _request("gr_1", 60))


async def test_a_grant_of_another_account_is_not_found(lender: Lender) -> None:
    lender.fund(100, None, True)
    await _open(lender, _request("gr_1", 60))
    other = replace(_total("gr_1", 0), account_id=AccountId("acc_other"))
    with pytest.raises(NotFound):
        await lender.grants.close(other, timeout_s=5)


def _renew(number: int, needed: int = 0, *, least: int = 0, back: int = 0) -> RenewRequest:
    return RenewRequest(GrantId("gr_1"), ACCOUNT, KEY, number, 1, needed, least, needed, back)


async def _renewed(lender: Lender, request: RenewRequest) -> Grant | Refusal:
    return await lender.grants.renew(request, timeout_s=5)


async def test_a_renewal_lends_more_for_longer_and_once(lender: Lender) -> None:
    lender.fund(100, None, True)
    first = await _open(lender, _request("gr_1", 60))
    assert isinstance(first, Grant)
    grown = await _renewed(lender, _renew(1, 30))
    assert isinstance(grown, Grant)
    assert grown.amount_nanousd == 90
    assert grown.expires_at_ms >= first.expires_at_ms
    assert await _renewed(lender, _renew(1, 30)) == grown
    less = await _renewed(lender, _renew(2, 30, least=10))
    assert isinstance(less, Grant)
    assert less.amount_nanousd == 100
    assert await _renewed(lender, _renew(3, 1)) == Refusal(
        "balance", held=False, retry_after_ms=0, available_nanousd=0
    )


async def test_a_renewal_gives_back_and_the_close_the_rest(lender: Lender) -> None:
    lender.fund(100, None, True)
    await _open(lender, _request("gr_1", 60))
    shrunk = await _renewed(lender, _renew(1, back=35))
    assert isinstance(shrunk, Grant)
    assert shrunk.amount_nanousd == 25
    assert isinstance(await _open(lender, _request("gr_2", 75)), Grant)
    with pytest.raises(Conflict):
        await _renewed(lender, _renew(2, back=25))
    assert await lender.grants.close(_total("gr_1", 20), timeout_s=5) == 5
    with pytest.raises(Conflict):
        await _renewed(lender, _renew(2))


async def test_a_renewal_of_what_was_never_opened_is_not_found(lender: Lender) -> None:
    lender.fund(100, None, True)
    with pytest.raises(NotFound):
        await _renewed(lender, _renew(1))


async def test_nothing_is_asked_back_where_nobody_waits(lender: Lender) -> None:
    lender.fund(100, None, True)
    await _open(lender, _request("gr_1", 60))
    assert await lender.grants.recalls([ACCOUNT], timeout_s=5) == []


async def test_billing_away_is_unavailable() -> None:
    channel = GrpcChannel("127.0.0.1:1", TokenSigner(SECRET, "gateway"))
    with pytest.raises(Unavailable):
        await GrpcGrants(channel, WORKER).open(_request("gr_1", 1), timeout_s=0.5)
    await channel.close()


async def test_a_scopes_cap_binds_and_is_named(lender: Lender) -> None:
    lender.fund(10_000, None, True)
    lender.cap_scopes(100, 50)
    assert isinstance(await _open(lender, _request("gr_1", 60)), Grant)
    refusal = await _open(lender, _request("gr_2", 60))
    assert isinstance(refusal, Refusal)
    assert (refusal.limit, refusal.held, refusal.available_nanousd) == ("team_cap", True, 40)
    of_model = replace(_request("gr_3", 41), model_id="m", least_nanousd=40)
    assert isinstance(await _open(lender, of_model), Grant)
    refusal = await _open(lender, replace(of_model, grant_id=GrantId("gr_4")))
    assert isinstance(refusal, Refusal)
    assert (refusal.limit, refusal.held) == ("model_cap", True)
    beyond = _request("gr_5", 101)
    refusal = await _open(lender, beyond)
    assert isinstance(refusal, Refusal)
    assert (refusal.limit, refusal.held) == ("team_cap", False)
    await lender.grants.close(_total("gr_1", 0), timeout_s=5)
    again = await _open(lender, _request("gr_6", 60))
    assert isinstance(again, Grant)
