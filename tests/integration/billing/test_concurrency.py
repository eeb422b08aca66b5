"""Hard limits while many ask at once, over two instances of billing on one database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
import pytest

from services.billing.adapters.ledger_postgres import PostgresLedger
from services.billing.domain.grants import CloseGrant, GrantRules, OpenGrant, Refusal
from services.billing.domain.state import Grant
from services.billing.grant_desk import GrantDesk
from services.billing.handlers import CreditAccount, credit_account
from services.billing.settlement.keys import KeyCaps
from services.billing.settlement.settle import UsageSettlement
from services.billing.verify import verify
from services.common.clock import SystemClock
from services.common.ids import AccountId, GrantId, KeyId, WorkerId
from services.common.postgres import open_pool
from services.common.topics import KEYS, USAGE
from tests.fixtures.ledger import Feed, LetterBox, key_record, usage_record
from tests.fixtures.waiting import running

CLOCK = SystemClock()


@asynccontextmanager
async def two_desks(dsn: str, rules: GrantRules | None = None) -> AsyncIterator[list[GrantDesk]]:
    """Two instances with nothing in common but the database."""
    async with AsyncExitStack() as stack:
        desks = []
        for _ in range(2):
            pool = await open_pool(dsn, size_max=4)
            stack.push_async_callback(pool.close)
            store = PostgresLedger(pool, unit_timeout_s=10.0)
            desk = GrantDesk(
                store,
                CLOCK,
                rules or GrantRules(),
                linger_s=0.003,
                group_max=16,
                waiting_max=1_000,
                fence_s=0.5,
                fence_poll_s=0.02,
            )
            await stack.enter_async_context(running(desk.run))
            desks.append(desk)
        yield desks


async def credit(ledger: PostgresLedger, account: str, amount: int) -> None:
    await credit_account(ledger, CLOCK, CreditAccount(AccountId(account), amount, "", "first"))


async def set_caps(ledger: PostgresLedger, account: str, caps: dict[str, int | None]) -> Feed:
    feed = Feed(KEYS, KeyCaps(ledger, LetterBox(), CLOCK))
    await feed.send(*(key_record(k, account_id=account, cap_nanousd=c) for k, c in caps.items()))
    return feed


def ask(number: int, key: str, needed: int, wanted: int = 0) -> OpenGrant:
    grant_id = GrantId(f"gr_{number}")
    return OpenGrant(grant_id, WorkerId("w1"), AccountId("acc"), KeyId(key), 1, needed, 0, wanted)


async def totals(pool: asyncpg.Pool) -> tuple[int, int]:
    row = await pool.fetchrow("SELECT posted_nanousd, granted_nanousd FROM wallet")
    assert row is not None
    return row["posted_nanousd"], row["granted_nanousd"]


async def test_concurrent_openings_over_two_instances_never_exceed_the_balance(
    billing_dsn: str, pool: asyncpg.Pool, ledger: PostgresLedger
) -> None:
    await credit(ledger, "acc", 1_000)
    await set_caps(ledger, "acc", {"key": None})
    async with two_desks(billing_dsn) as desks:
        answers = await asyncio.gather(
            *(desks[number % 2].open(ask(number, "key", 70, wanted=300)) for number in range(200))
        )
    given = [answer for answer in answers if isinstance(answer, Grant)]
    assert 1_000 - 70 < sum(grant.amount_nanousd for grant in given) <= 1_000
    assert await totals(pool) == (1_000, sum(grant.amount_nanousd for grant in given))
    refused = [answer for answer in answers if isinstance(answer, Refusal)]
    assert len(given) + len(refused) == 200
    assert all(refusal.held and refusal.limit == "balance" for refusal in refused)


async def test_concurrent_openings_over_two_instances_never_exceed_a_cap(
    billing_dsn: str, pool: asyncpg.Pool, ledger: PostgresLedger
) -> None:
    await credit(ledger, "acc", 1_000_000)
    await set_caps(ledger, "acc", {"key_a": 500, "key_b": 900})
    async with two_desks(billing_dsn) as desks:
        await asyncio.gather(
            *(
                desks[number % 2].open(ask(number, f"key_{'ab'[number // 2 % 2]}", 30, wanted=60))
                for number in range(200)
            )
        )
    rows = await pool.fetch("SELECT key_id, granted_nanousd FROM key_account ORDER BY key_id")
    held = {row["key_id"]: row["granted_nanousd"] for row in rows}
    assert 500 - 30 < held["key_a"] <= 500
    assert 900 - 30 < held["key_b"] <= 900


async def test_fifty_keys_of_one_team_over_two_instances_never_exceed_its_cap(
    billing_dsn: str, pool: asyncpg.Pool, ledger: PostgresLedger
) -> None:
    await credit(ledger, "acc", 1_000_000)
    keys = [f"key_{number}" for number in range(50)]
    feed = Feed(KEYS, KeyCaps(ledger, LetterBox(), CLOCK))
    limits: dict[str, tuple[int | None, int]] = {"team:a": (2_000, 1), "account": (5_000, 2)}
    await feed.send(
        *(key_record(one, account_id="acc", team_id="a", scopes=limits) for one in keys)
    )
    async with two_desks(billing_dsn) as desks:
        answers = await asyncio.gather(
            *(desks[number % 2].open(ask(number, keys[number % 50], 40)) for number in range(400))
        )
    # Exactly as many as the cap has room for, whichever they are.
    assert sum(isinstance(answer, Grant) for answer in answers) == 50
    refused = [answer for answer in answers if isinstance(answer, Refusal)]
    assert {(refusal.limit, refusal.held) for refusal in refused} == {("team_cap", True)}
    rows = await pool.fetch("SELECT scope, granted_nanousd FROM scope_account ORDER BY scope")
    held = {row["scope"]: row["granted_nanousd"] for row in rows}
    assert held == {"account": 2_000, "member:usr_1": 2_000, "team:a": 2_000}
    verified = await verify(pool)
    assert verified.is_sound, verified.findings


async def test_the_same_grant_id_on_both_instances_at_once_is_one_grant(
    billing_dsn: str, pool: asyncpg.Pool, ledger: PostgresLedger
) -> None:
    await credit(ledger, "acc", 1_000)
    await set_caps(ledger, "acc", {"key": None})
    async with two_desks(billing_dsn) as desks:
        answers = await asyncio.gather(*(desk.open(ask(1, "key", 100)) for desk in desks * 10))
    assert len({repr(answer) for answer in answers}) == 1
    assert await totals(pool) == (1_000, 100)


async def test_grants_closes_and_settlement_side_by_side_keep_every_sum(
    billing_dsn: str, pool: asyncpg.Pool, ledger: PostgresLedger
) -> None:
    await credit(ledger, "acc", 20_000)
    await set_caps(ledger, "acc", {"key_a": 6_000, "key_b": None})
    dead = LetterBox()
    feeds = [Feed(USAGE, UsageSettlement(ledger, dead, CLOCK), partition) for partition in (0, 1)]

    async def one(number: int, desks: list[GrantDesk]) -> None:
        key = f"key_{'ab'[number % 2]}"
        grant = await desks[number % 2].open(ask(number, key, 100, wanted=200))
        if isinstance(grant, Refusal):
            return
        spent = min(grant.amount_nanousd, number % 150)
        record = usage_record(
            f"use_{number}",
            account_id="acc",
            key_id=key,
            grant_id=grant.grant_id,
            tokens=spent,
        )
        feed = feeds[number % 2]
        close = CloseGrant(grant.grant_id, WorkerId("w1"), AccountId("acc"), spent)
        async with locks[number % 2]:
            sending = feed.send(record)
            await asyncio.gather(sending, desks[(number + 1) % 2].close(close))

    locks = [asyncio.Lock(), asyncio.Lock()]
    async with two_desks(billing_dsn) as desks:
        await asyncio.gather(*(one(number, desks) for number in range(120)))
    spent = await pool.fetchval("SELECT sum(spent_nanousd)::bigint FROM key_account")
    assert spent > 0
    assert await totals(pool) == (20_000 - spent, 0)
    assert dead.letters == []
    verified = await verify(pool)
    assert verified.is_sound, verified.findings


async def test_an_opening_waits_for_the_version_of_the_key(
    billing_dsn: str, ledger: PostgresLedger
) -> None:
    await credit(ledger, "acc", 1_000)
    async with two_desks(billing_dsn) as desks:
        opening = asyncio.create_task(desks[0].open(ask(1, "key", 100)))
        await asyncio.sleep(0)
        await set_caps(ledger, "acc", {"key": 500})
        assert isinstance(await opening, Grant)


@pytest.mark.parametrize("desk", [0, 1])
async def test_an_opening_by_a_version_that_never_comes_is_refused_as_held(
    billing_dsn: str, ledger: PostgresLedger, desk: int
) -> None:
    await credit(ledger, "acc", 1_000)
    async with two_desks(billing_dsn) as desks:
        refusal = await desks[desk].open(ask(1, "key", 100))
    assert isinstance(refusal, Refusal)
    assert (refusal.limit, refusal.held) == ("key_inactive", True)
