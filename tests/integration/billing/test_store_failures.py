"""What a crash, a restart or a missing database does to the money: nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg
import pytest

from services.billing.adapters import ledger_postgres
from services.billing.adapters.ledger_postgres import PostgresLedger
from services.billing.domain.grants import GrantRules, OpenGrant
from services.billing.domain.state import Grant
from services.billing.handlers import CreditAccount, credit_account, run_grant_commands
from services.billing.settlement.keys import KeyCaps
from services.billing.settlement.settle import UsageSettlement
from services.billing.verify import verify
from services.common.clock import FakeClock
from services.common.errors import InvalidArgument, Unavailable
from services.common.ids import AccountId, GrantId, KeyId, WorkerId
from services.common.postgres import COPY_ROWS_MIN, Transaction, open_pool
from services.common.topics import KEYS, USAGE
from tests.fixtures.ledger import NOW_MS, Feed, LetterBox, key_record, usage_record

ACCOUNT = AccountId("acc")
CLOCK = FakeClock(NOW_MS)


class Crash(Exception):
    """The process dies here."""


@contextmanager
def crashing(monkeypatch: pytest.MonkeyPatch, target: object, name: str) -> Iterator[None]:
    """Lets the named step happen and dies right after it, still inside the transaction."""
    real = getattr(target, name)

    async def step(*args: Any, **kwargs: Any) -> None:  # Any: whatever the step takes
        await real(*args, **kwargs)
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(target, name, step)
        yield


async def started(ledger: PostgresLedger) -> Feed:
    await credit_account(ledger, CLOCK, CreditAccount(ACCOUNT, 1_000, "", "first"))
    await Feed(KEYS, KeyCaps(ledger, LetterBox(), CLOCK)).send(
        key_record("key_1", account_id=ACCOUNT)
    )
    feed = Feed(USAGE, UsageSettlement(ledger, LetterBox(), CLOCK))
    await feed.claim()
    return feed


async def everything(pool: asyncpg.Pool) -> dict[str, list[asyncpg.Record]]:
    tables = (
        "wallet", "grants", "key_account", "key_day", "ledger_total", "journal_key", "usage_mark",
        "events", "outbox", "consumer_cursor",
    )  # fmt: skip
    return {table: await pool.fetch(f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables}


@pytest.mark.parametrize(
    ("target", "name", "events"),
    [
        (ledger_postgres._PostgresUnit, "advance", 2),
        (ledger_postgres._PostgresUnit, "mark_usage", 2),
        (Transaction, "write_together", 2),
        (Transaction, "append_placed", COPY_ROWS_MIN),
        (ledger_postgres, "write_tables", COPY_ROWS_MIN),
        (Transaction, "publish_many", COPY_ROWS_MIN),
        (Transaction, "flush", COPY_ROWS_MIN),
    ],
)
async def test_a_crash_between_any_two_writes_of_a_batch_leaves_nothing_half_done(
    pool: asyncpg.Pool,
    ledger: PostgresLedger,
    monkeypatch: pytest.MonkeyPatch,
    target: object,
    name: str,
    events: int,
) -> None:
    feed = await started(ledger)
    accounts = [ACCOUNT if number % 2 else "b" for number in range(events)]
    messages = feed.put(
        *(usage_record(f"u{n}", account_id=account) for n, account in enumerate(accounts))
    )
    before = await everything(pool)
    with crashing(monkeypatch, target, name), pytest.raises(Crash):
        await feed.deliver(messages)
    assert await everything(pool) == before
    await feed.deliver(messages)
    assert await pool.fetchval("SELECT count(*) FROM usage_mark") == events
    assert (await verify(pool)).is_sound


async def test_a_restarted_billing_goes_on_where_the_old_one_stopped(
    billing_dsn: str, pool: asyncpg.Pool, ledger: PostgresLedger
) -> None:
    feed = await started(ledger)
    await feed.send(usage_record("u1", account_id=ACCOUNT))
    feed.put(usage_record("u2", account_id=ACCOUNT))
    second_pool = await open_pool(billing_dsn)
    second = PostgresLedger(second_pool, unit_timeout_s=10.0)
    reborn = Feed(USAGE, UsageSettlement(second, LetterBox(), CLOCK))
    reborn.messages = feed.messages
    assert await reborn.claim() == 1
    await reborn.deliver()
    await second_pool.close()
    assert await pool.fetchval("SELECT posted_nanousd FROM wallet") == 800


@asynccontextmanager
async def a_stuck_wallet(pool: asyncpg.Pool) -> AsyncIterator[None]:
    """Somebody holds the wallet's lock for the time of the block."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT * FROM wallet FOR UPDATE")
        yield


