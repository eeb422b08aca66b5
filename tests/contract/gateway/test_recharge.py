"""Automatic recharge: the adapter over billing's own servicer and its twin do the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import cast

import asyncpg
import pytest

from services.billing.adapters.ledger_memory import MemoryLedger
from services.billing.domain.payments import TopUpRules
from services.billing.entrypoints.payments import POLICIES
from services.billing.entrypoints.payments_operator import OperatorPaymentsServicer
from services.billing.payment_ports import InboxStore
from services.common.clock import FakeClock
from services.common.errors import Forbidden, InvalidArgument
from services.common.grpc import GrpcChannel, GrpcServer, TokenSigner, TokenVerifier
from services.common.pb.mesh.billing.v1 import payments_pb2_grpc
from services.common.security.tokens import Principal
from services.gateway.adapters.recharge_grpc import GrpcRecharges
from services.gateway.adapters.recharge_memory import MemoryRecharges
from services.gateway.recharge import Recharge, Recharges, RechargeSettings

SECRET = "a-secret-of-the-tests-that-is-long-enough"
USD = 1_000_000_000
OWNER = Principal("user", "acc_1", "usr_1", role="owner")
VIEWER = replace(OWNER, role="viewer")
OTHER = replace(OWNER, account_id="acc_2")
WANTED = RechargeSettings(True, 10 * USD, 20 * USD, 100 * USD, 500 * USD)
OFF = Recharge(RechargeSettings(enabled=False), "off")


async def _remote() -> AsyncIterator[Recharges]:
    server = GrpcServer(listen="127.0.0.1:0", verifier=TokenVerifier(SECRET), policies=POLICIES)
    # What reads the database or the inbox is not asked for.
    servicer = OperatorPaymentsServicer(
        MemoryLedger(),
        cast("asyncpg.Pool", None),
        FakeClock(),
        gateway=None,
        rules=TopUpRules(),
        box=cast("InboxStore", None),
        inbox=None,
        reconciler=None,
    )
    payments_pb2_grpc.add_PaymentsServiceServicer_to_server(servicer, server.grpc)
    await server.start()
    channel = GrpcChannel(f"127.0.0.1:{server.port}", TokenSigner(SECRET, "gateway"))
    yield GrpcRecharges(channel)
    await channel.close()
    await server.stop(0.1)


@pytest.fixture(params=["memory", "grpc"])
async def recharges(request: pytest.FixtureRequest) -> AsyncIterator[Recharges]:
    if request.param == "memory":
        yield MemoryRecharges()
        return
    async for one in _remote():
        yield one


async def test_each_account_has_one_and_the_last_setup_counts(recharges: Recharges) -> None:
    assert await recharges.recharge(VIEWER) == OFF
    assert await recharges.set_up(OWNER, WANTED) == Recharge(WANTED, "no_card")
    smaller = replace(WANTED, amount_nanousd=5 * USD)
    await recharges.set_up(OWNER, smaller)
    assert (await recharges.recharge(VIEWER)).settings == smaller
    assert await recharges.recharge(OTHER) == OFF
    off = replace(smaller, enabled=False)
    assert await recharges.set_up(OWNER, off) == Recharge(off, "off")


async def test_only_admins_set_one_up(recharges: Recharges) -> None:
    key = Principal("key", "acc_1", key_id="key_1")
    for caller in (VIEWER, replace(OWNER, role="developer"), key):
        with pytest.raises(Forbidden):
            await recharges.set_up(caller, WANTED)
    assert await recharges.recharge(OWNER) == OFF


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (replace(WANTED, amount_nanousd=5 * USD - 10_000_000), "amount_nanousd"),
        (replace(WANTED, amount_nanousd=101 * USD), "amount_nanousd"),
        (replace(WANTED, amount_nanousd=20 * USD + 1), "amount_nanousd"),
        (replace(WANTED, threshold_nanousd=0), "threshold_nanousd"),
        (replace(WANTED, day_max_nanousd=19 * USD), "day_max_nanousd"),
        (replace(WANTED, month_max_nanousd=99 * USD), "month_max_nanousd"),
    ],
)
async def test_what_is_out_of_bounds_is_named_and_nothing_is_set_up(
    recharges: Recharges, wrong: RechargeSettings, named: str
) -> None:
    with pytest.raises(InvalidArgument, match=f"^{named}: must be"):
        await recharges.set_up(OWNER, wrong)
    assert await recharges.recharge(OWNER) == OFF
