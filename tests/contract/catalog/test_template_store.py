"""What every store of templates does: the twin in memory and PostgreSQL pass the same tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from services.catalog.adapters.templates_memory import MemoryTemplates
from services.catalog.adapters.templates_postgres import PostgresTemplates
from services.catalog.domain.template import (
    GLOBAL,
    TemplateChanged,
    TemplateCreated,
    TemplateDeleted,
)
from services.catalog.domain.template_content import TemplateContent
from services.catalog.template_ports import TemplateStore
from services.common.errors import ConcurrencyConflict, Conflict
from services.common.ids import AccountId, TemplateId, UserId
from services.common.postgres import EventStore, migrate, open_pool
from tests.fixtures.engines import PostgresServer

ONE, TWO = TemplateId("one"), TemplateId("two")
ACCOUNT, USER = AccountId("acc_1"), UserId("usr_1")
CONTENT = TemplateContent(
    "support", "d", "s {{a}}", '[{"role":"user","content":"x"}]', "m", '{"top_p":1}', ("a",), "t"
)
MADE = TemplateCreated(ONE, ACCOUNT, USER, CONTENT, 1_000)
OTHER = replace(CONTENT, name="other")


@pytest.fixture(params=["memory", "postgres"])
async def store(
    request: pytest.FixtureRequest, postgres_dsn: PostgresServer
) -> AsyncIterator[TemplateStore]:
    if request.param == "memory":
        yield MemoryTemplates()
        return
    pool = await open_pool(postgres_dsn("templates"), size_max=4)
    try:
        await migrate(pool, "services.catalog")
        yield PostgresTemplates(EventStore(pool))
    finally:
        await pool.close()


async def test_events_come_back_as_they_were_appended(store: TemplateStore) -> None:
    changed = TemplateChanged(ONE, ACCOUNT, OTHER, USER, 0, 2_000)
    async with store.transaction() as work:
        assert await work.events(ONE) == []
        made = await work.append(ONE, 0, [MADE])
    assert (made.version, made.content) == (1, CONTENT)
    async with store.transaction() as work:
        after = await work.append(ONE, 1, [changed])
    assert (after.version, after.content, after.updated_at_ms) == (2, OTHER, 2_000)
    async with store.transaction() as work:
        assert await work.events(ONE) == [MADE, changed]


async def test_a_name_is_taken_once_in_an_account_and_once_among_the_global_ones(
    store: TemplateStore,
) -> None:
    async with store.transaction() as work:
        await work.append(ONE, 0, [MADE])
    with pytest.raises(Conflict):
        async with store.transaction() as work:
            await work.append(TWO, 0, [replace(MADE, template_id=TWO)])
    async with store.transaction() as work:
        assert await work.events(TWO) == []
        await work.append(TWO, 0, [replace(MADE, template_id=TWO, account_id=GLOBAL)])
        assert (await work.count(ACCOUNT), await work.count(GLOBAL)) == (1, 1)
        assert await work.count(AccountId("acc_2")) == 0


async def test_the_name_of_a_deleted_template_is_free_and_its_history_stays(
    store: TemplateStore,
) -> None:
    deleted = TemplateDeleted(ONE, ACCOUNT, USER, 3_000)
    async with store.transaction() as work:
        await work.append(ONE, 0, [MADE])
        after = await work.append(ONE, 1, [deleted])
    assert after.deleted
    async with store.transaction() as work:
        await work.append(TWO, 0, [replace(MADE, template_id=TWO)])
        assert await work.events(ONE) == [MADE, deleted]
        assert await work.count(ACCOUNT) == 1


async def test_a_change_to_a_taken_name_is_refused_and_leaves_nothing(
    store: TemplateStore,
) -> None:
    async with store.transaction() as work:
        await work.append(ONE, 0, [MADE])
        await work.append(TWO, 0, [TemplateCreated(TWO, ACCOUNT, USER, OTHER, 1_000)])
    with pytest.raises(Conflict):
        async with store.transaction() as work:
            await work.append(TWO, 1, [TemplateChanged(TWO, ACCOUNT, CONTENT, USER, 0, 2_000)])
    async with store.transaction() as work:
        assert len(await work.events(TWO)) == 1


async def test_the_later_of_two_writers_is_refused(store: TemplateStore) -> None:
    async with store.transaction() as work:
        await work.append(ONE, 0, [MADE])
    with pytest.raises(ConcurrencyConflict):
        async with store.transaction() as work:
            await work.append(ONE, 0, [TemplateDeleted(ONE, ACCOUNT, USER, 2)])
