"""The gRPC edges: who may call what, what is checked, what comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import pytest

from services.billing.adapters.ledger_postgres import PostgresLedger
from services.billing.bootstrap import grant_desk, grpc_server
from services.billing.config import BillingSettings
from services.billing.settlement.keys import KeyCaps
from services.billing.settlement.settle import UsageSettlement
from services.common.clock import SystemClock
from services.common.errors import (
    AppError,
    Conflict,
    Forbidden,
    InvalidArgument,
    NotFound,
    Unauthorized,
    Unavailable,
)
from services.common.grpc import GrpcChannel, Principal, TokenSigner
from services.common.pb.mesh.billing.v1 import (
    billing_pb2,
    billing_pb2_grpc,
    grants_pb2,
    grants_pb2_grpc,
)
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.topics import KEYS, USAGE
from tests.fixtures.ledger import Feed, LetterBox, key_record, usage_record
from tests.fixtures.waiting import running

CLOCK = SystemClock()
OPERATOR = Principal("operator", "acc_1")
VIEWER = Principal("user", "acc_1", user_id="usr_1", role="viewer")
KEY = Principal("key", "acc_1", key_id="key_1")


@dataclass
class Client:
    """One calling service."""

    channel: GrpcChannel
    billing: billing_pb2_grpc.BillingServiceAsyncStub
    grants: grants_pb2_grpc.GrantsServiceAsyncStub

    async def balance(self, principal: Principal | None) -> billing_pb2.Balance:
        request = billing_pb2.GetBalanceRequest()
        return await self.channel.call(self.billing.GetBalance, request, principal=principal)

    async def credit(
        self, amount: int, key: str = "first", principal: Principal | None = OPERATOR
    ) -> billing_pb2.CreditAccountResponse:
        request = billing_pb2.CreditAccountRequest(
            amount_nanousd=amount, reason="welcome", idempotency_key=key
        )
        return await self.channel.call(self.billing.CreditAccount, request, principal=principal)

    async def open(self, grant_id: str, needed: int) -> grants_pb2.OpenGrantResponse:
        request = grants_pb2.OpenGrantRequest(
            grant_id=grant_id,
            worker_id="w1",
            account_id="acc_1",
            key_id="key_1",
            key_version=1,
            needed_nanousd=needed,
        )
        return await self.channel.call(self.grants.OpenGrant, request)

    async def close(self, grant_id: str, spent: int) -> int:
        request = grants_pb2.CloseGrantRequest(
            grant_id=grant_id, worker_id="w1", account_id="acc_1", spent_nanousd=spent
        )
        return (await self.channel.call(self.grants.CloseGrant, request)).returned_nanousd


@dataclass
class World:
    """A served billing, its callers, and the log's side."""

    cli: Client
    gateway: Client
    usage_service: Client
    keys: Feed
    usage: Feed


@pytest.fixture
async def world(billing_dsn: str, pool: asyncpg.Pool) -> AsyncIterator[World]:
    settings = BillingSettings.model_validate(
        {
            "dsn": billing_dsn,
            "grpc_listen": "127.0.0.1:0",
            "key_fence_s": 0.05,
            "unit_timeout_s": 2.0,
        }
    )
    store = PostgresLedger(pool, unit_timeout_s=settings.unit_timeout_s)
    desk = grant_desk(store, CLOCK, settings)
    server = grpc_server(store, pool, desk, settings=settings)
    await server.start()
    secret = settings.service_secret.get_secret_value()

    def client(service: str) -> Client:
        channel = GrpcChannel(f"127.0.0.1:{server.port}", TokenSigner(secret, service))
        channels.append(channel)
        return Client(
            channel,
            billing_pb2_grpc.BillingServiceStub(channel.channel()),
            grants_pb2_grpc.GrantsServiceStub(channel.channel()),
        )

    channels: list[GrpcChannel] = []
    async with running(desk.run):
        yield World(
            client("cli"),
            client("gateway"),
            client("usage"),
            Feed(KEYS, KeyCaps(store, LetterBox(), CLOCK)),
            Feed(USAGE, UsageSettlement(store, LetterBox(), CLOCK)),
        )
        for channel in channels:
            await channel.close()
        await server.stop(0)


async def test_an_operator_credits_and_everyone_of_the_account_sees_it(world: World) -> None:
    credited = await world.cli.credit(5_000)
    assert credited.balance.available_nanousd == 5_000
    assert [entry.ledger_account for entry in credited.transaction.entries] == [
        "promo",
        "wallet:acc_1",
    ]
    for principal in (VIEWER, KEY, OPERATOR):
        balance = await world.gateway.balance(principal)
        assert (balance.posted_nanousd, balance.version) == (5_000, 1)


async def test_an_account_that_never_had_money_has_a_balance_of_nothing(world: World) -> None:
    balance = await world.gateway.balance(Principal("user", "acc_9", role="viewer"))
    assert (balance.account_id, balance.posted_nanousd, balance.version) == ("acc_9", 0, 0)


