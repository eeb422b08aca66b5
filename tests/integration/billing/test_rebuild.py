"""The events are the record: tables made again from them are the same, and tampering is found."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress

import asyncpg
import pytest

from services.billing import views
from services.billing.adapters.ledger_postgres import PostgresLedger
from services.billing.corrections import (
    PostCorrection,
    RerateModel,
    post_correction,
    rerate_model,
)
from services.billing.domain.grants import CloseGrant, GrantRules, OpenGrant, RenewGrant
from services.billing.domain.seals import HOUR_MS, hour_of, sealed
from services.billing.domain.state import Grant
from services.billing.explain import explain
from services.billing.handlers import (
    CreditAccount,
    credit_account,
    expire_grants,
    run_grant_commands,
    write_off_overdue,
)
from services.billing.rebuild import rebuild
from services.billing.sealing import seal_next_hour
from services.billing.settlement.keys import KeyCaps
from services.billing.settlement.settle import UsageSettlement
from services.billing.verify import verify
from services.common.clock import FakeClock
from services.common.errors import Conflict, InternalError
from services.common.ids import AccountId, GrantId, KeyId, WorkerId
from services.common.money import Price, Rate, TokenKind
from services.common.topics import KEYS, LEDGER, USAGE
from tests.fixtures.ledger import NOW_MS, PRICE, Feed, LetterBox, key_record, usage_record
from tests.fixtures.payments import live_through_payments

RULES = GrantRules(ttl_ms=60_000, grace_ms=1_000, write_off_after_ms=1_800_000)
ACCOUNTS = ("acc_1", "acc_2", "acc_3")


class RandomRun:
    """A random history over three accounts with two keys each."""

    def __init__(self, ledger: PostgresLedger, seed: int) -> None:
        self.ledger = ledger
        self.chance = random.Random(seed)
        self.clock = FakeClock(NOW_MS)
        box = LetterBox()
        self.usage = Feed(USAGE, UsageSettlement(ledger, box, self.clock))
        self.keys = Feed(KEYS, KeyCaps(ledger, box, self.clock))
        self.grants: list[tuple[str, str, str]] = []
        self.renewals: dict[str, int] = {}

    async def run(self, steps: int) -> None:
        for account in ACCOUNTS:
            command = CreditAccount(AccountId(account), 50_000, "", "first")
            await credit_account(self.ledger, self.clock, command)
            await self.keys.send(*(key_record(f"key_{n}", account_id=account) for n in (1, 2)))
            await live_through_payments(self.ledger, self.clock, AccountId(account))
        for number in range(steps):
            await self.clock.advance(self.chance.randint(1, 20))
            await self.step(number)

    async def step(self, number: int) -> None:
        steps = ["open", "open", "renew", "settle", "settle", "close", "cap", "expire", "correct"]
        steps.append("hour")
        match self.chance.choice(steps):
            case "open":
                await self.open_some(number)
            case "renew":
                await self.renew_some()
            case "settle":
                await self.settle_some(number)
            case "close":
                await self.close_some()
            case "cap":
                await self.set_cap(number)
            case "correct":
                await self.correct_some(number)
            case "hour":
                await self.let_an_hour_pass()
            case _:
                await expire_grants(self.ledger, self.clock, rules=RULES, limit=100)

    async def open_some(self, number: int) -> None:
        asks = []
        for part in range(self.chance.randint(1, 6)):
            account, key = self.chance.choice(ACCOUNTS), f"key_{self.chance.randint(1, 2)}"
            self.grants.append((f"gr_{number}_{part}", account, key))
            ids = (GrantId(self.grants[-1][0]), WorkerId("w1"), AccountId(account), KeyId(key))
            needed, wanted = self.chance.randint(1, 300), self.chance.randint(0, 600)
            asks.append(OpenGrant(*ids, 0, needed, 0, wanted))
        await run_grant_commands(self.ledger, self.clock, asks, rules=RULES)

    async def renew_some(self) -> None:
        renewals = []
        for grant, account, _ in self.chance.sample(self.grants, min(4, len(self.grants))):
            needed = self.chance.choice([0, self.chance.randint(1, 300)])
            back = 0 if needed else self.chance.choice([0, self.chance.randint(1, 50)])
            number = self.renewals[grant] = self.renewals.get(grant, 0) + 1
            ids = (GrantId(grant), WorkerId("w1"), AccountId(account))
            renewals.append(RenewGrant(*ids, number, 0, needed, 0, 0, back))
        answers = await run_grant_commands(self.ledger, self.clock, renewals, rules=RULES)
        for renewal, answer in zip(renewals, answers, strict=True):
            self.renewals[renewal.grant_id] -= not isinstance(answer, Grant)

    async def close_some(self) -> None:
        closes = [
            CloseGrant(
                GrantId(grant), WorkerId("w1"), AccountId(account), self.chance.randint(0, 300)
            )
            for grant, account, _ in self.chance.sample(self.grants, min(3, len(self.grants)))
        ]
        await run_grant_commands(self.ledger, self.clock, closes, rules=RULES)

    async def settle_some(self, number: int) -> None:
        records = []
        for part in range(self.chance.randint(1, 8)):
            grant, account, key = self.chance.choice([*self.grants, ("", "acc_1", "key_1")])
            records.append(
                usage_record(
                    f"use_{number}_{part}",
                    account_id=account,
                    key_id=key,
                    grant_id=self.chance.choice([grant, grant, "gr_unknown"]),
                    tokens=self.chance.choice([0, self.chance.randint(1, 400)]),
                    admitted_at_ms=self.clock.now_ms() - self.chance.randint(0, 40) * 86_400_000,
                )
            )
        await self.usage.send(*records)

    async def correct_some(self, number: int) -> None:
        model = PRICE.model_id
        journal = [one async for one in self.ledger.journal_of_model(model, AccountId(""))]
        for posted in self.chance.sample(journal, min(2, len(journal))):
            with suppress(Conflict):
                command = PostCorrection(posted.transaction_id, "random")
                await post_correction(self.ledger, self.clock, command)
        correct = Price(f"pv_{number}", {TokenKind.COMPLETION: Rate(2_000_000)}, model_id=model)
        account = AccountId(self.chance.choice(ACCOUNTS))
        rerating = RerateModel(model, PRICE.price_version_id, correct, False, account)
        async for _ in rerate_model(self.ledger, self.clock, rerating):
            pass

    async def let_an_hour_pass(self) -> None:
        await self.clock.advance(3_600)
        await write_off_overdue(self.ledger, self.clock, rules=RULES, limit=100)
        while await seal_next_hour(self.ledger, self.clock, delay_ms=60_000):
            pass

    async def set_cap(self, number: int) -> None:
        state = key_record(
            f"key_{self.chance.randint(1, 2)}",
            account_id=self.chance.choice(ACCOUNTS),
            cap_nanousd=self.chance.choice([None, 0, 5_000, 50_000]),
            window=self.chance.randint(1, 5),
            version=number + 1,
            user_id=self.chance.choice(["usr_1", "usr_2"]),
            team_id=self.chance.choice(["", "tm_1", "tm_2"]),
            scopes={
                scope: (self.chance.choice([None, 2_000, 20_000]), number + 1)
                for scope in ("account", "member:usr_1", "team:tm_1", "account_model:test/model")
                if self.chance.random() < 0.5
            },
            models={
                model: self.chance.choice([None, 3_000])
                for model in ("test/model", "other/model")
                if self.chance.random() < 0.3
            },
        )
        await self.keys.send(state)


async def random_run(ledger: PostgresLedger, seed: int, steps: int) -> None:
    await RandomRun(ledger, seed).run(steps)


async def tamper(pool: asyncpg.Pool, *statements: str) -> None:
    """Changes stored events behind the product's back, as somebody with the keys could."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("ALTER TABLE events DISABLE TRIGGER events_immutable")
        for statement in statements:
            assert (await connection.execute(statement)).startswith(("UPDATE 1", "DELETE 1"))
        await connection.execute("ALTER TABLE events ENABLE TRIGGER events_immutable")


