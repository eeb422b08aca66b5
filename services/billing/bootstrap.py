"""Puts a billing process together by plain calls; its components are in their order of start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from services.billing import metrics, views
from services.billing.adapters.ledger_postgres import PostgresLedger
from services.billing.adapters.quotas_postgres import PostgresQuotas
from services.billing.config import BillingSettings
from services.billing.entrypoints import billing, grants, ledger, payments, quotas
from services.billing.entrypoints.billing import BillingServicer
from services.billing.entrypoints.grants import GrantsServicer
from services.billing.entrypoints.ledger import LedgerServicer
from services.billing.entrypoints.quotas import QuotasServicer
from services.billing.expiry import ExpirySweeper
from services.billing.grant_desk import GrantDesk
from services.billing.payments_bootstrap import compose_payments
from services.billing.quota_desk import QuotaDesk, QuotaPruner
from services.billing.quota_ports import QuotaStore
from services.billing.sealing import Sealer
from services.billing.settlement.keys import KeyCaps
from services.billing.settlement.settle import UsageSettlement
from services.common import operations
from services.common.clock import Clock, SystemClock
from services.common.consumers import ConsumerWatch, Reading
from services.common.errors import AppError
from services.common.grpc import GrpcServer, TokenVerifier
from services.common.kafka import DeadLetters, KafkaArchive, KafkaGroups, KafkaProducer, Pump
from services.common.operations import OperationsServicer
from services.common.ops import OpsServer
from services.common.pb.mesh.billing.v1 import (
    billing_pb2_grpc,
    grants_pb2_grpc,
    ledger_pb2_grpc,
    payments_pb2_grpc,
    quotas_pb2_grpc,
)
from services.common.postgres import OutboxRelay, PostgresCursors, migrate, open_pool
from services.common.put_aside import DeadLetterDesk
from services.common.runtime import Component
from services.common.topics import BILLING_DEAD, KEYS, USAGE

USAGE_GROUP = "billing-usage"
KEYS_GROUP = "billing-keys"
_WATCH_EVERY_S = 2.0


@dataclass(slots=True)
class Billing:
    """A composed process: its components, and the servers whose ports tests ask for."""

    components: list[Component]
    server: GrpcServer
    ops: OpsServer


class StoreWatch:
    """Knows whether the database answers, for readiness, and how many grants are unresolved."""

    def __init__(self, pool: asyncpg.Pool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self.answers = True

    async def run(self) -> None:
        """Asks every other second until cancelled."""
        while True:
            try:
                metrics.GRANTS_UNRESOLVED.set(await views.unresolved_count(self._pool))
                self.answers = True
            except AppError:
                self.answers = False
            await self._clock.sleep(_WATCH_EVERY_S)


def grant_desk(store: PostgresLedger, clock: Clock, settings: BillingSettings) -> GrantDesk:
    """The counter for grants, by the settings."""
    return GrantDesk(
        store,
        clock,
        settings.grant_rules,
        linger_s=settings.grant_group_linger_s,
        group_max=settings.grant_group_max,
        waiting_max=settings.grant_waiting_max,
        fence_s=settings.key_fence_s,
        fence_poll_s=settings.key_fence_poll_s,
    )


def quota_desk(store: QuotaStore, clock: Clock, settings: BillingSettings) -> QuotaDesk:
    """The counter for quotas, by the settings; groups and waits as those of grants."""
    return QuotaDesk(
        store,
        clock,
        settings.quota_rules,
        linger_s=settings.grant_group_linger_s,
        group_max=settings.grant_group_max,
        waiting_max=settings.grant_waiting_max,
        fence_s=settings.key_fence_s,
        fence_poll_s=settings.key_fence_poll_s,
    )


def grpc_server(
    store: PostgresLedger, pool: asyncpg.Pool, desk: GrantDesk, *, settings: BillingSettings
) -> GrpcServer:
    """The gRPC server with its services."""
    server = GrpcServer(
        listen=settings.grpc_listen,
        verifier=TokenVerifier(settings.service_secret.get_secret_value()),
        policies=grants.POLICIES
        | billing.POLICIES
        | ledger.POLICIES
        | quotas.POLICIES
        | payments.POLICIES
        | operations.POLICIES,
    )
    grants_pb2_grpc.add_GrantsServiceServicer_to_server(GrantsServicer(desk), server.grpc)
    billing_pb2_grpc.add_BillingServiceServicer_to_server(
        BillingServicer(store, pool, SystemClock()), server.grpc
    )
    ledger_pb2_grpc.add_LedgerServiceServicer_to_server(
        LedgerServicer(store, pool, SystemClock()), server.grpc
    )
    server.reflect(
        grants.SERVICE, billing.SERVICE, ledger.SERVICE, quotas.SERVICE, payments.SERVICE
    )
    return server


async def compose(settings: BillingSettings) -> Billing:
    """Opens and migrates the database and composes the rest. Raises Unavailable, MigrationError."""
    clock = SystemClock()
    pool = await open_pool(settings.dsn.get_secret_value(), size_max=settings.pool_size)
    await migrate(pool, "services.billing")
    store = PostgresLedger(pool, unit_timeout_s=settings.unit_timeout_s)
    producer = KafkaProducer(settings.kafka_bootstrap, client_id="billing")
    relay = OutboxRelay(pool, producer)
    desk = grant_desk(store, clock, settings)
    limits = PostgresQuotas(pool, unit_timeout_s=settings.unit_timeout_s)
    lender = quota_desk(limits, clock, settings)
    batches = PostgresLedger(pool, unit_timeout_s=settings.batch_timeout_s)
    usage_pump, keys_pump = _pumps(batches, limits, producer, clock=clock, settings=settings)
    watch = StoreWatch(pool, clock)
    sweeper = ExpirySweeper(
        store,
        clock,
        settings.grant_rules,
        every_s=settings.expiry_every_s,
        batch_max=settings.expiry_batch_max,
    )
    sealer = Sealer(store, clock, delay_s=settings.seal_delay_s, every_s=settings.seal_every_s)
    pruner = QuotaPruner(
        limits,
        clock,
        every_s=settings.quota_prune_every_s,
        batch_max=settings.quota_prune_batch_max,
    )
    server = grpc_server(store, pool, desk, settings=settings)
    quotas_pb2_grpc.add_QuotasServiceServicer_to_server(QuotasServicer(lender), server.grpc)
    pumps = (usage_pump, keys_pump)
    operations_of(pool, producer, pumps, bootstrap=settings.kafka_bootstrap).serve_on(server)
    paying = compose_payments(store, pool, clock, settings=settings)
    payments_pb2_grpc.add_PaymentsServiceServicer_to_server(paying.servicer, server.grpc)
    ops = OpsServer(
        settings.ops_listen,
        {
            "postgres": lambda: watch.answers,
            "kafka": lambda: producer.connected,
            "usage": usage_pump.ready.is_set,
            "keys": keys_pump.ready.is_set,
        },
    )
    components = [
        Component("ops", ops.start, ops.run, ops.stop),
        Component("pool", stop=pool.close),
        Component("producer", producer.start, stop=producer.stop),
        Component("watch", run=watch.run),
        Component("relay", run=relay.run),
        Component("keys", run=keys_pump.run),
        Component("usage", run=usage_pump.run),
        Component("expiry", run=sweeper.run),
        Component("seals", run=sealer.run),
        Component("desk", run=desk.run),
        Component("quotas", run=lender.run),
        Component("quotas-pruned", run=pruner.run),
        *paying.components,
        Component("grpc", server.start, server.run, server.stop),
    ]
    return Billing(components, server, ops)


def operations_of(
    pool: asyncpg.Pool, producer: KafkaProducer, pumps: Sequence[Pump], *, bootstrap: str
) -> OperationsServicer:
    """What billing tells its operators: how far it is, and what it put aside."""
    cursors = PostgresCursors(pool)
    readings = [Reading(pump.group, pump.topic, cursors) for pump in pumps]
    watch = ConsumerWatch(KafkaGroups(bootstrap), readings, pumps=pumps)
    archive = KafkaArchive(bootstrap)
    return OperationsServicer(
        watch, DeadLetterDesk(archive, producer, dead=BILLING_DEAD, clock=SystemClock())
    )


def _pumps(
    store: PostgresLedger,
    limits: QuotaStore,
    producer: KafkaProducer,
    *,
    clock: Clock,
    settings: BillingSettings,
) -> tuple[Pump, Pump]:
    dead_letters = DeadLetters(
        producer, consumer="billing", topic=BILLING_DEAD, limit=settings.dead_letter_limit
    )
    usage = Pump(
        topic=USAGE,
        group=USAGE_GROUP,
        target=UsageSettlement(store, dead_letters, clock),
        bootstrap=settings.kafka_bootstrap,
        batch_max=settings.usage_batch_max,
        linger_s=settings.usage_linger_s,
    )
    keys = Pump(
        topic=KEYS,
        group=KEYS_GROUP,
        target=KeyCaps(store, dead_letters, clock, quotas=limits),
        bootstrap=settings.kafka_bootstrap,
        batch_max=settings.keys_batch_max,
    )
    return usage, keys
