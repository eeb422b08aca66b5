"""What puts wrong entries right, over either store: reversals, re-ratings, write-offs, seals."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.billing.adapters.ledger_memory import MemoryLedger
from services.billing.corrections import (
    PostCorrection,
    RerateModel,
    post_correction,
    rerate_model,
)
from services.billing.domain.corrections import Rerating
from services.billing.domain.events import TransactionPosted
from services.billing.domain.grants import CloseGrant, GrantRules, OpenGrant, Refusal
from services.billing.domain.ledger import wallet_change
from services.billing.domain.seals import HOUR_MS, hour_of
from services.billing.domain.state import Grant, Wallet
from services.billing.handlers import (
    CreditAccount,
    credit_account,
    expire_grants,
    run_grant_commands,
    write_off_grant,
    write_off_overdue,
)
from services.billing.ports import LedgerStore
from services.billing.sealing import Sealer, seal_next_hour
from services.billing.settlement.keys import KeyCaps
from services.billing.settlement.settle import UsageSettlement
from services.common.clock import FakeClock
from services.common.errors import AppError, Conflict, NotFound
from services.common.ids import AccountId, GrantId, KeyId, TransactionId, WorkerId
from services.common.money import Price, Rate, TokenKind
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.topics import KEYS, USAGE
from tests.fixtures.ledger import NOW_MS, PRICE, Feed, LetterBox, key_record, usage_record

ACCOUNT, KEY = AccountId("acc_1"), KeyId("key_1")
RULES = GrantRules(ttl_ms=60_000, grace_ms=1_000, write_off_after_ms=3_600_000)
DAY_MS = 86_400_000
MODEL = "test/model"


def price(version: str, rate: int) -> Price:
    """So many nano-dollars for each completion token."""
    return Price(version, {TokenKind.COMPLETION: Rate(rate * 1_000_000)}, model_id=MODEL)


class World:
    """A billing over a store; `sent` counts usage events, so that each has an id of its own."""

    def __init__(self, store: LedgerStore) -> None:
        self.store = store
        self.clock = FakeClock(NOW_MS)
        self.usage = Feed(USAGE, UsageSettlement(store, LetterBox(), self.clock))
        self.keys = Feed(KEYS, KeyCaps(store, LetterBox(), self.clock))
        self.sent = 0

    async def start(self, cap: int | None = None, window: int = 1) -> None:
        await credit_account(self.store, self.clock, CreditAccount(ACCOUNT, 10_000, "", "first"))
        await self.keys.send(
            key_record(KEY, account_id=ACCOUNT, cap_nanousd=cap, window=window, version=1)
        )

    async def spend(self, tokens: int = 100, account: str = ACCOUNT, **more: Any) -> str:
        """A request; gives its usage id. Any: fields of the event."""
        self.sent += 1
        usage_id = f"use_{self.sent}"
        await self.usage.send(usage_record(usage_id, account_id=account, tokens=tokens, **more))
        return usage_id

    async def journal(self) -> list[TransactionPosted]:
        """Every transaction of the model's use, which is all but the credits."""
        return [one async for one in self.store.journal_of_model(MODEL, AccountId(""))]

    async def transaction(self, usage_id: str) -> TransactionPosted:
        found = [one for one in await self.journal() if one.usage_id == usage_id]
        assert len(found) == 1
        return found[0]

    async def reverse(self, target: TransactionPosted, reason: str = "wrong") -> TransactionPosted:
        command = PostCorrection(target.transaction_id, reason)
        return await post_correction(self.store, self.clock, command)

    async def rerate(
        self, wrong: str, correct: Price, *, dry_run: bool = False, account: str = ""
    ) -> list[Rerating]:
        command = RerateModel(MODEL, wrong, correct, dry_run, AccountId(account))
        return [one async for one in rerate_model(self.store, self.clock, command)]

    async def open(self, grant_id: str, needed: int) -> object:
        ids = (GrantId(grant_id), WorkerId("w1"), ACCOUNT, KEY)
        asked = OpenGrant(*ids, 1, needed, 0, 0)
        return (await run_grant_commands(self.store, self.clock, [asked], rules=RULES))[0]

    async def lapse(self) -> None:
        """Time goes on until open grants are unresolved."""
        await self.clock.advance(100)
        await expire_grants(self.store, self.clock, rules=RULES, limit=10)

    async def wallet(self, account: str = ACCOUNT) -> Wallet:
        async with self.store.unit() as unit:
            return (await unit.wallets([AccountId(account)]))[AccountId(account)]

    async def money(self) -> tuple[int, int]:
        wallet = await self.wallet()
        return wallet.posted_nanousd, wallet.granted_nanousd

    async def grant(self, grant_id: str) -> Grant:
        async with self.store.unit() as unit:
            return (await unit.grants([GrantId(grant_id)]))[GrantId(grant_id)]


