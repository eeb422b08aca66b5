"""Drops the read tables, folds every event again and says whether the result is the same.

The tables of secrets (password and token hashes) are no fold of events and stay as they are.
Commands wait meanwhile: `python -m services.accounts.rebuild`.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from dataclasses import dataclass
from typing import assert_never

import asyncpg

from services.accounts.adapters.recording import AuditRow, audit_row
from services.accounts.adapters.store_postgres import ReadTables
from services.accounts.adapters.wire import event_from_record
from services.accounts.config import AccountsSettings
from services.accounts.domain import account as accounts
from services.accounts.domain import admin_key as admin_keys
from services.accounts.domain import invitation as invitations
from services.accounts.domain import key as keys
from services.accounts.domain import session as sessions
from services.accounts.domain import user as users
from services.accounts.domain.account import Account
from services.accounts.domain.admin_key import AdminKey
from services.accounts.domain.audit import Aggregate, Event
from services.accounts.domain.invitation import Invitation
from services.accounts.domain.key import Key
from services.accounts.domain.session import Session
from services.accounts.domain.user import User
from services.accounts.rows import Connection
from services.common.config import load_settings
from services.common.postgres import EventStore, migrate, open_pool, translated

READ_TABLES = (
    "accounts",
    "admin_keys",
    "api_keys",
    "audit_events",
    "invitations",
    "members",
    "sessions",
    "users",
)
AUDIT_BATCH = 1_000
# A sum is the same in any order; 60 bits of each row's digest go into it.
_SUM = """
SELECT count(*) AS rows, coalesce(sum(('x' || left(md5(t::text), 15))::bit(60)::bigint), 0) AS total
FROM {table} AS t
"""


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """Hashes of the read tables before and after, hexadecimal, and how many events were folded."""

    events: int
    hash_before: str
    hash_after: str

    @property
    def equal(self) -> bool:
        """True where the tables were what the events say."""
        return self.hash_before == self.hash_after


async def rebuild(pool: asyncpg.Pool) -> RebuildReport:
    """Rebuilds in one transaction; commands and reads wait meanwhile. All states are held in memory
    once.
    """
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            # First the lock: whoever has appended an event has also written its row, or waits here
            # to do so.
            await connection.execute(
                f"LOCK TABLE {', '.join(READ_TABLES)} IN ACCESS EXCLUSIVE MODE"
            )
            before = await read_tables_hash(connection)
            await connection.execute(f"TRUNCATE {', '.join(READ_TABLES)}")
            events = await _fold(EventStore(pool), ReadTables(connection))
            return RebuildReport(events, before, await read_tables_hash(connection))


async def read_tables_hash(connection: Connection) -> str:
    """A hash of all rows of the read tables that does not depend on their order."""
    digest = hashlib.sha256()
    for table in READ_TABLES:
        row = await connection.fetchrow(_SUM.format(table=table))
        assert row is not None, "an aggregate always has a row"
        digest.update(f"{table}:{row['rows']}:{row['total']};".encode())
    return digest.hexdigest()


async def _fold(events: EventStore, tables: ReadTables) -> int:
    states: dict[str, Aggregate] = {}
    audit: list[AuditRow] = []
    count = 0
    async for record in events.read_all():
        event = event_from_record(record)
        before = states.get(record.stream_id)
        audit.append(audit_row(before, event, record))
        states[record.stream_id] = evolved(before, event)
        assert states[record.stream_id].version == record.stream_version, "a stream has a gap"
        count += 1
        if len(audit) >= AUDIT_BATCH:
            await tables.add_audit(audit)
            audit.clear()
    await tables.add_audit(audit)
    for state in states.values():
        await _save(tables, state)
    return count


def evolved(before: Aggregate | None, event: Event) -> Aggregate:
    """The state after any event of the service."""
    match event:
        case (
            keys.KeyIssued()
            | keys.KeyChanged()
            | keys.KeySuspended()
            | keys.KeyResumed()
            | keys.KeyRotated()
        ):
            assert before is None or isinstance(before, Key)
            return keys.evolve(before, event)
        case (
            admin_keys.AdminKeyIssued()
            | admin_keys.AdminKeyRotated()
            | admin_keys.AdminKeyRevoked()
        ):
            assert before is None or isinstance(before, AdminKey)
            return admin_keys.evolve(before, event)
        case (
            invitations.InvitationMade()
            | invitations.InvitationRenewed()
            | invitations.InvitationRevoked()
            | invitations.InvitationAccepted()
        ):
            assert before is None or isinstance(before, Invitation)
            return invitations.evolve(before, event)
        case sessions.SessionStarted() | sessions.SessionEnded():
            assert before is None or isinstance(before, Session)
            return sessions.evolve(before, event)
        case users.UserSignedUp() | users.PasswordChanged() | users.IdentityLinked():
            assert before is None or isinstance(before, User)
            return users.evolve(before, event)
        case _:
            assert before is None or isinstance(before, Account)
            return accounts.evolve(before, event)


async def _save(tables: ReadTables, state: Aggregate) -> None:
    match state:
        case Account():
            await tables.save_account(None, state)
        case AdminKey():
            await tables.save_admin_key(state)
        case Invitation():
            await tables.save_invitation(state)
        case Key():
            await tables.save_key(state)
        case Session():
            await tables.save_session(state)
        case User():
            await tables.save_user(state)
        case _:
            assert_never(state)


async def main() -> int:
    """Exits 1 where the tables differed from the events."""
    settings = load_settings(AccountsSettings)
    pool = await open_pool(settings.dsn.get_secret_value(), size_max=2)
    try:
        await migrate(pool, "services.accounts")
        report = await rebuild(pool)
    finally:
        await pool.close()
    verdict = "equal" if report.equal else "DIFFERENT"
    print(f"accounts: {report.events} events folded, {verdict}: {report.hash_after}")
    return 0 if report.equal else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
