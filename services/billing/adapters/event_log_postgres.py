"""Reads the ledger's events in their order: for rebuilds, the verifier, seals and explanations.

Nothing here is locked: events never change.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

import asyncpg

from services.billing.adapters.events_pb import event_from_record, transaction_from_bytes
from services.billing.adapters.ledger_sql import Connection
from services.billing.adapters.seals_pb import seal_from_record
from services.billing.domain.events import LedgerEvent, TransactionPosted
from services.billing.domain.seals import HOUR_MS, HourFigures, LedgerSealed
from services.common.errors import InternalError
from services.common.events import EventRecord, UndecodableEvent
from services.common.ids import AccountId, TransactionId, moment_of_id
from services.common.postgres import translated

STREAM_PREFIX = "wallet:"
# Few at a time, so that whoever shares the process gets his turn between two parts.
_PREFETCH = 200
_EVENTS = """
SELECT stream_id, stream_version, event_id, type, version, account_id, occurred_at_ms, payload
FROM events
WHERE stream_id LIKE 'wallet:%' AND ($1 = '' OR stream_id = 'wallet:' || $1)
ORDER BY stream_id, stream_version
"""


_SEALS = """
SELECT stream_id, stream_version, event_id, type, version, account_id, occurred_at_ms, payload
FROM events
WHERE stream_id = 'seals' ORDER BY stream_version
"""
_OF_HOUR = """
SELECT payload FROM events
WHERE occurred_at_ms >= $1 AND occurred_at_ms < $2 AND stream_id LIKE 'wallet:%'
"""
_FIRST_MS = "SELECT min(occurred_at_ms) FROM events WHERE stream_id LIKE 'wallet:%'"
# An id lies in the event's bytes as it is, so what is left out here cannot be meant.
_BY_BYTES = """
SELECT payload FROM events
WHERE type = 'billing.TransactionPosted' AND position($1::bytea in payload) > 0
"""
_OF_MODEL = """
SELECT stream_id, stream_version, payload FROM events
WHERE type = 'billing.TransactionPosted' AND position($1::bytea in payload) > 0
    AND ($2 = '' OR stream_id = 'wallet:' || $2) AND (stream_id, stream_version) > ($3, $4)
ORDER BY stream_id, stream_version LIMIT $5
"""
_SCAN_TIMEOUT_S = 3_600.0


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One row of the log: what its columns say, its bytes, and the event in them."""

    account_id: AccountId
    version: int
    occurred_at_ms: int
    raw: bytes
    event: LedgerEvent


@dataclass(frozen=True, slots=True)
class StoredSeal:
    """One row of the stream of seals: its version, its bytes, and the seal in them."""

    version: int
    raw: bytes
    seal: LedgerSealed


class BadRow(Exception):
    """A row that is not what was written; the text says where and how."""

    def __init__(self, account_id: AccountId, version: int, what: str) -> None:
        super().__init__(f"version {version}: {what}")
        self.account_id = account_id


async def stored_events(
    connection: Connection, account_id: str = "", *, prefetch: int = _PREFETCH
) -> AsyncIterator[StoredEvent | BadRow]:
    """Every event, by stream and version; of one account where one is named. In a transaction.

    `prefetch` is how many are fetched at once: more, where nobody shares the process.
    """
    async for row in connection.cursor(_EVENTS, account_id, prefetch=prefetch):
        yield _stored(row)


async def stored_seals(connection: Connection) -> AsyncIterator[StoredSeal | BadRow]:
    """Every seal in its order. In a transaction."""
    async for row in connection.cursor(_SEALS, prefetch=_PREFETCH):
        version: int = row["stream_version"]
        try:
            record = EventRecord.from_bytes(row["payload"])
            seal = seal_from_record(record)
        except UndecodableEvent as error:
            yield BadRow(AccountId(""), version, str(error))
            continue
        wrong = _wrong_column(row, record)
        if wrong or seal.sequence != version:
            what = wrong or "it has another place than its stream gives it"
            yield BadRow(AccountId(""), version, what)
            continue
        yield StoredSeal(version, row["payload"], seal)


