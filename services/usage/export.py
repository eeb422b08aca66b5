"""Files of requests: CSV and Parquet of everything that a filter takes, made piece by piece.

The log is walked along its sorting key, a bounded statement at a time, so that memory is that of
one piece however long the file, and no statement runs for as long as a slow reader takes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal, Protocol

from services.common.errors import InvalidArgument
from services.usage.conditions import behind, where
from services.usage.domain.filter import RequestFilter, Scope

ExportFormat = Literal["csv", "parquet"]
PIECE_ROWS = 20_000
# What the client chose itself: in a spreadsheet these could be taken for formulas.
_FOREIGN = ("request_id", "requested_model", "session_id", "end_user_id", "trace_id")
_KEY = "toUnixTimestamp64Milli(received_at) AS received_at_ms, usage_id"
_PLAIN = (
    "request_id",
    "trace_id",
    "key_id",
    "user_id",
    "end_user_id",
    "session_id",
    "route",
    "requested_model",
    "model_id",
    "provider_id",
    "stream",
    "outcome",
    "http_status",
    "error_code",
    "failure_stage",
    "finish_reason",
    "first_token_ms",
    "latency_ms",
    "prompt_tokens",
    "completion_tokens",
    "tokens_cached_prompt",
    "tokens_cache_write",
    "tokens_reasoning",
    "price_version_id",
    "cost_nanousd",
)
_DERIVED = (
    "toDecimal128(cost_nanousd, 9) / 1000000000 AS cost_usd",
    "toJSONString(tags) AS tags_json",
    "toInt32(length(attempts.served)) AS attempts_count",
    "toJSONString(arrayMap((p, m, h, e, s, l, v) -> map('provider_id', p, 'upstream_model', m,"
    " 'http_status', toString(h), 'error_code', e, 'started_at_ms', toString(s),"
    " 'latency_ms', toString(l), 'served', toString(v)), attempts.provider_id,"
    " attempts.upstream_model, attempts.http_status, attempts.error_code, attempts.started_at_ms,"
    " attempts.latency_ms, attempts.served)) AS attempts_json",
)


class ArrowReader(Protocol):
    """Reads of the log as Arrow tables."""

    # Any: pyarrow has no types of its own.
    async def arrow(self, sql: str, parameters: dict[str, Any]) -> Any:
        """All rows of the answer as one `pyarrow.Table`. Raises Unavailable."""


class Exports:
    """Files over the log."""

    def __init__(self, reader: ArrowReader, *, piece_rows: int = PIECE_ROWS) -> None:
        self._reader = reader
        self._piece_rows = piece_rows

    async def export(
        self, scope: Scope, wanted: RequestFilter, file_format: ExportFormat, *, rows_max: int = 0
    ) -> AsyncIterator[bytes]:
        """The file's bytes, newest request first; at most `rows_max` requests, 0 for all. Of
        nothing, a file without rows.
        """
        if rows_max < 0:
            raise InvalidArgument.of("rows_max", "is negative")
        file = _ParquetFile() if file_format == "parquet" else _CsvFile()
        left = rows_max
        async for table in self._tables(scope, wanted, file_format):
            if rows_max:
                table = table.slice(0, left)
                left -= table.num_rows
            data = file.add(table)
            if data:
                yield data
            if rows_max and not left:
                break
        yield file.end()

    async def _tables(
        self, scope: Scope, wanted: RequestFilter, file_format: ExportFormat
    ) -> AsyncIterator[Any]:
        """Arrow tables without duplicates, at least one."""
        columns = [
            f"if(match({name}, '^[=+@\\\\t\\\\r-]'), concat('\\'', {name}), {name}) AS {name}_"
            if file_format == "csv" and name in _FOREIGN
            else name
            for name in _PLAIN
        ]
        sql = (
            f"SELECT {_KEY}, {', '.join((*columns, *_DERIVED))} FROM requests WHERE "  # noqa: S608
            "{conditions} ORDER BY received_at DESC, usage_id DESC LIMIT {{piece:UInt32}}"
        )
        conditions, parameters = where(scope, wanted)
        after: tuple[int, str] | None = None
        while True:
            seen = conditions, parameters
            if after is not None:
                seen = behind(conditions, parameters, after)
            table = await self._reader.arrow(
                sql.format(conditions=seen[0]), seen[1] | {"piece": self._piece_rows}
            )
            count = table.num_rows
            table = table.rename_columns([name.removesuffix("_") for name in table.column_names])
            if count or after is None:
                yield _without_repeats(table)
            if count < self._piece_rows:
                return
            after = (table["received_at_ms"][-1].as_py(), table["usage_id"][-1].as_py())


# Any: pyarrow has no types of its own.
def _without_repeats(table: Any) -> Any:
    """The table without rows whose key is that of the row before: duplicates are neighbours."""
    import pyarrow.compute as pc

    if table.num_rows < 2:
        return table
    behind_first, before_last = table.slice(1), table.slice(0, table.num_rows - 1)
    same = pc.and_(
        pc.equal(behind_first["received_at_ms"], before_last["received_at_ms"]),
        pc.equal(behind_first["usage_id"], before_last["usage_id"]),
    )
    if not pc.any(same).as_py():
        return table
    kept = [True, *(not one for one in same.to_pylist())]
    return table.filter(kept)


class _Written:
    """A file that gives away what is written to it."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def write(self, data: Any) -> int:  # Any: whatever buffer pyarrow hands over
        piece = bytes(data)
        self._pieces.append(piece)
        self._size += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        self.closed = True

    def taken(self) -> bytes:
        """What was written since the last call."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data


class _ParquetFile:
    """One row group for each piece."""

    def __init__(self) -> None:
        self._file = _Written()
        self._writer: Any = None  # Any: pyarrow has no types

    def add(self, table: Any) -> bytes:  # Any: as above
        import pyarrow.parquet as pq

        if self._writer is None:
            self._writer = pq.ParquetWriter(self._file, table.schema, compression="zstd")
        self._writer.write_table(table)
        return self._file.taken()

    def end(self) -> bytes:
        self._writer.close()
        return self._file.taken()


class _CsvFile:
    """RFC 4180 with a head line."""

    def __init__(self) -> None:
        self._file = _Written()
        self._writer: Any = None  # Any: pyarrow has no types

    def add(self, table: Any) -> bytes:  # Any: as above
        import pyarrow.csv as pa_csv

        if self._writer is None:
            self._writer = pa_csv.CSVWriter(self._file, table.schema)
        self._writer.write_table(table)
        return self._file.taken()

    def end(self) -> bytes:
        self._writer.close()
        return self._file.taken()