@pytest.mark.parametrize("seed", [1, 2])
async def test_the_tables_made_again_from_the_events_are_the_same(
    pool: asyncpg.Pool, ledger: PostgresLedger, seed: int
) -> None:
    await random_run(ledger, seed, steps=100)
    verified = await verify(pool)
    assert verified.is_sound, verified.findings
    assert verified.accounts == len(ACCOUNTS)
    rebuilt = await rebuild(pool)
    assert rebuilt.is_equal
    assert rebuilt.kept
    assert verified.seals > 5
    assert rebuilt.events == verified.events + verified.seals > 100
    types = {row[0] for row in await pool.fetch("SELECT DISTINCT type FROM events")}
    assert types == set(LEDGER.event_types)
    assert (await verify(pool)).is_sound


async def test_billing_goes_on_after_a_rebuild(pool: asyncpg.Pool, ledger: PostgresLedger) -> None:
    await random_run(ledger, 3, steps=20)
    await rebuild(pool, repair=True)
    clock = FakeClock(NOW_MS + 1_000 * HOUR_MS)
    again = await credit_account(
        ledger, clock, CreditAccount(AccountId("acc_1"), 50_000, "", "first")
    )
    assert again.transaction.sequence == 1
    new = await credit_account(ledger, clock, CreditAccount(AccountId("acc_1"), 1, "", "second"))
    assert new.transaction.sequence > 1
    assert (await verify(pool)).is_sound


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("UPDATE wallet SET posted_nanousd = posted_nanousd + 1", "wallet"),
        ("UPDATE grants SET settled_nanousd = settled_nanousd + 1", "grants"),
        ("UPDATE key_account SET spent_nanousd = spent_nanousd - 1", "keys"),
        ("UPDATE key_day SET spent_nanousd = spent_nanousd - 1", "day"),
        ("UPDATE ledger_total SET balance_nanousd = balance_nanousd + 1", "totals"),
        ("DELETE FROM usage_mark", "marked"),
        ("UPDATE seal_chain SET log_hash = hash", "seals"),
    ],
)
async def test_a_changed_table_is_found_and_a_rebuild_repairs_it_only_when_asked(
    pool: asyncpg.Pool, ledger: PostgresLedger, damage: str, told: str
) -> None:
    await random_run(ledger, 4, steps=40)
    await pool.execute(damage)
    findings = (await verify(pool)).findings
    assert findings
    assert all(told in finding.what for finding in findings)
    if told == "marked":
        return
    looked = await rebuild(pool)
    assert not looked.is_equal
    assert not looked.kept
    assert not (await verify(pool)).is_sound
    assert (await rebuild(pool, repair=True)).kept
    assert (await verify(pool)).is_sound


