"""Analysts' queries on the embedded engine: each on a connection of its own that has laid down
every privilege but the reading of the views, in threads that neither the sink nor the service's
own queries wait for.

The order of the steps matters: bounds and the account are set first, then the role is laid down,
then the session becomes read-only, after which nothing of it can be changed. Only then the text is
parsed (by the engine, as the value of a parameter, so that nothing in it is run), written again by
the engine from what it understood, checked as a tree, and run.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from services.usage.adapters.analyst_access import ACCOUNT_SETTING, Bounds
from services.usage.domain.analyst_functions import functions_from
from services.usage.domain.analyst_sql import (
    ACCESS_DENIED,
    READONLY,
    SqlRefused,
    SqlRules,
    check_format,
)

TOO_MANY_QUERIES = (202, "TOO_MANY_SIMULTANEOUS_QUERIES")
INTERNAL = (1002, "UNKNOWN_EXCEPTION")
# How many queries may wait for a thread, in all and of one account.
WAITING_MAX = 32
WAITING_OF_ACCOUNT_MAX = 8

_ERROR = re.compile(r"Code: (\d+)\. DB::(?:Exception|NetException|ErrnoException): (.*)", re.DOTALL)
_OF_OUR_CALL = re.compile(r": In scope SELECT (?:formatQuery|parseQueryToJSON)\(.*", re.DOTALL)
_NAMED = re.compile(r"\(([A-Z][A-Z0-9_]+)\)\s*$")
# What clients may ask for: bounds, which are only ever lowered, and how an answer is written.
_LOWERED = frozenset(
    {"max_execution_time", "max_memory_usage", "max_result_rows", "max_result_bytes", "max_threads"}
)
_ACCEPTED = frozenset(
    {
        "date_time_output_format", "session_timezone", "join_use_nulls", "extremes",
        "output_format_json_quote_64bit_integers", "output_format_json_quote_denormals",
        "output_format_json_quote_decimals", "output_format_json_named_tuples_as_objects",
        "output_format_write_statistics", "output_format_decimal_trailing_zeros",
        "output_format_parquet_compression_method", "output_format_arrow_string_as_string",
        "output_format_binary_write_json_as_string", "output_format_csv_crlf_end_of_line",
        "output_format_tsv_crlf_end_of_line",
    }
)  # fmt: skip
_READONLY = frozenset({("readonly", "1"), ("readonly", "2")})
_VALUE = re.compile(r"[\w.+/:-]{0,64}")


class SqlError(Exception):
    """The engine's error, or a refusal in its terms."""

    def __init__(self, code: int, name: str, message: str) -> None:
        super().__init__(message)
        self.code, self.name, self.message = code, name, message


@dataclass(frozen=True, slots=True)
class Answer:
    """The bytes of an answer, in which format, and what the query read."""

    body: bytes
    format: str
    rows_read: int
    bytes_read: int
    elapsed_s: float


