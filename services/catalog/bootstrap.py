"""Composition: settings to a running catalog, by plain calls."""

from __future__ import annotations

import time
from dataclasses import dataclass

import asyncpg

from services.catalog import handlers, seeding
from services.catalog.adapters.cipher_aesgcm import AesGcmCipher
from services.catalog.adapters.local_model import local_seeds
from services.catalog.adapters.prices_genai import GenaiPrices
from services.catalog.adapters.probe_http import HttpProbe
from services.catalog.adapters.store_postgres import PostgresCatalog
from services.catalog.adapters.templates_postgres import PostgresTemplates
from services.catalog.config import CatalogSettings
from services.catalog.entrypoints.grpc_catalog import POLICIES, SERVICE, CatalogServicer
from services.catalog.entrypoints.grpc_templates import (
    TEMPLATE_POLICIES,
    TEMPLATES_SERVICE,
    TemplatesServicer,
)
from services.catalog.handlers import Context
from services.catalog.template_handlers import TemplateContext
from services.catalog.template_views import TemplateViews
from services.catalog.views import CatalogViews
from services.common.clock import Clock, SystemClock
from services.common.errors import AppError, ConcurrencyConflict
from services.common.grpc import GrpcServer, TokenVerifier
from services.common.pb.mesh.catalog.v1 import catalog_pb2_grpc, templates_pb2_grpc
from services.common.postgres import EventStore
from services.common.telemetry import get_logger

_log = get_logger(__name__)

SEED_TRIES_MAX = 3


@dataclass(frozen=True, slots=True)
class Catalog:
    """The parts of the service that share one pool."""

    settings: CatalogSettings
    context: Context
    views: CatalogViews
    templates: TemplateContext
    template_views: TemplateViews

    async def seed(self) -> None:
        """Brings prices, the local model and credentials of the environment in, each once.

        Of two processes that start together one may find the other first: it tries again.
        """
        started_s = time.perf_counter()
        for left in reversed(range(SEED_TRIES_MAX)):
            try:
                await self._seed()
                break
            except ConcurrencyConflict:
                if not left:
                    raise
        _log.info("the seeds are in", took_s=round(time.perf_counter() - started_s, 3))

    async def _seed(self) -> None:
        if self.settings.seed_prices:
            await seeding.seed(self.context, GenaiPrices())
        if self.settings.local_model_url:
            await seeding.seed_environment(self.context, local_seeds(self.settings.local_model_url))
        await seeding.set_credentials(self.context, self.settings.provider_credentials())

    def grpc_server(self) -> GrpcServer:
        """The server with the servicer in it, not yet started."""
        verifier = TokenVerifier(self.settings.service_secret.get_secret_value())
        policies = {**POLICIES, **TEMPLATE_POLICIES}
        server = GrpcServer(listen=self.settings.grpc_listen, verifier=verifier, policies=policies)
        servicer = CatalogServicer(self.context, self.views)
        catalog_pb2_grpc.add_CatalogServiceServicer_to_server(servicer, server.grpc)
        templates = TemplatesServicer(self.templates, self.template_views, self.context.clock)
        templates_pb2_grpc.add_TemplatesServiceServicer_to_server(templates, server.grpc)
        server.reflect(SERVICE, TEMPLATES_SERVICE)
        return server

    async def watch_due_prices(self) -> None:
        """Announces prices as they come into force, until cancelled."""
        clock = self.context.clock
        while True:
            try:
                await handlers.announce_due_prices(self.context)
            except AppError as error:
                # The database is away or another process was first: the next round finds the same.
                _log.warning("prices could not be announced", error=error.message)
            await clock.sleep(self.settings.due_prices_poll_s)


def compose(settings: CatalogSettings, pool: asyncpg.Pool, clock: Clock | None = None) -> Catalog:
    """The catalog over an open pool whose migrations are applied."""
    events = EventStore(pool)
    clock = clock or SystemClock()
    context = Context(
        store=PostgresCatalog(events),
        cipher=AesGcmCipher(settings.key_bytes()),
        clock=clock,
        probe=HttpProbe(clock),
    )
    return Catalog(
        settings,
        context,
        CatalogViews(pool),
        TemplateContext(PostgresTemplates(events)),
        TemplateViews(pool),
    )
