"""The payment rows of the ledger in PostgreSQL: each class of rows is a table of its columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, fields
from typing import Any

import asyncpg

from services.billing.adapters.ledger_sql import Connection
from services.billing.domain.ledger import REVENUE
from services.billing.domain.payment_book import PaymentBook
from services.billing.domain.payment_seen import CASH, DISPUTES
from services.billing.domain.payment_state import ROW_CLASSES, Refill, Refund, TopUp
from services.common.ids import AccountId
from services.common.postgres import translated

_TYPES = {"str": "text", "AccountId": "text", "int": "bigint", "bool": "boolean"}
_SHORT = """
FROM paying_account AS p JOIN {source} ON w.account_id = p.account_id
WHERE p.refill_enabled AND p.payment_method_id <> '' AND p.open_refill_id = '' AND p.pause = ''
    AND p.next_attempt_at_ms <= $1
"""
_SHORT_OF_THESE = (
    "SELECT p.account_id "
    + _SHORT.format(source="unnest($2::text[], $3::bigint[]) AS w(account_id, available)")
    + "AND w.available < p.threshold_nanousd ORDER BY p.account_id"
)
_SHORT_OF_ALL = (
    "SELECT p.account_id "
    + _SHORT.format(source="wallet AS w")
    + "AND w.posted_nanousd - w.granted_nanousd < p.threshold_nanousd"
    + " ORDER BY p.account_id LIMIT $2"
)
_LAPSED_PROMOS = """
SELECT DISTINCT account_id FROM promo
WHERE remaining_nanousd > 0 AND expires_at_ms > 0 AND expires_at_ms <= $1
ORDER BY account_id LIMIT $2
"""
_BOOKED = """
SELECT DISTINCT payment_id, account_id FROM (
    SELECT payment_id, account_id, received_at_ms AS at_ms FROM payment
    UNION ALL SELECT payment_id, account_id, since_ms FROM refund
    UNION ALL SELECT payment_id, account_id, since_ms FROM dispute
) AS booked
WHERE at_ms >= $1 AND at_ms < $2 ORDER BY payment_id
"""
_AT_GATEWAY = """
SELECT
    (SELECT coalesce(sum(received_nanousd), 0) FROM payment)
    - (SELECT coalesce(sum(amount_nanousd), 0) FROM refund WHERE status = 'made')
    - (SELECT coalesce(sum(amount_nanousd), 0) FROM dispute WHERE status <> 'won') AS by_rows,
    (SELECT -coalesce(sum(balance_nanousd), 0) FROM ledger_total
     WHERE ledger_account = ANY($1::text[])) AS by_journal
