"""ClickHouse through clickhouse-connect: a server over HTTP, or chDB in this process, by the
address alone.

The client is synchronous and one client serves one call at a time, so each thread of a small pool
has its own. Writes have threads to themselves: a read never waits behind an insert. chDB takes two
seconds to load, which happens in the writer's thread, not at import.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from urllib.parse import urlsplit

from services.common.errors import InternalError, Unavailable

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

T = TypeVar("T")
Columns: TypeAlias = Sequence[Sequence[object]]

# Server error codes that say the statement itself is wrong; trying again cannot help. 36
# BAD_ARGUMENTS, 46 UNKNOWN_FUNCTION, 47 UNKNOWN_IDENTIFIER, 53 TYPE_MISMATCH, 60 UNKNOWN_TABLE, 62
# SYNTAX_ERROR, 457 BAD_QUERY_PARAMETER.
_STATEMENT_ERRORS = frozenset({36, 46, 47, 53, 60, 62, 457})
_TIMEOUT_S = 30
# Statements that write at the same time: most of an insert's time is the disk's.
_WRITERS = 2
# Seconds that a long statement may take, below which the transport must not give it up.
_WORK_TIMEOUT_S = 3_600
_WORK_SETTINGS = {"max_execution_time": _WORK_TIMEOUT_S}
# Settings that servers before 26.2 do not know and refuse; there they are left out.
_NEWER_SETTINGS = frozenset({"deduplicate_insert"})


class ClickHouse:
    """One database: a few writers and `readers` concurrent reads, each cut off after
    `read_timeout_s`.
    """

    def __init__(
        self,
        dsn: str,
        *,
        database: str,
        readers: int = 2,
        read_timeout_s: int = 10,
        engine_config: Path | None = None,
    ) -> None:
        self._dsn = dsn
        self._embedded = dsn.startswith("chdb:")
        # Read by the embedded engine when it is first opened in this process.
        self._engine_options = {"config-file": str(engine_config)} if engine_config else None
        path = "" if self._embedded else urlsplit(dsn).path.strip("/")
        self._database = path or database
        # Most queries read little: more threads than this only get in one another's way.
        self._read_settings = {
            "max_execution_time": read_timeout_s,
            "readonly": 2,
            "max_threads": 2,
        }
        self._writer = ThreadPoolExecutor(_WRITERS, "clickhouse-write")
        self._worker = ThreadPoolExecutor(1, "clickhouse-work")
        self._readers = ThreadPoolExecutor(readers, "clickhouse-read")
        self._local = threading.local()
        self._clients: list[Client] = []
        self._column_types: dict[tuple[str, tuple[str, ...]], Sequence[Any]] = {}

    @property
    def embedded(self) -> bool:
        """Whether the store is an engine in this process."""
        return self._embedded

    @property
    def database(self) -> str:
        """The database of the log."""
        return self._database

    def engine_address(self) -> str:
        """What a further connection to the embedded engine of this process is opened with."""
        from clickhouse_connect.driver._chdbclient import build_connection_string

        return build_connection_string(urlsplit(self._dsn).path, self._engine_options)

    async def open(self) -> None:
        """Connects and makes the database where it is missing. Raises Unavailable."""
        await self._run(self._writer, self._create_database)

    async def close(self) -> None:
        """Waits for running calls and lets go of the store; an embedded one may then be opened
        by another process.
        """
        loop = asyncio.get_running_loop()
        for pool in (self._readers, self._worker, self._writer):
            await loop.run_in_executor(None, pool.shutdown)
        for client in self._clients:
            client.close()
        self._clients.clear()

    async def query(
        self, sql: str, parameters: Mapping[str, Any] | None = None
    ) -> list[tuple[Any, ...]]:
        """All rows of a SELECT. Raises Unavailable, or InternalError where the statement is
        wrong.
        """

        def call() -> list[tuple[Any, ...]]:
            client = self._client(self._read_settings)
            rows = client.query(sql, parameters=dict(parameters or {})).result_rows
            return [tuple(row) for row in rows]

        return await self._run(self._readers, call)

    # Any: pyarrow has no types of its own.
    async def arrow(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """The rows of a SELECT as one `pyarrow.Table`, strings as strings. Raises as `query`."""

        def call() -> Any:
            client = self._client(self._read_settings)
            return client.query_arrow(sql, parameters=dict(parameters or {}), use_strings=True)

        return await self._run(self._readers, call)

    async def command(self, sql: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Runs a statement that has no rows to give, in a writer's turn."""
        await self._run(
            self._writer,
            lambda: self._client({}).command(sql, parameters=dict(parameters or {})),
        )

    async def work(self, sql: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Runs a statement that may take long, beside reads and writes; one such at a time."""
        await self._run(
            self._worker,
            lambda: self._client(_WORK_SETTINGS).command(sql, parameters=dict(parameters or {})),
        )

    async def insert(
        self,
        table: str,
        column_names: tuple[str, ...],
        columns: Columns | Callable[[], Columns],
        *,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Inserts whole columns, or those that the callable makes; durable when it returns."""

        def call() -> None:
            client = self._client({})
            client.insert(
                table,
                columns() if callable(columns) else columns,
                column_names=column_names,
                column_types=self._types(client, table, column_names),
                column_oriented=True,
                settings=_known(client, settings or {}),
            )

        await self._run(self._writer, call)

    def _types(self, client: Client, table: str, names: tuple[str, ...]) -> Sequence[Any]:
        """The types of the columns, asked for once: the client would ask before every insert."""
        known = self._column_types.get((table, names))
        if known is None:
            known = client.create_insert_context(table, list(names)).column_types
            self._column_types[table, names] = known
        return known

    def _client(self, settings: Mapping[str, Any]) -> Client:
        """This thread's client, connected at its first use."""
        client: Client | None = getattr(self._local, "client", None)
        if client is None:
            client = self._connect(self._database, settings)
            self._local.client = client
            self._clients.append(client)
        return client

    def _connect(self, database: str, settings: Mapping[str, Any]) -> Client:
        import clickhouse_connect

        if self._embedded:
            return clickhouse_connect.get_client(
                dsn=self._dsn,
                database=database,
                settings=dict(settings),
                chdb_options=self._engine_options,
            )
        return clickhouse_connect.get_client(
            dsn=self._dsn,
            database=database,
            settings=dict(settings),
            autogenerate_session_id=False,
            connect_timeout=5,
            send_receive_timeout=settings.get("max_execution_time", 0) + _TIMEOUT_S,
        )

    def _create_database(self) -> None:
        client = self._connect("default", {})
        try:
            known = client.query(
                "SELECT count() FROM system.databases WHERE name = {name:String}",
                parameters={"name": self._database},
            )
            if known.result_rows[0][0] == 0:
                client.command(
                    "CREATE DATABASE IF NOT EXISTS {name:Identifier}",
                    parameters={"name": self._database},
                )
            self._client({})
        finally:
            client.close()

    async def _run(self, pool: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, call)
        except RuntimeError as error:
            raise Unavailable(f"the request log is closed: {error}") from error
        except Exception as error:
            raise _translated(error) from error


def _known(client: Client, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without those that are too new for this server."""
    unknown = _NEWER_SETTINGS - client.server_settings.keys()
    return {name: value for name, value in settings.items() if name not in unknown}


def _translated(error: Exception) -> Exception:
    """Ours for theirs; what is neither ClickHouse's nor the transport's stays what it is."""
    from clickhouse_connect.driver.exceptions import ClickHouseError

    if getattr(error, "code", None) in _STATEMENT_ERRORS:
        return InternalError(f"a statement of the request log is wrong: {error}")
    if isinstance(error, ClickHouseError | OSError):
        return Unavailable(f"the request log's store is away: {error}")
    return error
