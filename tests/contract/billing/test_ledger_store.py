"""What billing does over either store: credits, caps, grants, settlement, expiry."""

from __future__ import annotations

import pytest

from services.billing.domain.book import Book
from services.billing.domain.events import TransactionPosted
from services.billing.domain.grants import (
    Closed,
    CloseGrant,
    GrantRules,
    OpenGrant,
    Refusal,
    RenewGrant,
)
from services.billing.domain.ledger import Draft, post, transfer, wallet_account
from services.billing.domain.state import Grant, Wallet
from services.billing.handlers import (
    CreditAccount,
    credit_account,
    expire_grants,
    run_grant_commands,
)
from services.billing.ports import LedgerStore
from services.billing.settlement.keys import KeyCaps
from services.billing.settlement.settle import UsageSettlement
from services.common.clock import FakeClock
from services.common.errors import AppError, Conflict, NotFound
from services.common.ids import AccountId, GrantId, KeyId, TransactionId, WorkerId
from services.common.kafka import GapDetected, StaleEpoch
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import usage_pb2
from services.common.topics import KEYS, USAGE
from tests.fixtures.ledger import NOW_MS, Feed, LetterBox, key_record, usage_record

ACCOUNT, KEY = AccountId("acc_1"), KeyId("key_1")
RULES = GrantRules()
DAY_MS = 86_400_000


class World:
    """One billing over a store, with the log's side of both topics."""

    def __init__(self, store: LedgerStore) -> None:
        self.store = store
        self.clock = FakeClock(NOW_MS)
        self.dead = LetterBox()
        self.usage = Feed(USAGE, UsageSettlement(store, self.dead, self.clock))
        self.keys = Feed(KEYS, KeyCaps(store, self.dead, self.clock))

    async def credit(self, amount: int, key: str = "first", reason: str = "") -> TransactionPosted:
        command = CreditAccount(ACCOUNT, amount, reason, key)
        return (await credit_account(self.store, self.clock, command)).transaction

    async def start(self, amount: int = 10_000, cap: int | None = None, window: int = 1) -> None:
        await self.credit(amount)
        await self.keys.send(
            key_record(KEY, account_id=ACCOUNT, cap_nanousd=cap, window=window, version=1)
        )

    async def run(self, *commands: OpenGrant | RenewGrant | CloseGrant) -> list[object]:
        return list(await run_grant_commands(self.store, self.clock, commands, rules=RULES))

    async def open(self, grant_id: str, needed: int, version: int = 1) -> object:
        return (await self.run(ask(grant_id, needed, version)))[0]

    async def wallet(self) -> Wallet:
        async with self.store.unit() as unit:
            return (await unit.wallets([ACCOUNT]))[ACCOUNT]

    async def grant(self, grant_id: str) -> Grant:
        async with self.store.unit() as unit:
            return (await unit.grants([GrantId(grant_id)]))[GrantId(grant_id)]

    async def money(self) -> tuple[int, int]:
        wallet = await self.wallet()
        return wallet.posted_nanousd, wallet.granted_nanousd


@pytest.fixture
def world(store: LedgerStore) -> World:
    return World(store)


def ask(grant_id: str, needed: int, version: int = 1) -> OpenGrant:
    return OpenGrant(GrantId(grant_id), WorkerId("w1"), ACCOUNT, KEY, version, needed, 0, 0)


def close(grant_id: str, spent: int) -> CloseGrant:
    return CloseGrant(GrantId(grant_id), WorkerId("w1"), ACCOUNT, spent)


async def test_a_credit_counts_once_for_each_idempotency_key(world: World) -> None:
    first = await world.credit(500, "a", "welcome")
    again = await world.credit(500, "a", "welcome")
    assert again == first
    assert await world.money() == (500, 0)


async def test_an_idempotency_key_with_other_content_is_a_conflict(world: World) -> None:
    await world.credit(500, "a")
    with pytest.raises(Conflict):
        await world.credit(501, "a")
    with pytest.raises(Conflict):
        await world.credit(500, "a", "another reason")
    assert await world.money() == (500, 0)


async def test_grants_of_one_group_see_one_another(world: World) -> None:
    await world.start(1_000)
    answers = await world.run(ask("g1", 600), ask("g2", 600), ask("g3", 400))
    assert [isinstance(answer, Grant) for answer in answers] == [True, False, True]
    assert isinstance(answers[1], Refusal)
    assert answers[1].held
    assert await world.money() == (1_000, 1_000)


