"""The ledger's gRPC edge: for operators at the command line alone; bad input names its field."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from services.billing.adapters.ledger_postgres import PostgresLedger
from services.billing.bootstrap import grant_desk, grpc_server
from services.billing.config import BillingSettings
from services.billing.settlement.settle import UsageSettlement
from services.common.clock import SystemClock
from services.common.errors import Forbidden, InvalidArgument, NotFound, Unauthorized
from services.common.grpc import GrpcChannel, Principal, TokenSigner
from services.common.pb.mesh.billing.v1 import ledger_pb2, ledger_pb2_grpc
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.topics import USAGE
from tests.fixtures.ledger import Feed, LetterBox, usage_record

OPERATOR = Principal("operator", "acc_1")
NOBODY = Principal("operator", "")
PRICE = common_pb2.PriceVersion(
    price_version_id="pv_2",
    rates=[common_pb2.Rate(kind=common_pb2.TOKEN_KIND_COMPLETION, nanousd_per_million=2_000_000)],
)


@dataclass
class Caller:
    """One calling service; requests and answers are messages (Any: of whichever method)."""

    channel: GrpcChannel

    async def call(self, method: str, request: Any, principal: Principal | None = OPERATOR) -> Any:
        stub = ledger_pb2_grpc.LedgerServiceStub(self.channel.channel())
        return await self.channel.call(getattr(stub, method), request, principal=principal)

    async def stream(
        self, method: str, request: Any, principal: Principal | None = OPERATOR
    ) -> list[Any]:
        stub = ledger_pb2_grpc.LedgerServiceStub(self.channel.channel())
        answers = self.channel.stream(getattr(stub, method), request, principal=principal)
        async with aclosing(answers):
            return [answer async for answer in answers]


@dataclass
class World:
    """A served billing and its callers."""

    cli: Caller
    dashboard: Caller
    usage: Feed


@pytest.fixture
async def world(billing_dsn: str, pool: asyncpg.Pool) -> AsyncIterator[World]:
    settings = BillingSettings.model_validate({"dsn": billing_dsn, "grpc_listen": "127.0.0.1:0"})
    store, clock = PostgresLedger(pool, unit_timeout_s=10.0), SystemClock()
    server = grpc_server(store, pool, grant_desk(store, clock, settings), settings=settings)
    await server.start()
    secret = settings.service_secret.get_secret_value()
    cli, dashboard = (
        GrpcChannel(
            f"127.0.0.1:{server.port}", TokenSigner(secret, service), default_timeout_s=30.0
        )
        for service in ("cli", "dashboard")
    )
    feed = Feed(USAGE, UsageSettlement(store, LetterBox(), clock))
    await feed.send(usage_record("use_1", account_id="acc_1"))
    yield World(Caller(cli), Caller(dashboard), feed)
    for channel in (cli, dashboard):
        await channel.close()
    await server.stop(0)


async def test_only_an_operator_may_ask_and_correct_at_the_command_line_alone(
    world: World,
) -> None:
    owner = Principal("user", "acc_1", user_id="usr_1", role="owner")
    staff = {
        "Verify": ledger_pb2.VerifyRequest(),
        "WriteOffGrant": ledger_pb2.WriteOffGrantRequest(grant_id="gr_0", reason="none"),
    }
    calls = {"PostCorrection": ledger_pb2.PostCorrectionRequest()}
    streams = {
        "Explain": ledger_pb2.ExplainRequest(),
        "RerateModel": ledger_pb2.RerateModelRequest(),
    }
    for caller, principal, error in (
        (world.dashboard, OPERATOR, Forbidden),
        (world.dashboard, owner, Forbidden),
        (world.cli, owner, Forbidden),
        (world.cli, None, Unauthorized),
    ):
        of_staff = {} if principal is OPERATOR else staff
        for method, request in {**calls, **of_staff}.items():
            with pytest.raises(error):
                await caller.call(method, request, principal)
        for method, request in streams.items():
            with pytest.raises(error):
                await caller.stream(method, request, principal)


async def test_an_explanation_is_of_one_account_that_must_be_named(world: World) -> None:
    [entry] = await world.cli.stream("Explain", ledger_pb2.ExplainRequest())
    assert (entry.amount_nanousd, entry.balance_nanousd) == (-100, -100)
    assert entry.transaction.request_id == "req_of_use_1"
    assert [(one.kind, one.tokens) for one in entry.transaction.quantities] == [
        (common_pb2.TOKEN_KIND_COMPLETION, 100)
    ]
    other = Principal("operator", "acc_9")
    assert await world.cli.stream("Explain", ledger_pb2.ExplainRequest(), other) == []
    with pytest.raises(InvalidArgument, match="account_id"):
        await world.cli.stream("Explain", ledger_pb2.ExplainRequest(), NOBODY)
    with pytest.raises(InvalidArgument, match="at_ms"):
        await world.cli.stream("Explain", ledger_pb2.ExplainRequest(at_ms=-1))


async def test_a_long_journal_is_explained_to_its_last_entry(world: World) -> None:
    records = [usage_record(f"use_{n}", account_id="acc_1", tokens=1) for n in range(2, 1_203)]
    await world.usage.send(*records)
    entries = await world.cli.stream("Explain", ledger_pb2.ExplainRequest())
    assert len(entries) == 1_202
    assert entries[-1].balance_nanousd == -(100 + 1_201)
    assert [entry.transaction.sequence for entry in entries] == list(range(1, 1_203))


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("model_id", {"model_id": ""}),
        ("wrong_price_version_id", {"wrong_price_version_id": ""}),
        ("correct_price.price_version_id", {"wrong_price_version_id": "pv_2"}),
        ("correct_price.price_version_id", {"correct_price": common_pb2.PriceVersion()}),
        ("correct_price.rates", {"correct_price": common_pb2.PriceVersion(price_version_id="p")}),
        (
            "correct_price",
            {
                "correct_price": common_pb2.PriceVersion(
                    price_version_id="p", request_fee_nanousd=-1
                )
            },
        ),
        (
            "correct_price.model_id",
            {
                "correct_price": common_pb2.PriceVersion(
                    price_version_id="p", model_id="c/d", request_fee_nanousd=1
                )
            },
        ),
        ("correct_price.price_version_id", {"correct_price": {"price_version_id": "a:b"}}),
    ],
)
async def test_a_bad_price_is_refused_by_field(
    world: World, field: str, changes: dict[str, Any]
) -> None:
    fields = {"model_id": "a/b", "wrong_price_version_id": "pv_1", "correct_price": PRICE}
    request = ledger_pb2.RerateModelRequest(**{**fields, **changes})
    with pytest.raises(InvalidArgument, match=field):
        await world.cli.stream("RerateModel", request)


async def test_a_correction_needs_a_reason_and_a_transaction(world: World) -> None:
    request = ledger_pb2.PostCorrectionRequest
    with pytest.raises(InvalidArgument, match="reason"):
        await world.cli.call("PostCorrection", request(transaction_id="tx_1", reason=" "))
    with pytest.raises(InvalidArgument, match="transaction_id"):
        await world.cli.call("PostCorrection", request(reason="x"))
    with pytest.raises(NotFound):
        await world.cli.call("PostCorrection", request(transaction_id="tx_1", reason="x"))
