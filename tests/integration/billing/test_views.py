"""Reads beside writers: what is told was true at one moment."""

from __future__ import annotations

import asyncio

import asyncpg

from services.billing import views
from services.common.ids import AccountId, KeyId
from tests.fixtures.ledger import NOW_MS
from tests.fixtures.waiting import eventually_async

ACCOUNT, KEY = AccountId("acc_1"), KeyId("key_1")
DAY = NOW_MS // 86_400_000
_KEY = """
INSERT INTO key_account (account_id, key_id, spend_cap_nanousd, cap_window, version, active,
                         spent_nanousd, granted_nanousd, closing_nanousd)
VALUES ($1, $2, 1000, 2, 1, true, 0, 1000, 0)
"""
_BLOCKED = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'key_day'::regclass"


async def test_what_a_key_spent_and_what_it_holds_are_of_one_moment(pool: asyncpg.Pool) -> None:
    await pool.execute(_KEY, ACCOUNT, KEY)

    async def is_blocked() -> bool:
        return int(await pool.fetchval(_BLOCKED)) == 1

    async with pool.acquire() as writer, writer.transaction():
        # The reader gets as far as the spend by day, and a settlement commits meanwhile.
        await writer.execute("LOCK TABLE key_day IN ACCESS EXCLUSIVE MODE")
        reading = asyncio.create_task(views.key_spend(pool, ACCOUNT, [KEY], now_ms=NOW_MS))
        await eventually_async(is_blocked)
        await writer.execute("UPDATE key_account SET granted_nanousd = 0, spent_nanousd = 1000")
        await writer.execute("INSERT INTO key_day VALUES ($1, $2, $3, 1000)", ACCOUNT, KEY, DAY)
    [told] = await reading
    assert told.spent_nanousd + told.granted_nanousd == 1_000