async def test_a_credit_is_idempotent_and_a_contradiction_is_a_conflict(world: World) -> None:
    first = await world.cli.credit(5_000)
    again = await world.cli.credit(5_000)
    assert again.transaction == first.transaction
    with pytest.raises(Conflict):
        await world.cli.credit(5_001)


@pytest.mark.parametrize("amount", [0, -1])
async def test_a_credit_of_nothing_is_refused_by_field(world: World, amount: int) -> None:
    with pytest.raises(InvalidArgument, match="amount_nanousd"):
        await world.cli.credit(amount)


@pytest.mark.parametrize("key", ["", "x" * 201, "nul\0"])
async def test_a_credit_needs_a_usable_idempotency_key(world: World, key: str) -> None:
    with pytest.raises(InvalidArgument, match="idempotency_key"):
        await world.cli.credit(1, key)


async def test_only_an_operator_through_the_command_line_may_credit(world: World) -> None:
    with pytest.raises(Forbidden):
        await world.cli.credit(1, principal=VIEWER)
    with pytest.raises(Forbidden):
        await world.gateway.credit(1)
    with pytest.raises(Unauthorized):
        await world.cli.credit(1, principal=None)


async def test_grants_are_for_gateways_alone(world: World) -> None:
    for client in (world.cli, world.usage_service):
        with pytest.raises(Forbidden):
            await client.open("gr_1", 1)
        with pytest.raises(Forbidden):
            await client.close("gr_1", 1)
    # It watches balances for alerts, and changes none.
    with pytest.raises(Forbidden):
        await world.usage_service.credit(1)


async def test_a_grant_is_opened_spent_closed_and_settled(world: World) -> None:
    await world.cli.credit(5_000)
    await world.keys.send(key_record("key_1", account_id="acc_1", cap_nanousd=2_000))
    granted = (await world.gateway.open("gr_1", 1_000)).grant
    assert (granted.grant_id, granted.amount_nanousd) == ("gr_1", 1_000)
    assert granted.expires_at_ms > CLOCK.now_ms()
    refusal = (await world.gateway.open("gr_2", 1_001)).refusal
    assert (refusal.limit, refusal.held, refusal.available_nanousd) == (
        grants_pb2.BINDING_LIMIT_KEY_CAP,
        True,
        1_000,
    )
    assert await world.gateway.close("gr_1", 400) == 600
    await world.usage.send(usage_record("use_1", account_id="acc_1", grant_id="gr_1", tokens=400))
    balance = await world.gateway.balance(KEY)
    assert (balance.posted_nanousd, balance.granted_nanousd) == (4_600, 0)


async def test_an_unknown_key_is_refused_after_the_fence(world: World) -> None:
    await world.cli.credit(5_000)
    refusal = (await world.gateway.open("gr_1", 1)).refusal
    assert (refusal.limit, refusal.held) == (grants_pb2.BINDING_LIMIT_KEY_INACTIVE, True)


@pytest.mark.parametrize(("grant_id", "needed"), [("", 1), ("g\0", 1), ("g" * 201, 1), ("g", 0)])
async def test_a_bad_request_for_a_grant_is_refused_by_field(
    world: World, grant_id: str, needed: int
) -> None:
    with pytest.raises(InvalidArgument):
        await world.gateway.open(grant_id, needed)


async def test_closing_a_grant_that_is_not_there_is_not_found(world: World) -> None:
    with pytest.raises(NotFound):
        await world.gateway.close("gr_1", 0)


