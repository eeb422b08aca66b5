"""The services behind the panel, each over real gRPC on loopback and on its real store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from pydantic import SecretStr

from services.accounts.bootstrap import bootstrap as compose_accounts
from services.accounts.config import AccountsSettings
from services.billing.adapters.ledger_postgres import PostgresLedger
from services.billing.bootstrap import grant_desk
from services.billing.bootstrap import grpc_server as billing_server
from services.billing.config import BillingSettings
from services.billing.payments_bootstrap import compose_payments
from services.catalog.bootstrap import compose as compose_catalog
from services.catalog.config import CatalogSettings
from services.common.clock import SystemClock
from services.common.config import DEVELOPMENT_SECRET, HostPort
from services.common.consumers import ConsumerWatch, Reading
from services.common.grpc import GrpcServer, TokenVerifier
from services.common.kafka.memory import MemoryArchive, MemoryGroups, MemoryLog, MemoryProducer
from services.common.operations import POLICIES as OPERATIONS
from services.common.operations import OperationsServicer
from services.common.pb.mesh.billing.v1 import payments_pb2_grpc
from services.common.pb.mesh.usage.v1 import usage_pb2_grpc
from services.common.postgres import migrate, open_pool
from services.common.put_aside import DeadLetterDesk
from services.common.topics import BILLING_DEAD, KEYS, LEDGER, USAGE_DEAD, Topic
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.migrations import migrate as migrate_clickhouse
from services.usage.alerts.store_postgres import PostgresAlertStore
from services.usage.bootstrap_contents import ContentParts
from services.usage.bootstrap_reads import ReadParts
from services.usage.config import UsageSettings
from services.usage.entrypoints.grpc_contents import POLICIES as CONTENT_POLICIES
from services.usage.entrypoints.grpc_usage import POLICIES as USAGE_POLICIES
from services.usage.live.bootstrap import LiveProcess
from services.usage.live.bootstrap import build as build_live
from services.usage.live.config import LiveSettings
from services.usage.sink.tail import TailHub
from tests.fixtures.engines import PostgresServer
from tests.fixtures.waiting import running

ANY_PORT = HostPort("127.0.0.1:0")
# Log-ins of one test after another are no attack.
ATTEMPTS_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the services listen, and the request log's live feed."""

    accounts: HostPort
    billing: HostPort
    catalog: HostPort
    usage: HostPort
    tails: TailHub
    live: LiveProcess
    alerts: PostgresAlertStore
    # What billing and the request log read, and where they put aside what they cannot take.
    log: MemoryLog


@asynccontextmanager
async def serving(server: GrpcServer) -> AsyncIterator[HostPort]:
    await server.start()
    try:
        yield HostPort(f"127.0.0.1:{server.port}")
    finally:
        await server.stop(0.0)


class Nowhere:
    """Positions of consumers that applied nothing yet."""

    async def positions(self, topic: str) -> Mapping[int, int]:
        del topic
        return {}


async def serve_operations(server: GrpcServer, log: MemoryLog, *, dead: Topic) -> None:
    """What the service tells its operators, over a log in memory."""
    producer = MemoryProducer(log)
    await producer.start()
    topic = KEYS if dead is BILLING_DEAD else LEDGER
    reading = Reading(f"{dead.producers[0]}-reads", topic.name, Nowhere())
    desk = DeadLetterDesk(MemoryArchive(log), producer, dead=dead, clock=SystemClock())
    OperationsServicer(ConsumerWatch(MemoryGroups(log), [reading]), desk).serve_on(server)


@asynccontextmanager
async def accounts_service(dsn: str) -> AsyncIterator[HostPort]:
    """Accounts, with cheap password hashes."""
    settings = AccountsSettings(
        dsn=SecretStr(dsn), grpc_listen=ANY_PORT, ops_listen=ANY_PORT, argon2_time_cost=1,
        argon2_memory_kib=64, attempts_max=ATTEMPTS_MAX,
    )  # fmt: skip
    pool = await open_pool(dsn, size_max=5)
    await migrate(pool, "services.accounts")
    parts = compose_accounts(settings, pool, MemoryProducer(MemoryLog()))
    async with running(parts.publisher.run), serving(parts.server) as address:
        yield address
    await pool.close()


