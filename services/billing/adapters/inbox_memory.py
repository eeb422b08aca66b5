"""The box of notices in memory: the twin of the PostgreSQL one."""

from __future__ import annotations

from dataclasses import replace

from services.billing.payment_ports import InboxRow


class MemoryInbox:
    """`InboxStore` in memory."""

    def __init__(self) -> None:
        self.rows: dict[str, InboxRow] = {}

    async def put(self, row: InboxRow) -> bool:
        known = self.rows.get(row.notice.event_id)
        if known is not None:
            self.rows[row.notice.event_id] = replace(known, deliveries=known.deliveries + 1)
            return False
        self.rows[row.notice.event_id] = row
        return True

    async def due(self, now_ms: int, limit: int) -> list[InboxRow]:
        rows = [r for r in self.rows.values() if r.status == "new" and r.next_at_ms <= now_ms]
        return sorted(rows, key=lambda row: (row.next_at_ms, row.notice.event_id))[:limit]

    async def save(self, row: InboxRow) -> None:
        known = self.rows[row.notice.event_id]
        self.rows[row.notice.event_id] = replace(row, deliveries=known.deliveries)

    async def get(self, event_id: str) -> InboxRow | None:
        return self.rows.get(event_id)

    async def newest(self, *, status: str, limit: int) -> list[InboxRow]:
        rows = [row for row in self.rows.values() if status in ("", row.status)]
        return sorted(rows, key=lambda row: (-row.received_at_ms, row.notice.event_id))[:limit]
