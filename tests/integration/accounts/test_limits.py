"""Teams and limits over gRPC: what is set is listed, published with the keys, and rebuilt."""

from __future__ import annotations

import pytest

from services.accounts.rebuild import rebuild
from services.common.errors import Conflict, Forbidden, NotFound
from services.common.events import EventRecord
from services.common.pb.mesh.accounts.v1 import accounts_pb2, keys_pb2
from services.common.pb.mesh.accounts.v1 import limits_pb2 as pb
from services.common.pb.mesh.events.v1 import accounts_pb2 as events_pb2
from services.common.topics import KEYS
from tests.fixtures.waiting import eventually
from tests.integration.accounts.conftest import Person, Service

LIMITS = events_pb2.Limits(spend_cap_nanousd=7, rpm_limit=60)


async def set_limits(service: Service, who: Person, scope: str) -> events_pb2.ScopeLimits:
    request = pb.SetLimitsRequest(scope=scope, limits=LIMITS)
    answer = await service.call(service.limits.SetLimits, request, who.principal)
    assert isinstance(answer, events_pb2.ScopeLimits)
    return answer


async def put_in_team(service: Service, who: Person, key_id: str, team_id: str) -> keys_pb2.Key:
    settings = events_pb2.KeySettings(team_id=team_id)
    request = keys_pb2.UpdateKeyRequest(key_id=key_id, settings=settings, update_mask=["team_id"])
    answer = await service.call(service.keys.UpdateKey, request, who.principal)
    assert isinstance(answer, keys_pb2.Key)
    return answer


def newest_state(service: Service, key_id: str) -> events_pb2.KeyState:
    """The key as gateways and billing know it."""
    found = events_pb2.KeyState()
    for message in service.log.messages(KEYS.name):
        state = EventRecord.from_bytes(message.value).message() if message.value else None
        if isinstance(state, events_pb2.KeyState) and state.key_id == key_id:
            found = state if state.version > found.version else found
    return found


async def test_limits_are_published_with_every_key_of_the_scope_and_rebuilt(
    service: Service,
) -> None:
    owner = await service.sign_up()
    member = await service.add(owner, "developer")
    mine = (await service.create_key(owner)).key.key_id
    theirs = (await service.create_key(member)).key.key_id
    team = await service.call(
        service.limits.CreateTeam, pb.CreateTeamRequest(name="research"), owner.principal
    )
    await put_in_team(service, owner, theirs, team.team_id)
    user_id = member.principal.user_id
    for scope in ("account", f"member:{user_id}", f"team:{team.team_id}", "account_model:m"):
        answer = await set_limits(service, owner, scope)
        assert answer.limits.rpm_limit == 60

    def published() -> bool:
        return len(newest_state(service, theirs).scopes) == 4

    await eventually(published)
    state = newest_state(service, theirs)
    assert [one.scope for one in state.scopes] == [
        "account", "account_model:m", f"member:{user_id}", f"team:{team.team_id}",
    ]  # fmt: skip
    assert state.settings.team_id == team.team_id
    assert all(one.limits.spend_cap_nanousd == 7 for one in state.scopes)
    assert [one.scope for one in newest_state(service, mine).scopes] == [
        "account", "account_model:m",
    ]  # fmt: skip
    limits = await service.call(
        service.limits.GetKeyLimits, pb.GetKeyLimitsRequest(key_id=theirs), member.principal
    )
    assert list(limits.scopes) == list(state.scopes)
    assert (limits.user_id, limits.team_id) == (user_id, team.team_id)
    listed = await service.call(service.limits.ListTeams, pb.ListTeamsRequest(), owner.principal)
    assert [one.limits.rpm_limit for one in listed.teams] == [60]
    assert (await rebuild(service.pool)).equal


async def test_a_team_is_renamed_and_removed_once_no_key_is_in_it(service: Service) -> None:
    owner = await service.sign_up()
    key_id = (await service.create_key(owner)).key.key_id
    create = pb.CreateTeamRequest(name="research")
    team = await service.call(service.limits.CreateTeam, create, owner.principal)
    rename = pb.RenameTeamRequest(team_id=team.team_id, name="search")
    assert (await service.call(service.limits.RenameTeam, rename, owner.principal)).name == "search"
    await put_in_team(service, owner, key_id, team.team_id)
    remove = pb.RemoveTeamRequest(team_id=team.team_id)
    with pytest.raises(Conflict):
        await service.call(service.limits.RemoveTeam, remove, owner.principal)
    await put_in_team(service, owner, key_id, "")
    await service.call(service.limits.RemoveTeam, remove, owner.principal)
    listed = await service.call(service.limits.ListTeams, pb.ListTeamsRequest(), owner.principal)
    assert not listed.teams


async def test_a_developer_makes_keys_in_an_own_team_alone(service: Service) -> None:
    owner = await service.sign_up()
    member = await service.add(owner, "developer")
    team = await service.call(
        service.limits.CreateTeam, pb.CreateTeamRequest(name="research"), owner.principal
    )
    settings = events_pb2.KeySettings(label="k", team_id=team.team_id)
    create = keys_pb2.CreateKeyRequest(settings=settings)
    with pytest.raises(Forbidden):
        await service.call(service.keys.CreateKey, create, member.principal)
    put = pb.PutTeamMemberRequest(team_id=team.team_id, user_id=member.principal.user_id)
    found = await service.call(service.limits.PutTeamMember, put, owner.principal)
    assert list(found.member_user_ids) == [member.principal.user_id]
    key = (await service.call(service.keys.CreateKey, create, member.principal)).key
    assert key.settings.team_id == team.team_id
    with pytest.raises(Forbidden):
        await put_in_team(service, member, key.key_id, "")


async def test_another_accounts_teams_and_keys_look_like_none(service: Service) -> None:
    owner, stranger = await service.sign_up(), await service.sign_up()
    key_id = (await service.create_key(owner)).key.key_id
    team = await service.call(
        service.limits.CreateTeam, pb.CreateTeamRequest(name="research"), owner.principal
    )
    put = pb.PutTeamMemberRequest(team_id=team.team_id, user_id=stranger.principal.user_id)
    for method, request in (
        (service.limits.GetKeyLimits, pb.GetKeyLimitsRequest(key_id=key_id)),
        (service.limits.RemoveTeam, pb.RemoveTeamRequest(team_id=team.team_id)),
        (service.limits.PutTeamMember, put),
    ):
        with pytest.raises(NotFound):
            await service.call(method, request, stranger.principal)
    with pytest.raises(NotFound):
        await set_limits(service, stranger, f"team:{team.team_id}")


async def test_the_trail_shows_who_set_which_limits(service: Service) -> None:
    owner = await service.sign_up()
    await set_limits(service, owner, "account")
    trail = await service.call(
        service.accounts.ListAuditEvents, accounts_pb2.ListAuditEventsRequest(), owner.principal
    )
    assert (trail.events[0].type, trail.events[0].subject) == ("accounts.LimitsSet", "account")
    assert trail.events[0].actor == owner.principal.user_id
