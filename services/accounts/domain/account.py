"""An account with its members: stream `account:<id>`.

Members live here because the rules about them (the last owner stays, nobody reaches above their own
role) need all of them at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

from services.accounts.domain.limits import Limits, ScopeLimits
from services.accounts.domain.operation import OperatorActed, RecordOperation, recorded
from services.accounts.domain.roles import Actor, Role
from services.accounts.domain.team import (
    CreateTeam,
    LimitsSet,
    PutTeamMember,
    RemoveTeam,
    RemoveTeamMember,
    RenameTeam,
    SetLimits,
    Team,
    TeamCommand,
    TeamCreated,
    TeamEvent,
    TeamMemberAdded,
    TeamMemberRemoved,
    TeamRemoved,
    TeamRenamed,
    checked_scope,
    evolve_teams,
    team_events,
    team_of,
    without_member,
)
from services.common import scopes
from services.common.errors import Conflict, Forbidden, InvalidArgument, NotFound
from services.common.ids import AccountId, TeamId, UserId

NAME_LENGTH_MAX = 200
REASON_LENGTH_MAX = 500
MEMBERS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Member:
    """One person's place in an account."""

    user_id: UserId
    role: Role
    added_at_ms: int


@dataclass(frozen=True, slots=True)
class Account:
    """The state of one account; `version` is that of its stream."""

    account_id: AccountId
    name: str
    owner_user_id: UserId
    created_at_ms: int
    version: int
    members: Mapping[UserId, Member]
    suspended: bool = False
    # How often the account was suspended or resumed: part of the version that its keys are
    # published with.
    suspension_changes: int = 0
    # How often limits were set: part of that version as well.
    limit_changes: int = 0
    teams: Mapping[TeamId, Team] = field(default_factory=dict)
    # By scope; one whose limits were all taken away stays, so that this is published too.
    limits: Mapping[str, ScopeLimits] = field(default_factory=dict)

    @property
    def owners(self) -> list[Member]:
        """The members who own the account; never empty."""
        return [member for member in self.members.values() if member.role is Role.OWNER]


@dataclass(frozen=True, slots=True)
class AccountOpened:
    account_id: AccountId
    name: str
    owner_user_id: UserId
    at_ms: int


@dataclass(frozen=True, slots=True)
class AccountSuspended:
    account_id: AccountId
    reason: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class AccountResumed:
    account_id: AccountId
    at_ms: int


@dataclass(frozen=True, slots=True)
class MemberAdded:
    account_id: AccountId
    user_id: UserId
    role: Role
    added_by: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class MemberRoleChanged:
    account_id: AccountId
    user_id: UserId
    role: Role
    changed_by: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class MemberRemoved:
    account_id: AccountId
    user_id: UserId
    removed_by: str
    at_ms: int


AccountEvent = (
    AccountOpened
    | AccountSuspended
    | AccountResumed
    | MemberAdded
    | MemberRoleChanged
    | MemberRemoved
    | TeamEvent
    | LimitsSet
    | OperatorActed
)


@dataclass(frozen=True, slots=True)
class OpenAccount:
    account_id: AccountId
    name: str
    owner_user_id: UserId
    at_ms: int


@dataclass(frozen=True, slots=True)
class SuspendAccount:
    actor: Actor
    reason: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class ResumeAccount:
    actor: Actor
    at_ms: int


@dataclass(frozen=True, slots=True)
class AddMember:
    actor: Actor
    user_id: UserId
    role: Role
    at_ms: int


@dataclass(frozen=True, slots=True)
class ChangeMemberRole:
    actor: Actor
    user_id: UserId
    role: Role
    at_ms: int


@dataclass(frozen=True, slots=True)
class RemoveMember:
    actor: Actor
    user_id: UserId
    at_ms: int


AccountCommand = (
    OpenAccount
    | SuspendAccount
    | ResumeAccount
    | AddMember
    | ChangeMemberRole
    | RemoveMember
    | TeamCommand
    | SetLimits
    | RecordOperation
)


