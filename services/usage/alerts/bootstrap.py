"""Puts the alerts together; where no database is set there are none."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable

import asyncpg

from services.common.clock import Clock
from services.common.errors import Unavailable
from services.common.grpc import GrpcChannel, GrpcServer, TokenSigner
from services.common.kafka.table_reader import TableReader
from services.common.pb.mesh.usage.v1 import alerts_pb2_grpc
from services.common.postgres import migrate, open_pool
from services.common.retry import Backoff
from services.common.runtime import Component
from services.common.telemetry import get_logger
from services.common.topics import BALANCES
from services.usage.alerts.evaluator import AlertBook, AlertEvaluator
from services.usage.alerts.grpc_alerts import AlertServicer
from services.usage.alerts.measures import GrpcCaps, LiveMeasures
from services.usage.alerts.secrets import SecretBox
from services.usage.alerts.store_postgres import PostgresAlertStore
from services.usage.alerts.webhooks import Courier, Webhooks
from services.usage.domain.live import LiveSet
from services.usage.live.config import LiveSettings

_log = get_logger(__name__)


class AlertParts:
    """The parts over a pool that is open."""

    def __init__(
        self,
        settings: LiveSettings,
        pool: asyncpg.Pool,
        windows: LiveSet,
        *,
        clock: Clock,
        lag_ms: Callable[[], int],
        windows_ready: Callable[[], bool],
    ) -> None:
        self._pool = pool
        store = PostgresAlertStore(pool)
        private = settings.webhook_private_allowed
        box = SecretBox(base64.b64decode(settings.secret_key.get_secret_value()))
        signer = TokenSigner(settings.service_secret.get_secret_value(), "usage")
        self._billing = GrpcChannel(settings.billing_address, signer)
        measures = LiveMeasures(windows, GrpcCaps(self._billing), clock, lag_ms=lag_ms)
        balances = TableReader(
            bootstrap=settings.kafka_bootstrap, topic=BALANCES, on_message=measures.take_balance
        )
        book = AlertBook(store, clock)
        evaluator = AlertEvaluator(
            store,
            measures,
            book=book,
            clock=clock,
            ready=lambda: windows_ready() and balances.ready.is_set(),
        )
        courier = Courier(store, box, clock, private_allowed=private)
        self._servicer = AlertServicer(
            store, book, Webhooks(store, box, clock, private_allowed=private)
        )
        self.components = (
            Component("alert store", stop=self._close),
            Component("balances", run=balances.run),
            Component("alerts", run=evaluator.run),
            Component("webhooks", run=courier.run),
        )

    def serve_on(self, server: GrpcServer) -> None:
        """Adds the gRPC service."""
        alerts_pb2_grpc.add_AlertServiceServicer_to_server(self._servicer, server.grpc)
        server.reflect("mesh.usage.v1.AlertService")

    async def _close(self) -> None:
        await self._billing.close()
        await self._pool.close()


async def open_store(dsn: str) -> asyncpg.Pool:
    """The pool, with all migrations applied; a database that is away is waited for."""
    backoff = Backoff(first_s=0.2, max_s=5.0)
    while True:
        try:
            pool = await open_pool(dsn, size_max=5)
            await migrate(pool, "services.usage")
        except Unavailable as error:
            pause_s = backoff.next_s()
            _log.warning("the alerts' store is away", error=error.message)
            await asyncio.sleep(pause_s)
        else:
            return pool
