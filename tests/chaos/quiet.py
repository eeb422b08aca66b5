"""Quiescence: every process is up, nothing is under way, and every reader has read everything."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
import asyncpg
from aiokafka.errors import KafkaError

from deploy.local.layout import Ports
from services.common.errors import AppError
from services.common.pb.mesh.usage.v1 import usage_pb2
from services.common.topics import KEYS, USAGE
from tests.chaos.facts import cursors_of, ends_of
from tests.e2e.operator import Account, Operator
from tests.e2e.stack import Stack, read_env

LOOK_EVERY_S = 0.5
EQUAL_LOOKS = 4
_UNDER_WAY = re.compile(
    r"^mesh_gateway_(?:journal_open|grants_open|grants_returning|holds) (\S+)$", re.MULTILINE
)
_HELD = "SELECT coalesce(sum(granted_nanousd), 0) FROM wallet"
_OUTBOX = "SELECT count(*) FROM outbox"


@dataclass(frozen=True, slots=True)
class Quiet:
    """Looks at a stack until nothing moves any more."""

    stack: Stack
    operator: Operator
    customers: Sequence[Account]

    async def wait(self, *, within_s: float) -> float:
        """How long it took, in seconds. Raises TimeoutError with what is still moving."""
        started = time.monotonic()
        before: object = None
        equal = 0
        while equal < EQUAL_LOOKS:
            look = await self._look()
            quiet = not isinstance(look, str)
            equal = equal + 1 if quiet and look == before else 0
            if time.monotonic() - started > within_s:
                raise TimeoutError(f"not quiet after {within_s:.0f} s: {look}")
            before = look
            await asyncio.sleep(LOOK_EVERY_S)
        return time.monotonic() - started

    async def _look(self) -> object:
        """Figures that must not change; a text says what is not quiet."""
        try:
            return await self._figures()
        except (AppError, KafkaError, aiohttp.ClientError, OSError, asyncpg.PostgresError) as error:
            return f"{type(error).__name__}: {error}"

    async def _figures(self) -> object:
        busy = await self._busy_process()
        if busy:
            return busy
        addresses = read_env(self.stack.data_dir / "stack.env")
        ends = await ends_of(addresses["MESH_KAFKA_BOOTSTRAP"], [USAGE, KEYS])
        connection = await asyncpg.connect(addresses["MESH_BILLING_DSN"])
        try:
            cursors = await cursors_of(connection)
            held = int(await connection.fetchval(_HELD))
            outbox = int(await connection.fetchval(_OUTBOX))
        finally:
            await connection.close()
        if held or outbox:
            return f"{held} nano-dollars are held, {outbox} messages wait in the outbox"
        late = {place: end for place, end in ends.items() if cursors.get(place, 0) != end}
        if late:
            return f"billing is at {cursors}, the log at {late}"
        return ends, await self.logged()

    async def _busy_process(self) -> str:
        ops = {
            process_of(name): address
            for name, address in read_env(self.stack.data_dir / "stack.env").items()
            if name.endswith("_OPS_LISTEN")
        }
        ops |= {
            f"gateway-{index}": f"127.0.0.1:{gateway_ops_port(self.stack) + index}"
            for index in range(self.stack.gateway_workers)
        }
        missing = ops.keys() - self.stack.pids().keys()
        if missing:
            return f"not running: {missing}"
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            for name, address in ops.items():
                async with session.get(f"http://{address}/readyz") as answer:
                    if answer.status != 200:
                        return f"{name} is not ready: {await answer.text()}"
                if name.startswith("gateway"):
                    async with session.get(f"http://{address}/metrics") as answer:
                        under_way = _UNDER_WAY.findall(await answer.text())
                    if len(under_way) != 4 or any(float(value) for value in under_way):
                        return f"{name} has something under way: {under_way}"
        return ""

    async def logged(self) -> tuple[int, ...]:
        """How many requests of each account are in the log. Raises AppError."""
        request = usage_pb2.SummarizeUsageRequest()
        answers = [
            await self.operator.call("usage", "SummarizeUsage", request, one.account_id)
            for one in self.customers
        ]
        return tuple(int(answer.total.requests) for answer in answers)


def process_of(variable: str) -> str:
    """`usage-live` of MESH_USAGE_LIVE_OPS_LISTEN."""
    name = variable.removesuffix("_OPS_LISTEN").removeprefix("MESH_")
    return name.lower().replace("_", "-")


def gateway_ops_port(stack: Stack) -> int:
    """The first of the workers' own ports: the last of the stack's."""
    return Ports.counted_from(stack.first_port).gateway_ops