async def test_transactions_are_listed_newest_first_page_by_page(world: World) -> None:
    for number in range(7):
        await world.cli.credit(100 + number, f"credit {number}")
    seen: list[int] = []
    token = ""
    while True:
        request = billing_pb2.ListTransactionsRequest(
            page=common_pb2.PageRequest(page_size=3, page_token=token)
        )
        call = world.gateway.billing.ListTransactions
        answer = await world.gateway.channel.call(call, request, principal=VIEWER)
        seen += [transaction.sequence for transaction in answer.transactions]
        token = answer.page.next_page_token
        if not token:
            break
    assert seen == [7, 6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize(("size", "token"), [(501, ""), (10, "?"), (10, "bm90LWEtbnVtYmVy")])
async def test_a_bad_page_is_refused(world: World, size: int, token: str) -> None:
    request = billing_pb2.ListTransactionsRequest(
        page=common_pb2.PageRequest(page_size=size, page_token=token)
    )
    with pytest.raises(InvalidArgument, match="page"):
        await world.gateway.channel.call(
            world.gateway.billing.ListTransactions, request, principal=VIEWER
        )


async def test_key_spend_is_told_by_the_window_of_the_cap(world: World) -> None:
    await world.cli.credit(5_000)
    day_ms = 86_400_000
    await world.keys.send(
        key_record("key_1", account_id="acc_1", cap_nanousd=900, window=common_pb2.CAP_WINDOW_DAY),
        key_record("key_2", account_id="acc_1"),
    )
    now_ms = CLOCK.now_ms()
    await world.usage.send(
        usage_record("u1", account_id="acc_1", tokens=30, admitted_at_ms=now_ms),
        usage_record("u2", account_id="acc_1", tokens=40, admitted_at_ms=now_ms - 2 * day_ms),
        usage_record("u3", account_id="acc_1", key_id="key_2", tokens=50, admitted_at_ms=1),
    )
    await world.gateway.open("gr_1", 200)

    async def spend(*key_ids: str) -> list[tuple[str, int, int, bool]]:
        call = world.gateway.billing.ListKeySpend
        request = billing_pb2.ListKeySpendRequest(key_ids=key_ids)
        answer = await world.gateway.channel.call(call, request, principal=VIEWER)
        return [
            (k.key_id, k.spent_nanousd, k.granted_nanousd, k.HasField("spend_cap_nanousd"))
            for k in answer.keys
        ]

    assert await spend() == [("key_1", 30, 200, True), ("key_2", 50, 0, False)]
    assert await spend("key_2") == [("key_2", 50, 0, False)]


async def test_the_spend_of_scopes_is_read_for_ones_own_account(world: World) -> None:
    await world.cli.credit(5_000)
    await world.keys.send(
        key_record(
            "key_1", account_id="acc_1", team_id="a", scopes={"team:a": (900, 1)}, models={"m": 7}
        )
    )
    await world.gateway.open("gr_1", 200)
    usage = {"account_id": "acc_1", "grant_id": "gr_1", "tokens": 30}
    await world.usage.send(usage_record("use_1", **usage))  # type: ignore[arg-type]  # its fields

    async def spend(*scopes: str, of: str = "acc_1") -> list[tuple[str, int, int, bool]]:
        call = world.gateway.billing.ListScopeSpend
        request = billing_pb2.ListScopeSpendRequest(scopes=scopes)
        caller = Principal("user", of, user_id="usr_1", role="viewer")
        answer = await world.gateway.channel.call(call, request, principal=caller)
        return [
            (one.scope, one.spent_nanousd, one.granted_nanousd, one.HasField("spend_cap_nanousd"))
            for one in answer.scopes
        ]

    assert await spend() == [
        ("account", 30, 170, False),
        ("key_model:key_1/m", 0, 0, True),
        ("member:usr_1", 30, 170, False),
        ("team:a", 30, 170, True),
    ]
    assert await spend("team:b", "account_model:test/model") == [
        ("team:b", 0, 0, False),
        ("account_model:test/model", 30, 0, False),
    ]
    assert await spend(of="acc_2") == []
    assert await spend("team:a", of="acc_2") == [("team:a", 0, 0, False)]
    with pytest.raises(InvalidArgument, match="scopes"):
        await spend(*(f"team:{number}" for number in range(501)))


async def test_an_operator_lists_the_grants_of_one_account_or_all(world: World) -> None:
    await world.cli.credit(5_000)
    await world.keys.send(key_record("key_1", account_id="acc_1"))
    for number in range(3):
        await world.gateway.open(f"gr_{number}", 10)
    await world.gateway.close("gr_1", 5)

    async def listed(account: str, unresolved_only: bool = False) -> list[str]:
        call = world.cli.billing.ListGrants
        request = billing_pb2.ListGrantsRequest(unresolved_only=unresolved_only)
        answer = await world.cli.channel.call(
            call, request, principal=Principal("operator", account)
        )
        return [grant.grant_id for grant in answer.grants]

    assert await listed("acc_1") == ["gr_0", "gr_2"]
    assert await listed("") == ["gr_0", "gr_2"]
    assert await listed("acc_2") == []
    assert await listed("acc_1", unresolved_only=True) == []


async def test_a_call_while_the_store_is_stuck_is_unavailable_and_heals(
    world: World, pool: asyncpg.Pool
) -> None:
    await world.cli.credit(5_000)
    await world.keys.send(key_record("key_1", account_id="acc_1"))
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT * FROM wallet FOR UPDATE")
        with pytest.raises(Unavailable) as caught:
            await world.gateway.open("gr_1", 10)
    error: AppError = caught.value
    assert error.retryable
    assert (await world.gateway.open("gr_1", 10)).grant.amount_nanousd == 10


async def test_row_policies_hide_other_accounts_even_from_a_wrong_query(
    world: World, pool: asyncpg.Pool
) -> None:
    await world.cli.credit(5_000)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "SELECT set_config('role', 'mesh_billing_tenant', true),"
            " set_config('mesh.account_id', 'acc_2', true)"
        )
        for table in ("wallet", "key_account", "key_day", "events"):
            assert await connection.fetch(f"SELECT * FROM {table}") == []
        await connection.execute("SELECT set_config('mesh.account_id', 'acc_1', true)")
        assert len(await connection.fetch("SELECT * FROM wallet")) == 1
