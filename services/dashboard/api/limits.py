"""Teams, the limits of scopes, and what each scope has spent of its cap."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from pydantic import BaseModel

from services.common.money import usd_from_nanousd
from services.common.pb.mesh.accounts.v1 import limits_pb2, limits_pb2_grpc
from services.common.pb.mesh.billing.v1 import billing_pb2
from services.common.pb.mesh.events.v1 import accounts_pb2 as events_pb2
from services.dashboard.api.parts import LimitsIn, LimitsOut, Taken, limits_out, limits_pb
from services.dashboard.api.session import BackendsDep, PathId, SessionDep
from services.dashboard.ports import Backends

router = APIRouter(tags=["limits"])


class TeamIn(Taken):
    name: str


class TeamOut(BaseModel):
    team_id: str
    name: str
    member_user_ids: list[str]


class ScopeLimitsIn(LimitsIn):
    # `account`, `account_model:<model id>`, `member:<user id>`, `team:<team id>`.
    scope: str


class ScopeOut(BaseModel):
    """A scope's limits, and what it has spent and holds in its cap's window."""

    scope: str
    limits: LimitsOut
    spent_usd: str
    held_usd: str


def stub_of(backends: Backends) -> limits_pb2_grpc.LimitsServiceAsyncStub:
    stub: limits_pb2_grpc.LimitsServiceAsyncStub = limits_pb2_grpc.LimitsServiceStub(
        backends.accounts_channel.channel()
    )
    return stub


def team_out(team: limits_pb2.Team) -> TeamOut:
    return TeamOut(team_id=team.team_id, name=team.name, member_user_ids=list(team.member_user_ids))


def scope_out(found: events_pb2.ScopeLimits, spend: billing_pb2.ScopeSpend | None) -> ScopeOut:
    return ScopeOut(
        scope=found.scope,
        limits=limits_out(found.limits),
        spent_usd=usd_from_nanousd(spend.spent_nanousd if spend else 0),
        held_usd=usd_from_nanousd(spend.granted_nanousd if spend else 0),
    )


@router.get("/teams")
async def list_teams(session: SessionDep, backends: BackendsDep) -> list[TeamOut]:
    """The account's teams, by name."""
    answer = await backends.accounts_channel.call(
        stub_of(backends).ListTeams, limits_pb2.ListTeamsRequest(), principal=session.caller
    )
    return [team_out(team) for team in answer.teams]


@router.post("/teams", status_code=201)
async def create_team(body: TeamIn, session: SessionDep, backends: BackendsDep) -> TeamOut:
    """A new team, with nobody in it."""
    team = await backends.accounts_channel.call(
        stub_of(backends).CreateTeam,
        limits_pb2.CreateTeamRequest(name=body.name),
        principal=session.caller,
    )
    return team_out(team)


@router.patch("/teams/{team_id}")
async def rename_team(
    team_id: PathId, body: TeamIn, *, session: SessionDep, backends: BackendsDep
) -> TeamOut:
    """Gives a team another name."""
    team = await backends.accounts_channel.call(
        stub_of(backends).RenameTeam,
        limits_pb2.RenameTeamRequest(team_id=team_id, name=body.name),
        principal=session.caller,
    )
    return team_out(team)


@router.delete("/teams/{team_id}", status_code=204)
async def remove_team(team_id: PathId, session: SessionDep, backends: BackendsDep) -> None:
    """Ends a team in which there is no key."""
    await backends.accounts_channel.call(
        stub_of(backends).RemoveTeam,
        limits_pb2.RemoveTeamRequest(team_id=team_id),
        principal=session.caller,
    )


@router.put("/teams/{team_id}/members/{user_id}")
async def put_team_member(
    team_id: PathId, user_id: PathId, *, session: SessionDep, backends: BackendsDep
) -> TeamOut:
    """Puts a member of the account in a team."""
    team = await backends.accounts_channel.call(
        stub_of(backends).PutTeamMember,
        limits_pb2.PutTeamMemberRequest(team_id=team_id, user_id=user_id),
        principal=session.caller,
    )
    return team_out(team)


@router.delete("/teams/{team_id}/members/{user_id}")
async def remove_team_member(
    team_id: PathId, user_id: PathId, *, session: SessionDep, backends: BackendsDep
) -> TeamOut:
    """Takes a member out of a team."""
    team = await backends.accounts_channel.call(
        stub_of(backends).RemoveTeamMember,
        limits_pb2.RemoveTeamMemberRequest(team_id=team_id, user_id=user_id),
        principal=session.caller,
    )
    return team_out(team)


@router.get("/limits")
async def list_limits(session: SessionDep, backends: BackendsDep) -> list[ScopeOut]:
    """The limits of every scope that has any, with its spend; a key's own are with the key."""
    found, spend = await asyncio.gather(
        backends.accounts_channel.call(
            stub_of(backends).ListLimits, limits_pb2.ListLimitsRequest(), principal=session.caller
        ),
        backends.billing_channel.call(
            backends.billing.ListScopeSpend,
            billing_pb2.ListScopeSpendRequest(),
            principal=session.caller,
        ),
    )
    spent = {one.scope: one for one in spend.scopes}
    return [scope_out(one, spent.get(one.scope)) for one in found.scopes]


@router.put("/limits")
async def set_limits(body: ScopeLimitsIn, session: SessionDep, backends: BackendsDep) -> ScopeOut:
    """The limits of a scope from now on, whole; in force everywhere within a second."""
    after = await backends.accounts_channel.call(
        stub_of(backends).SetLimits,
        limits_pb2.SetLimitsRequest(scope=body.scope, limits=limits_pb(body)),
        principal=session.caller,
    )
    spend = await backends.billing_channel.call(
        backends.billing.ListScopeSpend,
        billing_pb2.ListScopeSpendRequest(scopes=[body.scope]),
        principal=session.caller,
    )
    return scope_out(after, spend.scopes[0] if spend.scopes else None)
