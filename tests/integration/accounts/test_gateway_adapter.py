"""Keys and sessions as the gateway manages them: the accounts service and the twin keep the same
promises.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from services.common.clock import FakeClock
from services.common.config import DEVELOPMENT_SECRET
from services.common.errors import Conflict, Forbidden, InvalidArgument, NotFound, Unauthorized
from services.common.grpc import GrpcChannel, Principal, TokenSigner
from services.gateway.adapters.admin_keys_grpc import GrpcAdminKeys
from services.gateway.adapters.admin_keys_memory import MemoryAdminKeys
from services.gateway.adapters.key_admin_grpc import GrpcKeyAdmin, GrpcSessions
from services.gateway.adapters.key_admin_memory import MemoryKeyAdmin, MemorySessions
from services.gateway.admin_keys import (
    AdminGrant,
    AdminKeyHolders,
    AdminKeys,
    ManagedAdminKey,
)
from services.gateway.key_admin import KeyAdmin, KeyFields, LimitValues, Sessions
from tests.integration.accounts.conftest import Service

FIELDS = KeyFields(
    label="web",
    limits=LimitValues(2_500_000_000, "day", 60, 1_000, 50_000),
    default_model="a/b",
    default_params={"temperature": 0.5},
    allowed_models=("a/b", "c/d"),
    api_version="2026-09",
    response_cache_disabled=True,
)


@dataclass(frozen=True, slots=True)
class Side:
    """One implementation with two people of two accounts, and a viewer of the first's."""

    sessions: Sessions
    keys: KeyAdmin
    owner: Principal
    viewer: Principal
    stranger: Principal
    token: str


@pytest.fixture(params=["memory", "grpc"])
async def side(request: pytest.FixtureRequest, service: Service) -> AsyncIterator[Side]:
    owner, stranger = await service.sign_up(), await service.sign_up()
    viewer = await service.add(owner, "viewer")
    people = (owner.principal, viewer.principal, stranger.principal)
    if request.param == "memory":
        sessions = MemorySessions()
        sessions.holders[owner.token] = owner.principal
        yield Side(sessions, MemoryKeyAdmin(FakeClock()), *people, owner.token)
        return
    channel = GrpcChannel(service.channel._address, TokenSigner(DEVELOPMENT_SECRET, "gateway"))
    try:
        yield Side(GrpcSessions(channel), GrpcKeyAdmin(channel), *people, owner.token)
    finally:
        await channel.close()


async def test_a_sessions_token_says_who_calls(side: Side) -> None:
    assert await side.sessions.holder(side.token) == side.owner
    with pytest.raises(Unauthorized):
        await side.sessions.holder("mss_unknown")


async def test_what_was_set_comes_back_and_the_secret_once(side: Side) -> None:
    made, plain = await side.keys.create(side.owner, FIELDS)
    assert made.fields == FIELDS
    assert plain.startswith("rsk_")
    assert plain not in repr(made)
    assert (made.suspended, made.created_by) == (False, side.owner.user_id)
    assert await side.keys.get(side.viewer, made.key_id) == made
    assert await side.keys.all(side.viewer) == [made]
    limits = await side.keys.limits(side.owner, made.key_id)
    assert (limits.own, dict(limits.scopes)) == (FIELDS.limits, {})


async def test_only_what_is_named_is_changed_and_none_clears(side: Side) -> None:
    made, _ = await side.keys.create(side.owner, FIELDS)
    changed = await side.keys.update(
        side.owner,
        made.key_id,
        KeyFields(label="ignored", limits=LimitValues(rpm_limit=None, rpd_limit=7)),
        changed=("rpm_limit", "rpd_limit", "default_params"),
    )
    assert changed.fields.limits == LimitValues(2_500_000_000, "day", None, 7, 50_000)
    assert (changed.fields.label, dict(changed.fields.default_params)) == ("web", {})
    assert (await side.keys.suspend(side.owner, made.key_id)).suspended
    assert not (await side.keys.resume(side.owner, made.key_id)).suspended


async def test_who_may_not_and_what_is_wrong_is_refused(side: Side) -> None:
    made, _ = await side.keys.create(side.owner, FIELDS)
    with pytest.raises(NotFound):
        await side.keys.get(side.stranger, made.key_id)
    with pytest.raises(NotFound):
        await side.keys.suspend(side.stranger, made.key_id)
    with pytest.raises(Forbidden):
        await side.keys.create(side.viewer, FIELDS)
    with pytest.raises(Forbidden):
        await side.keys.all(Principal("key", side.owner.account_id, key_id="key_1"))
    with pytest.raises(InvalidArgument, match="rpm_limit"):
        await side.keys.create(side.owner, KeyFields("x", LimitValues(rpm_limit=1_001)))
    with pytest.raises(InvalidArgument, match="label"):
        await side.keys.create(side.owner, KeyFields(" "))