def authorise(account: Account, actor: Actor, role_min: Role) -> Role:
    """The actor's role in the account as it is now; Forbidden below `role_min` or for a stranger.

    The role in a caller's token may be minutes old, so that every command checks the member list
    itself.
    """
    if actor.is_operator:
        return Role.OWNER
    member = account.members.get(actor.user_id)
    if member is None or member.role < role_min:
        raise Forbidden(f"This needs the role {role_min.name.lower()} or above.")
    return member.role


def decide(account: Account | None, command: AccountCommand) -> list[AccountEvent]:
    """The events that a command leads to; none where it changes nothing. Raises an AppError and
    changes nothing else.
    """
    if isinstance(command, OpenAccount):
        return _open(account, command)
    if account is None:
        raise NotFound("There is no such account.")
    match command:
        case SuspendAccount():
            return _suspend(account, command)
        case ResumeAccount(actor, at_ms):
            _operator_only(actor)
            return [AccountResumed(account.account_id, at_ms)] if account.suspended else []
        case AddMember():
            return _add(account, command)
        case ChangeMemberRole():
            return _change_role(account, command)
        case RemoveMember():
            return _remove(account, command)
        case RecordOperation():
            return [recorded(account.account_id, command)]
        case SetLimits():
            return _set_limits(account, command)
        case CreateTeam() | RenameTeam() | RemoveTeam() | PutTeamMember() | RemoveTeamMember():
            authorise(account, command.actor, Role.ADMIN)
            members = account.members.keys()
            return [*team_events(account.account_id, account.teams, members, command=command)]
        case _:
            assert_never(command)


def _open(account: Account | None, command: OpenAccount) -> list[AccountEvent]:
    if account is not None:
        raise Conflict("The account exists already.")
    name = command.name.strip()
    if not 1 <= len(name) <= NAME_LENGTH_MAX:
        raise InvalidArgument.of("account_name", f"must have 1 to {NAME_LENGTH_MAX} characters")
    owner = command.owner_user_id
    return [
        AccountOpened(command.account_id, name, owner, command.at_ms),
        MemberAdded(command.account_id, owner, Role.OWNER, owner, command.at_ms),
    ]


def _operator_only(actor: Actor) -> None:
    if not actor.is_operator:
        raise Forbidden("Only the operator may do this.")


def _suspend(account: Account, command: SuspendAccount) -> list[AccountEvent]:
    _operator_only(command.actor)
    if len(command.reason) > REASON_LENGTH_MAX:
        raise InvalidArgument.of("reason", f"has more than {REASON_LENGTH_MAX} characters")
    if account.suspended:
        return []
    return [AccountSuspended(account.account_id, command.reason, command.at_ms)]


def _add(account: Account, command: AddMember) -> list[AccountEvent]:
    own_role = authorise(account, command.actor, Role.ADMIN)
    _not_above(command.role, own_role)
    if command.user_id in account.members:
        raise Conflict("This person is a member of the account already.")
    if len(account.members) >= MEMBERS_MAX:
        raise Conflict(f"An account has at most {MEMBERS_MAX} members.")
    return [
        MemberAdded(
            account.account_id, command.user_id, command.role, command.actor.name, command.at_ms
        )
    ]


def _change_role(account: Account, command: ChangeMemberRole) -> list[AccountEvent]:
    own_role = authorise(account, command.actor, Role.ADMIN)
    member = _touchable(account, command.user_id, own_role)
    _not_above(command.role, own_role)
    if member.role is command.role:
        return []
    _keeps_an_owner(account, member)
    return [
        MemberRoleChanged(
            account.account_id, command.user_id, command.role, command.actor.name, command.at_ms
        )
    ]