async def all_positions(pool: asyncpg.Pool) -> Sequence[tuple[int, int]]:
    rows = await pool.fetch("SELECT global_position, length(payload) FROM events ORDER BY 1")
    return [(row[0], row[1]) for row in rows]


async def test_a_flipped_bit_in_any_stored_event_is_found(
    pool: asyncpg.Pool, ledger: PostgresLedger
) -> None:
    await random_run(ledger, 5, steps=15)
    chance = random.Random(6)
    for position, length in await all_positions(pool):
        bit = chance.randrange(length * 8)
        flip = (
            "UPDATE events SET payload = set_bit(payload, {0}, 1 - get_bit(payload, {0}))"
            f" WHERE global_position = {position}"
        ).format(bit)
        await tamper(pool, flip)
        assert not (await verify(pool)).is_sound, f"bit {bit} of event {position}"
        await tamper(pool, flip)
    assert (await verify(pool)).is_sound


async def test_a_removed_event_is_found(pool: asyncpg.Pool, ledger: PostgresLedger) -> None:
    await random_run(ledger, 7, steps=10)
    last = "(SELECT max(global_position) FROM events)"
    await tamper(pool, f"DELETE FROM events WHERE global_position = {last}")
    assert not (await verify(pool)).is_sound


async def test_an_event_that_cannot_be_read_stops_a_rebuild_and_keeps_the_tables(
    pool: asyncpg.Pool, ledger: PostgresLedger
) -> None:
    await random_run(ledger, 8, steps=10)
    await tamper(pool, "UPDATE events SET payload = '\\x00' WHERE global_position = 3")
    before = await pool.fetch("SELECT * FROM wallet ORDER BY account_id")
    with pytest.raises(InternalError):
        await rebuild(pool, repair=True)
    assert await pool.fetch("SELECT * FROM wallet ORDER BY account_id") == before


async def test_a_seal_that_says_something_else_is_found_even_when_its_chain_holds(
    pool: asyncpg.Pool, ledger: PostgresLedger
) -> None:
    run = RandomRun(ledger, 8)
    await run.run(steps=0)
    await run.settle_some(1)
    figures = await ledger.hour_figures(hour_of(NOW_MS))
    figures.cost_nanousd += 1
    async with ledger.unit() as unit:
        chain = await unit.seal_chain()
        seal = sealed(
            chain, figures, hour_start_ms=hour_of(NOW_MS), sealed_at_ms=run.clock.now_ms()
        )
        await unit.save_seal(chain, seal)
    [finding] = (await verify(pool)).findings
    assert "cost_nanousd was" in finding.what
    # Of one account nothing is wrong, and the seals are not looked at.
    assert (await verify(pool, "acc_1")).is_sound


@pytest.mark.parametrize("seed", [9, 10])
async def test_an_explanation_sums_to_the_balance_at_any_time(
    pool: asyncpg.Pool, ledger: PostgresLedger, seed: int
) -> None:
    """The balances that were seen while it happened are told again afterwards, exactly."""
    run = RandomRun(ledger, seed)
    seen: list[tuple[str, int, int]] = []
    await run.run(steps=0)
    for number in range(60):
        await run.clock.advance(run.chance.randint(1, 20))
        await run.step(number)
        for account in ACCOUNTS:
            wallet = await views.balance(pool, AccountId(account))
            seen.append((account, run.clock.now_ms(), wallet.posted_nanousd))
    assert len({balance for _, _, balance in seen}) > 10
    for account, at_ms, balance in seen:
        told = [one async for one in explain(pool, AccountId(account), at_ms=at_ms)]
        assert sum(one.change_nanousd for one in told) == balance
        assert (told[-1].balance_nanousd if told else 0) == balance
    assert [one async for one in explain(pool, AccountId("acc_1"), at_ms=NOW_MS - 1)] == []
