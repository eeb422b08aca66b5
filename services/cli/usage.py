"""`mesh usage`: the request log made again or let go on, compared with the ledger, cut to its
retention, and taken away as a file.
"""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from services.cli.admin.common import AccountOption, Options, run
from services.cli.context import CliError, Services, environment, operator
from services.cli.output import Row, moment, show_rows, usd
from services.common.pb.mesh.usage.v1 import usage_pb2

# Comparing or exporting months takes its time.
LONG_TIMEOUT_S = 3_600.0

app = App(name="usage", help="The request log: rebuild, reconcile, retain, export.")
Since = Annotated[datetime | None, Parameter(help="From this moment on, inclusive.")]
Until = Annotated[datetime | None, Parameter(help="Up to this moment, exclusive.")]


@app.command
def rebuild() -> None:
    """Makes the log again from the events on Kafka, and puts it in place of the one in use.

    It works on the store MESH_USAGE_CLICKHOUSE_DSN. Stop the usage service first.
    """
    _module("services.usage.rebuild")


@app.command
def retain(
    *, dry_run: Annotated[bool, Parameter(negative="", help="Only say what would go.")] = False
) -> None:
    """Drops months older than MESH_USAGE_RETENTION_DAYS, which the service does every hour.

    With an embedded store, stop the usage service first.
    """
    _module("services.usage.retention", *(["--dry-run"] if dry_run else []))


@app.command
def accept_loss(
    *, dry_run: Annotated[bool, Parameter(negative="", help="Only say what is lost.")] = False
) -> None:
    """Lets the log go on where Kafka has let go of events before they were read, and prints which.

    Look at `--dry-run` first, and at `mesh usage differences` afterwards for the requests. With an
    embedded store, stop the usage service first.
    """
    _module("services.usage.accept_loss", *(["--dry-run"] if dry_run else []))


@app.command
def reconcile(*, since: Since = None, until: Until = None, options: Options = Options()) -> None:
    """Compares the log with the ledger, hour by hour; exits 1 where they differ.

    Without a range, the hours of the last day that are settled.
    """

    async def work(found: Services) -> usage_pb2.ReconcileResponse:
        return await found.channels["usage"].call(
            found.usage.Reconcile,
            usage_pb2.ReconcileRequest(since_ms=_unix_ms(since), until_ms=_unix_ms(until)),
            principal=operator(),
            timeout_s=LONG_TIMEOUT_S,
        )

    answer = run(work)
    if answer.differences:
        show_rows([_difference_row(one) for one in answer.differences], as_json=options.json)
    verdict = f"{len(answer.differences)} differences" if answer.differences else "they agree"
    line = (
        f"{answer.requests} requests of {usd(answer.cost_nanousd)} USD in {answer.hours} hours of"
        f" accounts: {verdict}"
    )
    print(line, file=sys.stderr if options.json else sys.stdout)
    sys.exit(1 if answer.differences else 0)


@app.command
def differences(*, account: AccountOption = None, options: Options = Options()) -> None:
    """Where log and ledger did not agree when they were last compared."""

    async def work(found: Services) -> usage_pb2.ListDifferencesResponse:
        account_id = await found.account_id(account) if account else ""
        return await found.channels["usage"].call(
            found.usage.ListDifferences,
            usage_pb2.ListDifferencesRequest(limit=1_000),
            principal=operator(account_id),
        )

    answer = run(work)
    compared = moment(answer.compared_at_ms) if answer.compared_at_ms else "never"
    show_rows(
        [_difference_row(one) for one in answer.differences],
        as_json=options.json,
        nothing=f"no differences (last compared: {compared})",
    )


@app.command
def export(
    path: Path,
    *,
    account: AccountOption = None,
    file_format: Annotated[
        Literal["csv", "parquet"] | None, Parameter(name="--format", help="Default: by the name.")
    ] = None,
    since: Since = None,
    until: Until = None,
) -> None:
    """Writes an account's requests into a file, CSV or Parquet, newest first."""
    chosen = file_format or path.suffix.lstrip(".")
    formats = {"csv": usage_pb2.EXPORT_FORMAT_CSV, "parquet": usage_pb2.EXPORT_FORMAT_PARQUET}
    if chosen not in formats:
        raise CliError("name the file .csv or .parquet, or give --format")
    request = usage_pb2.ExportRequestsRequest(
        filter=usage_pb2.RequestFilter(since_ms=_unix_ms(since), until_ms=_unix_ms(until)),
        format=formats[chosen],
    )

    async def work(found: Services) -> int:
        chunks = found.channels["usage"].stream(
            found.usage.ExportRequests,
            request,
            principal=operator(await found.account_id(account)),
            timeout_s=LONG_TIMEOUT_S,
        )
        size = 0
        # A file on this machine: nothing else waits for this process.
        with path.open("wb") as file:
            async for chunk in chunks:
                size += file.write(chunk.data)
        return size

    print(f"{path}: {run(work)} bytes")


def _module(name: str, *arguments: str) -> None:
    """Runs a module of the usage service on its own store."""
    known = environment()
    if not known.get("MESH_USAGE_CLICKHOUSE_DSN"):
        raise CliError("MESH_USAGE_CLICKHOUSE_DSN is not set: name the log's store")
    command = [sys.executable, "-m", name, *arguments]
    sys.exit(subprocess.run(command, env=known, check=False).returncode)  # noqa: S603 - our own


def _unix_ms(value: datetime | None) -> int:
    """Of a moment without a zone, UTC."""
    if value is None:
        return 0
    zoned = value if value.tzinfo else value.replace(tzinfo=UTC)
    return int(zoned.timestamp() * 1000)


def _difference_row(one: usage_pb2.LedgerDifference) -> Row:
    return {
        "account_id": one.account_id,
        "hour": moment(one.hour_start_ms),
        "log_requests": one.log_requests,
        "log_usd": usd(one.log_cost_nanousd),
        "ledger_requests": one.ledger_requests,
        "ledger_usd": usd(one.ledger_cost_nanousd),
        "only_in_log": ", ".join(one.only_in_log),
        "only_in_ledger": ", ".join(one.only_in_ledger),
        "cost_differs": ", ".join(one.cost_differs),
    }
