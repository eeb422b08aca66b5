"""Composition: settings to a running service, by plain calls."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from services.common.clock import Clock, SystemClock
from services.common.errors import AppError
from services.common.grpc import GrpcServer, TokenVerifier
from services.common.pb.mesh.jobs.v1 import jobs_pb2_grpc
from services.common.telemetry import get_logger
from services.jobs.adapters.store_postgres import PostgresJobs
from services.jobs.config import JobsSettings
from services.jobs.entrypoints.grpc_jobs import POLICIES, SERVICE, JobServicer
from services.jobs.ports import JobStore

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Jobs:
    """The parts of the service that share one pool."""

    settings: JobsSettings
    store: JobStore
    clock: Clock

    def grpc_server(self) -> GrpcServer:
        """The server with the servicer in it, not yet started."""
        verifier = TokenVerifier(self.settings.service_secret.get_secret_value())
        server = GrpcServer(listen=self.settings.grpc_listen, verifier=verifier, policies=POLICIES)
        jobs_pb2_grpc.add_JobServiceServicer_to_server(
            JobServicer(self.store, self.clock), server.grpc
        )
        server.reflect(SERVICE)
        return server

    async def sweep(self) -> None:
        """Gives up and forgets what its time has come for, until cancelled."""
        while True:
            try:
                await self.store.sweep(self.clock.now_ms())
            except AppError as error:
                # The database is away: the next round finds the same.
                _log.warning("jobs could not be swept", error=error.message)
            await self.clock.sleep(self.settings.sweep_every_s)


def compose(settings: JobsSettings, pool: asyncpg.Pool, clock: Clock | None = None) -> Jobs:
    """The service over an open pool whose migrations are applied."""
    return Jobs(settings, PostgresJobs(pool), clock or SystemClock())
