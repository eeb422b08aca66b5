"""Values of alerts come from the live windows, the balances' topic and billing's caps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.common.clock import FakeClock
from services.common.config import DEVELOPMENT_SECRET
from services.common.errors import Unavailable
from services.common.events import EventRecord, UndecodableEvent
from services.common.grpc import Access, GrpcChannel, GrpcServer, TokenSigner, TokenVerifier
from services.common.grpc import principal as principal_of_call
from services.common.pb.mesh.billing.v1 import billing_pb2, billing_pb2_grpc
from services.common.pb.mesh.events.v1 import ledger_pb2
from services.usage.alerts.measures import CAPS_EVERY_MS, GrpcCaps, LiveMeasures
from services.usage.domain.alerts import DEFAULTS, AlertKind, Measure
from services.usage.domain.live import LiveEvent, LiveSet


class KnownCaps:
    """Caps as they are given, or billing away."""

    def __init__(self) -> None:
        self.caps: list[Measure] | None = []
        self.asked = 0

    async def of(self, account_id: str) -> list[Measure]:
        self.asked += 1
        if self.caps is None:
            raise Unavailable("billing is away")
        return self.caps


class Desk:
    """Measures at a fake clock."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.windows = LiveSet()
        self.caps = KnownCaps()
        self.lag_ms = 0
        self.measures = LiveMeasures(
            self.windows, self.caps, self.clock, lag_ms=lambda: self.lag_ms
        )

    def request(self, number: int, *, failed: bool = False, cost_nanousd: int = 0) -> None:
        now_ms = self.clock.now_ms()
        event = LiveEvent(
            f"use_{number}", "acc_1", "key_1", "m", now_ms, 5, failed, 1, 1, cost_nanousd
        )
        assert self.windows.add(event, now_ms)

    async def values(self, kind: AlertKind) -> dict[str, int]:
        rules = DEFAULTS | {"error_rate": replace(DEFAULTS["error_rate"], min_requests=10)}
        found = await self.measures.of("acc_1", rules, now_ms=self.clock.now_ms())
        return {one.subject: one.value for one in found if one.kind == kind}


def balance(posted_nanousd: int) -> bytes:
    state = ledger_pb2.BalanceState(account_id="acc_1", posted_nanousd=posted_nanousd, version=1)
    return EventRecord(
        event_id="evt_1",
        type="billing.BalanceState",
        version=1,
        occurred_at_ms=1,
        account_id="acc_1",
        traceparent="",
        payload=state.SerializeToString(),
    ).to_bytes()


async def test_spend_is_told_as_an_hourly_rate_over_the_rule_s_window() -> None:
    desk = Desk()
    for number in range(3):
        desk.request(number, cost_nanousd=1_000)
    assert await desk.values("spend_rate") == {"account": 3_000 * 3_600 // 300}
    await desk.clock.advance(360)
    assert await desk.values("spend_rate") == {"account": 0}


async def test_errors_are_a_share_once_there_are_enough_requests() -> None:
    desk = Desk()
    for number in range(9):
        desk.request(number, failed=True)
    assert await desk.values("error_rate") == {"account": 0}
    desk.request(9)
    assert await desk.values("error_rate") == {"account": 900}


async def test_windows_that_are_behind_tell_nothing() -> None:
    desk = Desk()
    desk.request(1, cost_nanousd=1_000)
    desk.lag_ms = 61_000
    assert await desk.values("spend_rate") == {}
    assert await desk.values("error_rate") == {}


async def test_a_balance_is_known_once_it_was_published_and_asked_for_when_it_changes() -> None:
    desk = Desk()
    assert await desk.values("balance_low") == {}
    desk.measures.take_balance("acc_1", balance(7))
    assert set(desk.measures.accounts()) == {"acc_1"}
    assert set(desk.measures.accounts()) == set()
    desk.measures.take_balance("acc_1", balance(7))
    assert set(desk.measures.accounts()) == set()
    assert await desk.values("balance_low") == {"wallet": 7}
    with pytest.raises(UndecodableEvent):
        desk.measures.take_balance("acc_1", b"no balance")


async def test_caps_are_asked_for_now_and_then_and_a_lifted_one_is_quiet() -> None:
    desk = Desk()
    desk.caps.caps = [Measure("spend_cap", "key:k", 990)]
    assert await desk.values("spend_cap") == {"key:k": 990}
    assert await desk.values("spend_cap") == {}
    desk.caps.caps = None
    await desk.clock.advance(CAPS_EVERY_MS / 1000)
    assert await desk.values("spend_cap") == {}
    desk.caps.caps = []
    assert await desk.values("spend_cap") == {"key:k": 0}
    assert desk.caps.asked == 3


class Billing(billing_pb2_grpc.BillingServiceServicer):
    """Billing with one capped and one uncapped key, and a capped team."""

    async def ListKeySpend(
        self, _request: billing_pb2.ListKeySpendRequest, _context: object
    ) -> billing_pb2.ListKeySpendResponse:
        assert principal_of_call().account_id == "acc_1"
        capped = billing_pb2.KeySpend(key_id="k1", spent_nanousd=80, spend_cap_nanousd=100)
        return billing_pb2.ListKeySpendResponse(
            keys=[capped, billing_pb2.KeySpend(key_id="k2", spent_nanousd=80)]
        )

    async def ListScopeSpend(
        self, _request: billing_pb2.ListScopeSpendRequest, _context: object
    ) -> billing_pb2.ListScopeSpendResponse:
        team = billing_pb2.ScopeSpend(scope="team:t", spent_nanousd=5, spend_cap_nanousd=0)
        return billing_pb2.ListScopeSpendResponse(scopes=[team])


async def test_billing_is_asked_for_the_caps_of_keys_and_scopes() -> None:
    access = Access(frozenset({"usage"}), "any")
    service = "/mesh.billing.v1.BillingService"
    server = GrpcServer(
        listen="127.0.0.1:0",
        verifier=TokenVerifier(DEVELOPMENT_SECRET),
        policies={f"{service}/ListKeySpend": access, f"{service}/ListScopeSpend": access},
    )
    billing_pb2_grpc.add_BillingServiceServicer_to_server(
        Billing(),  # type: ignore[abstract] # what is not asked for here
        server.grpc,
    )
    await server.start()
    signer = TokenSigner(DEVELOPMENT_SECRET, "usage")
    channel = GrpcChannel(f"127.0.0.1:{server.port}", signer, default_timeout_s=20)
    try:
        assert await GrpcCaps(channel).of("acc_1") == [
            Measure("spend_cap", "key:k1", 800),
            Measure("spend_cap", "team:t", 1_000),
        ]
    finally:
        await channel.close()
        await server.stop()
