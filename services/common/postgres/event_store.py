"""The event store: streams of events, the outbox, and one transaction for each handled message."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

import asyncpg

from services.common.errors import ConcurrencyConflict
from services.common.events import EventRecord
from services.common.postgres.outbox import NOTIFY_CHANNEL
from services.common.postgres.pool import acquired, translated
from services.common.postgres.together import Statement, columns_of, execute_together
from services.common.telemetry.tracing import current_traceparent
from services.common.topics import Topic

_VERSIONS = """
-- One step down the index for each stream, however long it is.
SELECT stream_id, (
    SELECT max(stream_version) FROM events WHERE events.stream_id = streams.stream_id
) AS version
FROM unnest($1::text[]) AS streams (stream_id)
"""
_INSERT_EVENTS = """
INSERT INTO events (
    stream_id, stream_version, event_id, type, version, account_id, occurred_at_ms, payload
)
SELECT a, b, c, d, e, f, g, h
FROM unnest(
    $1::text[], $2::bigint[], $3::text[], $4::text[],
    $5::integer[], $6::text[], $7::bigint[], $8::bytea[]
) WITH ORDINALITY AS r (a, b, c, d, e, f, g, h, n)
ORDER BY n
"""
_VERSIONS_OTHERWISE = """
SELECT 1 FROM unnest($1::text[], $2::bigint[]) AS expected (stream_id, version)
WHERE version <> coalesce((
    SELECT max(stream_version) FROM events WHERE events.stream_id = expected.stream_id
), 0)
"""
_INSERT_OUTBOX = """
INSERT INTO outbox (topic, key, value, traceparent)
SELECT topic, key, value, traceparent
FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[])
    WITH ORDINALITY AS r(topic, key, value, traceparent, n)