@pytest.fixture
def world(store: LedgerStore) -> World:
    return World(store)


async def test_entries_of_usage_carry_what_was_priced(world: World) -> None:
    posted = await world.transaction(await world.spend(70))
    assert posted.quantities == ((TokenKind.COMPLETION, 70),)


async def test_a_reversed_request_is_paid_back_once(world: World) -> None:
    await world.start()
    posted = await world.transaction(await world.spend(70))
    first = await world.reverse(posted)
    assert await world.money() == (10_000, 0)
    assert await world.reverse(posted) == first
    assert await world.money() == (10_000, 0)
    with pytest.raises(Conflict):
        await world.reverse(posted, "another reason")
    assert first.corrects_transaction_id == posted.transaction_id


async def test_a_credit_may_be_reversed_and_the_reversal_too(world: World) -> None:
    await world.start()
    command = CreditAccount(ACCOUNT, 500, "", "second")
    credited = (await credit_account(world.store, world.clock, command)).transaction
    reversal = await world.reverse(credited)
    assert await world.money() == (10_000, 0)
    await world.reverse(reversal)
    assert await world.money() == (10_500, 0)


async def test_what_is_not_there_or_of_another_account_cannot_be_reversed(world: World) -> None:
    posted = await world.transaction(await world.spend())
    for command in (
        PostCorrection(TransactionId("tx_01KDVDQ3G0AAAAAAAAAAAAAA13"), "wrong"),
        PostCorrection(TransactionId("nonsense"), "wrong"),
        PostCorrection(posted.transaction_id, "wrong", AccountId("acc_2")),
    ):
        with pytest.raises(NotFound):
            await post_correction(world.store, world.clock, command)


async def test_a_reversal_gives_the_cap_back_in_the_window_of_the_admission(world: World) -> None:
    await world.start(cap=500, window=common_pb2.CAP_WINDOW_DAY)
    yesterday = await world.transaction(await world.spend(400, admitted_at_ms=NOW_MS - DAY_MS))
    today = await world.transaction(await world.spend(300))
    await world.reverse(yesterday)
    assert isinstance(await world.open("g1", 201), Refusal)
    await world.reverse(today)
    assert isinstance(await world.open("g2", 500), Grant)
    assert isinstance(await world.open("g3", 1), Refusal)


async def test_a_reversal_leaves_the_grant_as_it_was_spent(world: World) -> None:
    await world.start()
    await world.open("g1", 600)
    posted = await world.transaction(await world.spend(250, grant_id="g1"))
    await world.reverse(posted)
    assert await world.money() == (10_000, 350)
    assert (await world.grant("g1")).settled_nanousd == 250


async def test_a_dry_run_shows_what_a_real_run_books_and_books_nothing(world: World) -> None:
    await world.start()
    for account, tokens in (("acc_1", 100), ("acc_2", 30), ("acc_1", 7)):
        await world.spend(tokens, account)
    await world.spend(50, price=price("pv_other", 1))
    before = len(await world.journal())
    shown = await world.rerate(PRICE.price_version_id, price("pv_2", 3), dry_run=True)
    assert len(await world.journal()) == before
    booked = await world.rerate(PRICE.price_version_id, price("pv_2", 3))
    figures = [(one.usage.account_id, one.booked_nanousd, one.correct_nanousd) for one in shown]
    assert figures == [("acc_1", 100, 300), ("acc_1", 7, 21), ("acc_2", 30, 90)]
    assert figures == [
        (one.usage.account_id, one.booked_nanousd, one.correct_nanousd) for one in booked
    ]
    assert await world.money() == (10_000 - 300 - 21 - 50, 0)
    assert (await world.wallet("acc_2")).posted_nanousd == -90


