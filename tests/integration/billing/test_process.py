"""`python -m services.billing` in earnest: Kafka, PostgreSQL, gRPC, signals and kill -9."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from services.billing.verify import verify
from services.common.config import DEVELOPMENT_SECRET
from services.common.events import EventRecord
from services.common.grpc import GrpcChannel, Principal, TokenSigner
from services.common.kafka import KafkaProducer, TableReader, create_topics
from services.common.pb.mesh.billing.v1 import (
    billing_pb2,
    billing_pb2_grpc,
    grants_pb2,
    grants_pb2_grpc,
)
from services.common.pb.mesh.events.v1 import ledger_pb2
from services.common.topics import BALANCES, KEYS, USAGE
from tests.fixtures.engines import unused_port
from tests.fixtures.ledger import key_record, usage_record
from tests.fixtures.waiting import eventually, eventually_async, running

ACCOUNT = "acc_process"
OPERATOR = Principal("operator", ACCOUNT)


@dataclass
class Served:
    """A running process and how to reach it."""

    process: asyncio.subprocess.Process
    ops: str
    cli: GrpcChannel
    gateway: GrpcChannel

    async def ready(self) -> bool:
        try:
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://{self.ops}/readyz") as answer:
                    return answer.status == 200
        except aiohttp.ClientError:
            assert self.process.returncode is None, "billing ended by itself"
            return False

    async def credit(self, amount: int) -> None:
        stub = billing_pb2_grpc.BillingServiceStub(self.cli.channel())
        request = billing_pb2.CreditAccountRequest(
            amount_nanousd=amount, reason="", idempotency_key="first"
        )
        await self.cli.call(stub.CreditAccount, request, principal=OPERATOR)

    async def balance(self) -> tuple[int, int]:
        stub = billing_pb2_grpc.BillingServiceStub(self.cli.channel())
        request = billing_pb2.GetBalanceRequest()
        balance = await self.cli.call(stub.GetBalance, request, principal=OPERATOR)
        return balance.posted_nanousd, balance.granted_nanousd

    async def open(self, grant_id: str, needed: int) -> grants_pb2.OpenGrantResponse:
        stub = grants_pb2_grpc.GrantsServiceStub(self.gateway.channel())
        request = grants_pb2.OpenGrantRequest(
            grant_id=grant_id,
            worker_id="w1",
            account_id=ACCOUNT,
            key_id="key_1",
            key_version=1,
            needed_nanousd=needed,
        )
        return await self.gateway.call(stub.OpenGrant, request)

    async def close(self, grant_id: str, spent: int) -> None:
        stub = grants_pb2_grpc.GrantsServiceStub(self.gateway.channel())
        request = grants_pb2.CloseGrantRequest(
            grant_id=grant_id, worker_id="w1", account_id=ACCOUNT, spent_nanousd=spent
        )
        await self.gateway.call(stub.CloseGrant, request)


@asynccontextmanager
async def billing(dsn: str, bootstrap: str) -> AsyncIterator[Served]:
    """One billing process; killed at the end where it still runs."""
    grpc, ops = (f"127.0.0.1:{unused_port()}" for _ in range(2))
    environment = os.environ | {
        "MESH_ENV": "test",
        "MESH_KAFKA_BOOTSTRAP": bootstrap,
        "MESH_BILLING_DSN": dsn,
        "MESH_BILLING_GRPC_LISTEN": grpc,
        "MESH_BILLING_OPS_LISTEN": ops,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.billing", env=environment, stdout=asyncio.subprocess.DEVNULL
    )
    cli, gateway = (
        GrpcChannel(grpc, TokenSigner(DEVELOPMENT_SECRET, name)) for name in ("cli", "gateway")
    )
    try:
        served = Served(process, ops, cli, gateway)
        await eventually_async(served.ready, timeout_s=90)
        yield served
    finally:
        await cli.close()
        await gateway.close()
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture
async def log(own_kafka: str) -> AsyncIterator[KafkaProducer]:
    """A producer, on a broker that has the product's topics."""
    await create_topics(own_kafka)
    producer = KafkaProducer(own_kafka)
    await producer.start()
    yield producer
    await producer.stop()


async def send_usage(log: KafkaProducer, numbers: range, grant_id: str = "gr_1") -> None:
    for number in numbers:
        record = usage_record(f"use_{number}", account_id=ACCOUNT, grant_id=grant_id, tokens=10)
        await log.send(USAGE.name, ACCOUNT.encode(), record.to_bytes())


async def test_a_process_serves_settles_publishes_survives_a_kill_and_stops_in_order(
    billing_dsn: str, own_kafka: str, log: KafkaProducer, pool: asyncpg.Pool
) -> None:
    balances: dict[str, int] = {}

    def note(key: str, value: bytes | None) -> None:
        state = EventRecord.from_bytes(value).message()
        assert isinstance(state, ledger_pb2.BalanceState)
        balances[key] = state.posted_nanousd

    reader = TableReader(bootstrap=own_kafka, topic=BALANCES.name, on_message=note)
    state = key_record("key_1", account_id=ACCOUNT, cap_nanousd=5_000)
    await log.send(KEYS.name, b"hash", state.to_bytes())
    async with running(reader.run):
        async with billing(billing_dsn, own_kafka) as first:
            await first.credit(10_000)
            answer = await first.open("gr_1", 1_000)
            assert answer.grant.amount_nanousd == 1_000
            await send_usage(log, range(20))
            await eventually(lambda: balances.get(ACCOUNT) == 9_800)
            assert await first.balance() == (9_800, 800)
            await send_usage(log, range(10, 40))
            first.process.kill()
            await first.process.wait()
        await send_usage(log, range(30, 60))
        async with billing(billing_dsn, own_kafka) as second:
            await eventually(lambda: balances.get(ACCOUNT) == 9_400)
            await second.close("gr_1", 600)
            assert await second.balance() == (9_400, 0)
            second.process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(second.process.wait(), 30) == 0
    verified = await verify(pool, ACCOUNT)
    assert verified.is_sound, verified.findings
    assert verified.transactions == 61


async def test_a_process_without_settings_says_which_one_is_missing(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MESH_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.billing", env=environment, stderr=asyncio.subprocess.PIPE
    )
    _, told = await process.communicate()
    assert process.returncode == 2
    assert b"MESH_BILLING_DSN" in told
