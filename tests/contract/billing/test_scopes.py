"""Caps of scopes over either store: what binds, what it counts, and what moving a key changes."""

from __future__ import annotations

from typing import Any

import pytest

from services.billing.domain.events import TransactionPosted
from services.billing.domain.grants import CloseGrant, GrantRules, OpenGrant, Refusal
from services.billing.domain.state import Grant, ScopeAccount
from services.billing.handlers import CreditAccount, credit_account, run_grant_commands
from services.billing.ports import LedgerStore
from services.billing.settlement.keys import KeyCaps
from services.billing.settlement.settle import UsageSettlement
from services.common import scopes
from services.common.clock import FakeClock
from services.common.ids import AccountId, GrantId, KeyId, WorkerId
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.scopes import Scope
from services.common.topics import KEYS, USAGE
from tests.fixtures.ledger import NOW_MS, Feed, LetterBox, key_record, usage_record

ACCOUNT = AccountId("acc_1")
RULES = GrantRules()
DAY_MS = 86_400_000
MODEL = "test/model"
TEAM_A, TEAM_B = scopes.team("a"), scopes.team("b")


class World:
    """One billing over a store, with the log's side of both topics."""

    def __init__(self, store: LedgerStore) -> None:
        self.store = store
        self.clock = FakeClock(NOW_MS)
        self.dead = LetterBox()
        self.usage = Feed(USAGE, UsageSettlement(store, self.dead, self.clock))
        self.keys = Feed(KEYS, KeyCaps(store, self.dead, self.clock))

    async def start(self, *keys: object, amount: int = 100_000) -> None:
        await credit_account(self.store, self.clock, CreditAccount(ACCOUNT, amount, "", "first"))
        await self.keys.send(*keys)  # type: ignore[arg-type]  # records

    async def open(
        self, grant_id: str, needed: int, key: str = "key_1", model: str = ""
    ) -> Grant | Refusal:
        ids = (GrantId(grant_id), WorkerId("w1"), ACCOUNT, KeyId(key))
        asked = OpenGrant(*ids, 1, needed, 0, 0, model_id=model)
        (answer,) = await run_grant_commands(self.store, self.clock, [asked], rules=RULES)
        assert isinstance(answer, Grant | Refusal)
        return answer

    async def close(self, grant_id: str, spent: int) -> None:
        command = CloseGrant(GrantId(grant_id), WorkerId("w1"), ACCOUNT, spent)
        await run_grant_commands(self.store, self.clock, [command], rules=RULES)

    async def settle(
        self, usage_id: str, cost: int, *, grant: str = "", key: str = "key_1", at_ms: int = NOW_MS
    ) -> None:
        await self.usage.send(
            usage_record(
                usage_id,
                account_id=ACCOUNT,
                key_id=key,
                grant_id=grant,
                tokens=cost,
                admitted_at_ms=at_ms,
            )
        )

    async def spent(self, *wanted: Scope) -> list[int]:
        async with self.store.unit() as unit:
            found = await unit.scope_spend({(ACCOUNT, scope): 0 for scope in wanted})
        return [found[ACCOUNT, scope] for scope in wanted]

    async def scope(self, scope: Scope) -> ScopeAccount:
        async with self.store.unit() as unit:
            return (await unit.scopes([(ACCOUNT, scope)]))[ACCOUNT, scope]


@pytest.fixture
def world(store: LedgerStore) -> World:
    return World(store)


def key(key_id: str = "key_1", version: int = 1, **settings: object) -> object:
    return key_record(key_id, account_id=ACCOUNT, version=version, **settings)  # type: ignore[arg-type]  # its options


def limit_of(answer: Grant | Refusal) -> tuple[str, bool]:
    assert isinstance(answer, Refusal)
    return answer.limit, answer.held


@pytest.mark.parametrize(
    ("scope", "limit"),
    [
        ("account", "account_cap"),
        ("member:usr_1", "member_cap"),
        ("team:a", "team_cap"),
        (f"account_model:{MODEL}", "account_model_cap"),
    ],
)
async def test_a_scopes_cap_binds_all_its_keys_and_is_named(
    world: World, scope: str, limit: str
) -> None:
    shared: dict[str, Any] = {"team_id": "a", "scopes": {scope: (100, 1)}}  # Any: options
    await world.start(key("key_1", **shared), key("key_2", **shared))
    assert isinstance(await world.open("gr_1", 60, model=MODEL), Grant)
    assert limit_of(await world.open("gr_2", 60, "key_2", MODEL)) == (limit, True)
    await world.settle("use_1", 60, grant="gr_1")
    assert limit_of(await world.open("gr_3", 60, "key_2", MODEL)) == (limit, False)
    assert isinstance(await world.open("gr_4", 40, "key_2", MODEL), Grant)


async def test_a_models_cap_under_a_key_binds_that_model_alone(world: World) -> None:
    await world.start(key(models={MODEL: 100}), key("key_2"))
    assert isinstance(await world.open("gr_1", 60, model=MODEL), Grant)
    assert limit_of(await world.open("gr_2", 60, model=MODEL)) == ("model_cap", True)
    assert isinstance(await world.open("gr_3", 60, model="another/model"), Grant)
    assert isinstance(await world.open("gr_4", 60), Grant)
    assert isinstance(await world.open("gr_5", 60, "key_2", MODEL), Grant)