ORDER BY n
"""
_NOTIFY = "SELECT pg_notify($1, '')"

_EVENT_COLUMNS = (
    "stream_id", "stream_version", "event_id", "type", "version", "account_id", "occurred_at_ms",
    "payload",
)  # fmt: skip
_OUTBOX_COLUMNS = ("topic", "key", "value", "traceparent")
# From so many rows on COPY is the cheaper way in, for both sides; below, its second round trip is
# not worth it.
COPY_ROWS_MIN = 64

Append = tuple[str, int, Sequence[EventRecord]]


class Transaction:
    """One open transaction. `connection` is for the read tables, and used by adapters only."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self._outbox: list[tuple[str, str, bytes | None, str]] = []

    async def load(self, stream_id: str, *, after_version: int = 0) -> list[EventRecord]:
        """The events of a stream in order, from `after_version` + 1 on; empty where there are
        none.
        """
        rows = await self.connection.fetch(
            "SELECT payload FROM events WHERE stream_id = $1 AND stream_version > $2"
            " ORDER BY stream_version",
            stream_id,
            after_version,
        )
        return [EventRecord.from_bytes(row["payload"]) for row in rows]

    async def append(
        self, stream_id: str, expected_version: int, records: Sequence[EventRecord]
    ) -> list[EventRecord]:
        """Appends to one stream and gives the records with their place in it.

        `expected_version` is the version of its last event, 0 for a new stream; where it is
        another, another writer was first: ConcurrencyConflict.
        """
        return await self.append_many([(stream_id, expected_version, records)])

    async def append_many(self, appends: Sequence[Append]) -> list[EventRecord]:
        """`append` for many streams in two statements; each stream at most once. All or none."""
        placed = [
            replace(record, stream_id=stream_id, stream_version=version)
            for stream_id, expected, records in appends
            for version, record in enumerate(records, expected + 1)
        ]
        expected = {stream_id: version for stream_id, version, _ in appends}
        assert len(expected) == len(appends), "a stream was appended to twice in one call"
        await self.append_placed(placed, [record.to_bytes() for record in placed], expected)
        return placed

    async def append_placed(
        self,
        placed: Sequence[EventRecord],
        values: Sequence[bytes],
        expected_by_stream: Mapping[str, int],
    ) -> None:
        """Appends records that have their place and are serialised already, `values` in their
        order, after the versions that their streams are expected to have.
        """
        if not placed:
            return
        found = await self.connection.fetch(_VERSIONS, list(expected_by_stream))
        actual = {row["stream_id"]: row["version"] or 0 for row in found}
        for stream_id, expected in expected_by_stream.items():
            if actual[stream_id] != expected:
                raise ConcurrencyConflict(
                    f"{stream_id} is at version {actual[stream_id]}, not {expected}"
                )
        rows = _event_rows(placed, values)
        with _one_writer_a_stream():
            if len(rows) < COPY_ROWS_MIN:
                await self.connection.execute(_INSERT_EVENTS, *columns_of(rows))
            else:
                await self.connection.copy_records_to_table(
                    "events", records=rows, columns=_EVENT_COLUMNS
                )

    async def write_together(
        self,
        placed: Sequence[EventRecord],
        values: Sequence[bytes],
        expected_by_stream: Mapping[str, int],
        *,
        statements: Sequence[Statement],
    ) -> list[int]:
        """`append_placed`, what was published so far, and these statements, in one round trip; how
        many rows each of the statements wrote. For few rows: many are cheaper by COPY.

        Call it when every lock that orders the published messages is held; with events and
        something published.
        """
        outbox, self._outbox = self._outbox, []
        expected = [list(expected_by_stream), list(expected_by_stream.values())]
        all_statements: list[Statement] = [
            (_VERSIONS_OTHERWISE, expected),
            (_INSERT_EVENTS, columns_of(_event_rows(placed, values))),
            (_INSERT_OUTBOX, columns_of(outbox)),
            (_NOTIFY, [NOTIFY_CHANNEL]),
            *statements,
        ]
        with _one_writer_a_stream():
            counts = await execute_together(self.connection, all_statements)
        if counts[0]:
            raise ConcurrencyConflict("a stream is not at the version that was expected")
        return counts[4:]

    async def publish(self, topic: Topic, key: str, value: bytes | None) -> None:
        """Puts a message into the outbox (None is a tombstone); the relay sends it after the
        commit, in order.
        """
        await self.publish_many([(topic, key, value)])

    async def publish_many(self, rows: Sequence[tuple[Topic, str, bytes | None]]) -> None:
        """`publish` for many. Rows are written in one statement when the transaction ends.

        Their positions are therefore taken after every lock of the transaction, which is what keeps
        the messages of one stream in the order of its versions when two transactions are open at
        once.
        """
        traceparent = current_traceparent()
        self._outbox += [(topic.name, key, value, traceparent) for topic, key, value in rows]

    async def flush(self) -> None:
        """Writes what was published; called at the end of the transaction."""
        rows, self._outbox = self._outbox, []
        if len(rows) >= COPY_ROWS_MIN:
            await self.connection.copy_records_to_table(
                "outbox", records=rows, columns=_OUTBOX_COLUMNS
            )
            await self.connection.execute(_NOTIFY, NOTIFY_CHANNEL)
        elif rows:
            statements: list[Statement] = [
                (_INSERT_OUTBOX, columns_of(rows)),
                (_NOTIFY, [NOTIFY_CHANNEL]),
            ]
            await execute_together(self.connection, statements)


def _event_rows(placed: Sequence[EventRecord], values: Sequence[bytes]) -> list[tuple[object, ...]]:
    return [
        (r.stream_id, r.stream_version, r.event_id, r.type, r.version, r.account_id,
         r.occurred_at_ms, value)
        for r, value in zip(placed, values, strict=True)
    ]  # fmt: skip


@contextmanager
def _one_writer_a_stream() -> Iterator[None]:
    """Raises ConcurrencyConflict where another transaction took the version."""
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name != "events_stream":
            raise
        raise ConcurrencyConflict("another writer appended to the stream first") from error


class EventStore:
    """The events of one service."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """One handled message: commits at exit, rolls back on any error.

        Raises Unavailable where PostgreSQL is away (also where it is not known whether the commit
        happened) and ConcurrencyConflict where another transaction was first.
        """
        with translated():
            async with acquired(self._pool) as connection, connection.transaction():
                transaction = Transaction(connection)
                yield transaction
                await transaction.flush()

    async def read_all(self, *, batch_size: int = 1000) -> AsyncIterator[EventRecord]:
        """Every event in the order of its recording: for rebuilds, while nothing else writes."""
        position = 0
        while True:
            with translated():
                rows = await self._pool.fetch(
                    "SELECT global_position, payload FROM events WHERE global_position > $1"
                    " ORDER BY global_position LIMIT $2",
                    position,
                    batch_size,
                )
            for row in rows:
                yield EventRecord.from_bytes(row["payload"])
            if len(rows) < batch_size:
                return
            position = rows[-1]["global_position"]
