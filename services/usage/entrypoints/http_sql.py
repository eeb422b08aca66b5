"""ClickHouse's HTTP interface, as far as those who read need it: `clickhouse-connect`, `curl`,
JDBC, dashboards. Answers, errors and headers are a server's; the password is an analyst's token.
"""

from __future__ import annotations

import base64
import binascii
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import BodyPartReader, web

from services.common.config import HostPort
from services.common.errors import AppError
from services.common.telemetry import get_logger
from services.usage.adapters.analyst_engine import AnalystEngine, Answer, SqlError
from services.usage.analysts import Analysts
from services.usage.domain.analyst import Analyst

BODY_BYTES_MAX = 1024 * 1024
# A statement in the address; longer ones are sent as the body.
LINE_BYTES_MAX = 65_536
SERVER_NAME = "mesh"
_AUTHENTICATION_FAILED = (516, "AUTHENTICATION_FAILED")
_UNKNOWN_DATABASE = (81, "UNKNOWN_DATABASE")
_NOT_IMPLEMENTED = (48, "NOT_IMPLEMENTED")
_TOO_LARGE = (307, "TOO_MANY_BYTES")
_NO_QUERY = (62, "SYNTAX_ERROR")
# What belongs to the transport and says nothing to the engine.
_TRANSPORT = frozenset(
    {
        "query", "user", "password", "database", "default_format", "query_id", "quota_key",
        "session_id", "session_check", "session_timeout", "close_session", "buffer_size",
        "wait_end_of_query", "send_progress_in_http_headers", "client_protocol_version",
        "http_headers_progress_interval_ms", "enable_http_compression", "add_http_cors_header",
        "http_zlib_compression_level", "network_compression_method", "stacktrace", "role",
        "cancel_http_readonly_queries_on_client_close", "compress", "decompress",
        "http_response_headers", "log_queries", "connect_timeout", "receive_timeout",
        "send_timeout", "http_write_exception_in_output_format",
    }
)  # fmt: skip
_STATUS = {
    497: 403, 164: 403, 516: 403, 194: 401, 62: 400, 60: 404, 81: 404, 47: 404, 46: 404, 36: 400,
    53: 400, 73: 400, 115: 400, 457: 400, 456: 400, 307: 413, 159: 408, 202: 503, 48: 501,
}  # fmt: skip
_CONTENT_TYPES = (
    ("JSON", "application/json; charset=UTF-8"), ("CSV", "text/csv; charset=UTF-8; header=absent"),
    ("TSV", "text/tab-separated-values; charset=UTF-8"),
    ("TabSeparated", "text/tab-separated-values; charset=UTF-8"),
    ("XML", "application/xml; charset=UTF-8"), ("Markdown", "text/markdown; charset=UTF-8"),
    ("Pretty", "text/plain; charset=UTF-8"), ("Vertical", "text/plain; charset=UTF-8"),
    ("Values", "text/plain; charset=UTF-8"),
)  # fmt: skip

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Asked:
    """One request: its statement, the parameters of it, and settings."""

    sql: str
    parameters: dict[str, str]
    settings: dict[str, str]