@dataclass(frozen=True, slots=True)
class AdminSide:
    """One implementation of admin keys, with its own clock and people."""

    keys: AdminKeys
    holders: AdminKeyHolders
    clock: FakeClock
    owner: Principal
    developer: Principal
    stranger: Principal


@pytest.fixture(params=["memory", "grpc"])
async def admin(request: pytest.FixtureRequest, service: Service) -> AsyncIterator[AdminSide]:
    owner, stranger = await service.sign_up(), await service.sign_up()
    developer = await service.add(owner, "developer")
    people = (owner.principal, developer.principal, stranger.principal)
    if request.param == "memory":
        clock = FakeClock()
        twin = MemoryAdminKeys(clock)
        yield AdminSide(twin, twin, clock, *people)
        return
    channel = GrpcChannel(service.channel._address, TokenSigner(DEVELOPMENT_SECRET, "gateway"))
    real = GrpcAdminKeys(channel)
    try:
        yield AdminSide(real, real, service.clock, *people)
    finally:
        await channel.close()


async def new_admin_key(
    side: AdminSide, permissions: tuple[str, ...] = ("keys:write", "keys:read"), scope: str = "org"
) -> tuple[ManagedAdminKey, str]:
    expires_at_ms = side.clock.now_ms() + 86_400_000
    return await side.keys.create(
        side.owner, "ci", permissions=permissions, scope=scope, expires_at_ms=expires_at_ms
    )


async def test_an_admin_keys_secret_stands_for_its_maker_narrowed_down(admin: AdminSide) -> None:
    made, secret = await new_admin_key(admin, scope="self")
    grant = await admin.holders.holder(secret)
    acting = replace(admin.owner, key_id=made.admin_key_id)
    assert grant == AdminGrant(acting, frozenset({"keys:read", "keys:write"}), "self")
    shown = await admin.keys.get(admin.owner, made.admin_key_id)
    assert shown == replace(made, last_used_at_ms=admin.clock.now_ms())
    assert await admin.keys.all(admin.developer) == [shown]
    assert (made.permissions, made.created_by) == (("keys:read", "keys:write"), admin.owner.user_id)
    assert made.masked_key == f"{secret[:8]}...{secret[-4:]}"


async def test_admin_secrets_end_by_grace_revocation_and_time(admin: AdminSide) -> None:
    made, first = await new_admin_key(admin)
    key_id = made.admin_key_id
    _, second = await admin.keys.rotate(admin.owner, key_id, grace_s=60, expires_at_ms=0)
    await admin.holders.holder(first)
    _, third = await admin.keys.rotate(admin.owner, key_id, grace_s=60, expires_at_ms=0)
    with pytest.raises(Unauthorized):
        await admin.holders.holder(first)
    await admin.holders.holder(second)
    await admin.clock.advance(60.0)
    with pytest.raises(Unauthorized):
        await admin.holders.holder(second)
    await admin.keys.revoke(admin.owner, key_id, "leaked")
    for secret in (third, "mak_none", ""):
        with pytest.raises(Unauthorized):
            await admin.holders.holder(secret)
    assert (await admin.keys.get(admin.owner, key_id)).revoke_reason == "leaked"
    with pytest.raises(Conflict):
        await admin.keys.rotate(admin.owner, key_id, grace_s=0, expires_at_ms=0)
    _, other = await new_admin_key(admin)
    await admin.clock.advance(86_400.0)
    with pytest.raises(Unauthorized):
        await admin.holders.holder(other)


async def test_who_may_not_manage_admin_keys_is_refused(admin: AdminSide) -> None:
    made, _ = await new_admin_key(admin)
    with pytest.raises(NotFound):
        await admin.keys.get(admin.stranger, made.admin_key_id)
    with pytest.raises(NotFound):
        await admin.keys.revoke(admin.stranger, made.admin_key_id, "")
    with pytest.raises(Forbidden):
        await admin.keys.revoke(admin.developer, made.admin_key_id, "")
    with pytest.raises(Forbidden):
        await admin.keys.all(Principal("key", admin.owner.account_id, key_id="key_1"))
    for permissions, scope, days in ((("org:read",), "team", 1), (("keys:read",), "org", 91)):
        expires_at_ms = admin.clock.now_ms() + days * 86_400_000
        with pytest.raises(InvalidArgument):
            await admin.keys.create(
                admin.owner, "ci", permissions=permissions, scope=scope, expires_at_ms=expires_at_ms
            )