def _remove(account: Account, command: RemoveMember) -> list[AccountEvent]:
    own_role = authorise(account, command.actor, Role.ADMIN)
    member = _touchable(account, command.user_id, own_role)
    _keeps_an_owner(account, member)
    return [MemberRemoved(account.account_id, member.user_id, command.actor.name, command.at_ms)]


def _touchable(account: Account, user_id: UserId, own_role: Role) -> Member:
    member = account.members.get(user_id)
    if member is None:
        raise NotFound("The account has no such member.")
    if member.role > own_role:
        raise Forbidden("Nobody may change a member whose role is above their own.")
    return member


def _not_above(role: Role, own_role: Role) -> None:
    if role > own_role:
        raise Forbidden("Nobody may grant a role above their own.")


def _keeps_an_owner(account: Account, member: Member) -> None:
    if account.owners == [member]:
        raise Conflict(
            "The last owner of an account stays its owner.", extra={"rule": "last_owner"}
        )


def check_team_change(account: Account, actor: Actor, *, before: str, after: str) -> None:
    """A key may be put into one of one's own teams by any developer; moving it is for admins,
    because a key that leaves a team leaves its limits. Raises InvalidArgument, Forbidden.
    """
    if after == before:
        return
    if after and after not in account.teams:
        raise InvalidArgument.of("team_id", "is no team of the account")
    role = authorise(account, actor, Role.DEVELOPER)
    own = not before and actor.user_id in account.teams[TeamId(after)].members
    if role < Role.ADMIN and not own:
        raise Forbidden("This needs the role admin or above, or a new key in a team of one's own.")


def _set_limits(account: Account, command: SetLimits) -> list[AccountEvent]:
    own_role = authorise(account, command.actor, Role.ADMIN)
    limits = checked_scope(command.scope, command.limits, account.limits)
    kind, name = scopes.kind_of(command.scope), scopes.id_of(command.scope)
    known = account.limits.get(command.scope)
    if kind == "team":
        team_of(account.teams, TeamId(name))
    # Whoever has left may have left keys behind, whose limits can still be changed.
    if kind == "member" and known is None:
        _touchable(account, UserId(name), own_role)
    before = known.limits if known is not None else Limits()
    if limits == before:
        return []
    by = command.actor.name
    return [LimitsSet(account.account_id, command.scope, limits, by, command.at_ms)]


def evolve(account: Account | None, event: AccountEvent) -> Account:
    """The state after an event."""
    if isinstance(event, AccountOpened):
        assert account is None, "an account is opened once"
        return Account(event.account_id, event.name, event.owner_user_id, event.at_ms, 1, {})
    assert account is not None, "the first event of an account opens it"
    account = replace(account, version=account.version + 1)
    match event:
        case OperatorActed():
            return account
        case AccountSuspended():
            return _switched(account, suspended=True)
        case AccountResumed():
            return _switched(account, suspended=False)
        case MemberAdded():
            return _with_member(account, Member(event.user_id, event.role, event.at_ms))
        case MemberRoleChanged():
            member = replace(account.members[event.user_id], role=event.role)
            return _with_member(account, member)
        case MemberRemoved():
            rest = {key: value for key, value in account.members.items() if key != event.user_id}
            teams = without_member(account.teams, event.user_id)
            return replace(account, members=rest, teams=teams)
        case LimitsSet():
            standing = ScopeLimits(event.scope, event.limits, account.version)
            limits = {**account.limits, event.scope: standing}
            return replace(account, limits=limits, limit_changes=account.limit_changes + 1)
        case (
            TeamCreated() | TeamRenamed() | TeamRemoved() | TeamMemberAdded() | TeamMemberRemoved()
        ):
            return replace(account, teams=evolve_teams(account.teams, event))
        case _:
            assert_never(event)


def _switched(account: Account, *, suspended: bool) -> Account:
    return replace(account, suspended=suspended, suspension_changes=account.suspension_changes + 1)


def _with_member(account: Account, member: Member) -> Account:
    return replace(account, members={**account.members, member.user_id: member})