class AnalystEngine:
    """Runs statements for accounts, `queries` at a time."""

    def __init__(
        self,
        connection_string: str,
        *,
        base: str,
        database: str,
        bounds: Bounds,
        queries: int = 2,
    ) -> None:
        self._base = base
        self._connection_string = connection_string
        self._database = database
        self._bounds = bounds
        self._pool = ThreadPoolExecutor(queries, "analyst")
        self._rules: SqlRules | None = None
        self.version = self.timezone = ""
        self._waiting: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether statements are run."""
        return self._rules is not None

    async def open(self) -> None:
        """Reads what there is, and makes sure that an analyst's session has no more privileges
        than it should. Raises RuntimeError where it has: then no statement is ever run.
        """
        loop = asyncio.get_running_loop()
        self._rules = await loop.run_in_executor(self._pool, self._learn)

    async def close(self) -> None:
        """Waits for the queries that run; others are dropped."""
        self._rules = None
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, lambda: self._pool.shutdown(cancel_futures=True))

    async def run(
        self,
        account_id: str,
        sql: str,
        *,
        parameters: Mapping[str, str],
        settings: Mapping[str, str],
        default_format: str,
    ) -> Answer:
        """The answer to one statement on the rows of the account. Raises SqlError."""
        rules = self._rules
        if rules is None:
            raise SqlError(*INTERNAL, "The log is not open yet; try again")
        busy = self._waiting.total() >= WAITING_MAX
        if busy or self._waiting[account_id] >= WAITING_OF_ACCOUNT_MAX:
            raise SqlError(*TOO_MANY_QUERIES, "Too many queries are waiting; try again")
        self._waiting[account_id] += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(
                self._pool,
                lambda: self._run(
                    rules,
                    account_id,
                    sql,
                    parameters=parameters,
                    settings=settings,
                    default_format=default_format,
                ),
            )
        except SqlRefused as refused:
            raise SqlError(refused.code, refused.name, refused.message) from None
        finally:
            self._waiting[account_id] -= 1

    def _run(
        self,
        rules: SqlRules,
        account_id: str,
        sql: str,
        *,
        parameters: Mapping[str, str],
        settings: Mapping[str, str],
        default_format: str,
    ) -> Answer:
        connection = self._session(account_id, settings)
        try:
            canonical, named = _understood(connection, rules, sql)
            chosen = named or check_format(default_format)
            answer = _call(connection, canonical, form=chosen, parameters=parameters)
            return Answer(
                bytes(answer.bytes()), chosen, answer.rows_read(), answer.bytes_read(),
                answer.elapsed(),
            )  # fmt: skip
        finally:
            connection.close()

    # Any: chDB's connection has no types.
    def _session(self, account_id: str, settings: Mapping[str, str]) -> Any:
        if not account_id:
            raise SqlError(*INTERNAL, "The analyst has no account")
        wanted = self._bounds.settings() | _checked_settings(settings, self._bounds)
        connection = self._connect()
        try:
            changes = {**wanted, ACCOUNT_SETTING: account_id}.items()
            connection.query("SET " + ", ".join(f"{n} = {_quoted(v)}" for n, v in changes))
            connection.query("SET ROLE NONE")
            connection.query(f"USE {self._database}")
            connection.query("SET readonly = 1")
        except RuntimeError as error:
            connection.close()
            raise _translated(error) from None
        return connection

    def _connect(self) -> Any:  # Any: chDB has no types
        import chdb

        return chdb.connect(self._connection_string)

    def _learn(self) -> SqlRules:
        connection = self._connect()
        try:
            rows = _rows(connection, "SELECT name, alias_to, categories, is_aggregate FROM"
                         " system.functions")  # fmt: skip
            [[self.version, self.timezone]] = _rows(connection, "SELECT version(), timezone()")
            functions = functions_from((r[0], r[1], r[2], bool(r[3])) for r in rows)
            columns = _rows(
                connection,
                f"SELECT table, name FROM system.columns WHERE database = '{self._database}'",  # noqa: S608
            )
        finally:
            connection.close()
        self._make_sure_of_privileges()
        return SqlRules(
            database=self._database,
            views=frozenset(table for table, _ in columns),
            columns=frozenset(part.lower() for _, name in columns for part in name.split(".")),
            functions=functions,
        )

    def _make_sure_of_privileges(self) -> None:
        session = self._session("acc_nobody", {})
        try:
            [[roles, readonly]] = _rows(
                session, "SELECT length(enabledRoles()), toUInt8(getSetting('readonly'))"
            )
            try:
                session.query(f"SELECT count() FROM {self._base}.requests")  # noqa: S608
                refused = False
            except RuntimeError as error:
                refused = _translated(error).code == ACCESS_DENIED[0]
        finally:
            session.close()
        if int(roles) or int(readonly) != 1 or not refused:
            raise RuntimeError("an analyst's session has privileges that it must not have")


def _understood(connection: Any, rules: SqlRules, sql: str) -> tuple[str, str]:
    """The statement as the engine writes it, and the format that it names."""
    canonical = _one(connection, "SELECT formatQuery({sql:String})", sql)
    try:
        tree = json.loads(_one(connection, "SELECT parseQueryToJSON({sql:String})", canonical))
    except RecursionError:
        raise SqlError(306, "TOO_DEEP_RECURSION", "The statement is nested too deeply") from None
    except SqlError as error:
        # It knows the trees of no other statements than those that read, but for DESCRIBE.
        if error.code == 36 and canonical.startswith("DESCRIBE "):
            rules.check_describe(_rows_of_text(connection, f"EXPLAIN AST {canonical}"))
            return canonical, ""
        if error.code == 36:
            raise SqlRefused(READONLY, "Only SELECT, SHOW TABLES and DESCRIBE may be run") from None
        raise
    return canonical, rules.check(tree)


def _checked_settings(wanted: Mapping[str, str], bounds: Bounds) -> dict[str, int | str]:
    """Those that the session may begin with. Raises SqlError for any other."""
    most = bounds.settings()
    checked: dict[str, int | str] = {}
    for name, value in wanted.items():
        if name in _LOWERED and value.isdecimal():
            highest = int(most[name])
            # To ClickHouse 0 is no bound at all.
            checked[name] = min(int(value), highest) or highest
        elif name in _ACCEPTED and _VALUE.fullmatch(value):
            checked[name] = value
        elif str(most.get(name)) != value and (name, value) not in _READONLY:
            raise SqlError(*READONLY, f"Cannot modify '{name}' setting in readonly mode")
    return checked


def _quoted(value: int | str) -> str:
    text = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"


def _call(
    connection: Any, sql: str, *, form: str, parameters: Mapping[str, str] | None = None
) -> Any:
    try:
        return connection.query(sql, form, params=dict(parameters or {}))
    except RuntimeError as error:
        raise _translated(error) from None


def _one(connection: Any, sql: str, text: str) -> str:
    """The one string that a SELECT of a parameter gives."""
    value = text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")
    value = value.replace("\0", "\\0")
    answer = _call(connection, sql, form="JSONCompact", parameters={"sql": value})
    return str(json.loads(answer.bytes())["data"][0][0])


def _rows(connection: Any, sql: str) -> list[list[Any]]:
    return list(json.loads(_call(connection, sql, form="JSONCompact").bytes())["data"])


def _rows_of_text(connection: Any, sql: str) -> list[str]:
    return [str(row[0]) for row in _rows(connection, sql)]


def _translated(error: RuntimeError) -> SqlError:
    """The engine's error without what our own statements around it add."""
    match = _ERROR.search(str(error))
    if match is None:
        return SqlError(*INTERNAL, "The query failed")
    text = _OF_OUR_CALL.sub("", match[2])
    name = _NAMED.search(match[2])
    text = _NAMED.sub("", text).strip()
    return SqlError(int(match[1]), name[1] if name else "UNKNOWN_EXCEPTION", text)