async def test_a_limit_that_is_gone_is_named_before_one_that_is_held(world: World) -> None:
    await world.start(key(team_id="a", scopes={"account": (100, 1), "team:a": (50, 2)}))
    await world.settle("use_1", 45)
    assert isinstance(await world.open("gr_1", 5), Grant)
    assert limit_of(await world.open("gr_2", 60)) == ("team_cap", False)


async def test_nothing_is_taken_where_one_of_all_limits_refuses(world: World) -> None:
    await world.start(key(team_id="a", cap_nanousd=100, scopes={"account": (10, 1)}))
    assert limit_of(await world.open("gr_1", 60)) == ("account_cap", False)
    async with world.store.unit() as unit:
        assert (await unit.wallets([ACCOUNT]))[ACCOUNT].granted_nanousd == 0
        assert (await unit.keys([(ACCOUNT, KeyId("key_1"))])).popitem()[1].granted_nanousd == 0
    assert (await world.scope(scopes.ACCOUNT)).granted_nanousd == 0


async def test_what_a_moved_key_had_lent_stays_with_the_team_that_lent_it(world: World) -> None:
    await world.start(key(team_id="a", scopes={"team:a": (100, 1)}))
    await world.open("gr_1", 80)
    await world.keys.send(key(version=2, team_id="b", scopes={"team:b": (100, 2)}))  # type: ignore[arg-type]  # a record
    assert (await world.scope(TEAM_A)).granted_nanousd == 80
    assert isinstance(await world.open("gr_2", 90), Grant)
    await world.settle("use_1", 30, grant="gr_1")
    await world.settle("use_2", 20, grant="gr_2")
    await world.close("gr_1", 30)
    assert await world.spent(TEAM_A, TEAM_B) == [30, 20]
    assert (await world.scope(TEAM_A)).granted_nanousd == 0
    assert (await world.scope(TEAM_B)).granted_nanousd == 70


async def test_a_cap_set_later_counts_what_was_spent_before_in_its_window(world: World) -> None:
    await world.start(key(team_id="a"))
    await world.settle("use_1", 70)
    await world.settle("use_2", 500, at_ms=NOW_MS - 40 * DAY_MS)
    window = common_pb2.CAP_WINDOW_ROLLING_30_DAYS
    later = key(version=2, team_id="a", window=window, scopes={"team:a": (100, 2)})
    await world.keys.send(later)  # type: ignore[arg-type]  # a record
    assert limit_of(await world.open("gr_1", 31)) == ("team_cap", False)
    assert isinstance(await world.open("gr_2", 30), Grant)


async def test_a_cost_counts_in_every_scope_and_its_correction_does_too(world: World) -> None:
    await world.start(key(team_id="a"))
    await world.settle("use_1", 70)
    everything = (
        scopes.ACCOUNT,
        scopes.member("usr_1"),
        TEAM_A,
        scopes.key_model("key_1", MODEL),
        scopes.account_model(MODEL),
    )
    assert await world.spent(*everything) == [70] * 5
    journal = [one async for one in world.store.journal_of_model(MODEL, ACCOUNT)]
    assert isinstance(journal[0], TransactionPosted)
    assert set(journal[0].scopes) == set(everything)


async def test_the_newest_version_of_a_scope_wins_whichever_key_brings_it(world: World) -> None:
    await world.start(
        key("key_1", team_id="a", scopes={"team:a": (10, 5)}),
        key("key_2", team_id="a", scopes={"team:a": (99, 4)}),
    )
    assert (await world.scope(TEAM_A)).spend_cap_nanousd == 10
    await world.keys.send(key("key_2", 2, team_id="a", scopes={"team:a": (None, 6)}))  # type: ignore[arg-type]  # a record
    assert (await world.scope(TEAM_A)).spend_cap_nanousd is None


async def test_a_models_cap_that_is_taken_away_binds_no_more(world: World) -> None:
    await world.start(key(models={MODEL: 10}))
    assert limit_of(await world.open("gr_1", 60, model=MODEL)) == ("model_cap", False)
    await world.keys.send(key(version=2))  # type: ignore[arg-type]  # a record
    assert isinstance(await world.open("gr_2", 60, model=MODEL), Grant)
    await world.keys.send(key(version=1, models={MODEL: 10}))  # type: ignore[arg-type]  # a record
    assert isinstance(await world.open("gr_3", 60, model=MODEL), Grant)


async def test_a_key_read_again_learns_its_member_without_a_newer_version(world: World) -> None:
    await world.start(key(user_id=""))
    await world.keys.send(key(user_id="usr_9", scopes={"member:usr_9": (10, 1)}))  # type: ignore[arg-type]  # a record
    assert limit_of(await world.open("gr_1", 60)) == ("member_cap", False)


@pytest.mark.parametrize("scope", ["", "key:key_1", "team:\n", "nonsense", "key_model:k/m"])
async def test_limits_of_what_is_no_scope_are_put_aside(world: World, scope: str) -> None:
    await world.start(key(scopes={scope: (10, 1)}))
    assert len(world.dead.letters) == 1