async def test_a_refused_call_spoils_no_other_of_its_group(world: World) -> None:
    await world.start(1_000)
    answers = await world.run(close("unknown", 1), ask("g1", 600), ask("g1", 601))
    assert isinstance(answers[0], AppError)
    assert isinstance(answers[1], Grant)
    assert isinstance(answers[2], Conflict)
    assert await world.money() == (1_000, 600)


async def test_a_repeated_opening_opens_nothing_twice(world: World) -> None:
    await world.start(1_000)
    assert await world.open("g1", 600) == await world.open("g1", 600)
    assert await world.money() == (1_000, 600)


async def test_an_account_that_was_never_seen_has_no_active_key(world: World) -> None:
    refusal = await world.open("g1", 1)
    assert isinstance(refusal, Refusal)
    assert (refusal.limit, refusal.held) == ("key_inactive", True)


async def test_a_suspended_key_is_refused(world: World) -> None:
    await world.start()
    await world.keys.send(key_record(KEY, account_id=ACCOUNT, version=2, suspended=True))
    refusal = await world.open("g1", 1)
    assert isinstance(refusal, Refusal)
    assert (refusal.limit, refusal.held) == ("key_inactive", False)


async def test_an_older_state_of_a_key_does_not_undo_a_newer(world: World) -> None:
    await world.start()
    await world.keys.send(
        key_record(KEY, account_id=ACCOUNT, version=3, account_suspended=True),
        key_record(KEY, account_id=ACCOUNT, version=2),
        None,
    )
    refusal = await world.open("g1", 1, version=3)
    assert isinstance(refusal, Refusal)
    assert not refusal.held


async def test_usage_moves_money_from_the_grant_to_revenue(world: World) -> None:
    await world.start(1_000)
    await world.open("g1", 600)
    await world.usage.send(usage_record("use_1", account_id=ACCOUNT, grant_id="g1", tokens=250))
    assert await world.money() == (750, 350)
    await world.run(close("g1", 250))
    assert await world.money() == (750, 0)
    assert (await world.grant("g1")).status == "resolved"


async def test_what_was_spent_stays_held_until_its_usage_arrives(world: World) -> None:
    await world.start(1_000)
    await world.open("g1", 600)
    [closed] = await world.run(close("g1", 250))
    assert isinstance(closed, Closed)
    assert closed.returned_nanousd == 350
    assert await world.money() == (1_000, 250)
    await world.usage.send(usage_record("use_1", account_id=ACCOUNT, grant_id="g1", tokens=250))
    assert await world.money() == (750, 0)
    assert (await world.grant("g1")).status == "resolved"


async def test_a_replayed_batch_changes_nothing(world: World) -> None:
    await world.start(1_000)
    await world.usage.send(usage_record("use_1", account_id=ACCOUNT), b"not an event")
    before = await world.wallet()
    await world.usage.deliver()
    assert await world.wallet() == before
    assert len(world.dead.letters) == 1


async def test_a_usage_event_that_was_sent_twice_is_booked_once(world: World) -> None:
    await world.start(1_000)
    record = usage_record("use_1", account_id=ACCOUNT)
    await world.usage.send(record, record)
    await world.usage.send(record)
    assert await world.money() == (900, 0)
    assert world.dead.letters == []


async def test_a_usage_id_with_other_content_is_put_aside(world: World) -> None:
    await world.start(1_000)
    await world.usage.send(
        usage_record("use_1", account_id=ACCOUNT, tokens=100),
        usage_record("use_1", account_id=ACCOUNT, tokens=101),
    )
    await world.usage.send(usage_record("use_1", account_id=ACCOUNT, tokens=102))
    assert await world.money() == (900, 0)
    assert [message.offset for message, _ in world.dead.letters] == [1, 2]


async def test_a_free_event_marks_its_id_and_writes_no_entry(world: World) -> None:
    await world.start(1_000)
    before = await world.wallet()
    free = usage_record("use_1", account_id=ACCOUNT, tokens=0)
    await world.usage.send(free)
    await world.usage.send(free, usage_record("use_1", account_id=ACCOUNT, tokens=5))
    assert await world.wallet() == before
    assert len(world.dead.letters) == 1


