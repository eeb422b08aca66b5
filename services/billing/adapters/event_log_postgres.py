"""Reads the ledger's events stream by stream, for rebuilds and the verifier."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg

from services.billing.adapters.events_pb import event_from_record
from services.billing.adapters.ledger_sql import Connection
from services.billing.domain.events import LedgerEvent
from services.common.events import EventRecord, UndecodableEvent
from services.common.ids import AccountId

STREAM_PREFIX = "wallet:"
_PREFETCH = 2_000
_EVENTS = """
SELECT stream_id, stream_version, event_id, type, account_id, occurred_at_ms, payload FROM events
WHERE stream_id LIKE 'wallet:%' AND ($1 = '' OR stream_id = 'wallet:' || $1)
ORDER BY stream_id, stream_version
"""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One row of the log: what its columns say, its bytes, and the event in them."""

    account_id: AccountId
    version: int
    occurred_at_ms: int
    raw: bytes
    event: LedgerEvent


class BadRow(Exception):
    """A row that is not what was written; the text says where and how."""

    def __init__(self, account_id: AccountId, version: int, what: str) -> None:
        super().__init__(f"version {version}: {what}")
        self.account_id = account_id


async def stored_events(
    connection: Connection, account_id: str = ""
) -> AsyncIterator[StoredEvent | BadRow]:
    """Every event, by stream and version; of one account where one is named. In a transaction."""
    async for row in connection.cursor(_EVENTS, account_id, prefetch=_PREFETCH):
        yield _stored(row)


def _stored(row: asyncpg.Record) -> StoredEvent | BadRow:
    account_id = AccountId(row["stream_id"].removeprefix(STREAM_PREFIX))
    version: int = row["stream_version"]
    try:
        record = EventRecord.from_bytes(row["payload"])
        event = event_from_record(record)
    except UndecodableEvent as error:
        return BadRow(account_id, version, str(error))
    columns = {
        "stream_id": record.stream_id,
        "stream_version": record.stream_version,
        "event_id": record.event_id,
        "type": record.type,
        "account_id": record.account_id,
        "occurred_at_ms": record.occurred_at_ms,
    }
    for name, value in columns.items():
        if row[name] != value:
            return BadRow(account_id, version, f"its column {name} is not what its bytes say")
    if event.account_id != account_id:
        return BadRow(account_id, version, "it is of another account than its stream")
    return StoredEvent(account_id, version, record.occurred_at_ms, row["payload"], event)
