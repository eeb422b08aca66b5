"""The box of notices in PostgreSQL."""

from __future__ import annotations

import asyncpg

from services.billing.payment_ports import InboxRow, Notice
from services.common.postgres import translated

_PUT = """
INSERT INTO payment_inbox (event_id, type, object_id, payment_id, created_at_ms, received_at_ms,
    source, deliveries, status, attempts, next_at_ms, error)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (event_id) DO UPDATE SET deliveries = payment_inbox.deliveries + 1
RETURNING deliveries
"""
_DUE = """
SELECT * FROM payment_inbox WHERE status = 'new' AND next_at_ms <= $1
ORDER BY next_at_ms, event_id LIMIT $2
"""
_SAVE = """
UPDATE payment_inbox SET status = $2, attempts = $3, next_at_ms = $4, error = $5
WHERE event_id = $1
"""
_NEWEST = """
SELECT * FROM payment_inbox WHERE $1 = '' OR status = $1
ORDER BY received_at_ms DESC, event_id LIMIT $2
"""


class PostgresInbox:
    """`InboxStore` over a pool."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def put(self, row: InboxRow) -> bool:
        """Keeps a notice, once by its id. Raises Unavailable."""
        notice = row.notice
        with translated():
            deliveries: int = await self._pool.fetchval(
                _PUT, notice.event_id, notice.type, notice.object_id, notice.payment_id,
                notice.created_at_ms, row.received_at_ms, row.source, row.deliveries, row.status,
                row.attempts, row.next_at_ms, row.error,
            )  # fmt: skip
        return deliveries == 1

    async def due(self, now_ms: int, limit: int) -> list[InboxRow]:
        """Rows to be worked on. Raises Unavailable."""
        with translated():
            return [_row(found) for found in await self._pool.fetch(_DUE, now_ms, limit)]

    async def save(self, row: InboxRow) -> None:
        """Writes what became of a row. Raises Unavailable."""
        with translated():
            await self._pool.execute(
                _SAVE, row.notice.event_id, row.status, row.attempts, row.next_at_ms, row.error
            )

    async def get(self, event_id: str) -> InboxRow | None:
        """One row. Raises Unavailable."""
        with translated():
            found = await self._pool.fetchrow(
                "SELECT * FROM payment_inbox WHERE event_id = $1", event_id
            )
        return None if found is None else _row(found)

    async def newest(self, *, status: str, limit: int) -> list[InboxRow]:
        """Rows, newest first. Raises Unavailable."""
        with translated():
            return [_row(found) for found in await self._pool.fetch(_NEWEST, status, limit)]


def _row(found: asyncpg.Record) -> InboxRow:
    notice = Notice(
        found["event_id"],
        found["type"],
        found["object_id"],
        found["payment_id"],
        found["created_at_ms"],
    )
    return InboxRow(
        notice,
        found["received_at_ms"],
        found["source"],
        found["deliveries"],
        found["status"],
        found["attempts"],
        found["next_at_ms"],
        found["error"],
    )
