"""Admin keys over gRPC and PostgreSQL: its hash alone, and an end that is one."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from services.accounts.domain.secret import sha256_hex
from services.common.errors import NotFound, Unauthorized
from services.common.pb.mesh.accounts.v1 import (
    accounts_pb2,
    admin_keys_pb2,
    keys_pb2,
    limits_pb2,
)
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import accounts_pb2 as events_pb2
from tests.integration.accounts.conftest import Service


async def resolve(service: Service, plain: str) -> admin_keys_pb2.ResolveAdminKeyResponse:
    request = admin_keys_pb2.ResolveAdminKeyRequest(key_hash=sha256_hex(plain))
    answer = await service.call(service.admin_keys.ResolveAdminKey, request)
    assert isinstance(answer, admin_keys_pb2.ResolveAdminKeyResponse)
    return answer


async def test_a_secret_stands_for_its_maker_and_is_kept_as_a_hash(service: Service) -> None:
    owner = await service.sign_up()
    team = await service.call(
        service.limits.CreateTeam, limits_pb2.CreateTeamRequest(name="research"), owner.principal
    )
    put = limits_pb2.PutTeamMemberRequest(team_id=team.team_id, user_id=owner.principal.user_id)
    await service.call(service.limits.PutTeamMember, put, owner.principal)
    made = await service.create_admin_key(owner, scope="team")
    assert made.plain_key.startswith("mak_")
    found = await resolve(service, made.plain_key)
    assert (found.account_id, found.user_id) == (
        owner.principal.account_id,
        owner.principal.user_id,
    )
    assert (found.role, list(found.team_ids)) == (common_pb2.ROLE_OWNER, [team.team_id])
    assert (list(found.permissions), found.scope) == (["keys:read", "keys:write"], "team")
    for table in ("admin_keys", "events", "audit_events", "outbox"):
        rows = await service.pool.fetch(f"SELECT t::text AS row FROM {table} AS t")
        assert not any(made.plain_key in row["row"] for row in rows), table
    listed = await service.call(
        service.admin_keys.ListAdminKeys, admin_keys_pb2.ListAdminKeysRequest(), owner.principal
    )
    (shown,) = listed.admin_keys
    assert shown.last_used_at_ms == service.clock.now_ms()
    assert (shown.admin_key_id, shown.masked_key) == (
        made.admin_key.admin_key_id,
        made.admin_key.masked_key,
    )


async def test_both_secrets_work_in_the_grace_and_none_after_a_revocation(
    service: Service,
) -> None:
    owner = await service.sign_up()
    made = await service.create_admin_key(owner)
    key_id = made.admin_key.admin_key_id
    request = admin_keys_pb2.RotateAdminKeyRequest(admin_key_id=key_id, grace_s=60)
    rotated = await service.call(service.admin_keys.RotateAdminKey, request, owner.principal)
    for plain in (made.plain_key, rotated.plain_key):
        assert (await resolve(service, plain)).admin_key_id == key_id
    await service.clock.advance(60.0)
    with pytest.raises(Unauthorized):
        await resolve(service, made.plain_key)
    revoke = admin_keys_pb2.RevokeAdminKeyRequest(admin_key_id=key_id, reason="leaked")
    await service.call(service.admin_keys.RevokeAdminKey, revoke, owner.principal)
    for plain in (made.plain_key, rotated.plain_key, "", "mak_none"):
        with pytest.raises(Unauthorized):
            await resolve(service, plain)


async def test_an_admin_key_ends_with_its_time_and_with_its_makers_membership(
    service: Service,
) -> None:
    owner = await service.sign_up()
    admin = await service.add(owner, "admin")
    made = await service.create_admin_key(admin)
    assert (await resolve(service, made.plain_key)).role == common_pb2.ROLE_ADMIN
    request = accounts_pb2.RemoveMemberRequest(user_id=admin.principal.user_id)
    await service.call(service.accounts.RemoveMember, request, owner.principal)
    with pytest.raises(Unauthorized):
        await resolve(service, made.plain_key)
    own = await service.create_admin_key(owner)
    await service.clock.advance(86_400.0)
    with pytest.raises(Unauthorized):
        await resolve(service, own.plain_key)
    with pytest.raises(NotFound):
        await service.call(
            service.admin_keys.GetAdminKey,
            admin_keys_pb2.GetAdminKeyRequest(admin_key_id=""),
            owner.principal,
        )


async def test_the_trail_names_the_admin_key_that_acted_and_its_maker(service: Service) -> None:
    owner = await service.sign_up()
    made = await service.create_admin_key(owner)
    admin_key_id, user_id = made.admin_key.admin_key_id, owner.principal.user_id
    script = replace(owner, principal=replace(owner.principal, key_id=admin_key_id))
    created = await service.create_key(script)
    key_id = created.key.key_id
    # The key is the person's, whoever made it for them.
    assert created.key.created_by == user_id
    change = keys_pb2.UpdateKeyRequest(
        key_id=key_id,
        settings=events_pb2.KeySettings(rpm_limit=7),
        update_mask=["rpm_limit"],
    )
    await service.call(service.keys.UpdateKey, change, script.principal)
    suspend = keys_pb2.SuspendKeyRequest(key_id=key_id)
    await service.call(service.keys.SuspendKey, suspend, script.principal)
    resume = keys_pb2.ResumeKeyRequest(key_id=key_id)
    await service.call(service.keys.ResumeKey, resume, owner.principal)
    trail = await service.call(
        service.accounts.ListAuditEvents, accounts_pb2.ListAuditEventsRequest(), owner.principal
    )
    told = [
        (one.type, one.actor, orjson.loads(one.details_json).get("on_behalf_of"))
        for one in trail.events
        if one.subject == key_id
    ]
    assert told == [
        ("accounts.KeyResumed", user_id, None),
        ("accounts.KeySuspended", admin_key_id, user_id),
        ("accounts.KeyChanged", admin_key_id, user_id),
        ("accounts.KeyIssued", admin_key_id, user_id),
    ]
