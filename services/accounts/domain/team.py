"""Teams and limits inside an account: who may set what, and what it leads to.

They are part of the account's stream: a team's members are members of the account, and the limits
of all scopes are versioned by the one stream, so that every key is published in order with them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import assert_never

from services.accounts.domain.limits import (
    Limits,
    ScopeLimits,
    checked_limits,
    checked_model_id,
)
from services.accounts.domain.roles import Actor
from services.common import scopes
from services.common.errors import Conflict, InvalidArgument, NotFound
from services.common.ids import AccountId, TeamId, UserId

TEAMS_MAX = 200
TEAM_NAME_LENGTH_MAX = 100
# Every key's published state carries the limits of the account's models.
LIMITED_MODELS_MAX = 50


@dataclass(frozen=True, slots=True)
class Team:
    """One team; its members are members of the account."""

    team_id: TeamId
    name: str
    created_at_ms: int
    members: frozenset[UserId] = frozenset()


@dataclass(frozen=True, slots=True)
class TeamCreated:
    account_id: AccountId
    team_id: TeamId
    name: str
    created_by: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class TeamRenamed:
    account_id: AccountId
    team_id: TeamId
    name: str
    renamed_by: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class TeamRemoved:
    account_id: AccountId
    team_id: TeamId
    removed_by: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class TeamMemberAdded:
    account_id: AccountId
    team_id: TeamId
    user_id: UserId
    added_by: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class TeamMemberRemoved:
    account_id: AccountId
    team_id: TeamId
    user_id: UserId
    removed_by: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class LimitsSet:
    account_id: AccountId
    scope: str
    limits: Limits
    set_by: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class CreateTeam:
    actor: Actor
    team_id: TeamId
    name: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class RenameTeam:
    actor: Actor
    team_id: TeamId
    name: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class RemoveTeam:
    actor: Actor
    team_id: TeamId
    # How many keys are in it.
    keys: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class PutTeamMember:
    actor: Actor
    team_id: TeamId
    user_id: UserId
    at_ms: int


@dataclass(frozen=True, slots=True)
class RemoveTeamMember:
    actor: Actor
    team_id: TeamId
    user_id: UserId
    at_ms: int


@dataclass(frozen=True, slots=True)
class SetLimits:
    actor: Actor
    scope: str
    limits: Limits
    at_ms: int


TeamCommand = CreateTeam | RenameTeam | RemoveTeam | PutTeamMember | RemoveTeamMember
TeamEvent = TeamCreated | TeamRenamed | TeamRemoved | TeamMemberAdded | TeamMemberRemoved


def checked_team_name(name: str, teams: Mapping[TeamId, Team], *, besides: str = "") -> str:
    """The name without blanks around it. Raises InvalidArgument, also where another team has it."""
    name = name.strip()
    if not 1 <= len(name) <= TEAM_NAME_LENGTH_MAX:
        raise InvalidArgument.of("name", f"must have 1 to {TEAM_NAME_LENGTH_MAX} characters")
    if any(one.name == name and one.team_id != besides for one in teams.values()):
        raise InvalidArgument.of("name", "is another team's name")
    return name


def team_of(teams: Mapping[TeamId, Team], team_id: TeamId) -> Team:
    """The team. Raises NotFound."""
    team = teams.get(team_id)
    if team is None:
        raise NotFound("The account has no such team.")
    return team


def team_events(
    account_id: AccountId,
    teams: Mapping[TeamId, Team],
    members: Collection[UserId],
    *,
    command: TeamCommand,
) -> list[TeamEvent]:
    """The events that a command about teams leads to; none where it changes nothing. The caller has
    checked the actor's role.
    """
    by, at_ms = command.actor.name, command.at_ms
    if isinstance(command, CreateTeam):
        if len(teams) >= TEAMS_MAX:
            raise Conflict(f"An account has at most {TEAMS_MAX} teams.")
        name = checked_team_name(command.name, teams)
        return [TeamCreated(account_id, command.team_id, name, by, at_ms)]
    team = team_of(teams, command.team_id)
    match command:
        case RenameTeam():
            name = checked_team_name(command.name, teams, besides=team.team_id)
            same = name == team.name
            return [] if same else [TeamRenamed(account_id, team.team_id, name, by, at_ms)]
        case RemoveTeam():
            if command.keys:
                raise Conflict(
                    "A team with keys in it stays: its limits would end for them. Move them first.",
                    extra={"rule": "team_has_keys"},
                )
            return [TeamRemoved(account_id, team.team_id, by, at_ms)]
        case PutTeamMember(_, _, user_id):
            if user_id not in members:
                raise NotFound("The account has no such member.")
            if user_id in team.members:
                return []
            return [TeamMemberAdded(account_id, team.team_id, user_id, by, at_ms)]
        case RemoveTeamMember(_, _, user_id):
            if user_id not in team.members:
                return []
            return [TeamMemberRemoved(account_id, team.team_id, user_id, by, at_ms)]
        case _:
            assert_never(command)


def checked_scope(scope: str, limits: Limits, known: Mapping[str, ScopeLimits]) -> Limits:
    """The limits in their normal form for a scope whose kind can have limits here. Whether there is
    such a team or member is for the account to say.
    """
    kind, name = scopes.kind_of(scope), scopes.id_of(scope)
    if kind not in ("account", "account_model", "member", "team") or (kind == "account") != (
        not name
    ):
        raise InvalidArgument.of(
            "scope", "is none of account, account_model:<model>, member:<user>, team:<team>"
        )
    if kind == "account_model":
        checked_model_id("scope", name)
        models = [one for one in known if scopes.kind_of(one) == "account_model"]
        if scope not in known and len(models) >= LIMITED_MODELS_MAX:
            raise InvalidArgument.of(
                "scope", f"an account has limits for at most {LIMITED_MODELS_MAX} models"
            )
    return checked_limits(limits)


def evolve_teams(teams: Mapping[TeamId, Team], event: TeamEvent) -> Mapping[TeamId, Team]:
    """The teams after an event."""
    if isinstance(event, TeamCreated):
        created = Team(event.team_id, event.name, event.at_ms)
        return {**teams, event.team_id: created}
    if isinstance(event, TeamRemoved):
        return {name: team for name, team in teams.items() if name != event.team_id}
    team = teams[event.team_id]
    match event:
        case TeamRenamed():
            team = replace(team, name=event.name)
        case TeamMemberAdded():
            team = replace(team, members=team.members | {event.user_id})
        case TeamMemberRemoved():
            team = replace(team, members=team.members - {event.user_id})
    return {**teams, event.team_id: team}


def without_member(teams: Mapping[TeamId, Team], user_id: UserId) -> Mapping[TeamId, Team]:
    """The teams after a member left the account. The limits of the person stay: keys do too."""
    return {name: replace(team, members=team.members - {user_id}) for name, team in teams.items()}
