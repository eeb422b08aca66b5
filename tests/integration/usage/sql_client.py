"""A running endpoint for analysts, and requests to it as `curl` makes them."""

from __future__ import annotations

import asyncio
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from services.common.config import DEVELOPMENT_SECRET
from services.common.grpc import GrpcChannel, Principal, TokenSigner
from services.common.pb.mesh.usage.v1 import analysts_pb2, analysts_pb2_grpc
from tests.fixtures.engines import unused_port
from tests.fixtures.waiting import eventually_async
from tests.integration.usage.sql_process import REQUESTS

OWNER = Principal("user", "acc_1", "usr_1", role="owner")


@dataclass(frozen=True, slots=True)
class SqlAnswer:
    """Status, body and headers (in lower case)."""

    status: int
    text: str
    headers: dict[str, str]

    @property
    def code(self) -> int:
        """ClickHouse's code of the error; 0 where there is none."""
        return int(self.headers.get("x-clickhouse-exception-code", "0"))


@dataclass(frozen=True, slots=True)
class SqlEndpoint:
    """Where analysts query, and the API that makes them."""

    port: int
    channel: GrpcChannel
    stub: analysts_pb2_grpc.AnalystServiceAsyncStub
    # Of an analyst of acc_1.
    token: str

    def ask(
        self, sql: str, *, token: str | None = None, parameters: Mapping[str, str] | None = None
    ) -> SqlAnswer:
        """One statement, in the address, with more of what an address may have."""
        fields = {"query": sql} | dict(parameters or {})
        url = f"http://127.0.0.1:{self.port}/?{urllib.parse.urlencode(fields)}"
        request = urllib.request.Request(url)
        request.add_header("X-ClickHouse-User", "analyst")
        request.add_header("X-ClickHouse-Key", self.token if token is None else token)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return _answer(answer.status, answer.read(), answer.headers.items())
        except urllib.error.HTTPError as error:
            with error:
                return _answer(error.code, error.read(), error.headers.items())

    async def create(self, name: str, principal: Principal = OWNER) -> tuple[str, str]:
        """Id and token of a new analyst."""
        answer = await self.channel.call(
            self.stub.CreateAnalyst,
            analysts_pb2.CreateAnalystRequest(name=name),
            principal=principal,
        )
        return answer.analyst.analyst_id, answer.plain_token


def _answer(status: int, body: bytes, headers: list[tuple[str, str]]) -> SqlAnswer:
    lower = {name.lower(): value for name, value in headers}
    return SqlAnswer(status, body.decode(errors="replace"), lower)


@asynccontextmanager
async def sql_endpoint(folder: Path) -> AsyncIterator[SqlEndpoint]:
    """Starts the process and waits until the log is filled."""
    grpc, ops, sql = (unused_port() for _ in range(3))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.integration.usage.sql_process",
        str(folder), str(grpc), str(ops), str(sql),
    )  # fmt: skip
    signer = TokenSigner(DEVELOPMENT_SECRET, "dashboard")
    channel = GrpcChannel(f"127.0.0.1:{grpc}", signer, default_timeout_s=20)
    try:
        stub = analysts_pb2_grpc.AnalystServiceStub(channel.channel())
        await eventually_async(lambda: _is_ready(process, ops))
        found = SqlEndpoint(sql, channel, stub, "")
        _, token = await found.create("reports")
        found = SqlEndpoint(sql, channel, stub, token)

        async def is_filled() -> bool:
            answer = await asyncio.to_thread(found.ask, "SELECT count() FROM requests")
            return answer.text.strip() == str(REQUESTS)

        await eventually_async(is_filled)
        yield found
    finally:
        await channel.close()
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _is_ready(process: asyncio.subprocess.Process, port: int) -> bool:
    assert process.returncode is None, "the process ended by itself"

    def ask() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2):
                return True
        except OSError:
            return False

    return await asyncio.to_thread(ask)
