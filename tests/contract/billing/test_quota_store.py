"""The store of quotas: the twin and PostgreSQL do the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from services.billing.adapters.quotas_memory import MemoryQuotas
from services.billing.adapters.quotas_postgres import PostgresQuotas
from services.billing.domain.quotas import (
    DrawQuota,
    KeyLimits,
    LeaseId,
    QuotaRules,
    ReturnQuota,
    ScopeLimits,
    Window,
)
from services.billing.quota_handlers import (
    Lent,
    QuotaAnswer,
    QuotaCommand,
    Refused,
    Returned,
    read_meters,
    run_quota_commands,
)
from services.billing.quota_ports import QuotaChanges, QuotaStore, WindowRef
from services.common import scopes
from services.common.clock import FakeClock
from services.common.errors import Conflict, NotFound
from services.common.ids import AccountId, KeyId, WorkerId
from services.common.postgres import migrate, open_pool
from services.common.scopes import Scope
from tests.fixtures.engines import PostgresServer

ACCOUNT = AccountId("acc")
KEY = KeyId("key")
# Ten seconds into a minute and into a day.
START_MS = 1_763_769_610_000


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(START_MS)


@pytest.fixture(params=["memory", "postgres"])
async def quotas(
    request: pytest.FixtureRequest, postgres_dsn: PostgresServer
) -> AsyncIterator[QuotaStore]:
    """An empty store."""
    if request.param == "memory":
        yield MemoryQuotas()
        return
    pool = await open_pool(postgres_dsn("quotas"))
    await migrate(pool, "services.billing")
    yield PostgresQuotas(pool, unit_timeout_s=10.0)
    await pool.close()


def key(version: int = 1, key_id: str = KEY, **limits: int | None) -> KeyLimits:
    return replace(KeyLimits(ACCOUNT, KeyId(key_id), version, True), **limits)  # type: ignore[arg-type]  # only limits


def draw(number: int, requests: int = 1, tokens: int = 0, key_id: str = KEY) -> DrawQuota:
    return DrawQuota(
        LeaseId(f"ql_{number}"),
        WorkerId("w1"),
        ACCOUNT,
        KeyId(key_id),
        1,
        requests,
        requests,
        tokens,
        tokens,
    )


def give_back(number: int, requests: int, tokens: int = 0, revision: int = 1) -> ReturnQuota:
    return ReturnQuota(
        LeaseId(f"ql_{number}"), WorkerId("w1"), ACCOUNT, KEY, requests, tokens, revision
    )


async def run(quotas: QuotaStore, clock: FakeClock, *commands: QuotaCommand) -> list[QuotaAnswer]:
    return await run_quota_commands(quotas, clock, commands, rules=QuotaRules())


async def taken(quotas: QuotaStore, clock: FakeClock) -> dict[str, int]:
    meters, now_ms = await read_meters(quotas, clock, (ACCOUNT, KEY))
    assert now_ms == clock.now_ms()
    return {meter.limit: meter.taken for meter in meters}


async def test_the_newest_limits_of_a_key_win(quotas: QuotaStore, clock: FakeClock) -> None:
    await quotas.put_limits([key(2, rpm=5), key(1, rpm=9), key(1, "other", tpm=7)])
    await quotas.put_limits([key(1, rpd=1)])
    assert await quotas.limits((ACCOUNT, KEY)) == key(2, rpm=5)
    assert await quotas.limits((ACCOUNT, KeyId("other"))) == key(1, "other", tpm=7)
    assert await quotas.limits((ACCOUNT, KeyId("none"))) is None
    assert await taken(quotas, clock) == {"rpm": 0}
    await quotas.put_limits([key(3)])
    assert await taken(quotas, clock) == {}


def limits_of(scope: Scope, version: int = 1, **limits: int | None) -> ScopeLimits:
    return replace(ScopeLimits(ACCOUNT, scope, version), **limits)  # type: ignore[arg-type]  # only limits


async def test_keys_of_one_scope_share_its_window(quotas: QuotaStore, clock: FakeClock) -> None:
    mine = replace(key(), team_id="a", member_id="usr")
    other = replace(key(key_id="other"), team_id="a")
    account = limits_of(scopes.ACCOUNT, rpd=100, tpm=1_000)
    await quotas.put_limits([mine, other], [limits_of(scopes.team("a"), rpm=10), account])
    answers = await run(quotas, clock, *(draw(n, 3, 100, ("other", KEY)[n % 2]) for n in range(5)))
    lent = [answer for answer in answers if isinstance(answer, Lent)]
    assert [one.lease.requests for one in lent] == [3, 3, 3]
    assert lent[0].lease.scopes == ("team:a", "account")
    refused = [answer.refusal for answer in answers if isinstance(answer, Refused)]
    assert [(one.scope, one.limit, one.held) for one in refused] == [("team:a", "rpm", True)] * 2
    assert await taken(quotas, clock) == {"rpm": 9, "rpd": 9, "tpm": 300}
    # What one gives back another may have.
    [_, again] = await run(quotas, clock, give_back(1, 0), draw(9, 3, 100, "other"))
    assert isinstance(again, Lent)
    assert await taken(quotas, clock) == {"rpm": 9, "rpd": 9, "tpm": 300}


async def test_a_models_limits_bind_where_it_is_named(quotas: QuotaStore, clock: FakeClock) -> None:
    limited = replace(key(), model_ids=("m",))
    of_key = limits_of(scopes.key_model(KEY, "m"), rpm=2)
    await quotas.put_limits([limited], [of_key, limits_of(scopes.account_model("n"), rpm=1)])
    named = [replace(draw(n), model_id=model) for n, model in enumerate("mmmnn")]
    answers = await run(quotas, clock, *named, draw(7))
    refused = [one.refusal.scope if isinstance(one, Refused) else "" for one in answers]
    assert refused == ["", "", f"key_model:{KEY}/m", "", "account_model:n", ""]
    meters, _ = await read_meters(quotas, clock, (ACCOUNT, KEY), model_id="m")
    assert [(meter.scope, meter.taken) for meter in meters] == [(of_key.scope, 2)]


async def test_the_newest_limits_of_a_scope_win(quotas: QuotaStore, clock: FakeClock) -> None:
    team = scopes.team("a")
    await quotas.put_limits([replace(key(), team_id="a")], [limits_of(team, 2, rpm=5)])
    await quotas.put_limits([], [limits_of(team, 1, rpm=9), limits_of(team, 2, rpm=8)])
    assert await quotas.scope_limits([(ACCOUNT, team)]) == {
        (ACCOUNT, team): limits_of(team, 2, rpm=5)
    }
    await quotas.put_limits([], [limits_of(team, 3)])
    assert await taken(quotas, clock) == {}


async def test_a_group_never_lends_above_the_limit(quotas: QuotaStore, clock: FakeClock) -> None:
    await quotas.put_limits([key(rpm=10, rpd=100, tpm=1_000)])
    answers = await run(quotas, clock, *(draw(n, requests=3, tokens=100) for n in range(5)))
    lent = [answer for answer in answers if isinstance(answer, Lent)]
    assert [one.lease.requests for one in lent] == [3, 3, 3]
    assert [[meter.left for meter in one.meters] for one in lent] == [
        [7, 97, 900],
        [4, 94, 800],
        [1, 91, 700],
    ]
    refused = [answer for answer in answers if isinstance(answer, Refused)]
    assert [(one.refusal.limit, one.refusal.held) for one in refused] == [("rpm", True)] * 2
    assert await taken(quotas, clock) == {"rpm": 9, "rpd": 9, "tpm": 300}


async def test_what_is_returned_is_available_again_at_once(
    quotas: QuotaStore, clock: FakeClock
) -> None:
    await quotas.put_limits([key(rpm=4, tpm=400)])
    await run(quotas, clock, draw(1, requests=4, tokens=400))
    returned, lent = await run(quotas, clock, give_back(1, 1, 50), draw(2, requests=3))
    assert isinstance(returned, Returned)
    assert isinstance(lent, Lent)
    assert await taken(quotas, clock) == {"rpm": 4, "tpm": 50}
    # Again, corrected, and an older one late.
    await run(quotas, clock, give_back(1, 1, 50), give_back(1, 1, 20, revision=3))
    await run(quotas, clock, give_back(1, 1, 90, revision=2))
    assert await taken(quotas, clock) == {"rpm": 4, "tpm": 20}
    [refused] = await run(quotas, clock, draw(3))
    assert isinstance(refused, Refused)
    await run(quotas, clock, give_back(2, 3))
    [refused] = await run(quotas, clock, draw(3))
    assert isinstance(refused, Refused)
    assert not refused.refusal.held


async def test_more_tokens_than_were_lent_are_counted(quotas: QuotaStore, clock: FakeClock) -> None:
    await quotas.put_limits([key(tpm=400)])
    await run(quotas, clock, draw(1, tokens=100))
    await run(quotas, clock, give_back(1, 0, 900))
    assert await taken(quotas, clock) == {"tpm": 900}
    [refused] = await run(quotas, clock, draw(2, tokens=1))
    assert isinstance(refused, Refused)
    assert (refused.refusal.limit, refused.refusal.held) == ("tpm", False)


async def test_a_new_minute_starts_empty_and_the_day_goes_on(
    quotas: QuotaStore, clock: FakeClock
) -> None:
    await quotas.put_limits([key(rpm=2, rpd=3)])
    await run(quotas, clock, draw(1, requests=2))
    await clock.advance(50)
    assert await taken(quotas, clock) == {"rpm": 0, "rpd": 2}
    first, _, second = await run(quotas, clock, draw(2), give_back(2, 1), draw(3))
    assert isinstance(first, Lent)
    assert isinstance(second, Refused)
    # The other minute's lease is over, so nobody can give it back in time.
    assert (second.refusal.limit, second.refusal.held) == ("rpd", False)
    # It comes all the same, late: its minute is over, its day is not.
    await run(quotas, clock, give_back(1, 1))
    assert await taken(quotas, clock) == {"rpm": 1, "rpd": 2}


async def test_a_draw_sent_again_draws_nothing_twice(quotas: QuotaStore, clock: FakeClock) -> None:
    await quotas.put_limits([key(rpm=5)])
    first, again, other = await run(quotas, clock, draw(1), draw(1), draw(1, requests=2))
    [later] = await run(quotas, clock, draw(1))
    assert isinstance(first, Lent)
    assert isinstance(again, Lent)
    assert isinstance(later, Lent)
    assert first.lease == again.lease == later.lease
    assert isinstance(other, Conflict)
    assert await taken(quotas, clock) == {"rpm": 1}


async def test_an_unknown_lease_or_one_of_another_key_is_not_found(
    quotas: QuotaStore, clock: FakeClock
) -> None:
    await quotas.put_limits([key(rpm=5), key(1, "other", rpm=5)])
    await run(quotas, clock, draw(1))
    answers = await run(
        quotas, clock, give_back(9, 0), replace(give_back(1, 0), key_id=KeyId("other"))
    )
    assert [type(answer) for answer in answers] == [NotFound, NotFound]
    assert await taken(quotas, clock) == {"rpm": 1}


async def test_an_unknown_key_is_waited_for(quotas: QuotaStore, clock: FakeClock) -> None:
    [refused] = await run(quotas, clock, draw(1))
    assert isinstance(refused, Refused)
    assert refused.refusal.behind
    assert refused.meters == ()


async def test_a_unit_that_fails_leaves_nothing_behind(
    quotas: QuotaStore, clock: FakeClock
) -> None:
    await quotas.put_limits([key(rpm=5)])

    async def fail_within() -> None:
        async with quotas.unit() as unit:
            assert await unit.keys([(ACCOUNT, KEY)])
            ref: WindowRef = (ACCOUNT, scopes.key(KEY), "minute", START_MS - 10_000)
            await unit.save(QuotaChanges({ref: Window(1, 0)}))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail_within()
    assert await taken(quotas, clock) == {"rpm": 0}


async def test_what_is_over_is_forgotten_and_what_may_come_back_is_kept(
    quotas: QuotaStore, clock: FakeClock
) -> None:
    await quotas.put_limits([key(rpm=5, rpd=50)])
    await run(quotas, clock, draw(1), draw(2), give_back(1, 1))
    assert await quotas.prune(clock.now_ms(), 100) == 0
    await clock.advance(700)
    # The minute and the lease that came back.
    assert await quotas.prune(clock.now_ms(), 100) == 2
    assert await quotas.prune(clock.now_ms(), 100) == 0
    assert await taken(quotas, clock) == {"rpm": 0, "rpd": 2}
    await run(quotas, clock, give_back(2, 0))
    assert await taken(quotas, clock) == {"rpm": 0, "rpd": 1}
    await run(quotas, clock, draw(3))
    await clock.advance(2 * 86_400)
    assert await quotas.prune(clock.now_ms(), 1) > 0
    while await quotas.prune(clock.now_ms(), 1):
        pass
    [gone] = await run(quotas, clock, give_back(3, 0))
    assert isinstance(gone, NotFound)
    assert await taken(quotas, clock) == {"rpm": 0, "rpd": 0}
