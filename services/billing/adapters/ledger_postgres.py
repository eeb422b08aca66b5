"""The ledger in PostgreSQL: locks, reads and set-based writes. Decides nothing.

Every writer locks the wallets it touches, in account order, before it reads anything else. That
lock is what makes a decision valid while it is written, in one process or in many; it also gives
each stream one writer at a time, so that its versions have no gaps and its outbox rows stay in
order.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import astuple

import asyncpg

from services.billing.adapters import event_log_postgres as journal
from services.billing.adapters import ledger_sql as sql
from services.billing.adapters.events_pb import (
    balance_record,
    record_from_recorded,
    stream_of,
    transaction_from_bytes,
)
from services.billing.adapters.payments_postgres import (
    PostgresPayments,
    PostgresPaymentUnit,
    payment_writes,
)
from services.billing.adapters.seals_pb import SEALS_STREAM, chain_after, record_from_seal
from services.billing.domain.book import Book, KeyRef, ScopeRef
from services.billing.domain.events import TransactionPosted
from services.billing.domain.seals import HourFigures, LedgerSealed, SealChain
from services.billing.domain.state import Grant, KeyAccount, ScopeAccount, Wallet
from services.billing.ports import LedgerUnit
from services.common.errors import ConcurrencyConflict, InternalError, Unavailable
from services.common.events import EventRecord
from services.common.ids import AccountId, GrantId, TransactionId, UsageId
from services.common.kafka import Batch, Claim, LogMessage
from services.common.postgres import (
    COPY_ROWS_MIN,
    EventStore,
    PostgresCursors,
    Transaction,
    columns_of,
    translated,
)
from services.common.telemetry import get_logger
from services.common.topics import BALANCES, LEDGER, Topic

log = get_logger(__name__)


class PostgresLedger(PostgresPayments):
    """`LedgerStore` over a pool; no unit of work may last longer than `unit_timeout_s`."""

    def __init__(self, pool: asyncpg.Pool, *, unit_timeout_s: float) -> None:
        self._pool = pool
        self._events = EventStore(pool)
        self._cursors = PostgresCursors(pool)
        self._unit_timeout_s = unit_timeout_s

    @asynccontextmanager
    async def unit(self) -> AsyncIterator[LedgerUnit]:
        """One transaction. Raises Unavailable, ConcurrencyConflict, InternalError."""
        try:
            async with asyncio.timeout(self._unit_timeout_s):
                async with self._events.transaction() as transaction:
                    yield _PostgresUnit(transaction, self._cursors)
        except TimeoutError as error:
            raise Unavailable("the ledger's store did not answer in time") from error
        except asyncpg.PostgresError as error:
            log.exception("ledger_store_refused")
            raise InternalError("the ledger's store refused a write") from error

    async def claim(self, topic: str, partitions: Sequence[int]) -> Mapping[int, Claim]:
        """Takes over partitions with a new epoch each. Raises Unavailable."""
        return await self._cursors.claim(topic, partitions)

    async def lapsed_grants(self, expired_before_ms: int, limit: int) -> list[Grant]:
        """Open grants that expired before this moment. Raises Unavailable."""
        with translated():
            rows = await self._pool.fetch(sql.LAPSED_GRANTS, expired_before_ms, limit)
        return [sql.grant_from_row(row) for row in rows]

    async def unresolved_grants(self, expired_before_ms: int, limit: int) -> list[Grant]:
        """Unresolved grants that expired before this moment. Raises Unavailable."""
        with translated():
            rows = await self._pool.fetch(sql.UNRESOLVED_GRANTS, expired_before_ms, limit)
        return [sql.grant_from_row(row) for row in rows]

    async def recalls(self, accounts: Collection[AccountId], now_ms: int) -> list[KeyRef]:
        """Where idle money of these accounts is asked back now. Raises Unavailable."""
        with translated():
            rows = await self._pool.fetch(sql.RECALLS, list(accounts), now_ms)
        return [(row["account_id"], row["key_id"]) for row in rows]

    async def forget_recalls(self, before_ms: int) -> None:
        """Deletes recalls that were over before this moment. Raises Unavailable."""
        with translated():
            await self._pool.execute(sql.FORGET_RECALLS, before_ms)

    async def forget_given_up(self, before_ms: int) -> None:
        """Forgets grants that were given up before this moment. Raises Unavailable."""
        with translated():
            await self._pool.execute(sql.FORGET_GIVEN_UP, before_ms)

    async def find_transaction(self, transaction_id: TransactionId) -> TransactionPosted | None:
        """A transaction of any account. Raises Unavailable."""
        return await journal.find_transaction(self._pool, transaction_id)

    def journal_of_model(
        self, model_id: str, account_id: AccountId
    ) -> AsyncGenerator[TransactionPosted, None]:
        """Every transaction of a model's use, by account and in order. Raises Unavailable."""
        return journal.journal_of_model(self._pool, model_id, account_id)

    async def first_event_ms(self) -> int | None:
        """When the first event of all was recorded. Raises Unavailable."""
        return await journal.first_event_ms(self._pool)

    async def hour_figures(self, hour_start_ms: int) -> HourFigures:
        """What the events recorded within an hour come to. Raises Unavailable, InternalError."""
        return await journal.hour_figures(self._pool, hour_start_ms)


