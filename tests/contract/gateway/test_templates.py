"""Templates as the gateway keeps them: the catalog by gRPC and the twin keep the same promises."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.catalog.bootstrap import compose
from services.catalog.config import CatalogSettings
from services.common.clock import FakeClock
from services.common.config import load_settings
from services.common.errors import Conflict, Forbidden, InvalidArgument, NotFound
from services.common.grpc import GrpcChannel, Principal, TokenSigner
from services.common.postgres import migrate, open_pool
from services.gateway.adapters.templates_grpc import GrpcTemplates
from services.gateway.adapters.templates_memory import MemoryTemplates
from services.gateway.template_store import TemplateFields, Templates
from tests.fixtures.engines import PostgresServer

KEY = Principal("key", "acc_1", user_id="usr_1", key_id="key_1")
MEMBER = Principal("user", "acc_1", user_id="usr_2", role="developer")
VIEWER = Principal("user", "acc_1", user_id="usr_3", role="viewer")
ADMIN = Principal("user", "acc_1", user_id="usr_4", role="admin")
STRANGER = Principal("key", "acc_2", user_id="usr_9", key_id="key_9")
OPERATOR = Principal("operator", "")
FIELDS = TemplateFields(
    name="support",
    description="d",
    system="{{ a }}",
    messages=[{"role": "user", "content": "ü"}],
    model="a/b",
    params={"temperature": 0.25, "stop": ["x"]},
    variables=["a"],
    team_id="t",
)


@pytest.fixture(params=["memory", "grpc"])
async def templates(
    request: pytest.FixtureRequest,
    postgres_dsn: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Templates]:
    clock = FakeClock(1_700_000_000_000)
    if request.param == "memory":
        yield MemoryTemplates(clock)
        return
    monkeypatch.setenv("MESH_CATALOG_GRPC_LISTEN", "127.0.0.1:0")
    settings = load_settings(CatalogSettings)
    pool = await open_pool(postgres_dsn("templates"), size_max=2)
    await migrate(pool, "services.catalog")
    server = compose(settings, pool, clock).grpc_server()
    await server.start()
    signer = TokenSigner(settings.service_secret.get_secret_value(), "gateway")
    channel = GrpcChannel(f"127.0.0.1:{server.port}", signer)
    try:
        yield GrpcTemplates(channel)
    finally:
        await channel.close()
        await server.stop(0)
        await pool.close()


async def test_what_was_set_comes_back(templates: Templates) -> None:
    made = await templates.create(KEY, FIELDS)
    assert made.fields == FIELDS
    assert (made.account_id, made.owner_user_id, made.version) == ("acc_1", "usr_1", 1)
    assert made.created_at_ms == made.updated_at_ms == 1_700_000_000_000
    assert await templates.get(VIEWER, made.template_id) == made
    assert await templates.all(MEMBER) == [made]
    assert await templates.all(MEMBER, team_id="other") == []
    assert await templates.all(MEMBER, owner_user_id="usr_1") == [made]


async def test_changes_are_versions_and_can_be_undone(templates: Templates) -> None:
    made = await templates.create(KEY, FIELDS)
    changed = await templates.update(
        KEY, made.template_id, TemplateFields(system="s"), changed=("system", "params", "messages")
    )
    assert (changed.version, changed.fields.system) == (2, "s")
    assert (changed.fields.params, list(changed.fields.messages)) == ({}, [])
    assert changed.fields.model == "a/b"
    same = await templates.update(
        KEY, made.template_id, TemplateFields(system="s"), changed=["system"]
    )
    assert same == changed
    restored = await templates.restore(ADMIN, made.template_id, 1)
    assert (restored.version, restored.fields) == (3, FIELDS)
    versions = await templates.versions(VIEWER, made.template_id)
    assert [(v.version, v.restored_from, v.changed_by) for v in versions] == [
        (3, 1, "usr_4"),
        (2, 0, "usr_1"),
        (1, 0, "usr_1"),
    ]
    with pytest.raises(NotFound):
        await templates.restore(KEY, made.template_id, 4)


async def test_a_deleted_template_is_gone(templates: Templates) -> None:
    made = await templates.create(KEY, FIELDS)
    await templates.delete(KEY, made.template_id)
    for template_id in (made.template_id, "tmpl_none"):
        with pytest.raises(NotFound):
            await templates.get(KEY, template_id)
        with pytest.raises(NotFound):
            await templates.delete(KEY, template_id)
        with pytest.raises(NotFound):
            await templates.update(KEY, template_id, FIELDS, changed=["name"])
        with pytest.raises(NotFound):
            await templates.versions(KEY, template_id)


async def test_who_may_not_is_refused(templates: Templates) -> None:
    made = await templates.create(KEY, FIELDS)
    everyones = await templates.create(OPERATOR, TemplateFields(name="support"))
    assert {one.template_id for one in await templates.all(STRANGER)} == {everyones.template_id}
    with pytest.raises(NotFound):
        await templates.get(STRANGER, made.template_id)
    for template_id, caller in (
        (made.template_id, MEMBER),
        (made.template_id, VIEWER),
        (everyones.template_id, KEY),
        (everyones.template_id, ADMIN),
    ):
        with pytest.raises(Forbidden):
            await templates.delete(caller, template_id)
    with pytest.raises(Forbidden):
        await templates.create(VIEWER, FIELDS)


async def test_names_are_taken_once_and_needed(templates: Templates) -> None:
    made = await templates.create(KEY, FIELDS)
    other = await templates.create(KEY, TemplateFields(name="other"))
    with pytest.raises(Conflict):
        await templates.create(MEMBER, FIELDS)
    with pytest.raises(Conflict):
        await templates.update(KEY, other.template_id, FIELDS, changed=["name"])
    with pytest.raises(InvalidArgument, match="name"):
        await templates.update(KEY, made.template_id, TemplateFields(), changed=["name"])
