"""A worker as a process: real Kafka, gRPC on loopback, SIGTERM, kill -9 and the start after it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import grpc
import orjson
import pytest

from services.common.clock import SystemClock
from services.common.config import DEVELOPMENT_SECRET
from services.common.events import EventRecord, record_of
from services.common.grpc import Access, GrpcServer, TokenVerifier
from services.common.grpc.auth import principal
from services.common.ids import AccountId, GrantId, KeyId, WorkerId, new_id
from services.common.kafka import KafkaProducer, TableReader, create_topics
from services.common.pb.mesh.billing.v1 import (
    billing_pb2,
    billing_pb2_grpc,
    grants_pb2,
    grants_pb2_grpc,
)
from services.common.pb.mesh.catalog.v1 import catalog_pb2 as catalog_api
from services.common.pb.mesh.catalog.v1 import catalog_pb2_grpc
from services.common.pb.mesh.events.v1 import accounts_pb2, catalog_pb2, usage_pb2
from services.common.pricing_pb import price_to_pb
from services.common.topics import KEYS, MODELS, USAGE
from services.gateway.adapters.grants_memory import MemoryGrants
from services.gateway.budget.ports import Grant, GrantRequest, GrantTotal
from tests.fixtures.engines import unused_port
from tests.fixtures.gateway import PRICE, USD
from tests.fixtures.upstream import Upstream, upstream_server
from tests.fixtures.waiting import eventually, eventually_async, running
from tests.fixtures.wire import QUESTION

SECRET = "rsk_01M82A2H74XNJT193FHB8YT26X"
ACCOUNT = AccountId("acc_process")
_GATEWAY = Access(frozenset({"gateway"}), "none")
_READER = Access(frozenset({"gateway"}), "any")


class Billing(grants_pb2_grpc.GrantsServiceServicer, billing_pb2_grpc.BillingServiceServicer):
    """Billing's wire over its in-memory twin."""

    def __init__(self, grants: MemoryGrants) -> None:
        self._grants = grants

    async def OpenGrant(
        self,
        request: grants_pb2.OpenGrantRequest,
        context: grpc.aio.ServicerContext[object, object],
    ) -> grants_pb2.OpenGrantResponse:
        found = await self._grants.open(
            GrantRequest(
                grant_id=GrantId(request.grant_id),
                account_id=AccountId(request.account_id),
                key_id=KeyId(request.key_id),
                key_version=request.key_version,
                needed_nanousd=request.needed_nanousd,
                least_nanousd=request.least_nanousd,
                wanted_nanousd=request.wanted_nanousd,
            ),
            timeout_s=1,
        )
        assert isinstance(found, Grant)
        return grants_pb2.OpenGrantResponse(
            grant=grants_pb2.Grant(
                grant_id=found.grant_id,
                amount_nanousd=found.amount_nanousd,
                expires_at_ms=found.expires_at_ms,
            )
        )

    async def CloseGrant(
        self,
        request: grants_pb2.CloseGrantRequest,
        context: grpc.aio.ServicerContext[object, object],
    ) -> grants_pb2.CloseGrantResponse:
        returned = await self._grants.close(
            GrantTotal(
                grant_id=GrantId(request.grant_id),
                worker_id=WorkerId(request.worker_id),
                account_id=AccountId(request.account_id),
                key_id=KeyId(""),
                spent_nanousd=request.spent_nanousd,
            ),
            timeout_s=1,
        )
        return grants_pb2.CloseGrantResponse(returned_nanousd=returned)

    async def GetBalance(
        self,
        request: billing_pb2.GetBalanceRequest,
        context: grpc.aio.ServicerContext[object, object],
    ) -> billing_pb2.Balance:
        assert principal().kind == "key"
        posted = self._grants.balances[AccountId(principal().account_id)]
        return billing_pb2.Balance(posted_nanousd=posted, granted_nanousd=0, updated_at_ms=1)


