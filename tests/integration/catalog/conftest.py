"""A whole catalog on real PostgreSQL, spoken to over gRPC on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import pytest

from services.catalog.bootstrap import Catalog, compose
from services.catalog.config import CatalogSettings
from services.common.clock import FakeClock
from services.common.config import load_settings
from services.common.grpc import GrpcChannel, Principal, TokenSigner
from services.common.pb.mesh.catalog.v1 import catalog_pb2_grpc
from services.common.postgres import migrate, open_pool
from tests.fixtures.engines import PostgresServer
from tests.unit.catalog.builders import NOW_MS

OPERATOR = Principal("operator", "")
USER = Principal("user", "acc_1", user_id="usr_1", role="owner")


@dataclass
class Running:
    """A catalog that serves, its database, and callers of it."""

    catalog: Catalog
    clock: FakeClock
    pool: asyncpg.Pool
    address: str
    settings: CatalogSettings
    channels: dict[str, GrpcChannel]

    def channel(self, service: str) -> GrpcChannel:
        if service not in self.channels:
            signer = TokenSigner(self.settings.service_secret.get_secret_value(), service)
            self.channels[service] = GrpcChannel(self.address, signer)
        return self.channels[service]

    def stub(self, service: str) -> catalog_pb2_grpc.CatalogServiceStub:
        return catalog_pb2_grpc.CatalogServiceStub(self.channel(service).channel())


@pytest.fixture
async def pool(postgres_dsn: PostgresServer) -> AsyncIterator[asyncpg.Pool]:
    opened = await open_pool(postgres_dsn("catalog"), size_max=4)
    try:
        await migrate(opened, "services.catalog")
        yield opened
    finally:
        await opened.close()


@pytest.fixture
async def running(pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    monkeypatch.setenv("MESH_CATALOG_GRPC_LISTEN", "127.0.0.1:0")
    settings = load_settings(CatalogSettings)
    clock = FakeClock(NOW_MS)
    catalog = compose(settings, pool, clock)
    server = catalog.grpc_server()
    await server.start()
    address = f"127.0.0.1:{server.port}"
    here = Running(catalog, clock, pool, address, settings, {})
    try:
        yield here
    finally:
        for channel in here.channels.values():
            await channel.close()
        await server.stop(0)