@asynccontextmanager
async def billing_service(dsn: str, log: MemoryLog) -> AsyncIterator[HostPort]:
    settings = BillingSettings.model_validate({"dsn": dsn, "grpc_listen": ANY_PORT})
    pool = await open_pool(dsn, size_max=5)
    await migrate(pool, "services.billing")
    store = PostgresLedger(pool, unit_timeout_s=10.0)
    desk = grant_desk(store, SystemClock(), settings)
    server = billing_server(store, pool, desk, settings=settings)
    # Without a gateway: what was paid can be read, and nobody can pay.
    paying = compose_payments(store, pool, SystemClock(), settings=settings)
    payments_pb2_grpc.add_PaymentsServiceServicer_to_server(paying.servicer, server.grpc)
    await serve_operations(server, log, dead=BILLING_DEAD)
    async with serving(server) as address:
        yield address
    await pool.close()


@asynccontextmanager
async def catalog_service(dsn: str) -> AsyncIterator[HostPort]:
    """A catalog with the local model and nothing else."""
    settings = CatalogSettings.model_validate(
        {"grpc_listen": ANY_PORT, "seed_prices": False, "local_model_url": "http://127.0.0.1:1/v1"}
    )
    pool = await open_pool(dsn, size_max=5)
    await migrate(pool, "services.catalog")
    catalog = compose_catalog(settings, pool)
    await catalog.seed()
    async with serving(catalog.grpc_server()) as address:
        yield address
    await pool.close()


@asynccontextmanager
async def usage_service(dsn: str, log: MemoryLog) -> AsyncIterator[tuple[HostPort, TailHub]]:
    clickhouse = ClickHouse(dsn, database="test_dashboard")
    await clickhouse.open()
    await migrate_clickhouse(clickhouse)
    tails = TailHub()
    settings = UsageSettings(clickhouse_dsn=SecretStr(dsn))
    usage_parts = ReadParts(settings, clickhouse, tails=tails, is_current=lambda: True)
    server = GrpcServer(
        listen=ANY_PORT,
        verifier=TokenVerifier(DEVELOPMENT_SECRET),
        policies=USAGE_POLICIES | CONTENT_POLICIES | OPERATIONS,
    )
    usage_pb2_grpc.add_UsageServiceServicer_to_server(usage_parts.servicer, server.grpc)
    contents = ContentParts(settings, clickhouse)
    await contents.open()
    contents.serve_on(server)
    await serve_operations(server, log, dead=USAGE_DEAD)
    async with serving(server) as address:
        yield address, tails
    await clickhouse.close()


@asynccontextmanager
async def live_service(
    dsn: str, log: MemoryLog
) -> AsyncIterator[tuple[LiveProcess, PostgresAlertStore]]:
    """The live windows and the alerts, to which the tests themselves say what happened."""
    settings = LiveSettings(
        grpc_listen=ANY_PORT, ops_listen=ANY_PORT, webhook_private_allowed=True
    )  # fmt: skip
    pool = await open_pool(dsn, size_max=5)
    await migrate(pool, "services.usage")
    process = build_live(settings, pool=pool, groups=MemoryGroups(log))
    async with serving(process.server):
        yield process, PostgresAlertStore(pool)
    await pool.close()


@asynccontextmanager
async def all_services(postgres: PostgresServer, clickhouse_dsn: str) -> AsyncIterator[Addresses]:
    """Everything that the panel calls."""
    log = MemoryLog()
    async with AsyncExitStack() as stack:
        accounts = await stack.enter_async_context(accounts_service(postgres("accounts")))
        billing = await stack.enter_async_context(billing_service(postgres("billing"), log))
        catalog = await stack.enter_async_context(catalog_service(postgres("catalog")))
        usage, tails = await stack.enter_async_context(usage_service(clickhouse_dsn, log))
        live, alerts = await stack.enter_async_context(live_service(postgres("usage"), log))
        yield Addresses(accounts, billing, catalog, usage, tails, live, alerts, log)
