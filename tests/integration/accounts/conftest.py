"""The accounts service on a real PostgreSQL, called over real gRPC on loopback."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from services.accounts.bootstrap import bootstrap
from services.accounts.config import AccountsSettings
from services.common.clock import FakeClock
from services.common.config import DEVELOPMENT_SECRET, HostPort
from services.common.grpc import GrpcChannel, Principal, TokenSigner
from services.common.kafka.memory import MemoryLog, MemoryProducer
from services.common.pb.mesh.accounts.v1 import accounts_pb2, admin_keys_pb2, keys_pb2
from services.common.pb.mesh.accounts.v1.accounts_pb2_grpc import AccountsServiceStub
from services.common.pb.mesh.accounts.v1.admin_keys_pb2_grpc import AdminKeysServiceStub
from services.common.pb.mesh.accounts.v1.invitations_pb2_grpc import InvitationsServiceStub
from services.common.pb.mesh.accounts.v1.keys_pb2_grpc import KeysServiceStub
from services.common.pb.mesh.accounts.v1.limits_pb2_grpc import LimitsServiceStub
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import accounts_pb2 as events_pb2
from services.common.postgres import migrate, open_pool
from tests.fixtures.waiting import running

PASSWORD = "correct horse battery"
ROLE_NAMES = ("viewer", "developer", "admin", "owner")
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Person:
    """Someone who is logged in."""

    token: str
    principal: Principal
    email: str
    session_id: str


@dataclass(frozen=True, slots=True)
class Service:
    """A running service with clients to it; every test makes its own accounts in it."""

    pool: asyncpg.Pool
    log: MemoryLog
    clock: FakeClock
    channel: GrpcChannel
    accounts: Any  # Any: the generated stub types are those of synchronous calls
    keys: Any  # Any: as above
    limits: Any  # Any: as above
    invitations: Any  # Any: as above
    admin_keys: Any  # Any: as above

    async def call(
        self,
        method: Any,  # Any: a method of a stub
        request: Any,  # Any: its request
        principal: Principal | None = None,
    ) -> Any:  # Any: its answer
        return await self.channel.call(method, request, principal=principal, timeout_s=20.0)

    async def sign_up(self, email: str = "") -> Person:
        """A new person with an account of their own."""
        email = email or f"person{next(_numbers)}@example.com"
        request = accounts_pb2.SignUpRequest(email=email, password=PASSWORD, name="Ada")
        return person_of(await self.call(self.accounts.SignUp, request))

    async def log_in(self, email: str, password: str = PASSWORD) -> Person:
        request = accounts_pb2.LogInRequest(email=email, password=password)
        return person_of(await self.call(self.accounts.LogIn, request))

    async def add(self, owner: Person, role: str) -> Person:
        """A new member of the owner's account with this role, logged in."""
        email = f"person{next(_numbers)}@example.com"
        request = accounts_pb2.AddMemberRequest(
            email=email, name="Bob", role=role_number(role), initial_password=PASSWORD
        )
        await self.call(self.accounts.AddMember, request, owner.principal)
        return await self.log_in(email)

    async def create_admin_key(
        self,
        person: Person,
        *,
        permissions: tuple[str, ...] = ("keys:read", "keys:write"),
        scope: str = "org",
    ) -> admin_keys_pb2.AdminKeySecret:
        request = admin_keys_pb2.CreateAdminKeyRequest(
            label="ci",
            permissions=permissions,
            scope=scope,
            expires_at_ms=self.clock.now_ms() + 86_400_000,
        )
        answer = await self.call(self.admin_keys.CreateAdminKey, request, person.principal)
        assert isinstance(answer, admin_keys_pb2.AdminKeySecret)
        return answer

    async def create_key(self, person: Person, label: str = "web") -> keys_pb2.CreateKeyResponse:
        settings = events_pb2.KeySettings(label=label)
        request = keys_pb2.CreateKeyRequest(settings=settings)
        answer = await self.call(self.keys.CreateKey, request, person.principal)
        assert isinstance(answer, keys_pb2.CreateKeyResponse)
        return answer


def role_number(name: str) -> common_pb2.Role.ValueType:
    return common_pb2.Role.Value(f"ROLE_{name.upper()}")


def person_of(answer: accounts_pb2.SessionResponse) -> Person:
    found = answer.principal
    principal = Principal(
        "user", found.account_id, found.user_id, role=ROLE_NAMES[int(found.role) - 1]
    )
    return Person(answer.session_token, principal, found.email, found.session_id)


def operator(account_id: str = "") -> Principal:
    return Principal("operator", account_id)


@pytest.fixture(scope="session")
async def service(postgres_dsn: Callable[[str], str]) -> AsyncIterator[Service]:
    """One service for all tests of the folder, with cheap password hashes."""
    settings = AccountsSettings(
        dsn=SecretStr(postgres_dsn("accounts")),
        grpc_listen=HostPort("127.0.0.1:0"),
        ops_listen=HostPort("127.0.0.1:0"),
        argon2_time_cost=1,
        argon2_memory_kib=64,
    )  # fmt: skip
    pool = await open_pool(settings.dsn.get_secret_value(), size_max=10)
    await migrate(pool, "services.accounts")
    log, clock = MemoryLog(), FakeClock()
    parts = bootstrap(settings, pool, MemoryProducer(log), clock=clock)
    await parts.server.start()
    address = f"127.0.0.1:{parts.server.port}"
    channel = GrpcChannel(address, TokenSigner(DEVELOPMENT_SECRET, "dashboard"))
    async with running(parts.publisher.run):
        yield Service(
            pool=pool,
            log=log,
            clock=clock,
            channel=channel,
            accounts=AccountsServiceStub(channel.channel()),
            keys=KeysServiceStub(channel.channel()),
            limits=LimitsServiceStub(channel.channel()),
            invitations=InvitationsServiceStub(channel.channel()),
            admin_keys=AdminKeysServiceStub(channel.channel()),
        )
    await channel.close()
    await parts.server.stop(0.0)
    await pool.close()