async def test_the_same_rerating_again_answers_the_same_and_books_nothing(world: World) -> None:
    await world.start()
    await world.spend(100)
    first = await world.rerate(PRICE.price_version_id, price("pv_2", 3))
    assert await world.rerate(PRICE.price_version_id, price("pv_2", 3)) == first
    assert await world.rerate(PRICE.price_version_id, price("pv_2", 3), dry_run=True) == first
    assert await world.money() == (9_700, 0)


async def test_a_rerating_that_was_wrong_itself_is_rated_again(world: World) -> None:
    await world.start()
    await world.spend(100)
    await world.rerate(PRICE.price_version_id, price("pv_2", 3))
    # A difference of nothing is booked too, or the next step would not find this price.
    await world.rerate("pv_2", price("pv_3", 3))
    await world.rerate("pv_3", price("pv_4", 2))
    assert await world.money() == (9_800, 0)


async def test_a_rerating_stays_within_the_account_that_is_named(world: World) -> None:
    await world.start()
    await world.spend(100)
    await world.spend(100, "acc_2")
    await world.rerate(PRICE.price_version_id, price("pv_2", 3), account="acc_2")
    assert await world.money() == (9_900, 0)
    assert (await world.wallet("acc_2")).posted_nanousd == -300


async def test_a_rerating_counts_in_the_cap_of_the_admission_and_keeps_the_cap(
    world: World,
) -> None:
    await world.start(cap=500, window=common_pb2.CAP_WINDOW_DAY)
    await world.spend(100)
    await world.spend(100, admitted_at_ms=NOW_MS - DAY_MS)
    await world.rerate(PRICE.price_version_id, price("pv_2", 4))
    assert isinstance(await world.open("g1", 101), Refusal)
    assert isinstance(await world.open("g2", 100), Grant)


async def test_an_unresolved_grant_that_is_written_off_holds_nothing(world: World) -> None:
    await world.start()
    await world.open("g1", 600)
    await world.spend(250, grant_id="g1")
    for wrong in ("g1", "unknown"):
        with pytest.raises((Conflict, NotFound)):
            await write_off_grant(world.store, world.clock, GrantId(wrong), reason="lost")
    await world.lapse()
    assert await world.money() == (9_750, 350)
    written = await write_off_grant(world.store, world.clock, GrantId("g1"), reason="lost")
    assert (written.status, written.returned_nanousd) == ("written_off", 350)
    assert await world.money() == (9_750, 0)
    again = await write_off_grant(world.store, world.clock, GrantId("g1"), reason="again")
    assert again == written
    async with world.store.unit() as unit:
        assert (await unit.keys([(ACCOUNT, KEY)]))[ACCOUNT, KEY].granted_nanousd == 0


async def test_usage_that_comes_after_a_write_off_is_booked_as_an_overrun(world: World) -> None:
    await world.start()
    await world.open("g1", 600)
    await world.lapse()
    await write_off_grant(world.store, world.clock, GrantId("g1"), reason="lost")
    late = await world.transaction(await world.spend(250, grant_id="g1"))
    assert late.overrun
    assert await world.money() == (9_750, 0)
    close = CloseGrant(GrantId("g1"), WorkerId("w1"), ACCOUNT, 250)
    [closed] = await run_grant_commands(world.store, world.clock, [close], rules=RULES)
    assert getattr(closed, "returned_nanousd", None) == 0
    assert await world.money() == (9_750, 0)
    assert isinstance(await world.open("g1", 600), Conflict)


async def test_grants_are_written_off_by_themselves_after_the_stated_time(world: World) -> None:
    await world.start()
    await world.open("g1", 600)
    await world.lapse()
    assert await write_off_overdue(world.store, world.clock, rules=RULES, limit=10) == 0
    await world.clock.advance(RULES.write_off_after_ms / 1000)
    assert await write_off_overdue(world.store, world.clock, rules=RULES, limit=10) == 1
    assert (await world.grant("g1")).status == "written_off"
    assert await world.money() == (10_000, 0)
    assert await write_off_overdue(world.store, world.clock, rules=RULES, limit=10) == 0


