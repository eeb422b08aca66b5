"""`python -m services.usage` against Apache Kafka: killed in the middle, started again, ended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import urllib.error
import urllib.request
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.common.config import DEVELOPMENT_SECRET
from services.common.errors import Unavailable
from services.common.grpc import GrpcChannel, Principal, TokenSigner
from services.common.ids import new_id
from services.common.kafka import KafkaProducer, create_topics
from services.common.pb.mesh.usage.v1 import usage_pb2, usage_pb2_grpc
from services.common.topics import LEDGER, USAGE, USAGE_DEAD
from tests.fixtures.engines import unused_port
from tests.fixtures.waiting import eventually_async
from tests.unit.usage.builders import envelope, usage

EVENTS = 1_500
# Every tenth event is produced twice, as after a gateway's crash.
TWICE = 10


class UsageProcess:
    """The service as the operator starts it; the same store, ports and group at each start."""

    def __init__(self, folder: Path, bootstrap: str) -> None:
        self.grpc, self.ops = (f"127.0.0.1:{unused_port()}" for _ in range(2))
        self._environment = os.environ | {
            "MESH_KAFKA_BOOTSTRAP": bootstrap,
            "MESH_USAGE_CLICKHOUSE_DSN": f"chdb://{folder}/log",
            "MESH_USAGE_GRPC_LISTEN": self.grpc,
            "MESH_USAGE_OPS_LISTEN": self.ops,
            "MESH_USAGE_SINK_GROUP": new_id("group"),
            "MESH_USAGE_SINK_BATCH_MAX": "100",
        }
        self.process: Process | None = None

    async def start(self) -> None:
        """Starts it and waits until it says that it is ready."""
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.usage", env=self._environment
        )
        await eventually_async(self._is_ready, timeout_s=60)

    async def end(self, number: signal.Signals) -> int:
        """Sends the signal; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        async with asyncio.timeout(30):
            return await self.process.wait()

    async def accepted_losses(self) -> object:
        """What `mesh usage accept-loss` gives up, while the service is stopped."""
        command = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.usage.accept_loss",
            env=self._environment, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(60):
            out, _ = await command.communicate()
        assert command.returncode == 0
        return json.loads(out)

    async def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.returncode is None, "the service ended by itself"
        return await asyncio.to_thread(self._ask)

    def _ask(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.ops}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


@asynccontextmanager
async def producing(bootstrap: str, account_id: str) -> AsyncIterator[asyncio.Task[None]]:
    """Writes the events beside the block, some of them twice."""
    producer = KafkaProducer(bootstrap)
    await producer.start()

    async def produce() -> None:
        for number in range(EVENTS):
            event = usage(usage_id=f"use_{number:06d}", account_id=account_id)
            for _ in range(1 + (number % TWICE == 0)):
                await producer.send(USAGE.name, account_id.encode(), envelope(event))

    task = asyncio.create_task(produce())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await producer.stop()


@pytest.mark.timeout(240)
async def test_a_killed_service_comes_back_and_logs_each_request_once(
    own_kafka: str, tmp_path: Path
) -> None:
    await create_topics(own_kafka, [USAGE, LEDGER, USAGE_DEAD])
    account_id = new_id("acc")
    service = UsageProcess(tmp_path, own_kafka)
    channel = GrpcChannel(service.grpc, TokenSigner(DEVELOPMENT_SECRET, "dashboard"))
    stub = usage_pb2_grpc.UsageServiceStub(channel.channel())
    owner = Principal("user", account_id, "usr_1", role="owner")

    async def logged() -> int:
        try:
            summary = await channel.call(
                stub.SummarizeUsage, usage_pb2.SummarizeUsageRequest(), principal=owner
            )
        except Unavailable:
            return 0
        return summary.total.requests

    async def logged_more_than(count: int) -> bool:
        return await logged() > count

    await service.start()
    try:
        async with producing(own_kafka, account_id) as produced:
            await eventually_async(lambda: logged_more_than(100))
            assert await service.end(signal.SIGKILL) == -signal.SIGKILL
            await service.start()
            await produced
            await eventually_async(lambda: logged_more_than(EVENTS - 1), timeout_s=60)
        assert await logged() == EVENTS
    finally:
        code = await service.end(signal.SIGTERM)
        await channel.close()
    assert code == 0
    assert await service.accepted_losses() == {"lost": []}
