"""Analysts, in memory and in chDB; and the statements that make them users of a server."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from services.common.clock import FakeClock
from services.common.errors import Conflict, NotFound
from services.usage.adapters.analyst_access import Bounds, server_grants, server_revocation
from services.usage.adapters.analyst_store_clickhouse import ClickHouseAnalystStore
from services.usage.adapters.analyst_store_memory import MemoryAnalystStore
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.analysts import Analysts
from services.usage.domain.analyst import ANALYSTS_MAX
from services.usage.ports import AnalystStore

MakeStore = Callable[[], AnalystStore]


@pytest.fixture(params=["memory", "clickhouse"])
def make_store(request: pytest.FixtureRequest) -> MakeStore:
    """Opens the same store again each time."""
    if request.param == "memory":
        store = MemoryAnalystStore()
        return lambda: store
    clickhouse: ClickHouse = request.getfixturevalue("clickhouse")
    return lambda: ClickHouseAnalystStore(clickhouse, database="analytics", bounds=Bounds())


async def opened(make_store: MakeStore, clock: FakeClock) -> Analysts:
    analysts = Analysts(make_store(), clock)
    await analysts.open()
    return analysts


async def test_an_analyst_is_known_by_its_token_until_it_expires(make_store: MakeStore) -> None:
    clock = FakeClock()
    first = await opened(make_store, clock)
    analyst, token = await first.create("acc_1", name="x", created_by="usr_1", expires_in_s=60)
    assert token not in repr(await make_store().analysts())
    for analysts in (first, await opened(make_store, clock)):
        assert analysts.by_token(token) == analyst
        assert analysts.by_token(token + "x") is None
        assert analysts.list("acc_2") == []
    await clock.advance(60)
    assert first.by_token(token) is None


async def test_a_revoked_analyst_stays_revoked(make_store: MakeStore) -> None:
    clock = FakeClock()
    first = await opened(make_store, clock)
    analyst, token = await first.create("acc_1", name="x", created_by="usr_1", expires_in_s=0)
    with pytest.raises(NotFound):
        await first.revoke("acc_2", analyst.analyst_id)
    await first.revoke("acc_1", analyst.analyst_id)
    for analysts in (first, await opened(make_store, clock)):
        assert analysts.by_token(token) is None
        assert [a.revoked_at_ms for a in analysts.list("acc_1")] == [clock.now_ms()]


async def test_an_account_has_a_limited_number_of_analysts() -> None:
    analysts = await opened(MemoryAnalystStore, FakeClock())
    for number in range(ANALYSTS_MAX):
        await analysts.create("acc_1", name=f"{number}", created_by="", expires_in_s=0)
    with pytest.raises(Conflict):
        await analysts.create("acc_1", name="one more", created_by="", expires_in_s=0)
    await analysts.create("acc_2", name="another's", created_by="", expires_in_s=0)


async def test_the_statements_for_a_server_are_clickhouse_s_own(clickhouse: ClickHouse) -> None:
    statements = server_grants(
        analyst_id="ana_1",
        account_id="acc_'; DROP USER x --",
        token_sha256="ab" * 32,
        valid_until_ms=1_800_000_000_000,
        base="mesh",
        tables=["requests"],
        database="analytics",
        bounds=Bounds(),
    ) + server_revocation("ana_1", base="mesh", tables=["requests"])
    for statement in statements:
        # Raises where it is not one statement that the engine's parser takes.
        await clickhouse.query("SELECT formatQuery({sql:String})", {"sql": statement})
    policies = [text for text in statements if text.startswith("CREATE ROW POLICY")]
    assert len(policies) == 1
    assert r"USING account_id = 'acc_\'; DROP USER x --'" in policies[0]