async def test_our_own_figure_is_booked_where_the_event_states_another(world: World) -> None:
    await world.start(1_000)
    await world.usage.send(usage_record("use_1", account_id=ACCOUNT, stated_nanousd=1))
    assert await world.money() == (900, 0)


async def test_an_unanswered_request_is_not_billed(world: World) -> None:
    await world.start(1_000)
    await world.usage.send(
        usage_record("u1", account_id=ACCOUNT, http_status=503),
        usage_record("u2", account_id=ACCOUNT, outcome=usage_pb2.REQUEST_OUTCOME_CRASHED),
        usage_record("u3", account_id=ACCOUNT, usage_basis=usage_pb2.USAGE_BASIS_NONE),
    )
    assert await world.money() == (1_000, 0)


async def test_a_cost_above_the_grant_is_booked_even_below_zero(world: World) -> None:
    await world.start(100)
    await world.open("g1", 100)
    await world.usage.send(usage_record("use_1", account_id=ACCOUNT, grant_id="g1", tokens=150))
    assert await world.money() == (-50, 0)


async def test_a_grant_of_another_account_is_not_touched(world: World) -> None:
    await world.start(1_000)
    await world.open("g1", 600)
    await world.usage.send(usage_record("use_1", account_id="acc_2", grant_id="g1", tokens=50))
    assert await world.money() == (1_000, 600)
    assert (await world.grant("g1")).settled_nanousd == 0


async def test_an_expiry_returns_no_money_and_a_late_close_does(world: World) -> None:
    await world.start(1_000)
    await world.open("g1", 600)
    await world.clock.advance((RULES.ttl_ms + RULES.grace_ms) / 1000)
    assert await expire_grants(world.store, world.clock, rules=RULES, limit=10) == 1
    assert (await world.grant("g1")).status == "unresolved"
    assert await world.money() == (1_000, 600)
    await world.usage.send(usage_record("use_1", account_id=ACCOUNT, grant_id="g1", tokens=50))
    await world.run(close("g1", 50))
    assert await world.money() == (950, 0)
    assert await expire_grants(world.store, world.clock, rules=RULES, limit=10) == 0


async def test_a_cap_counts_by_the_day_of_admission(world: World) -> None:
    await world.start(10_000, cap=500, window=common_pb2.CAP_WINDOW_DAY)
    await world.usage.send(
        usage_record("u1", account_id=ACCOUNT, tokens=400, admitted_at_ms=NOW_MS - DAY_MS),
        usage_record("u2", account_id=ACCOUNT, tokens=200),
    )
    assert isinstance(await world.open("g1", 301), Refusal)
    assert isinstance(await world.open("g2", 300), Grant)


async def test_a_changed_window_counts_its_own_past_at_once(world: World) -> None:
    await world.start(10_000, cap=500, window=common_pb2.CAP_WINDOW_DAY)
    await world.usage.send(
        usage_record("u1", account_id=ACCOUNT, tokens=400, admitted_at_ms=NOW_MS - 20 * DAY_MS)
    )
    for version, window in enumerate((5, 1), start=2):
        await world.keys.send(
            key_record(KEY, account_id=ACCOUNT, cap_nanousd=500, window=window, version=version)
        )
        refusal = await world.open(f"g{version}", 101, version)
        assert isinstance(refusal, Refusal)
        assert (refusal.limit, refusal.available_nanousd) == ("key_cap", 100)


async def test_a_gap_in_the_log_stops_and_changes_nothing(world: World) -> None:
    await world.start(1_000)
    await world.usage.send(usage_record("u1", account_id=ACCOUNT))
    world.usage.put(usage_record("u2", account_id=ACCOUNT))
    later = world.usage.put(usage_record("u3", account_id=ACCOUNT))
    with pytest.raises(GapDetected):
        await world.usage.deliver(later)
    assert await world.money() == (900, 0)


async def test_a_zombie_is_refused_and_the_new_owner_goes_on_where_it_stood(world: World) -> None:
    await world.start(1_000)
    await world.usage.send(usage_record("u1", account_id=ACCOUNT))
    zombie = world.usage.epoch
    assert await world.usage.claim() == 1
    fresh = world.usage.put(usage_record("u2", account_id=ACCOUNT))
    with pytest.raises(StaleEpoch):
        await world.usage.deliver(fresh, epoch=zombie)
    assert await world.money() == (900, 0)
    await world.usage.deliver(fresh)
    assert await world.money() == (800, 0)


