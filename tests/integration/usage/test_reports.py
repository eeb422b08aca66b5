"""What the gateway and the command line are told of the log, over the wire."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from services.cli.context import SERVICES
from services.common.config import DEVELOPMENT_SECRET
from services.common.errors import InvalidArgument
from services.common.security.tokens import Principal
from services.gateway.account_reads import UsageQuery
from services.gateway.adapters.account_reads_grpc import GrpcRequestLog
from tests.fixtures.waiting import eventually, eventually_async
from tests.integration.usage.test_service import served
from tests.unit.usage.builders import START_MS

KEY = Principal("key", "acc_1", "usr_1", "key_1")
PERSON = Principal("user", "acc_1", "usr_1", role="viewer")
LAST_REQUEST = UsageQuery(since_ms=START_MS - 60_000, until_ms=START_MS + 86_400_000)


async def test_the_gateway_is_told_of_its_keys_requests_as_a_whole(
    chdb_dsn: str, new_database: str
) -> None:
    async with served(chdb_dsn, new_database, service="gateway") as up:
        await eventually(lambda: not up.service.ops.not_ready())
        log = GrpcRequestLog(up.channel)
        up.record(1, key_id="key_1")
        up.record(2, key_id="key_1", model_id="m2", outcome=2, http_status=402, cost_nanousd=0)
        up.record(3, key_id="key_2")

        async def has_both() -> bool:
            return (await log.report(KEY, UsageQuery())).total.requests == 2

        await eventually_async(has_both)
        report = await log.report(KEY, UsageQuery())
        assert [(model, sums.requests) for model, sums in report.by_model] == [
            ("local/smol", 1),
            ("m2", 1),
        ]
        assert report.total.successful_requests == 1
        assert report.total.cost_nanousd == 12_345
        assert (await log.report(KEY, UsageQuery(key_ids=["key_2"]))).total.requests == 0
        assert (await log.report(PERSON, UsageQuery())).total.requests == 3
        with pytest.raises(InvalidArgument, match="cursor"):
            await log.requests(KEY, UsageQuery(cursor="of nobody"))
        page = await log.requests(KEY, UsageQuery(limit=1))
        assert page.next_cursor
        rest = await log.requests(KEY, UsageQuery(cursor=page.next_cursor))
        assert (len(rest.rows), rest.next_cursor) == (page.total - 1, "")
        attempts = await log.attempts(KEY, "use_1")
        assert [(one.number, one.http_status, one.served) for one in attempts] == [(1, 200, True)]
        buckets = await log.spend_trend(KEY, LAST_REQUEST, "day")
        assert [bucket.cost_nanousd for bucket in buckets] == [12_345, 0]
        file = b"".join([piece async for piece in log.export(KEY, UsageQuery(), "csv")])
        assert file.decode().count("\n") == 3


async def test_the_command_line_finds_what_the_ledger_does_not_have(
    chdb_dsn: str, new_database: str, tmp_path: Path
) -> None:

    async with served(chdb_dsn, new_database, service="cli") as up:
        await eventually(lambda: not up.service.ops.not_ready())
        up.record(1)

        async def is_stored() -> bool:
            return len(await up.listed()) == 1

        await eventually_async(is_stored)
        environment = os.environ | {
            "MESH_DATA_DIR": str(tmp_path),
            "MESH_SERVICE_SECRET": DEVELOPMENT_SECRET,
        }
        # Nothing but the usage service is asked.
        for name in SERVICES:
            environment[f"MESH_{name.upper()}_ADDRESS"] = f"127.0.0.1:{up.service.server.port}"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.cli", "usage", "reconcile",
            "--since", "2026-01-31T00:00:00", "--until", "2026-02-01T00:00:00", "--json",
            env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, errors = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 1, errors.decode()
        (found,) = [json.loads(line) for line in out.decode().splitlines()]
        assert (found["account_id"], found["log_requests"]) == ("acc_1", 1)
        assert (found["only_in_log"], found["ledger_requests"]) == ("req_1", 0)
        assert "1 differences" in errors.decode()