async def test_a_stuck_database_is_answered_as_unavailable_within_the_bound(
    pool: asyncpg.Pool, ledger: PostgresLedger
) -> None:
    await started(ledger)
    hurried = PostgresLedger(pool, unit_timeout_s=0.2)
    before = time.monotonic()
    async with a_stuck_wallet(pool):
        with pytest.raises(Unavailable):
            await credit_account(hurried, CLOCK, CreditAccount(ACCOUNT, 1, "", "second"))
    assert time.monotonic() - before < 5
    await credit_account(hurried, CLOCK, CreditAccount(ACCOUNT, 1, "", "second"))
    assert (await verify(pool)).is_sound


async def test_a_database_that_went_away_is_unavailable_and_heals(
    pool: asyncpg.Pool, ledger: PostgresLedger
) -> None:
    feed = await started(ledger)
    messages = feed.put(usage_record("u1", account_id=ACCOUNT))
    async with ledger.unit() as unit:
        await unit.wallets([ACCOUNT])
        with pytest.raises(Unavailable):
            await _cut_off(pool, feed)
    await feed.deliver(messages)
    assert await pool.fetchval("SELECT posted_nanousd FROM wallet") == 900


async def _cut_off(pool: asyncpg.Pool, feed: Feed) -> None:
    """Ends the server's side of a delivery that waits for a lock."""
    delivering = asyncio.create_task(feed.deliver())
    ended = 0
    while not ended:
        ended = await pool.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
    await delivering


async def test_a_text_that_the_database_cannot_hold_is_the_callers_mistake_and_changes_nothing(
    pool: asyncpg.Pool, ledger: PostgresLedger
) -> None:
    await started(ledger)
    before = await everything(pool)
    request = OpenGrant(GrantId("g\0"), WorkerId("w1"), ACCOUNT, KeyId("key_1"), 1, 10, 0, 0)
    with pytest.raises(InvalidArgument):
        await run_grant_commands(ledger, CLOCK, [request], rules=GrantRules())
    assert await everything(pool) == before


async def test_the_topics_get_every_event_in_order_and_one_balance_for_each_unit(
    pool: asyncpg.Pool, ledger: PostgresLedger
) -> None:
    feed = await started(ledger)
    request = OpenGrant(GrantId("g1"), WorkerId("w1"), ACCOUNT, KeyId("key_1"), 1, 100, 0, 0)
    [grant] = await run_grant_commands(ledger, CLOCK, [request], rules=GrantRules())
    assert isinstance(grant, Grant)
    await pool.execute("TRUNCATE outbox")
    await feed.send(
        usage_record("u1", account_id=ACCOUNT, grant_id="g1", tokens=40),
        usage_record("u2", account_id="b", tokens=7),
        usage_record("u3", account_id=ACCOUNT, grant_id="g1", tokens=60),
    )
    rows = await pool.fetch("SELECT topic, key, value FROM outbox ORDER BY position")
    assert [(row["topic"], row["key"]) for row in rows] == [
        ("mesh.ledger.v1", "acc"),
        ("mesh.ledger.v1", "acc"),
        ("mesh.ledger.v1", "b"),
        ("mesh.balances.v1", "acc"),
        ("mesh.balances.v1", "b"),
    ]
    stored = await pool.fetch(
        "SELECT payload FROM events WHERE stream_id = 'wallet:acc' ORDER BY stream_version"
    )
    assert [row["value"] for row in rows[:2]] == [row["payload"] for row in stored[-2:]]
