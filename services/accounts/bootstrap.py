"""The service put together, by plain calls."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from services.accounts.adapters.attempts_memory import MemoryAttempts
from services.accounts.adapters.health import DatabaseProbe, Publisher
from services.accounts.adapters.passwords_argon2 import Argon2Passwords
from services.accounts.adapters.secrets_system import SystemSecrets
from services.accounts.adapters.store_postgres import PostgresAccountsStore
from services.accounts.admin_key_views import AdminKeyViews
from services.accounts.config import AccountsSettings
from services.accounts.context import Context
from services.accounts.entrypoints.accounts_grpc import AccountsServicer
from services.accounts.entrypoints.admin_keys_grpc import AdminKeysServicer
from services.accounts.entrypoints.invitations_grpc import InvitationsServicer
from services.accounts.entrypoints.keys_grpc import KeysServicer
from services.accounts.entrypoints.limits_grpc import LimitsServicer
from services.accounts.entrypoints.policies import POLICIES
from services.accounts.views import AccountsViews
from services.common.clock import Clock, SystemClock
from services.common.grpc import GrpcServer, TokenVerifier
from services.common.kafka import LogProducer
from services.common.ops import OpsServer
from services.common.pb.mesh.accounts.v1.accounts_pb2_grpc import (
    add_AccountsServiceServicer_to_server,
)
from services.common.pb.mesh.accounts.v1.admin_keys_pb2_grpc import (
    add_AdminKeysServiceServicer_to_server,
)
from services.common.pb.mesh.accounts.v1.invitations_pb2_grpc import (
    add_InvitationsServiceServicer_to_server,
)
from services.common.pb.mesh.accounts.v1.keys_pb2_grpc import add_KeysServiceServicer_to_server
from services.common.pb.mesh.accounts.v1.limits_pb2_grpc import add_LimitsServiceServicer_to_server
from services.common.postgres import EventStore, OutboxRelay
from services.common.runtime import Component

SERVICES = (
    "mesh.accounts.v1.AccountsService",
    "mesh.accounts.v1.KeysService",
    "mesh.accounts.v1.LimitsService",
    "mesh.accounts.v1.AdminKeysService",
    "mesh.accounts.v1.InvitationsService",
)


@dataclass(frozen=True, slots=True)
class AccountsService:
    """The parts of a running service; `components` are in the order in which they start."""

    server: GrpcServer
    ops: OpsServer
    publisher: Publisher
    components: tuple[Component, ...]


def bootstrap(
    settings: AccountsSettings,
    pool: asyncpg.Pool,
    producer: LogProducer,
    *,
    clock: Clock | None = None,
) -> AccountsService:
    """The service on a pool whose database is migrated. Starts nothing."""
    clock = clock or SystemClock()
    passwords = _passwords(settings)
    context = Context(
        store=PostgresAccountsStore(EventStore(pool), clock),
        passwords=passwords,
        attempts=MemoryAttempts(
            clock,
            attempts_max=settings.attempts_max,
            window_s=settings.attempts_window_s,
            subjects_max=settings.attempts_subjects_max,
        ),
        secrets=SystemSecrets(clock),
        clock=clock,
        session_lifetime_ms=settings.session_lifetime_s * 1_000,
        invitation_lifetime_ms=settings.invitation_lifetime_s * 1_000,
    )
    server = _server(settings, context, AccountsViews(pool))
    publisher = Publisher(producer, OutboxRelay(pool, producer))
    probe = DatabaseProbe(pool, clock)
    checks = {
        "database": lambda: probe.answers,
        "event_log": lambda: publisher.connected_once,
    }
    ops = OpsServer(settings.ops_listen, checks)

    async def stop_server() -> None:
        ops.drain()
        await server.stop(settings.drain_s)

    async def close_passwords() -> None:
        passwords.close()

    components = (
        Component("operations", ops.start, ops.run, ops.stop),
        Component("passwords", stop=close_passwords),
        Component("database probe", run=probe.run),
        Component("publisher", run=publisher.run, stop=publisher.drain),
        Component("gRPC", server.start, server.run, stop_server),
    )
    return AccountsService(server, ops, publisher, components)


def _passwords(settings: AccountsSettings) -> Argon2Passwords:
    return Argon2Passwords(
        time_cost=settings.argon2_time_cost,
        memory_kib=settings.argon2_memory_kib,
        threads=settings.argon2_threads,
        waiting_max=settings.argon2_waiting_max,
    )


def _server(settings: AccountsSettings, context: Context, views: AccountsViews) -> GrpcServer:
    server = GrpcServer(
        listen=settings.grpc_listen,
        verifier=TokenVerifier(settings.service_secret.get_secret_value()),
        policies=POLICIES,
    )
    add_AccountsServiceServicer_to_server(AccountsServicer(context, views), server.grpc)
    add_KeysServiceServicer_to_server(KeysServicer(context, views), server.grpc)
    add_LimitsServiceServicer_to_server(LimitsServicer(context, views), server.grpc)
    add_InvitationsServiceServicer_to_server(InvitationsServicer(context, views), server.grpc)
    admin_keys = AdminKeysServicer(context, AdminKeyViews(views))
    add_AdminKeysServiceServicer_to_server(admin_keys, server.grpc)
    server.reflect(*SERVICES)
    return server
