"""Alerts of the live process, over Apache Kafka and PostgreSQL: raised by real events, delivered
once, over a restart as well.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from services.common.clock import SystemClock
from services.common.config import DEVELOPMENT_SECRET, HostPort
from services.common.errors import Forbidden, InvalidArgument
from services.common.events import EventRecord
from services.common.grpc import GrpcChannel, Principal, TokenSigner
from services.common.ids import new_id
from services.common.kafka import KafkaProducer, create_topics
from services.common.pb.mesh.events.v1 import ledger_pb2
from services.common.pb.mesh.usage.v1 import alerts_pb2, alerts_pb2_grpc
from services.common.topics import BALANCES, USAGE
from services.usage.alerts.bootstrap import open_store
from services.usage.live.bootstrap import build
from services.usage.live.config import LiveSettings
from tests.fixtures.engines import PostgresServer
from tests.fixtures.waiting import eventually_async
from tests.integration.usage.test_live import up
from tests.unit.usage.builders import envelope, usage

OWNER = Principal("user", "acc_1", "usr_1", role="owner")
VIEWER = Principal("user", "acc_1", "usr_2", role="viewer")
OTHER = Principal("user", "acc_2", "usr_3", role="owner")


class Alerts:
    """A client of a running process."""

    def __init__(self, channel: GrpcChannel) -> None:
        self.channel = channel
        self.stub = alerts_pb2_grpc.AlertServiceStub(channel.channel())

    async def types(self, principal: Principal = OWNER) -> list[str]:
        """What was raised, in order."""
        answer = await self.channel.call(
            self.stub.ListAlerts, alerts_pb2.ListAlertsRequest(), principal=principal
        )
        return sorted(alert.event_type for alert in answer.alerts)

    async def delivered(self) -> list[str]:
        """The states of all deliveries."""
        answer = await self.channel.call(
            self.stub.ListWebhookDeliveries,
            alerts_pb2.ListWebhookDeliveriesRequest(),
            principal=OWNER,
        )
        return [one.state for one in answer.deliveries]


@asynccontextmanager
async def running_alerts(bootstrap: str, dsn: str, group: str) -> AsyncIterator[Alerts]:
    """The process, until the block ends."""
    settings = LiveSettings(
        kafka_bootstrap=HostPort(bootstrap),
        grpc_listen=HostPort("127.0.0.1:0"),
        ops_listen=HostPort("127.0.0.1:0"),
        # Nobody is there: what of their caps is spent is not known, and all else goes on.
        billing_address=HostPort("127.0.0.1:1"),
        group=group,
        webhook_private_allowed=True,
    )
    process = build(settings, pool=await open_store(dsn))
    async with up(process.components):
        signer = TokenSigner(DEVELOPMENT_SECRET, "dashboard")
        channel = GrpcChannel(f"127.0.0.1:{process.server.port}", signer, default_timeout_s=20)
        try:
            yield Alerts(channel)
        finally:
            await channel.close()


@asynccontextmanager
async def receiving() -> AsyncIterator[tuple[str, list[str]]]:
    """The URL of a server, and the ids of the events that it got."""
    got: list[str] = []

    async def take(request: web.Request) -> web.Response:
        got.append(request.headers["Mesh-Event-Id"])
        return web.Response()

    app = web.Application()
    app.router.add_post("/hook", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook", got
    finally:
        await runner.cleanup()


async def write(bootstrap: str, *, posted_nanousd: int) -> None:
    """The newest balance of acc_1, and thirty requests of which half failed."""
    now_ms = SystemClock().now_ms()
    producer = KafkaProducer(bootstrap)
    await producer.start()
    try:
        for number in range(30):
            event = usage(
                usage_id=f"use_{number}",
                received_at_ms=now_ms,
                outcome=1 if number % 2 else 3,
                cost_nanousd=1,
            )
            await producer.send(USAGE.name, b"acc_1", envelope(event))
        state = ledger_pb2.BalanceState(
            account_id="acc_1", posted_nanousd=posted_nanousd, version=1, updated_at_ms=now_ms
        )
        record = EventRecord(
            event_id=new_id("evt"),
            type="billing.BalanceState",
            version=1,
            occurred_at_ms=now_ms,
            account_id="acc_1",
            traceparent="",
            payload=state.SerializeToString(),
        )
        await producer.send(BALANCES.name, b"acc_1", record.to_bytes())
    finally:
        await producer.stop()


async def test_what_happened_is_told_once_over_a_restart(
    own_kafka: str, postgres_dsn: PostgresServer
) -> None:
    await create_topics(own_kafka, [USAGE, BALANCES])
    dsn, group = postgres_dsn("usage"), new_id("live")
    async with receiving() as (url, got):
        async with running_alerts(own_kafka, dsn, group) as alerts:
            await alerts.channel.call(
                alerts.stub.CreateWebhook,
                alerts_pb2.CreateWebhookRequest(url=url),
                principal=OWNER,
            )
            await write(own_kafka, posted_nanousd=1_000)
            await eventually_async(lambda: _are(alerts, "balance.low", "error_rate.high"))
            await eventually_async(lambda: _all_delivered(alerts, 2))
        await write(own_kafka, posted_nanousd=10**12)
        async with running_alerts(own_kafka, dsn, group) as alerts:
            # Recovery shows that it has measured anew; the rest is not told again.
            await eventually_async(
                lambda: _are(alerts, "balance.low", "balance.recovered", "error_rate.high")
            )
            await eventually_async(lambda: _all_delivered(alerts, 3))
            assert await alerts.types(OTHER) == []
        assert len(got) == len(set(got)) == 3


async def test_rules_are_set_by_admins_and_hold_at_once(
    own_kafka: str, postgres_dsn: PostgresServer
) -> None:
    await create_topics(own_kafka, [USAGE, BALANCES])
    async with running_alerts(own_kafka, postgres_dsn("usage"), new_id("live")) as alerts:
        rule = alerts_pb2.AlertRule(kind="balance_low", threshold=7, enabled=True)

        async def set_rule(changed: alerts_pb2.AlertRule, principal: Principal) -> None:
            await alerts.channel.call(alerts.stub.SetAlertRule, changed, principal=principal)

        with pytest.raises(Forbidden):
            await set_rule(rule, VIEWER)
        for wrong, field in (
            (alerts_pb2.AlertRule(kind="weather", threshold=1), "kind"),
            (alerts_pb2.AlertRule(kind="balance_low"), "threshold"),
            (alerts_pb2.AlertRule(kind="error_rate", threshold=1, window_s=7), "window_s"),
        ):
            with pytest.raises(InvalidArgument, match=field):
                await set_rule(wrong, OWNER)
        await set_rule(rule, OWNER)
        for principal, threshold in ((VIEWER, 7), (OTHER, 2_000_000_000)):
            answer = await alerts.channel.call(
                alerts.stub.ListAlertRules,
                alerts_pb2.ListAlertRulesRequest(),
                principal=principal,
            )
            found = {one.kind: one.threshold for one in answer.rules}
            assert found["balance_low"] == threshold


async def _are(alerts: Alerts, *wanted: str) -> bool:
    return await alerts.types() == sorted(wanted)


async def _all_delivered(alerts: Alerts, count: int) -> bool:
    return await alerts.delivered() == ["delivered"] * count