async def find_transaction(
    pool: asyncpg.Pool, transaction_id: TransactionId
) -> TransactionPosted | None:
    """A transaction of any account, found by the moment in its id. Raises Unavailable."""
    raw_id = transaction_id.encode()
    moment_ms = moment_of_id(transaction_id)
    with translated():
        if moment_ms is None:
            rows = await pool.fetch(_BY_BYTES, raw_id, timeout=_SCAN_TIMEOUT_S)
        else:
            rows = await pool.fetch(_BY_BYTES + " AND occurred_at_ms = $2", raw_id, moment_ms)
    found = (transaction_from_bytes(row["payload"]) for row in rows)
    return next((one for one in found if one.transaction_id == transaction_id), None)


async def journal_of_model(
    pool: asyncpg.Pool, model_id: str, account_id: AccountId
) -> AsyncGenerator[TransactionPosted, None]:
    """Every transaction of a model's use, by account and in the order of its journal.

    It is read page by page, so that whoever works on one page holds no connection meanwhile.
    """
    place: tuple[str, int] = ("", 0)
    while True:
        with translated():
            rows = await pool.fetch(
                _OF_MODEL,
                model_id.encode(),
                account_id,
                *place,
                _PREFETCH,
                timeout=_SCAN_TIMEOUT_S,
            )
        for row in rows:
            posted = transaction_from_bytes(row["payload"])
            if posted.model_id == model_id:
                yield posted
        if len(rows) < _PREFETCH:
            return
        place = (rows[-1]["stream_id"], rows[-1]["stream_version"])


async def first_event_ms(pool: asyncpg.Pool) -> int | None:
    """When the first event of all was recorded; None where there is none. Raises Unavailable."""
    with translated():
        first: int | None = await pool.fetchval(_FIRST_MS, timeout=_SCAN_TIMEOUT_S)
    return first


async def hour_figures(pool: asyncpg.Pool, hour_start_ms: int) -> HourFigures:
    """What the events recorded within an hour come to. Raises Unavailable, InternalError."""
    figures = HourFigures()
    try:
        with translated():
            async with pool.acquire() as connection, connection.transaction(readonly=True):
                end_ms = hour_start_ms + HOUR_MS
                rows = connection.cursor(_OF_HOUR, hour_start_ms, end_ms, prefetch=_PREFETCH)
                async for row in rows:
                    figures.count(event_from_record(EventRecord.from_bytes(row["payload"])))
    except UndecodableEvent as error:
        raise InternalError("an event of the hour cannot be read") from error
    return figures


def _stored(row: asyncpg.Record) -> StoredEvent | BadRow:
    account_id = AccountId(row["stream_id"].removeprefix(STREAM_PREFIX))
    version: int = row["stream_version"]
    try:
        record = EventRecord.from_bytes(row["payload"])
        event = event_from_record(record)
    except UndecodableEvent as error:
        return BadRow(account_id, version, str(error))
    wrong = _wrong_column(row, record)
    if wrong:
        return BadRow(account_id, version, wrong)
    if event.account_id != account_id:
        return BadRow(account_id, version, "it is of another account than its stream")
    return StoredEvent(account_id, version, record.occurred_at_ms, row["payload"], event)


def _wrong_column(row: asyncpg.Record, record: EventRecord) -> str:
    """Which column of a row is not what its bytes say; empty where all are."""
    columns = {
        "stream_id": record.stream_id,
        "stream_version": record.stream_version,
        "event_id": record.event_id,
        "type": record.type,
        "version": record.version,
        "account_id": record.account_id,
        "occurred_at_ms": record.occurred_at_ms,
    }
    for name, value in columns.items():
        if row[name] != value:
            return f"its column {name} is not what its bytes say"
    return ""