class Catalog(catalog_pb2_grpc.CatalogServiceServicer):
    """Knows one credential."""

    async def GetProviderCredential(
        self,
        request: catalog_api.GetProviderCredentialRequest,
        context: grpc.aio.ServicerContext[object, object],
    ) -> catalog_api.GetProviderCredentialResponse:
        return catalog_api.GetProviderCredentialResponse(
            credential="sk-from-catalog", credential_version=1
        )


@dataclass(slots=True)
class World:
    """What surrounds the process."""

    environment: dict[str, str]
    url: str
    ops_url: str
    upstream: Upstream
    grants: MemoryGrants
    events: dict[str, usage_pb2.UsageRecorded]

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "services.gateway"], env=self.environment)

    async def ready(self) -> bool:
        try:
            async with aiohttp.ClientSession() as session, session.get(self.ops_url) as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def refuses(self) -> bool:
        """True where nobody listens any more."""
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"{self.url}/healthz") as answer,
            ):
                await answer.read()
                return False
        except aiohttp.ClientConnectorError:
            return True

    async def ask(self, script: str, *, stream: bool = False) -> tuple[int, bytes]:
        body = {"model": f"vendor/{script}", "messages": QUESTION, "stream": stream}
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {SECRET}"}) as session,
            session.post(f"{self.url}/v1/chat/completions", data=orjson.dumps(body)) as answer,
        ):
            return answer.status, await answer.read()


async def _publish(bootstrap: str, base_url: str) -> None:
    """One key, one provider, two models."""
    key_hash = hashlib.sha256(SECRET.encode()).hexdigest()
    key = accounts_pb2.KeyState(
        key_hash=key_hash, key_id="key_1", account_id=ACCOUNT, user_id="usr_1", version=1
    )
    settings = catalog_pb2.ProviderSettings(
        name="Vendor", kind=catalog_pb2.PROVIDER_KIND_OPENAI_COMPATIBLE, base_url=base_url,
        enabled=True, credential_required=True,
    )  # fmt: skip
    provider = catalog_pb2.ProviderState(
        provider_id="prv_1", settings=settings, credential_version=1
    )
    rows = [(KEYS.name, key_hash, key), (MODELS.name, "provider:prv_1", provider)]
    for script in ("ok", "slow"):
        model = catalog_pb2.ModelState(
            model_id=f"vendor/{script}", prices=[price_to_pb(PRICE)], available=True
        )
        model.settings.provider_id = "prv_1"
        model.settings.upstream_model = f"script-{script}"
        model.settings.model_type = "text"
        model.settings.max_output_tokens = 100
        rows.append((MODELS.name, f"model:vendor/{script}", model))
    producer = KafkaProducer(bootstrap)
    await producer.start()
    for topic, name, message in rows:
        record = record_of(message, account_id=ACCOUNT, occurred_at_ms=1)
        await producer.send(topic, name.encode(), record.to_bytes())
    await producer.stop()


@asynccontextmanager
async def _grpc(grants: MemoryGrants) -> AsyncIterator[int]:
    # Methods that the gateway does not call are left out.
    billing = Billing(grants)  # type: ignore[abstract]  # see above
    catalog = Catalog()  # type: ignore[abstract]  # see above
    server = GrpcServer(
        listen="127.0.0.1:0",
        verifier=TokenVerifier(DEVELOPMENT_SECRET),
        policies={
            "/mesh.billing.v1.GrantsService/OpenGrant": _GATEWAY,
            "/mesh.billing.v1.GrantsService/CloseGrant": _GATEWAY,
            "/mesh.billing.v1.BillingService/GetBalance": _READER,
            "/mesh.catalog.v1.CatalogService/GetProviderCredential": _GATEWAY,
        },
    )
    grants_pb2_grpc.add_GrantsServiceServicer_to_server(billing, server.grpc)
    billing_pb2_grpc.add_BillingServiceServicer_to_server(billing, server.grpc)
    catalog_pb2_grpc.add_CatalogServiceServicer_to_server(catalog, server.grpc)
    await server.start()
    try:
        yield server.port
    finally:
        await server.stop(0.1)