class _PostgresUnit(PostgresPaymentUnit):
    """`LedgerUnit` over one transaction."""

    def __init__(self, transaction: Transaction, cursors: PostgresCursors) -> None:
        self._transaction = transaction
        self._connection = transaction.connection
        self._cursors = cursors
        self._log_hashes: dict[AccountId, bytes] = {}

    async def advance(self, batch: Batch) -> Sequence[LogMessage]:
        return await self._cursors.advance(self._connection, batch)

    async def wallets(self, accounts: Collection[AccountId]) -> dict[AccountId, Wallet]:
        rows = await self._connection.fetch(sql.LOCK_WALLETS, list(accounts))
        self._log_hashes |= {row["account_id"]: row["log_hash"] for row in rows}
        return {row["account_id"]: sql.wallet_from_row(row) for row in rows}

    async def ensure_wallets(self, accounts: Collection[AccountId]) -> None:
        await self._connection.execute(sql.ENSURE_WALLETS, list(accounts))

    async def grants(self, ids: Collection[GrantId]) -> dict[GrantId, Grant]:
        if not ids:
            return {}
        rows = await self._connection.fetch(sql.GRANTS, list(ids))
        return {row["grant_id"]: sql.grant_from_row(row) for row in rows}

    async def keys(self, refs: Collection[KeyRef]) -> dict[KeyRef, KeyAccount]:
        if not refs:
            return {}
        rows = await self._connection.fetch(sql.KEYS, *columns_of(list(refs)))
        return {(row["account_id"], row["key_id"]): sql.key_from_row(row) for row in rows}

    async def grants_or_given_up(
        self, ids: Collection[GrantId]
    ) -> tuple[dict[GrantId, Grant], set[GrantId]]:
        rows = await self._connection.fetch(sql.GRANTS_OR_GIVEN_UP, list(ids))
        found = [sql.grant_from_row(row) for row in rows if row["given_up_id"] is None]
        given_up = {row["given_up_id"] for row in rows if row["given_up_id"] is not None}
        return {grant.grant_id: grant for grant in found}, given_up

    async def give_up(self, ids: Collection[GrantId], now_ms: int) -> None:
        await self._connection.execute(sql.GIVE_UP, sorted(ids), now_ms)

    async def window_spend(self, first_days: Mapping[KeyRef, int]) -> dict[KeyRef, int]:
        if not first_days:
            return {}
        wanted = [(account, key, day) for (account, key), day in first_days.items()]
        rows = await self._connection.fetch(sql.WINDOW_SPEND, *columns_of(wanted))
        return {(row["account_id"], row["key_id"]): int(row["spent"]) for row in rows}

    async def ask_back(self, refs: Collection[KeyRef], until_ms: int) -> None:
        # In one order everywhere; their wallets are locked already.
        rows = [(*ref, until_ms) for ref in sorted(refs)]
        await self._connection.execute(sql.ASK_BACK, *columns_of(rows))

    async def scopes(self, refs: Collection[ScopeRef]) -> dict[ScopeRef, ScopeAccount]:
        if not refs:
            return {}
        rows = await self._connection.fetch(sql.SCOPES, *columns_of(list(refs)))
        return {(row["account_id"], row["scope"]): sql.scope_from_row(row) for row in rows}

    async def scope_spend(self, first_days: Mapping[ScopeRef, int]) -> dict[ScopeRef, int]:
        if not first_days:
            return {}
        wanted = [(account, scope, day) for (account, scope), day in first_days.items()]
        rows = await self._connection.fetch(sql.SCOPE_SPEND, *columns_of(wanted))
        return {(row["account_id"], row["scope"]): int(row["spent"]) for row in rows}

    async def mark_usage(self, hashes: Mapping[UsageId, bytes]) -> dict[UsageId, bytes]:
        # In one order everywhere, so that two batches with the same ids cannot block each other.
        marks = sorted(hashes.items())
        rows = await self._connection.fetch(sql.MARK_USAGE, *columns_of(marks))
        new = {row["usage_id"] for row in rows}
        if len(new) == len(marks):
            return {}
        repeated = [usage_id for usage_id in hashes if usage_id not in new]
        found = await self._connection.fetch(sql.USAGE_MARKS, repeated)
        return {row["usage_id"]: row["content_hash"] for row in found}

    async def transaction(
        self, account_id: AccountId, idempotency_key: str
    ) -> TransactionPosted | None:
        raw = await self._connection.fetchval(
            sql.TRANSACTION_BY_KEY, account_id, idempotency_key, stream_of(account_id)
        )
        return None if raw is None else transaction_from_bytes(raw)

    async def corrections(
        self, account_id: AccountId, of: Collection[TransactionId]
    ) -> list[TransactionPosted]:
        rows = await self._connection.fetch(
            sql.CORRECTIONS, account_id, stream_of(account_id), list(of)
        )
        return [transaction_from_bytes(row["payload"]) for row in rows]

    async def seal_chain(self) -> SealChain:
        row = await self._connection.fetchrow(sql.LOCK_SEAL_CHAIN)
        assert row is not None, "the migrations make the one row"
        return SealChain(**dict(row))

    async def save_seal(self, chain: SealChain, seal: LedgerSealed) -> None:
        record = record_from_seal(seal)
        value = record.to_bytes()
        await self._transaction.append(SEALS_STREAM, chain.sequence, [record])
        after = chain_after(chain, seal, value)
        await self._connection.execute(sql.UPDATE_SEAL_CHAIN, *astuple(after))
        await self._transaction.publish(LEDGER, SEALS_STREAM, value)

    async def save(self, book: Book) -> None:
        records = [record_from_recorded(recorded) for recorded in book.recorded]
        # The sort is stable: within a stream the events keep their order.
        records.sort(key=lambda record: record.account_id)
        values = [record.to_bytes() for record in records]
        expected: dict[str, int] = {}
        for record in records:
            expected.setdefault(record.stream_id, record.stream_version - 1)
        self._chain(records, values)
        rows: list[tuple[Topic, str, bytes | None]] = [
            (LEDGER, record.account_id, value)
            for record, value in zip(records, values, strict=True)
        ]
        for account_id in sorted(book.wallets_touched):
            balance = balance_record(book.wallets[account_id])
            rows.append((BALANCES, account_id, balance.to_bytes()))
        await self._transaction.publish_many(rows)
        if len(rows) < COPY_ROWS_MIN:
            # The wallets are locked: the order of what is published is settled here as at the end.
            writes = table_writes(book, self._log_hashes)
            statements = [(statement, columns_of(changed)) for statement, changed in writes]
            counts = await self._transaction.write_together(
                records, values, expected, statements=statements
            )
            if counts != [len(changed) for _, changed in writes]:
                raise ConcurrencyConflict("another transaction was first")
        else:
            await self._transaction.append_placed(records, values, expected)
            await write_tables(self._connection, book, self._log_hashes)

    def _chain(self, records: Sequence[EventRecord], values: Sequence[bytes]) -> None:
        for record, value in zip(records, values, strict=True):
            account_id = AccountId(record.account_id)
            self._log_hashes[account_id] = log_hash(self._log_hashes[account_id], value)