async def test_a_unit_that_fails_leaves_nothing_behind(world: World) -> None:
    await world.start(1_000)
    before = await world.wallet()

    class Crash(Exception):
        pass

    entries = transfer(7, source="promo", target=wallet_account(ACCOUNT))
    draft = Draft(TransactionId("tx_x"), ACCOUNT, "credit:x", "credit", entries, NOW_MS, NOW_MS)

    async def write_and_crash() -> None:
        async with world.store.unit() as unit:
            book = Book(wallets=await unit.wallets([ACCOUNT]))
            book.record(post(before, draft), occurred_at_ms=NOW_MS)
            await unit.save(book)
            raise Crash

    with pytest.raises(Crash):
        await write_and_crash()
    assert await world.wallet() == before
    await world.credit(1, "second")


def renew(grant_id: str, number: int, needed: int = 0, back: int = 0) -> RenewGrant:
    return RenewGrant(GrantId(grant_id), WorkerId("w1"), ACCOUNT, number, 1, needed, 0, 0, back)


async def test_a_grant_grows_and_shrinks_with_the_wallet_and_closes_as_it_is(world: World) -> None:
    await world.start(1_000)
    await world.open("g1", 300)
    [grown] = await world.run(renew("g1", 1, needed=500))
    assert isinstance(grown, Grant)
    assert (grown.amount_nanousd, await world.money()) == (800, (1_000, 800))
    assert await world.run(renew("g1", 1, needed=500)) == [grown]
    await world.run(renew("g1", 2, back=600))
    assert await world.money() == (1_000, 200)
    await world.usage.send(usage_record("use_1", account_id=ACCOUNT, grant_id="g1", tokens=150))
    await world.run(close("g1", 150))
    assert await world.money() == (850, 0)
    assert (await world.grant("g1")).renewals == 2


async def test_a_grant_renewed_in_time_never_becomes_unresolved(world: World) -> None:
    await world.start(1_000)
    await world.open("g1", 300)
    for number in range(1, 5):
        await world.clock.advance(RULES.ttl_ms / 1000 - 1)
        assert isinstance((await world.run(renew("g1", number)))[0], Grant)
        assert await expire_grants(world.store, world.clock, rules=RULES, limit=10) == 0
    await world.clock.advance((RULES.ttl_ms + RULES.grace_ms) / 1000)
    assert await expire_grants(world.store, world.clock, rules=RULES, limit=10) == 1


async def test_money_refused_because_it_is_held_is_asked_back_for_a_moment(world: World) -> None:
    await world.start(1_000, cap=2_000)
    await world.open("g1", 900)
    now = world.clock.now_ms
    assert await world.store.recalls([ACCOUNT], now()) == []
    assert isinstance(await world.open("g2", 500), Refusal)
    assert await world.store.recalls([ACCOUNT, AccountId("acc_2")], now()) == [(ACCOUNT, "")]
    assert await world.store.recalls([AccountId("acc_2")], now()) == []
    await world.clock.advance(RULES.recall_ms / 1000)
    assert await world.store.recalls([ACCOUNT], now()) == []
    await world.store.forget_recalls(now())


async def test_money_held_under_a_keys_cap_is_asked_back_for_that_key_alone(world: World) -> None:
    await world.start(10_000, cap=1_000)
    await world.open("g1", 900)
    assert isinstance(await world.open("g2", 500), Refusal)
    [grown] = await world.run(renew("g1", 1, needed=101))
    assert isinstance(grown, Refusal)
    assert await world.store.recalls([ACCOUNT], world.clock.now_ms()) == [(ACCOUNT, KEY)]


async def test_money_that_is_gone_is_asked_back_from_nobody(world: World) -> None:
    await world.start(100)
    assert isinstance(await world.open("g1", 500), Refusal)
    assert await world.store.recalls([ACCOUNT], world.clock.now_ms()) == []


async def test_a_grant_that_was_closed_before_it_was_opened_is_never_opened(world: World) -> None:
    await world.start(1_000)
    answers = await world.run(close("g1", 0), ask("g1", 300), ask("g2", 300))
    assert [type(one) for one in answers] == [NotFound, Conflict, Grant]
    await world.store.forget_given_up(world.clock.now_ms())
    assert isinstance(await world.open("g1", 300), Conflict)
    await world.store.forget_given_up(world.clock.now_ms() + 1)
    assert isinstance(await world.open("g1", 300), Grant)
