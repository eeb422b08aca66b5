"""TemplatesService over gRPC on loopback on real PostgreSQL: tenants, versions, rebuild."""

from __future__ import annotations

import pytest

from services.catalog.rebuild import rebuild
from services.common.errors import Conflict, Forbidden, InvalidArgument, NotFound, Unauthorized
from services.common.events import EventRecord
from services.common.grpc import Principal
from services.common.pb.mesh.catalog.v1 import templates_pb2 as pb
from services.common.pb.mesh.catalog.v1 import templates_pb2_grpc
from services.common.pb.mesh.events.v1 import templates_pb2 as events_pb
from tests.integration.catalog.conftest import OPERATOR, USER, Running

KEY = Principal("key", "acc_1", user_id="usr_1", key_id="key_1")
MEMBER = Principal("user", "acc_1", user_id="usr_2", role="developer")
VIEWER = Principal("user", "acc_1", user_id="usr_3", role="viewer")
STRANGER = Principal("user", "acc_2", user_id="usr_9", role="owner")
CONTENT = events_pb.TemplateContent(
    name="support",
    system="For {{ product }}.",
    messages_json='[{"role":"user","content":"Hello"}]',
    params_json='{"temperature":0.2}',
    variables=["product"],
    team_id="team_1",
)


class Client:
    """The service, called for whoever is named."""

    def __init__(self, running: Running) -> None:
        self.channel = running.channel("gateway")
        self.stub = templates_pb2_grpc.TemplatesServiceStub(self.channel.channel())

    async def create(
        self, caller: Principal | None = KEY, content: events_pb.TemplateContent = CONTENT
    ) -> pb.Template:
        request = pb.CreateTemplateRequest(content=content)
        return await self.channel.call(self.stub.CreateTemplate, request, principal=caller)

    async def get(self, template_id: str, caller: Principal = KEY) -> pb.Template:
        request = pb.GetTemplateRequest(template_id=template_id)
        return await self.channel.call(self.stub.GetTemplate, request, principal=caller)

    async def names(self, caller: Principal, **filters: str) -> list[str]:
        request = pb.ListTemplatesRequest(**filters)
        answer = await self.channel.call(self.stub.ListTemplates, request, principal=caller)
        return [one.content.name for one in answer.templates]

    async def update(self, template_id: str, caller: Principal = KEY, **fields: str) -> pb.Template:
        request = pb.UpdateTemplateRequest(
            template_id=template_id,
            content=events_pb.TemplateContent(**fields),
            update_mask=list(fields),
        )
        return await self.channel.call(self.stub.UpdateTemplate, request, principal=caller)

    async def delete(self, template_id: str, caller: Principal = KEY) -> None:
        request = pb.DeleteTemplateRequest(template_id=template_id)
        await self.channel.call(self.stub.DeleteTemplate, request, principal=caller)

    async def versions(self, template_id: str) -> list[pb.TemplateVersion]:
        request = pb.ListTemplateVersionsRequest(template_id=template_id)
        answer = await self.channel.call(self.stub.ListTemplateVersions, request, principal=KEY)
        return list(answer.versions)

    async def restore(self, template_id: str, version: int) -> pb.Template:
        request = pb.RestoreTemplateVersionRequest(template_id=template_id, version=version)
        return await self.channel.call(self.stub.RestoreTemplateVersion, request, principal=KEY)


async def test_a_template_is_made_changed_restored_and_deleted(running: Running) -> None:
    client = Client(running)
    made = await client.create()
    assert (made.account_id, made.owner_user_id, made.version) == ("acc_1", "usr_1", 1)
    assert made.content == CONTENT
    await running.clock.advance(5)
    changed = await client.update(made.template_id, system="Be brief.")
    assert (changed.version, changed.content.system) == (2, "Be brief.")
    assert changed.content.messages_json == CONTENT.messages_json
    assert changed.updated_at_ms == made.updated_at_ms + 5_000
    restored = await client.restore(made.template_id, 1)
    assert (restored.version, restored.content) == (3, CONTENT)
    found = await client.versions(made.template_id)
    assert [(one.version, one.restored_from) for one in found] == [(3, 1), (2, 0), (1, 0)]
    with pytest.raises(NotFound):
        await client.restore(made.template_id, 9)
    await client.delete(made.template_id)
    for missing in (made.template_id, "tmpl_nonexistent", "", "\x00"):
        with pytest.raises(NotFound):
            await client.get(missing)


async def test_accounts_see_their_own_and_global_templates_and_no_others(running: Running) -> None:
    client = Client(running)
    own = await client.create()
    await running.clock.advance(1)
    everyones = await client.create(OPERATOR, events_pb.TemplateContent(name="global"))
    assert everyones.account_id == ""
    assert await client.names(MEMBER) == ["global", "support"]
    assert await client.names(STRANGER) == ["global"]
    assert await client.names(MEMBER, team_id="team_1") == ["support"]
    assert await client.names(MEMBER, owner_user_id="usr_2") == []
    assert (await client.get(everyones.template_id, STRANGER)).content.name == "global"
    with pytest.raises(NotFound):
        await client.get(own.template_id, STRANGER)
    with pytest.raises(NotFound):
        await client.delete(own.template_id, STRANGER)
    with pytest.raises(Forbidden):
        await client.update(everyones.template_id, system="mine now")


async def test_developers_change_their_own_admins_any_and_viewers_none(running: Running) -> None:
    client = Client(running)
    made = await client.create()
    with pytest.raises(Forbidden):
        await client.update(made.template_id, MEMBER, system="x")
    with pytest.raises(Forbidden, match="developer"):
        await client.create(VIEWER)
    assert (await client.get(made.template_id, VIEWER)).template_id == made.template_id
    assert (await client.update(made.template_id, USER, system="x")).version == 2
    with pytest.raises(Unauthorized):
        await client.create(None)


async def test_a_name_is_taken_and_a_wrong_field_is_named(running: Running) -> None:
    client = Client(running)
    await client.create()
    with pytest.raises(Conflict, match="support"):
        await client.create(MEMBER)
    with pytest.raises(InvalidArgument, match="messages"):
        await client.create(content=events_pb.TemplateContent(name="n", messages_json="[1]"))


async def test_rows_of_another_account_are_fenced_off_by_the_database_too(running: Running) -> None:
    await Client(running).create()
    async with running.pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "SELECT set_config('role', 'mesh_catalog_tenant', true),"
            " set_config('mesh.account_id', 'acc_2', true)"
        )
        assert await connection.fetchval("SELECT count(*) FROM templates") == 0


async def test_topics_tell_events_and_states_and_a_rebuild_folds_the_same_table(
    running: Running,
) -> None:
    client = Client(running)
    made = await client.create()
    await client.update(made.template_id, system="y")
    kept = await client.create(content=events_pb.TemplateContent(name="kept"))
    await client.delete(made.template_id)
    rows = await running.pool.fetch("SELECT topic, key, value FROM outbox ORDER BY position")
    compacted = [row for row in rows if row["topic"] == "mesh.templates.v1"]
    assert [row["key"] for row in compacted].count(made.template_id) == 3
    assert compacted[-1]["value"] is None
    newest = [row for row in compacted if row["key"] == kept.template_id][-1]
    state = EventRecord.from_bytes(newest["value"]).message()
    assert isinstance(state, events_pb.TemplateState)
    assert (state.content.name, state.version) == ("kept", 1)
    events = [row for row in rows if row["topic"] == "mesh.catalog.v1"]
    assert len(events) == 4
    report = await rebuild(running.pool)
    assert report.equal
    assert report.events == 4
    assert await client.names(KEY) == ["kept"]
