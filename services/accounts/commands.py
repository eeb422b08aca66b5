"""What the service can be asked to do: one frozen class per command, typed by its result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from services.accounts.domain.account import Account, Member
from services.accounts.domain.admin_key import AdminKey
from services.accounts.domain.invitation import Invitation
from services.accounts.domain.key import Key
from services.accounts.domain.key_settings import KeySettings
from services.accounts.domain.limits import Limits, ScopeLimits
from services.accounts.domain.roles import Actor, Role
from services.accounts.domain.team import Team
from services.accounts.domain.user import User
from services.common.ids import (
    AccountId,
    AdminKeyId,
    InvitationId,
    KeyId,
    SessionId,
    TeamId,
    UserId,
)

ResultT = TypeVar("ResultT")


class Command(Generic[ResultT]):
    """Base of all commands; `ResultT` is what handling it gives."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class StartedSession:
    """A session with the token that is shown this once."""

    token: str = field(repr=False)
    session_id: SessionId
    user: User
    account: Account
    role: Role
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key with the secret that is shown this once."""

    key: Key
    plain_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class MemberView:
    """A member together with the person."""

    member: Member
    user: User


@dataclass(frozen=True, slots=True)
class IssuedAdminKey:
    """An admin key with the secret that is shown this once."""

    key: AdminKey
    plain_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SentInvitation:
    """An invitation with the token that is shown this once."""

    invitation: Invitation
    token: str = field(repr=False)
    account_name: str


@dataclass(frozen=True, slots=True)
class Offer:
    """What the holder of a link sees of an invitation; `host_name` is empty for the operator."""

    invitation: Invitation
    account_name: str
    host_name: str
    has_user: bool


@dataclass(frozen=True, slots=True)
class SignUp(Command[StartedSession]):
    email: str
    password: str = field(repr=False)
    name: str = ""
    account_name: str = ""
    user_agent: str = ""


@dataclass(frozen=True, slots=True)
class LogIn(Command[StartedSession]):
    email: str
    password: str = field(repr=False)
    user_agent: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """A person as a log-in provider knows them; `email` is normalised."""

    issuer: str
    subject: str
    email: str
    email_verified: bool


@dataclass(frozen=True, slots=True)
class LogInWithIdentity(Command["StartedSession | None"]):
    identity: Identity
    name: str = ""
    user_agent: str = ""


@dataclass(frozen=True, slots=True)
class ConnectIdentity(Command[StartedSession]):
    identity: Identity
    password: str = field(repr=False)
    user_agent: str = ""


@dataclass(frozen=True, slots=True)
class LogOut(Command[None]):
    session_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class RevokeSession(Command[None]):
    user_id: UserId
    account_id: AccountId
    session_id: SessionId


@dataclass(frozen=True, slots=True)
class ChangePassword(Command[None]):
    user_id: UserId
    account_id: AccountId
    current_password: str = field(repr=False)
    new_password: str = field(repr=False)
    session_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SetPassword(Command[None]):
    """The first password of a user who logs in through a provider."""

    user_id: UserId
    account_id: AccountId
    identity: Identity
    new_password: str = field(repr=False)
    session_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CreateAdminKey(Command[IssuedAdminKey]):
    actor: Actor
    account_id: AccountId
    label: str
    permissions: tuple[str, ...]
    key_scope: str
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class RotateAdminKey(Command[IssuedAdminKey]):
    actor: Actor
    account_id: AccountId
    admin_key_id: AdminKeyId
    grace_s: int
    # 0 leaves it as it is.
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class RevokeAdminKey(Command[AdminKey]):
    actor: Actor
    account_id: AccountId
    admin_key_id: AdminKeyId
    reason: str


@dataclass(frozen=True, slots=True)
class Invite(Command[SentInvitation]):
    actor: Actor
    account_id: AccountId
    email: str
    role: Role


@dataclass(frozen=True, slots=True)
class RenewInvitation(Command[SentInvitation]):
    actor: Actor
    account_id: AccountId
    invitation_id: InvitationId


@dataclass(frozen=True, slots=True)
class RevokeInvitation(Command[None]):
    actor: Actor
    account_id: AccountId
    invitation_id: InvitationId


@dataclass(frozen=True, slots=True)
class LookAtInvitation(Command[Offer]):
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SignUpInvited(Command[StartedSession]):
    token: str = field(repr=False)
    password: str = field(repr=False)
    name: str = ""
    user_agent: str = ""


@dataclass(frozen=True, slots=True)
class AcceptInvitation(Command[StartedSession]):
    user_id: UserId
    token: str = field(repr=False)
    session_token: str = field(repr=False)
    user_agent: str = ""


@dataclass(frozen=True, slots=True)
class SwitchAccount(Command[StartedSession]):
    user_id: UserId
    account_id: AccountId
    session_token: str = field(repr=False)
    user_agent: str = ""


@dataclass(frozen=True, slots=True)
class SuspendAccount(Command[Account]):
    actor: Actor
    account_id: AccountId
    reason: str


@dataclass(frozen=True, slots=True)
class RecordOperation(Command[Account]):
    """Operators only: what a person is about to change as staff, in their own account's trail."""

    actor: Actor
    account_id: AccountId
    action: str
    subject: str
    note: str