"""
_SPENT = """
SELECT balance_nanousd FROM ledger_total WHERE account_id = $1 AND ledger_account = $2
"""
_TOTALS = """
SELECT ledger_account, sum(balance_nanousd)::numeric AS total FROM ledger_total
WHERE $1 = '' OR account_id = $1 GROUP BY 1
"""


def _columns(table: str) -> list[str]:
    return [one.name for one in fields(ROW_CLASSES[table])]


def _key(table: str) -> str:
    return _columns(table)[0]


def _upsert(table: str) -> str:
    names = _columns(table)
    kinds = [_TYPES.get(str(one.type), "text") for one in fields(ROW_CLASSES[table])]
    values = ", ".join(f"${n}::{kind}[]" for n, kind in enumerate(kinds, 1))
    changes = ", ".join(f"{name} = excluded.{name}" for name in names[1:])
    return (
        f"INSERT INTO {table} ({', '.join(names)}) SELECT * FROM unnest({values})"  # noqa: S608 - constants
        f" ON CONFLICT ({names[0]}) DO UPDATE SET {changes}"
        f" WHERE {table}.account_id = excluded.account_id"
    )


# Table and key, in the order in which they are written.
PAYMENT_TABLES = tuple((table, _key(table)) for table in ROW_CLASSES)
_UPSERTS = {table: _upsert(table) for table in ROW_CLASSES}
_SELECTS = {
    table: f"SELECT {', '.join(_columns(table))} FROM {table} "  # noqa: S608 - constants
    for table in ROW_CLASSES
}


def _row(table: str, found: asyncpg.Record) -> Any:  # Any: of the table's class
    return ROW_CLASSES[table](*found)


async def read_payments(connection: Connection, account_id: AccountId) -> PaymentBook:
    """Every payment row of an account."""
    book = PaymentBook()
    for table, key in PAYMENT_TABLES:
        rows = await connection.fetch(_SELECTS[table] + "WHERE account_id = $1", account_id)
        book.rows(table).update({row[key]: _row(table, row) for row in rows})
    return book


def payment_writes(book: PaymentBook) -> list[tuple[str, list[tuple[object, ...]]]]:
    """The statements that write the rows that were changed, each with its rows."""
    keys_of: dict[str, list[str]] = {}
    for table, key in sorted(book.touched):
        keys_of.setdefault(table, []).append(key)
    return [
        (_UPSERTS[table], [astuple(book.rows(table)[key]) for key in keys_of[table]])
        for table, _ in PAYMENT_TABLES
        if table in keys_of
    ]


class PostgresPaymentUnit:
    """The part of `LedgerUnit` that is about payments."""

    _connection: asyncpg.Connection

    async def payments(self, account_id: AccountId) -> PaymentBook:
        """Every payment row of an account."""
        return await read_payments(self._connection, account_id)

    async def spent(self, account_id: AccountId) -> int:
        """What the account ever spent on usage."""
        return await self._connection.fetchval(_SPENT, account_id, REVENUE) or 0

    async def short_of_money(
        self, available: Mapping[AccountId, int], now_ms: int
    ) -> list[AccountId]:
        """Those of these accounts whose refill may be due."""
        rows = await self._connection.fetch(
            _SHORT_OF_THESE, now_ms, list(available), list(available.values())
        )
        return [row["account_id"] for row in rows]


class PostgresPayments:
    """The part of `LedgerStore` that is about payments; nothing here is locked."""

    _pool: asyncpg.Pool

    async def due_refills(self, now_ms: int, limit: int) -> list[AccountId]:
        """Accounts whose refill may be due. Raises Unavailable."""
        return await self._accounts(_SHORT_OF_ALL, now_ms, limit)

    async def open_refills(self, limit: int) -> list[Refill]:
        """Charges under way. Raises Unavailable."""
        where = "WHERE status IN ('started', 'processing') ORDER BY started_at_ms LIMIT $1"
        return await self._rows("refill", where, limit)

    async def open_refunds(self, limit: int) -> list[Refund]:
        """Refunds that were asked for and not made. Raises Unavailable."""
        return await self._rows(
            "refund", "WHERE status = 'requested' ORDER BY since_ms LIMIT $1", limit
        )

    async def open_top_ups(self, started_before_ms: int, limit: int) -> list[TopUp]:
        """Checkouts that have not ended. Raises Unavailable."""
        where = (
            "WHERE status IN ('started', 'open', 'processing') AND started_at_ms <= $1"
            " ORDER BY started_at_ms LIMIT $2"
        )
        return await self._rows("top_up", where, started_before_ms, limit)

    async def lapsed_promos(self, now_ms: int, limit: int) -> list[AccountId]:
        """Accounts with promotional credit left whose time is over. Raises Unavailable."""
        return await self._accounts(_LAPSED_PROMOS, now_ms, limit)

    async def payments_of(self, account_id: AccountId) -> PaymentBook:
        """Every payment row of an account, as of one moment. Raises Unavailable."""
        with translated():
            async with (
                self._pool.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                return await read_payments(connection, account_id)

    async def payments_booked(self, from_ms: int, to_ms: int) -> list[tuple[str, AccountId]]:
        """Payments that were booked within this time. Raises Unavailable."""
        with translated():
            rows = await self._pool.fetch(_BOOKED, from_ms, to_ms)
        return [(row["payment_id"], row["account_id"]) for row in rows]

    async def money_at_gateway(self) -> tuple[int, int]:
        """What of all payments is at the gateway, by rows and by journal. Raises Unavailable."""
        with translated():
            row = await self._pool.fetchrow(_AT_GATEWAY, [CASH, DISPUTES])
        assert row is not None
        return int(row["by_rows"]), int(row["by_journal"])

    async def gateway_total(self, account_id: str = "") -> Mapping[str, int]:
        """What the transactions add up to, by ledger account. Raises Unavailable."""
        with translated():
            rows = await self._pool.fetch(_TOTALS, account_id)
        return {row["ledger_account"]: int(row["total"]) for row in rows}

    async def _accounts(self, statement: str, now_ms: int, limit: int) -> list[AccountId]:
        with translated():
            rows = await self._pool.fetch(statement, now_ms, limit)
        return [row["account_id"] for row in rows]

    async def _rows(self, table: str, where: str, *arguments: int) -> list[Any]:
        # Any: of the table's class
        with translated():
            rows = await self._pool.fetch(_SELECTS[table] + where, *arguments)
        return [_row(table, row) for row in rows]
