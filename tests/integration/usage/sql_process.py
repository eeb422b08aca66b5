"""The usage service with an endpoint for analysts, in a process of its own because the engine's
access control is set once a process: `python -m tests.integration.usage.sql_process FOLDER
GRPC_PORT OPS_PORT SQL_PORT`.

Its log has REQUESTS requests of each of two accounts, and the ledger's transactions of one.
"""

from __future__ import annotations

import sys

from pydantic import SecretStr

from services.common.config import HostPort
from services.common.kafka.memory import MemoryLog, MemoryProducer, MemorySource
from services.common.runtime import run, serve
from services.common.topics import LEDGER, USAGE
from services.usage.bootstrap import build
from services.usage.config import UsageSettings
from tests.unit.usage.builders import START_MS, envelope, usage

REQUESTS = 40
ACCOUNTS = ("acc_1", "acc_2")


def filled_log() -> MemoryLog:
    """The events, the same in each process."""
    log = MemoryLog()
    for account_id in ACCOUNTS:
        for number in range(REQUESTS):
            event = usage(
                usage_id=f"use_{account_id}_{number}",
                request_id=f"req_{account_id}_{number}",
                account_id=account_id,
                received_at_ms=START_MS + number * 1000,
                cost_nanousd=1_000 + number,
            )
            log.append(USAGE.name, account_id.encode(), envelope(event))
    return log


async def main(folder: str, grpc_port: str, ops_port: str, sql_port: str) -> int:
    """The exit code."""
    log = filled_log()
    settings = UsageSettings(
        clickhouse_dsn=SecretStr(f"chdb://{folder}/log"),
        grpc_listen=HostPort(f"127.0.0.1:{grpc_port}"),
        ops_listen=HostPort(f"127.0.0.1:{ops_port}"),
        sql_listen=HostPort(f"127.0.0.1:{sql_port}"),
        sql_timeout_s=2,
        sql_memory_bytes_max=64 * 1024 * 1024,
        sql_rows_max=5_000,
        sink_linger_ms=5,
    )
    service = build(
        settings,
        source=MemorySource(log, topic=USAGE, group="log"),
        ledger_source=MemorySource(log, topic=LEDGER, group="ledger"),
        producer=MemoryProducer(log),
    )
    return await serve("usage", *service.components)


if __name__ == "__main__":
    run(main(*sys.argv[1:]))
