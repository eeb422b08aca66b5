"""The service as a process of its own, with a real PostgreSQL and a real Kafka."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from services.common.config import DEVELOPMENT_SECRET
from services.common.events import EventRecord
from services.common.grpc import GrpcChannel, Principal, TokenSigner
from services.common.kafka import TableReader, create_topics
from services.common.pb.mesh.accounts.v1 import accounts_pb2, keys_pb2
from services.common.pb.mesh.accounts.v1.accounts_pb2_grpc import AccountsServiceStub
from services.common.pb.mesh.accounts.v1.keys_pb2_grpc import KeysServiceStub
from services.common.pb.mesh.events.v1.accounts_pb2 import KeySettings, KeyState
from services.common.topics import ACCOUNTS, KEYS
from tests.fixtures.engines import unused_port
from tests.fixtures.waiting import eventually, eventually_async, running
from tests.integration.accounts.conftest import PASSWORD, person_of


@dataclass(frozen=True, slots=True)
class Gateway:
    """What a gateway would know of keys."""

    states: dict[str, KeyState] = field(default_factory=dict)

    def take(self, key: str, value: bytes | None) -> None:
        if value is None:
            self.states.pop(key, None)
            return
        state = EventRecord.from_bytes(value).message()
        assert isinstance(state, KeyState)
        self.states[key] = state


@asynccontextmanager
async def process(**variables: str) -> AsyncIterator[asyncio.subprocess.Process]:
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.accounts", env={**os.environ, **variables}
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


async def readiness(port: int) -> tuple[int, list[str]]:
    """Status and what is not ready; (0, []) while nobody listens."""
    try:
        async with aiohttp.ClientSession() as http:
            async with http.get(f"http://127.0.0.1:{port}/readyz") as answer:
                return answer.status, (await answer.json())["not_ready"]
    except aiohttp.ClientConnectionError:
        return 0, []


async def is_ready(port: int) -> bool:
    return await readiness(port) == (200, [])


async def test_the_process_serves_publishes_and_stops_in_order(
    postgres_dsn: Callable[[str], str], kafka_bootstrap: str
) -> None:
    await create_topics(kafka_bootstrap, [ACCOUNTS, KEYS])
    grpc_port, ops_port = unused_port(), unused_port()
    gateway = Gateway()
    reader = TableReader(bootstrap=kafka_bootstrap, topic=KEYS, on_message=gateway.take)
    channel = GrpcChannel(f"127.0.0.1:{grpc_port}", TokenSigner(DEVELOPMENT_SECRET, "dashboard"))
    accounts, keys = AccountsServiceStub(channel.channel()), KeysServiceStub(channel.channel())
    async with (
        process(
            MESH_ACCOUNTS_DSN=postgres_dsn("accounts"),
            MESH_ACCOUNTS_GRPC_LISTEN=f"127.0.0.1:{grpc_port}",
            MESH_ACCOUNTS_OPS_LISTEN=f"127.0.0.1:{ops_port}",
            MESH_KAFKA_BOOTSTRAP=kafka_bootstrap,
            MESH_SERVICE_SECRET=DEVELOPMENT_SECRET,
        ) as service,
        running(reader.run),
    ):
        await eventually_async(lambda: is_ready(ops_port), timeout_s=60)
        request = accounts_pb2.SignUpRequest(email="ada@example.com", password=PASSWORD)
        ada = person_of(await channel.call(accounts.SignUp, request, timeout_s=20.0))
        create = keys_pb2.CreateKeyRequest(settings=KeySettings(label="web"))
        created = await channel.call(keys.CreateKey, create, principal=ada.principal)
        key_hash = hashlib.sha256(created.plain_key.encode()).hexdigest()
        await eventually(lambda: key_hash in gateway.states)
        suspend = accounts_pb2.SuspendAccountRequest(reason="unpaid")
        operator = Principal("operator", ada.principal.account_id)
        await channel.call(accounts.SuspendAccount, suspend, principal=operator)
        await eventually(lambda: gateway.states[key_hash].account_suspended, timeout_s=1.0)
        service.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(service.wait(), 30) == 0
    await channel.close()


async def test_without_the_event_log_the_service_works_and_says_that_it_is_not_ready(
    postgres_dsn: Callable[[str], str],
) -> None:
    grpc_port, ops_port = unused_port(), unused_port()
    channel = GrpcChannel(f"127.0.0.1:{grpc_port}", TokenSigner(DEVELOPMENT_SECRET, "dashboard"))
    accounts = AccountsServiceStub(channel.channel())
    async with process(
        MESH_ACCOUNTS_DSN=postgres_dsn("accounts"),
        MESH_ACCOUNTS_GRPC_LISTEN=f"127.0.0.1:{grpc_port}",
        MESH_ACCOUNTS_OPS_LISTEN=f"127.0.0.1:{ops_port}",
        MESH_KAFKA_BOOTSTRAP=f"127.0.0.1:{unused_port()}",
        MESH_SERVICE_SECRET=DEVELOPMENT_SECRET,
    ) as service:

        async def only_the_log_is_missing() -> bool:
            return await readiness(ops_port) == (503, ["event_log"])

        await eventually_async(only_the_log_is_missing, timeout_s=60)
        request = accounts_pb2.SignUpRequest(email="ada@example.com", password=PASSWORD)
        await eventually_async(lambda: signs_up(channel, accounts, request))
        service.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(service.wait(), 30) == 0
    await channel.close()


async def signs_up(
    channel: GrpcChannel, accounts: AccountsServiceStub, request: accounts_pb2.SignUpRequest
) -> bool:
    return bool((await channel.call(accounts.SignUp, request, timeout_s=20.0)).session_token)


async def test_bad_settings_are_named_and_end_the_process() -> None:
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.accounts",
        env={"PATH": os.environ["PATH"], "MESH_ACCOUNTS_GRPC_LISTEN": "nonsense"},
        stderr=asyncio.subprocess.PIPE,
    )
    _, stderr = await started.communicate()
    assert started.returncode == 2
    assert b"MESH_ACCOUNTS_DSN" in stderr
    assert b"MESH_ACCOUNTS_GRPC_LISTEN" in stderr
