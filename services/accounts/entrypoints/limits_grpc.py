"""`LimitsService` over gRPC: messages to commands and reads, results to messages."""

# ruff: noqa: ARG002 - the signatures are those of the generated base class

from __future__ import annotations

from typing import Any

import grpc

from services.accounts import commands as c
from services.accounts.adapters.wire import (
    limits_to_message,
    scope_limits_to_message,
    settings_to_message,
)
from services.accounts.context import Context
from services.accounts.domain.limits import NO_LIMITS, CapWindow, Limits
from services.accounts.domain.team import Team
from services.accounts.entrypoints import translate as t
from services.accounts.handlers import handle
from services.accounts.views import AccountsViews
from services.common import scopes
from services.common.ids import AccountId, KeyId, TeamId, UserId
from services.common.pb.mesh.accounts.v1 import limits_pb2 as pb
from services.common.pb.mesh.accounts.v1.limits_pb2_grpc import LimitsServiceServicer
from services.common.pb.mesh.events.v1 import accounts_pb2 as events_pb2

Call = grpc.aio.ServicerContext[Any, Any]  # Any: no method reads it


class LimitsServicer(LimitsServiceServicer):
    """Holds no state; who calls is the floor's context variable."""

    def __init__(self, context: Context, views: AccountsViews) -> None:
        self._context = context
        self._views = views

    async def ListTeams(self, request: pb.ListTeamsRequest, context: Call) -> pb.ListTeamsResponse:
        account_id, _ = t.caller()
        teams, limits = await self._views.teams_and_limits(account_id)
        found = []
        for team in sorted(teams, key=lambda one: one.name):
            standing = limits.get(scopes.team(team.team_id))
            found.append(_team(account_id, team, standing.limits if standing else NO_LIMITS))
        return pb.ListTeamsResponse(teams=found)

    async def CreateTeam(self, request: pb.CreateTeamRequest, context: Call) -> pb.Team:
        account_id, actor = t.caller()
        return await self._change(c.CreateTeam(actor, account_id, request.name))

    async def RenameTeam(self, request: pb.RenameTeamRequest, context: Call) -> pb.Team:
        account_id, actor = t.caller()
        team_id = TeamId(request.team_id)
        return await self._change(c.RenameTeam(actor, account_id, team_id, request.name))

    async def RemoveTeam(
        self, request: pb.RemoveTeamRequest, context: Call
    ) -> pb.RemoveTeamResponse:
        account_id, actor = t.caller()
        command = c.RemoveTeam(actor, account_id, TeamId(request.team_id))
        await handle(self._context, command)
        return pb.RemoveTeamResponse()

    async def PutTeamMember(self, request: pb.PutTeamMemberRequest, context: Call) -> pb.Team:
        account_id, actor = t.caller()
        team_id, user_id = TeamId(request.team_id), UserId(request.user_id)
        return await self._change(c.PutTeamMember(actor, account_id, team_id, user_id))

    async def RemoveTeamMember(self, request: pb.RemoveTeamMemberRequest, context: Call) -> pb.Team:
        account_id, actor = t.caller()
        team_id, user_id = TeamId(request.team_id), UserId(request.user_id)
        return await self._change(c.RemoveTeamMember(actor, account_id, team_id, user_id))

    async def ListLimits(
        self, request: pb.ListLimitsRequest, context: Call
    ) -> pb.ListLimitsResponse:
        account_id, _ = t.caller()
        _, limits = await self._views.teams_and_limits(account_id)
        return pb.ListLimitsResponse(
            scopes=[scope_limits_to_message(limits[scope]) for scope in sorted(limits)]
        )

    async def SetLimits(
        self, request: pb.SetLimitsRequest, context: Call
    ) -> events_pb2.ScopeLimits:
        account_id, actor = t.caller()
        limits = t.limits_from_request(request.limits)
        command = c.SetLimits(actor, account_id, request.scope, limits)
        return scope_limits_to_message(await handle(self._context, command))

    async def GetKeyLimits(
        self, request: pb.GetKeyLimitsRequest, context: Call
    ) -> pb.GetKeyLimitsResponse:
        account_id, _ = t.caller()
        key = await self._views.key(account_id, KeyId(request.key_id))
        _, limits = await self._views.teams_and_limits(account_id)
        settings = key.settings
        own = {scopes.ACCOUNT, scopes.member(key.created_by), scopes.team(settings.team_id)}
        return pb.GetKeyLimitsResponse(
            key_id=key.key_id,
            account_id=account_id,
            user_id=key.created_by,
            team_id=settings.team_id,
            limits=limits_to_message(
                Limits(
                    settings.spend_cap_nanousd,
                    CapWindow(settings.spend_cap_window),
                    settings.rpm_limit,
                    settings.rpd_limit,
                    settings.tpm_limit,
                )
            ),
            model_limits=settings_to_message(settings).model_limits,
            scopes=[
                scope_limits_to_message(limits[scope])
                for scope in sorted(limits)
                if scope in own or scopes.kind_of(scope) == "account_model"
            ],
        )

    async def _change(self, command: c.Command[c.TeamView]) -> pb.Team:
        view = await handle(self._context, command)
        return _team(view.account_id, view.team, view.limits)


def _team(account_id: AccountId, team: Team, limits: Limits) -> pb.Team:
    return pb.Team(
        team_id=team.team_id,
        account_id=account_id,
        name=team.name,
        created_at_ms=team.created_at_ms,
        member_user_ids=sorted(team.members),
        limits=limits_to_message(limits),
    )