@pytest.fixture
async def world(own_kafka: str, tmp_path: Path) -> AsyncIterator[World]:
    await create_topics(own_kafka)
    grants = MemoryGrants(clock=SystemClock())
    grants.balances[ACCOUNT] = 10 * USD
    listen, ops = unused_port(), unused_port()
    worker_id = new_id("wrk").replace("_", "-")
    events: dict[str, usage_pb2.UsageRecorded] = {}

    def note(_: str, value: bytes | None) -> None:
        event = EventRecord.from_bytes(value).message()
        assert isinstance(event, usage_pb2.UsageRecorded)
        if event.worker_id == worker_id:
            events[event.usage_id] = event

    reader = TableReader(bootstrap=own_kafka, topic=USAGE, on_message=note)
    async with upstream_server() as upstream, _grpc(grants) as port, running(reader.run):
        await _publish(own_kafka, upstream.base_url)
        address = f"127.0.0.1:{port}"
        yield World(
            environment={
                **os.environ,
                "MESH_ENV": "test",
                "MESH_KAFKA_BOOTSTRAP": own_kafka,
                "MESH_BILLING_ADDRESS": address,
                "MESH_USAGE_ADDRESS": address,
                "MESH_CATALOG_ADDRESS": address,
                "MESH_GATEWAY_LISTEN": f"127.0.0.1:{listen}",
                "MESH_GATEWAY_OPS_LISTEN": f"127.0.0.1:{ops}",
                "MESH_GATEWAY_WORKER_ID": worker_id,
                "MESH_GATEWAY_WAL_DIR": str(tmp_path / "wal"),
                "MESH_GATEWAY_GRACE_S": "5",
            },
            url=f"http://127.0.0.1:{listen}",
            ops_url=f"http://127.0.0.1:{ops}/readyz",
            upstream=upstream,
            grants=grants,
            events=events,
        )


async def test_a_worker_serves_drains_on_sigterm_and_gives_everything_back(world: World) -> None:
    process = world.start()
    try:
        await eventually_async(world.ready)
        status, body = await world.ask("ok")
        assert (status, orjson.loads(body)["usage"]["total_tokens"]) == (200, 27)
        assert world.upstream.headers[0]["Authorization"] == "Bearer sk-from-catalog"
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {SECRET}"}) as session,
            session.get(f"{world.url}/v1/balance") as answer,
        ):
            assert (await answer.json())["balance_usd"] == "10.00"
        slow = asyncio.create_task(world.ask("slow", stream=True))
        await eventually(lambda: world.upstream.in_flight == 1)
        process.send_signal(signal.SIGTERM)
        await eventually_async(world.refuses)
        world.upstream.go_on.set()
        assert (await slow)[1].endswith(b"data: [DONE]\n\n")
        assert await asyncio.to_thread(process.wait, 20) == 0
    finally:
        process.kill()
    await eventually(lambda: len(world.events) == 2)
    outcomes = {event.outcome for event in world.events.values()}
    assert outcomes == {usage_pb2.REQUEST_OUTCOME_SUCCESS}
    assert not world.grants.open_grants
    left = os.listdir(world.environment["MESH_GATEWAY_WAL_DIR"])
    assert not [name for name in left if name.endswith(".wal")]


async def test_what_a_killed_worker_had_in_flight_is_recorded_as_crashed(world: World) -> None:
    process = world.start()
    try:
        await eventually_async(world.ready)
        assert (await world.ask("ok"))[0] == 200
        slow = asyncio.create_task(world.ask("slow", stream=True))
        await eventually(lambda: world.upstream.in_flight == 1)
        process.kill()
        await asyncio.to_thread(process.wait, 10)
        with pytest.raises(aiohttp.ClientError):
            await slow
        process = world.start()
        await eventually_async(world.ready)
        await eventually(lambda: len(world.events) == 2)
        crashed = [e for e in world.events.values() if e.outcome != 1]
        assert [event.outcome for event in crashed] == [usage_pb2.REQUEST_OUTCOME_CRASHED]
        assert crashed[0].cost_nanousd == 0
        await eventually(lambda: not world.grants.open_grants)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == 0
    finally:
        process.kill()