@dataclass(frozen=True, slots=True)
class ResumeAccount(Command[Account]):
    actor: Actor
    account_id: AccountId


@dataclass(frozen=True, slots=True)
class AddMember(Command[MemberView]):
    actor: Actor
    account_id: AccountId
    email: str
    name: str
    role: Role
    initial_password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ChangeMemberRole(Command[MemberView]):
    actor: Actor
    account_id: AccountId
    user_id: UserId
    role: Role


@dataclass(frozen=True, slots=True)
class RemoveMember(Command[None]):
    actor: Actor
    account_id: AccountId
    user_id: UserId


@dataclass(frozen=True, slots=True)
class TeamView:
    """A team together with its limits."""

    account_id: AccountId
    team: Team
    limits: Limits


@dataclass(frozen=True, slots=True)
class CreateTeam(Command[TeamView]):
    actor: Actor
    account_id: AccountId
    name: str


@dataclass(frozen=True, slots=True)
class RenameTeam(Command[TeamView]):
    actor: Actor
    account_id: AccountId
    team_id: TeamId
    name: str


@dataclass(frozen=True, slots=True)
class RemoveTeam(Command[None]):
    actor: Actor
    account_id: AccountId
    team_id: TeamId


@dataclass(frozen=True, slots=True)
class PutTeamMember(Command[TeamView]):
    actor: Actor
    account_id: AccountId
    team_id: TeamId
    user_id: UserId


@dataclass(frozen=True, slots=True)
class RemoveTeamMember(Command[TeamView]):
    actor: Actor
    account_id: AccountId
    team_id: TeamId
    user_id: UserId


@dataclass(frozen=True, slots=True)
class SetLimits(Command[ScopeLimits]):
    actor: Actor
    account_id: AccountId
    scope: str
    limits: Limits


@dataclass(frozen=True, slots=True)
class CreateKey(Command[IssuedKey]):
    actor: Actor
    account_id: AccountId
    settings: KeySettings


@dataclass(frozen=True, slots=True)
class UpdateKey(Command[Key]):
    actor: Actor
    account_id: AccountId
    key_id: KeyId
    change: KeySettings
    mask: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SuspendKey(Command[Key]):
    actor: Actor
    account_id: AccountId
    key_id: KeyId


@dataclass(frozen=True, slots=True)
class ResumeKey(Command[Key]):
    actor: Actor
    account_id: AccountId
    key_id: KeyId


@dataclass(frozen=True, slots=True)
class RotateKey(Command[IssuedKey]):
    actor: Actor
    account_id: AccountId
    key_id: KeyId
    grace_s: int
