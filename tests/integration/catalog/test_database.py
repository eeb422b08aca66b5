"""Seeds, rebuilds and secrets on real PostgreSQL."""

from __future__ import annotations

import logging

import asyncpg
import pytest
import structlog

from services.catalog import handlers, seeding
from services.catalog.adapters.local_model import local_seeds
from services.catalog.adapters.prices_genai import GenaiPrices
from services.catalog.domain.model import PublishPrice
from services.catalog.domain.provider import RemoveCredential, SetCredential
from services.catalog.rebuild import rebuild, table_hash
from services.common.config import CommonSettings
from services.common.events import EventRecord
from services.common.ids import ProviderId
from services.common.pb.mesh.events.v1 import catalog_pb2
from services.common.telemetry import configure_logging
from tests.integration.catalog.conftest import Running
from tests.unit.catalog.builders import CREDENTIAL, GPT, NOW_MS, OPENAI, price

GROQ = ProviderId("groq")


async def outbox(pool: asyncpg.Pool) -> list[tuple[str, str, EventRecord]]:
    rows = await pool.fetch("SELECT topic, key, value FROM outbox ORDER BY position")
    return [(row["topic"], row["key"], EventRecord.from_bytes(row["value"])) for row in rows]


async def test_the_whole_price_package_is_seeded_once(running: Running) -> None:
    context = running.catalog.context
    report = await seeding.seed(context, GenaiPrices())
    assert report is not None
    views = await running.catalog.views.models(NOW_MS, include_unavailable=True)
    assert len(views) == report.models > 1000
    assert all(view.price is not None and not view.available for view in views)
    seeds = {seed.model_id: seed for seed in GenaiPrices().read().models}
    for view in views:
        assert view.model.settings == seeds[view.model.model_id].settings
        assert view.model.prices == seeds[view.model.model_id].prices
    published = await outbox(running.pool)
    events = [record for topic, _, record in published if topic == "mesh.catalog.v1"]
    assert len(events) == report.providers + report.models + report.prices
    states = {key for topic, key, _ in published if topic == "mesh.models.v1"}
    assert len(states) == report.providers + report.models
    assert await seeding.seed(context, GenaiPrices()) is None
    assert len(await outbox(running.pool)) == len(published)


async def test_a_credential_makes_the_seeded_models_of_its_provider_available(
    running: Running,
) -> None:
    context = running.catalog.context
    await seeding.seed(context, GenaiPrices())
    await running.pool.execute("DELETE FROM outbox")
    await handlers.set_credential(context, SetCredential(GROQ, NOW_MS), CREDENTIAL)
    views = await running.catalog.views.models(NOW_MS)
    assert {view.model.settings.provider_id for view in views} == {GROQ}
    messages = [record.message() for _, _, record in await outbox(running.pool)]
    states = [m for m in messages if isinstance(m, catalog_pb2.ModelState)]
    assert {m.model_id for m in states if m.available} == {v.model.model_id for v in views}


async def test_a_rebuild_folds_the_same_tables_and_keeps_the_credentials(running: Running) -> None:
    context = running.catalog.context
    await seeding.seed(context, GenaiPrices())
    await seeding.seed_environment(context, local_seeds("http://127.0.0.1:8300/v1"))
    await seeding.set_credentials(context, {OPENAI: CREDENTIAL, GROQ: CREDENTIAL})
    await handlers.remove_credential(context, RemoveCredential(GROQ, NOW_MS))
    await handlers.publish_price(context, PublishPrice(price(), NOW_MS))
    report = await rebuild(running.pool)
    assert report.equal
    assert report.events == await running.pool.fetchval("SELECT count(*) FROM events")
    assert (await handlers.get_credential(context, OPENAI)).credential == CREDENTIAL
    await handlers.publish_price(context, PublishPrice(price(valid_from_ms=NOW_MS + 1), NOW_MS))


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE prices SET request_fee_nanousd = 1 WHERE model_id = 'openai/gpt-4o'",
        "UPDATE models SET enabled = false WHERE model_id = 'openai/gpt-4o'",
        "DELETE FROM providers WHERE provider_id = 'groq'",
    ],
)
async def test_a_rebuild_mends_and_reports_what_no_event_explains(
    running: Running, damage: str
) -> None:
    await seeding.seed(running.catalog.context, GenaiPrices())
    async with running.pool.acquire() as connection:
        right = await table_hash(connection)
    await running.pool.execute(damage)
    report = await rebuild(running.pool)
    assert not report.equal
    assert report.hash_after == right


async def test_a_credential_is_in_no_event_no_outbox_row_no_log_and_no_plain_column(
    running: Running, capfd: pytest.CaptureFixture[str]
) -> None:
    configure_logging("catalog", CommonSettings(log_level="debug"))
    try:
        context = running.catalog.context
        await seeding.seed(context, GenaiPrices())
        await seeding.set_credentials(context, {OPENAI: CREDENTIAL})
        await handlers.get_credential(context, OPENAI)
        await handlers.set_credential(context, SetCredential(OPENAI, NOW_MS), f"{CREDENTIAL}2")
        logging.getLogger("catalog").info("%r", await running.catalog.views.providers())
    finally:
        logging.getLogger().handlers.clear()
        structlog.reset_defaults()
    logged = capfd.readouterr()
    assert "the catalog was seeded" in logged.err
    secret = CREDENTIAL.removeprefix("sk-")
    assert secret not in logged.err + logged.out
    for table in await running.pool.fetch(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    ):
        for row in await running.pool.fetch(f'SELECT * FROM "{table["tablename"]}"'):
            assert secret not in repr(tuple(row.values())), table
            blobs = b"".join(value for value in row.values() if isinstance(value, bytes))
            assert secret.encode() not in blobs, table
    assert GPT in {view.model.model_id for view in await running.catalog.views.models(NOW_MS)}