async def write_tables(
    connection: sql.Connection, book: Book, log_hashes: Mapping[AccountId, bytes]
) -> None:
    """Writes what the book touched into the read tables. Raises ConcurrencyConflict."""
    for statement, rows in table_writes(book, log_hashes):
        status = await connection.execute(statement, *columns_of(rows))
        # A row that belongs to another account is left alone by the statement.
        if status.rpartition(" ")[2] != str(len(rows)):
            raise ConcurrencyConflict("another transaction was first")


def table_writes(
    book: Book, log_hashes: Mapping[AccountId, bytes]
) -> list[tuple[str, list[tuple[object, ...]]]]:
    """The statements that bring the read tables up to what the book touched, each with its rows; of
    one statement, every row is written once.
    """
    causes: list[tuple[object, ...]] = [
        (recorded.event.account_id, recorded.event.idempotency_key, recorded.version)
        for recorded in book.recorded
        if isinstance(recorded.event, TransactionPosted) and not recorded.event.usage_id
    ]
    writes: list[tuple[str, list[tuple[object, ...]]]] = [
        (
            sql.UPDATE_WALLETS,
            [
                sql.row_from_wallet(book.wallets[account_id], log_hashes[account_id])
                for account_id in sorted(book.wallets_touched)
            ],
        ),
        (sql.ADD_TOTALS, [(*ref, amount) for ref, amount in sorted(book.totals.items())]),
        (sql.UPSERT_KEYS, [sql.row_from_key(book.keys[ref]) for ref in sorted(book.keys_touched)]),
        (sql.ADD_DAYS, [(*ref, amount) for ref, amount in sorted(book.day_spend.items())]),
        (
            sql.UPSERT_SCOPES,
            [sql.row_from_scope(book.scopes[ref]) for ref in sorted(book.scopes_touched)],
        ),
        (sql.ADD_SCOPE_DAYS, [(*ref, amount) for ref, amount in sorted(book.scope_spend.items())]),
        (
            sql.UPSERT_GRANTS,
            [sql.row_from_grant(book.grants[one]) for one in sorted(book.grants_touched)],
        ),
        (sql.INSERT_KEYS_OF_JOURNAL, causes),
        *payment_writes(book.payments),
    ]
    return [(statement, rows) for statement, rows in writes if rows]


def log_hash(previous: bytes, value: bytes) -> bytes:
    """The chain over whole events: SHA-256 of the hash before and the serialised envelope."""
    return hashlib.sha256(previous + value).digest()
