"""Keys and sessions as the gateway manages them: the accounts service and the twin keep the same
promises.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from services.common.clock import FakeClock
from services.common.config import DEVELOPMENT_SECRET
from services.common.errors import Forbidden, InvalidArgument, NotFound, Unauthorized
from services.common.grpc import GrpcChannel, Principal, TokenSigner
from services.gateway.adapters.key_admin_grpc import GrpcKeyAdmin, GrpcSessions
from services.gateway.adapters.key_admin_memory import MemoryKeyAdmin, MemorySessions
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
