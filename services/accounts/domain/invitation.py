"""An invitation of one e-mail address into an account: stream `invitation:<id>`.

Whoever has the link and the invited address may join once, until it expires or is revoked. Only
the SHA-256 of the link's token is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, assert_never

from services.accounts.domain.account import Account, authorise
from services.accounts.domain.roles import Actor, Role
from services.common.errors import Conflict, Forbidden, NotFound
from services.common.ids import AccountId, InvitationId, UserId

OPEN_INVITATIONS_MAX = 200

# A link that leads nowhere: it never was one, or a newer one took its place.
UNKNOWN_LINK = (
    "This invitation link is not known: it is incomplete, or a newer one was sent. "
    "Ask for a new link."
)


@dataclass(frozen=True, slots=True)
class Invitation:
    """The state of one invitation; `invited_by` is who made it or renewed it last."""

    invitation_id: InvitationId
    account_id: AccountId
    email: str
    role: Role
    token_hash: str
    expires_at_ms: int
    invited_by: str
    invited_at_ms: int
    version: int
    ended: Literal["", "accepted", "revoked"] = ""


@dataclass(frozen=True, slots=True)
class InvitationMade:
    invitation_id: InvitationId
    account_id: AccountId
    email: str
    role: Role
    token_hash: str
    expires_at_ms: int
    invited_by: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class InvitationRenewed:
    invitation_id: InvitationId
    account_id: AccountId
    token_hash: str
    expires_at_ms: int
    renewed_by: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class InvitationRevoked:
    invitation_id: InvitationId
    account_id: AccountId
    revoked_by: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class InvitationAccepted:
    invitation_id: InvitationId
    account_id: AccountId
    user_id: UserId
    at_ms: int


InvitationEvent = InvitationMade | InvitationRenewed | InvitationRevoked | InvitationAccepted


@dataclass(frozen=True, slots=True)
class MakeInvitation:
    invitation_id: InvitationId
    account: Account
    actor: Actor
    email: str
    role: Role
    token_hash: str
    lifetime_ms: int
    # The invitations of the account that were neither accepted nor revoked.
    standing: tuple[Invitation, ...]
    at_ms: int


@dataclass(frozen=True, slots=True)
class RenewInvitation:
    account: Account
    actor: Actor
    token_hash: str
    lifetime_ms: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class RevokeInvitation:
    account: Account
    actor: Actor
    at_ms: int


@dataclass(frozen=True, slots=True)
class AcceptInvitation:
    user_id: UserId
    email: str
    at_ms: int


InvitationCommand = MakeInvitation | RenewInvitation | RevokeInvitation | AcceptInvitation


def decide(invitation: Invitation | None, command: InvitationCommand) -> list[InvitationEvent]:
    """The events that a command leads to. Raises an AppError and changes nothing else."""
    if isinstance(command, MakeInvitation):
        return _make(invitation, command)
    if invitation is None:
        raise NotFound("There is no such invitation.")
    invitation_id, account_id = invitation.invitation_id, invitation.account_id
    match command:
        case RenewInvitation(account, actor, token_hash, lifetime_ms, at_ms):
            _administer(invitation, account, actor)
            ends_at_ms = at_ms + lifetime_ms
            by = actor.name
            return [InvitationRenewed(invitation_id, account_id, token_hash, ends_at_ms, by, at_ms)]
        case RevokeInvitation(account, actor, at_ms):
            _administer(invitation, account, actor)
            return [InvitationRevoked(invitation_id, account_id, actor.name, at_ms)]
        case AcceptInvitation(user_id, email, at_ms):
            check_usable(invitation, at_ms)
            check_person(invitation, email)
            return [InvitationAccepted(invitation_id, account_id, user_id, at_ms)]
        case _:
            assert_never(command)


def _make(invitation: Invitation | None, command: MakeInvitation) -> list[InvitationEvent]:
    if invitation is not None:
        raise Conflict("The invitation exists already.")
    _may_grant(command.account, command.actor, command.role)
    if any(one.email == command.email for one in command.standing):
        raise Conflict("This address has an open invitation; send it again or revoke it.")
    if len(command.standing) >= OPEN_INVITATIONS_MAX:
        raise Conflict(f"An account has at most {OPEN_INVITATIONS_MAX} open invitations.")
    return [
        InvitationMade(
            invitation_id=command.invitation_id,
            account_id=command.account.account_id,
            email=command.email,
            role=command.role,
            token_hash=command.token_hash,
            expires_at_ms=command.at_ms + command.lifetime_ms,
            invited_by=command.actor.name,
            at_ms=command.at_ms,
        )
    ]


def _administer(invitation: Invitation, account: Account, actor: Actor) -> None:
    # Another tenant's invitation looks like one that never was.
    if invitation.account_id != account.account_id:
        raise NotFound("There is no such invitation.")
    _may_grant(account, actor, invitation.role)
    if invitation.ended:
        raise Conflict(f"The invitation was {invitation.ended} already.")


def _may_grant(account: Account, actor: Actor, role: Role) -> None:
    if role > authorise(account, actor, Role.ADMIN):
        raise Forbidden("Nobody may grant a role above their own.")


def check_usable(invitation: Invitation, now_ms: int) -> None:
    """Conflict, in words for the person who was invited, where the link can be used no more."""
    match invitation.ended:
        case "accepted":
            raise Conflict("This invitation was used already. Log in to get into the account.")
        case "revoked":
            raise Conflict("This invitation was withdrawn. Ask for a new one.")
        case "":
            pass
        case _:
            assert_never(invitation.ended)
    if now_ms >= invitation.expires_at_ms:
        raise Conflict("This invitation has expired. Ask for a new link.")


def check_person(invitation: Invitation, email: str) -> None:
    """Forbidden where the invitation is for another address than the person's."""
    if email != invitation.email:
        raise Forbidden(
            f"This invitation is for {invitation.email}, and you are logged in as {email}. "
            "Log out, and open the link again as the invited person."
        )


def evolve(invitation: Invitation | None, event: InvitationEvent) -> Invitation:
    """The state after an event."""
    if isinstance(event, InvitationMade):
        assert invitation is None, "an invitation is made once"
        return Invitation(
            invitation_id=event.invitation_id,
            account_id=event.account_id,
            email=event.email,
            role=event.role,
            token_hash=event.token_hash,
            expires_at_ms=event.expires_at_ms,
            invited_by=event.invited_by,
            invited_at_ms=event.at_ms,
            version=1,
        )
    assert invitation is not None, "the first event of an invitation makes it"
    invitation = replace(invitation, version=invitation.version + 1)
    match event:
        case InvitationRenewed():
            return replace(
                invitation,
                token_hash=event.token_hash,
                expires_at_ms=event.expires_at_ms,
                invited_by=event.renewed_by,
                invited_at_ms=event.at_ms,
            )
        case InvitationRevoked():
            return replace(invitation, ended="revoked")
        case InvitationAccepted():
            return replace(invitation, ended="accepted")
        case _:
            assert_never(event)