async def test_every_hour_is_sealed_once_when_it_is_over_for_long_enough(world: World) -> None:
    assert await seal_next_hour(world.store, world.clock, delay_ms=0) is None
    await world.start()
    await world.spend(70)
    delay_ms = 900_000
    first_hour = hour_of(NOW_MS)
    await world.clock.advance((first_hour + HOUR_MS + delay_ms - 1 - NOW_MS) / 1000)
    assert await seal_next_hour(world.store, world.clock, delay_ms=delay_ms) is None
    await world.clock.advance(0.001)
    seal = await seal_next_hour(world.store, world.clock, delay_ms=delay_ms)
    assert seal is not None
    assert (seal.sequence, seal.hour_start_ms) == (1, first_hour)
    assert (seal.figures.events, seal.figures.cost_nanousd) == (3, 70)
    assert seal.figures.wallets_nanousd == 10_000 - 70
    assert await seal_next_hour(world.store, world.clock, delay_ms=delay_ms) is None


async def test_hours_without_events_are_sealed_too_and_missed_ones_are_made_up_for(
    world: World,
) -> None:
    await world.start()
    await world.clock.advance(5 * HOUR_MS / 1000)
    sealer = Sealer(world.store, world.clock, delay_s=0, every_s=60)
    assert [await sealer.seal() for _ in range(6)] == [True] * 5 + [False]
    async with world.store.unit() as unit:
        chain = await unit.seal_chain()
    assert (chain.sequence, chain.hour_start_ms) == (5, hour_of(NOW_MS) + 4 * HOUR_MS)


def run(work: Coroutine[Any, Any, None]) -> None:  # Any: of no use here
    asyncio.run(work)


STEP = st.tuples(
    st.sampled_from(["spend", "spend", "rerate", "rerate", "reverse", "reverse"]),
    st.integers(0, 3),
    st.integers(0, 4),
)


@settings(max_examples=80, deadline=None)
@given(steps=st.lists(STEP, max_size=25))
def test_however_it_was_corrected_each_request_costs_what_its_price_says_or_nothing(
    steps: list[tuple[str, int, int]],
) -> None:
    """The auditor keeps one stack of prices for each request; refused steps must change nothing."""
    run(_corrected(steps))


async def _corrected(steps: list[tuple[str, int, int]]) -> None:
    world = World(MemoryLedger())
    versions = [PRICE, *(price(f"pv_1{n}", n) for n in range(2, 6))]
    rate_of = {one.price_version_id: max(1, n + 1) for n, one in enumerate(versions)}
    rate_of[PRICE.price_version_id] = 1
    for kind, first, second in steps:
        journal = await world.journal()
        try:
            if kind == "spend":
                await world.spend(10 + first)
            elif kind == "rerate" and first != second:
                await world.rerate(versions[first].price_version_id, versions[second])
            elif kind == "reverse" and journal:
                await world.reverse(journal[(first * 5 + second) % len(journal)])
        except AppError:
            assert await world.journal() == journal
        assert_each_costs_its_price(await world.journal(), rate_of)


def assert_each_costs_its_price(journal: list[TransactionPosted], rate_of: dict[str, int]) -> None:
    root_of: dict[str, str] = {}
    for one in journal:
        root_of[one.transaction_id] = root_of.get(one.corrects_transaction_id, one.transaction_id)
    for usage in (one for one in journal if one.usage_id):
        mine = [one for one in journal if root_of[one.transaction_id] == usage.transaction_id]
        cost = -sum(wallet_change(one.account_id, one.entries) for one in mine)
        undone = {one.corrects_transaction_id for one in mine if one.kind == "reversal"}
        standing = [
            one for one in mine if one.kind == "rerate" and one.transaction_id not in undone
        ]
        [(_, tokens)] = usage.quantities
        version = (standing or [usage])[-1].price_version_id
        assert cost in (0, tokens * rate_of[version])
