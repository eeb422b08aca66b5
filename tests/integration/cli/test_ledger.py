"""`mesh ledger` as a process, against a billing that serves."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from services.billing.adapters.ledger_postgres import PostgresLedger
from services.billing.bootstrap import grant_desk, grpc_server
from services.billing.config import BillingSettings
from services.billing.domain.grants import GrantRules, OpenGrant
from services.billing.handlers import (
    CreditAccount,
    credit_account,
    expire_grants,
    run_grant_commands,
)
from services.billing.sealing import seal_next_hour
from services.billing.settlement.keys import KeyCaps
from services.billing.settlement.settle import UsageSettlement
from services.cli.context import SERVICES as ASKED
from services.common.clock import FakeClock
from services.common.config import DEVELOPMENT_SECRET
from services.common.ids import AccountId, GrantId, KeyId, WorkerId
from services.common.postgres import migrate, open_pool
from services.common.topics import KEYS, USAGE
from tests.fixtures.engines import PostgresServer
from tests.fixtures.ledger import NOW_MS, PRICE, Feed, LetterBox, key_record, usage_record
from tests.integration.cli.test_command import Done, mesh

ACCOUNT = "acc_1"
RULES = GrantRules(ttl_ms=1_000, grace_ms=0)


@dataclass
class Books:
    """A served billing with a credit, two requests and an unresolved grant; and the command."""

    pool: asyncpg.Pool
    folder: Path
    environment: dict[str, str]

    async def ledger(self, *arguments: str) -> Done:
        return await mesh(self.folder, "ledger", *arguments, **self.environment)

    async def transactions(self) -> list[dict[str, object]]:
        told = await self.ledger("explain", ACCOUNT, "--json")
        assert told.code == 0, told.err
        return [json.loads(line) for line in told.out.splitlines()]


@pytest.fixture
async def books(postgres_dsn: PostgresServer, tmp_path: Path) -> AsyncIterator[Books]:
    dsn = postgres_dsn("billing")
    settings = BillingSettings.model_validate({"dsn": dsn, "grpc_listen": "127.0.0.1:0"})
    pool = await open_pool(dsn)
    await migrate(pool, "services.billing")
    store, clock = PostgresLedger(pool, unit_timeout_s=10.0), FakeClock(NOW_MS)
    server = grpc_server(store, pool, grant_desk(store, clock, settings), settings=settings)
    await server.start()
    await history(store, clock)
    environment = {f"MESH_{name.upper()}_ADDRESS": f"127.0.0.1:{server.port}" for name in ASKED}
    environment |= {"MESH_SERVICE_SECRET": DEVELOPMENT_SECRET, "MESH_BILLING_DSN": dsn}
    yield Books(pool, tmp_path, environment)
    await server.stop(0)
    await pool.close()


async def history(store: PostgresLedger, clock: FakeClock) -> None:
    """What the books say at first."""
    account, key = AccountId(ACCOUNT), KeyId("key_1")
    await credit_account(store, clock, CreditAccount(account, 5_000_000_000, "welcome", "first"))
    await Feed(KEYS, KeyCaps(store, LetterBox(), clock)).send(key_record(key, account_id=account))
    asked = OpenGrant(GrantId("gr_1"), WorkerId("w1"), account, key, 1, 400, 0, 0)
    await run_grant_commands(store, clock, [asked], rules=RULES)
    await clock.advance(10)
    await expire_grants(store, clock, rules=RULES, limit=10)
    usage = Feed(USAGE, UsageSettlement(store, LetterBox(), clock))
    await usage.send(*(usage_record(f"use_{n}", account_id=account) for n in (1, 2)))
    await clock.advance(7_200)
    assert await seal_next_hour(store, clock, delay_ms=0)


async def test_a_balance_is_explained_now_and_at_a_past_time(books: Books) -> None:
    told = await books.ledger("explain", ACCOUNT)
    assert told.code == 0
    assert "req_of_use_1" in told.out
    assert told.out.splitlines()[-1] == "acc_1: 4.9999998 USD now, the sum of 3 entries"
    rows = await books.transactions()
    assert [row["balance_nanousd"] for row in rows] == [5_000_000_000, 4_999_999_900, 4_999_999_800]
    past = await books.ledger("explain", ACCOUNT, "--at", str(NOW_MS + 9_999))
    assert "5.00 USD at" in past.out
    assert past.out.splitlines()[-1].endswith("the sum of 1 entries")
    before = await books.ledger("explain", ACCOUNT, "--at", "2020-01-01T00:00:00Z")
    assert before.out == "acc_1: 0.00 USD at 2020-01-01T00:00:00.000Z, the sum of 0 entries\n"


@pytest.mark.parametrize("at", ["yesterday", "2026-01-01T00:00:00"])
async def test_a_time_that_is_none_or_has_no_zone_is_refused(tmp_path: Path, at: str) -> None:
    assert (await mesh(tmp_path, "ledger", "explain", ACCOUNT, "--at", at)).sentence.startswith(
        "at"
    )


async def test_sound_books_are_verified_in_one_line_of_figures(books: Books) -> None:
    done = await books.ledger("verify")
    assert (done.code, done.err) == (0, "")
    figures = "1 accounts, 6 events, 3 transactions, 1 seals: nothing wrong\n"
    assert done.out == figures
    one = await books.ledger("verify", ACCOUNT)
    assert (one.code, one.out) == (0, figures.replace("1 seals", "0 seals"))


async def test_a_finding_is_told_and_exits_1(books: Books) -> None:
    await books.pool.execute("UPDATE wallet SET posted_nanousd = posted_nanousd + 1")
    done = await books.ledger("verify")
    assert done.code == 1
    assert "its wallet is not the fold of its entries" in done.out
    assert done.out.splitlines()[-1].endswith("1 findings")


async def test_a_rebuild_says_equal_or_what_differs_and_repairs_when_asked(books: Books) -> None:
    equal = await books.ledger("rebuild")
    assert (equal.code, equal.err) == (0, "")
    [line] = equal.out.splitlines()
    assert line.startswith("billing: 7 events folded, equal, ")
    await books.pool.execute("UPDATE wallet SET posted_nanousd = posted_nanousd + 1")
    for arguments, told in ((("rebuild",), "left as they were"), (("rebuild", "--repair"), "rep")):
        done = await books.ledger(*arguments)
        assert (done.code, len(done.out.splitlines())) == (1, 1)
        assert "DIFFERENT" in done.out
        assert told in done.out
    assert (await books.ledger("rebuild")).code == 0
    assert (await books.ledger("verify")).code == 0


async def test_a_rebuild_without_a_database_is_one_sentence(tmp_path: Path) -> None:
    assert "MESH_BILLING_DSN" in (await mesh(tmp_path, "ledger", "rebuild")).sentence


async def test_a_transaction_is_corrected_once(books: Books) -> None:
    wrong = str((await books.transactions())[1]["transaction_id"])
    done = await books.ledger("correct", wrong, "--reason", "it never answered", "--json")
    assert done.code == 0, done.err
    row = json.loads(done.out)
    assert (row["kind"], row["amount_nanousd"], row["corrects"]) == ("reversal", 100, wrong)
    again = await books.ledger("correct", wrong, "--reason", "it never answered", "--json")
    assert again.out == done.out
    assert (await books.ledger("correct", wrong, "--reason", "")).sentence.startswith("reason")
    unknown = await books.ledger("correct", "tx_unknown", "--reason", "x")
    assert unknown.sentence == "there is no such transaction"
    assert len(await books.transactions()) == 4
    assert (await books.ledger("verify")).code == 0


async def test_a_rerating_is_shown_first_and_booked_once(books: Books) -> None:
    wrong = ("--wrong-price", PRICE.price_version_id)
    arguments = ("rerate", PRICE.model_id, *wrong, "--prompt", "0", "--completion", "0.0004")
    shown = await books.ledger(*arguments, "--json")
    assert shown.code == 0, shown.err
    assert json.loads(shown.out)["difference_nanousd"] == 120
    assert "nothing booked" in shown.err
    assert len(await books.transactions()) == 3
    for _ in range(2):
        booked = await books.ledger(*arguments, "--yes", "--json")
        assert booked.out == shown.out
        assert booked.err == "2 requests, 0.00000012 USD back to wallets: booked\n"
    rows = await books.transactions()
    assert len(rows) == 5
    assert rows[-1]["balance_nanousd"] == 4_999_999_920
    assert (await books.ledger("verify")).code == 0


async def test_a_rerating_to_the_wrong_price_itself_is_refused(books: Books) -> None:
    arguments = ("rerate", "a/b", "--wrong-price", "pv_1", "--price-version", "pv_1")
    done = await books.ledger(*arguments, "--prompt", "1", "--completion", "1")
    assert done.sentence.startswith("correct_price.price_version_id")


async def test_an_unresolved_grant_is_written_off(books: Books) -> None:
    done = await books.ledger("write-off", "gr_1", "--reason", "the disk was lost", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["written_off_nanousd"] == 400
    assert (await books.ledger("verify")).code == 0
    unknown = await books.ledger("write-off", "gr_9", "--reason", "x")
    assert unknown.sentence == "there is no such grant"
