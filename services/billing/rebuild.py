"""Makes the read tables again from the events and says, by hash, whether they are the same.

Nothing is kept unless the result is equal, or the operator asked for a repair: the events are right
by definition, so tables that differ are the ones to be replaced.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import sys
from dataclasses import astuple, dataclass

import asyncpg

from services.billing.adapters.event_log_postgres import BadRow, stored_events, stored_seals
from services.billing.adapters.ledger_postgres import log_hash, write_tables
from services.billing.adapters.ledger_sql import ENSURE_WALLETS, UPDATE_SEAL_CHAIN, Connection
from services.billing.adapters.payments_postgres import PAYMENT_TABLES
from services.billing.adapters.seals_pb import chain_after
from services.billing.config import BillingSettings
from services.billing.domain.book import Book
from services.billing.domain.events import ZERO_HASH
from services.billing.domain.seals import SealChain
from services.common.config import load_settings
from services.common.errors import AppError, InternalError
from services.common.ids import AccountId
from services.common.postgres import migrate, open_pool, translated
from services.common.runtime import calm_garbage_collector

# Table and key, in the order in which they are locked: wallets first, as every writer does.
READ_TABLES = (
    ("wallet", "account_id"),
    ("ledger_total", "account_id, ledger_account"),
    ("grants", "grant_id"),
    ("key_account", "account_id, key_id"),
    ("key_day", "account_id, key_id, day"),
    ("scope_account", "account_id, scope"),
    ("scope_day", "account_id, scope, day"),
    ("journal_key", "account_id, idempotency_key"),
    *((table, key) for table, key in PAYMENT_TABLES),
    ("seal_chain", "one"),
)
_PART = 5_000
_PREFETCH = 5_000
_FOLD_TIMEOUT_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild came to: hashes of the read tables, how many events, whether it was kept."""

    before: str
    after: str
    events: int
    kept: bool

    @property
    def is_equal(self) -> bool:
        """True where the tables were what the events say."""
        return self.before == self.after


async def rebuild(pool: asyncpg.Pool, *, repair: bool = False) -> Rebuilt:
    """Rebuilds in one transaction; writers wait meanwhile.

    Raises InternalError where an event cannot be folded, Unavailable where PostgreSQL is away.
    """
    with translated():
        async with pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            try:
                rebuilt = await _rebuild(connection, repair=repair)
            except BaseException:
                await transaction.rollback()
                raise
            await (transaction.commit() if rebuilt.kept else transaction.rollback())
            return rebuilt


async def read_tables_hash(connection: Connection) -> str:
    """SHA-256 over every row of every read table, in the order of their keys. In a transaction."""
    digest = hashlib.sha256()
    for table, key in READ_TABLES:
        digest.update(f"table {table}\n".encode())
        rows = connection.cursor(
            f"SELECT t::text AS row FROM {table} AS t ORDER BY {key}",  # noqa: S608 - constants
            prefetch=_PREFETCH,
        )
        async for row in rows:
            digest.update(row["row"].encode() + b"\n")
    return digest.hexdigest()


async def _rebuild(connection: Connection, *, repair: bool) -> Rebuilt:
    for table, _ in READ_TABLES:
        await connection.execute(
            f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE", timeout=_FOLD_TIMEOUT_S
        )
    before = await read_tables_hash(connection)
    await connection.execute("TRUNCATE " + ", ".join(table for table, _ in READ_TABLES))
    events = await _fold(connection) + await _fold_seals(connection)
    after = await read_tables_hash(connection)
    return Rebuilt(before, after, events, kept=repair or before == after)


async def _fold(connection: Connection) -> int:
    """Folds one account after the other; only one account's states are in memory at a time."""
    count = 0
    account_id = AccountId("")
    book, head = Book(), ZERO_HASH
    async for stored in stored_events(connection, prefetch=_PREFETCH):
        if isinstance(stored, BadRow):
            raise InternalError(f"{stored.account_id}: {stored}")
        if stored.account_id != account_id or len(book.recorded) >= _PART:
            await _write(connection, book, head)
        if stored.account_id != account_id:
            account_id, book, head = stored.account_id, Book(), ZERO_HASH
            await connection.execute(ENSURE_WALLETS, [account_id])
        book.record(stored.event, occurred_at_ms=stored.occurred_at_ms)
        if book.recorded[-1].version != stored.version:
            raise InternalError(f"{account_id}: version {stored.version} follows a gap")
        head = log_hash(head, stored.raw)
        count += 1
    await _write(connection, book, head)
    return count


async def _fold_seals(connection: Connection) -> int:
    chain = SealChain()
    async for stored in stored_seals(connection):
        if isinstance(stored, BadRow):
            raise InternalError(f"seals: {stored}")
        chain = chain_after(chain, stored.seal, stored.raw)
        if chain.sequence != stored.version:
            raise InternalError(f"seals: version {stored.version} follows a gap")
    await connection.execute("INSERT INTO seal_chain DEFAULT VALUES")
    await connection.execute(UPDATE_SEAL_CHAIN, *astuple(chain))
    return chain.sequence


async def main() -> int:
    """`python -m services.billing.rebuild [--repair]`: 1 where the tables were not equal."""
    parser = argparse.ArgumentParser(description="Makes billing's read tables from its events.")
    parser.add_argument("--repair", action="store_true", help="Keep the result where it differs.")
    repair = parser.parse_args().repair
    settings = load_settings(BillingSettings)
    pool = await open_pool(settings.dsn.get_secret_value(), size_max=2)
    try:
        await migrate(pool, "services.billing")
        calm_garbage_collector()
        rebuilt = await rebuild(pool, repair=repair)
    finally:
        await pool.close()
    if rebuilt.is_equal:
        verdict = f"equal, {rebuilt.after}"
    else:
        kept = "replaced" if rebuilt.kept else "left as they were"
        verdict = f"DIFFERENT, tables {kept}: {rebuilt.before} was to be {rebuilt.after}"
    print(f"billing: {rebuilt.events} events folded, {verdict}")
    return 0 if rebuilt.is_equal else 1


async def _write(connection: Connection, book: Book, head: bytes) -> None:
    if book.recorded:
        await write_tables(connection, book, dict.fromkeys(book.wallets_touched, head))
        book.forget_recorded()


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except AppError as error:
        sys.exit(f"billing: {error.message}")