class SqlServer:
    """Serves on `listen`. `default_database` and `default` are both names of the one database."""

    def __init__(
        self, listen: HostPort, *, engine: AnalystEngine, analysts: Analysts, database: str
    ) -> None:
        self._listen = listen
        self._engine = engine
        self._analysts = analysts
        self._databases = frozenset({"", "default", database})
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self) -> None:
        """Listens and serves. Raises OSError where the address is taken."""
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_get("/ping", self._ping)
        for method in ("GET", "POST"):
            app.router.add_route(method, "/", self._root)
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=1.0, max_line_size=LINE_BYTES_MAX
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, self._listen.host, self._listen.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Closes the listener."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _ping(self, _request: web.Request) -> web.Response:
        return web.Response(text="Ok.\n")

    async def _root(self, request: web.Request) -> web.StreamResponse:
        if request.method == "GET" and "query" not in request.query:
            return web.Response(text="Ok.\n")
        query_id = request.query.get("query_id") or str(uuid.uuid4())
        try:
            answer = await self._answer(request)
        except SqlError as error:
            return self._failed(error, query_id)
        except AppError as error:
            failure = SqlError(1002, "UNKNOWN_EXCEPTION", error.message)
            return self._failed(failure, query_id)
        response = web.Response(body=answer.body, headers=self._headers(answer, query_id))
        wanted = request.query.get("enable_http_compression") == "1"
        if wanted and "gzip" in request.headers.get("Accept-Encoding", ""):
            response.enable_compression(web.ContentCoding.gzip)
        return response

    async def _answer(self, request: web.Request) -> Answer:
        analyst = self._authenticated(request)
        database = request.query.get("database") or request.headers.get("X-ClickHouse-Database", "")
        if database not in self._databases:
            raise SqlError(*_UNKNOWN_DATABASE, f"Database {database} does not exist")
        if "1" in (request.query.get("compress"), request.query.get("decompress")):
            # The framing of the native protocol, which HTTP clients can do without.
            raise SqlError(*_NOT_IMPLEMENTED, "Set compress=0; use enable_http_compression=1")
        asked = await _asked(request)
        form = request.query.get("default_format") or request.headers.get("X-ClickHouse-Format")
        return await self._engine.run(
            analyst.account_id,
            asked.sql,
            parameters=asked.parameters,
            settings=asked.settings,
            default_format=form or "TabSeparated",
        )

    def _headers(self, answer: Answer, query_id: str) -> Mapping[str, str]:
        return _headers(answer, query_id) | {"X-ClickHouse-Timezone": self._engine.timezone}

    def _failed(self, error: SqlError, query_id: str) -> web.Response:
        return _failed(error, query_id=query_id, version=self._engine.version)

    def _authenticated(self, request: web.Request) -> Analyst:
        token = _token(request)
        analyst = self._analysts.by_token(token) if token else None
        if analyst is None:
            raise SqlError(
                *_AUTHENTICATION_FAILED,
                "Authentication failed: the password is not the token of an analyst",
            )
        return analyst


def _token(request: web.Request) -> str:
    kind, _, value = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            return ""
    if kind.lower() == "bearer":
        return value
    return request.headers.get("X-ClickHouse-Key") or request.query.get("password", "")


async def _asked(request: web.Request) -> _Asked:
    values = dict(request.query)
    body = b""
    if request.content_type == "multipart/form-data":
        values |= await _form(request)
    else:
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise SqlError(*_TOO_LARGE, f"More than {BODY_BYTES_MAX} bytes") from None
    # As a server does: what stands in the address comes before what is sent.
    sql = "\n".join(filter(None, (values.get("query", ""), body.decode(errors="replace"))))
    if not sql.strip():
        raise SqlError(*_NO_QUERY, "Empty query")
    parameters = {n[6:]: v for n, v in values.items() if n.startswith("param_")}
    settings = {
        name: value
        for name, value in values.items()
        if name not in _TRANSPORT and not name.startswith("param_")
    }
    return _Asked(sql, parameters, settings)


async def _form(request: web.Request) -> dict[str, str]:
    """The fields of a form. Raises SqlError for a file: tables are not taken from outside."""
    values = {}
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader) or not part.name:
            raise SqlError(*_NOT_IMPLEMENTED, "The form has a part that is no field")
        known = part.name == "query" or part.name.startswith("param_")
        if not known:
            raise SqlError(*_NOT_IMPLEMENTED, "External tables are not taken")
        values[part.name] = (await part.read(decode=True)).decode(errors="replace")
    return values


def _headers(answer: Answer, query_id: str) -> dict[str, str]:
    summary = {
        "read_rows": str(answer.rows_read),
        "read_bytes": str(answer.bytes_read),
        "written_rows": "0",
        "written_bytes": "0",
        "total_rows_to_read": "0",
        "result_bytes": str(len(answer.body)),
        "elapsed_ns": str(round(answer.elapsed_s * 1e9)),
    }
    kinds = (kind for prefix, kind in _CONTENT_TYPES if answer.format.startswith(prefix))
    return {
        "Content-Type": next(kinds, "application/octet-stream"),
        "X-ClickHouse-Server-Display-Name": SERVER_NAME,
        "X-ClickHouse-Query-Id": query_id,
        "X-ClickHouse-Format": answer.format,
        "X-ClickHouse-Summary": json.dumps(summary),
    }


def _failed(error: SqlError, *, query_id: str, version: str) -> web.Response:
    _log.info("an analyst's query failed", code=error.code, name=error.name)
    text = (
        f"Code: {error.code}. DB::Exception: {error.message}. ({error.name}) (version {version})\n"
    )
    return web.Response(
        text=text,
        status=_STATUS.get(error.code, 500),
        headers={
            "X-ClickHouse-Server-Display-Name": SERVER_NAME,
            "X-ClickHouse-Query-Id": query_id,
            "X-ClickHouse-Exception-Code": str(error.code),
        },
    )
