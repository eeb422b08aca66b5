"""The audit trail: what each event tells people. Who did what to whom, and what changed; never a
secret or a hash.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import assert_never

from services.accounts.domain.account import (
    Account,
    AccountEvent,
    AccountOpened,
    AccountResumed,
    AccountSuspended,
    MemberAdded,
    MemberRemoved,
    MemberRoleChanged,
)
from services.accounts.domain.admin_key import (
    AdminKey,
    AdminKeyEvent,
    AdminKeyIssued,
    AdminKeyRevoked,
    AdminKeyRotated,
)
from services.accounts.domain.invitation import (
    Invitation,
    InvitationAccepted,
    InvitationEvent,
    InvitationMade,
    InvitationRenewed,
    InvitationRevoked,
)
from services.accounts.domain.key import (
    Key,
    KeyChanged,
    KeyEvent,
    KeyIssued,
    KeyResumed,
    KeyRotated,
    KeySuspended,
)
from services.accounts.domain.key_settings import NO_SETTINGS, KeySettings
from services.accounts.domain.limits import NO_LIMITS, Limits, ModelLimits
from services.accounts.domain.operation import OperatorActed
from services.accounts.domain.roles import OPERATOR
from services.accounts.domain.session import Session, SessionEnded, SessionEvent, SessionStarted
from services.accounts.domain.team import (
    LimitsSet,
    TeamCreated,
    TeamEvent,
    TeamMemberAdded,
    TeamMemberRemoved,
    TeamRemoved,
    TeamRenamed,
)
from services.accounts.domain.user import (
    IdentityLinked,
    PasswordChanged,
    User,
    UserEvent,
    UserSignedUp,
)

Event = AccountEvent | AdminKeyEvent | InvitationEvent | KeyEvent | SessionEvent | UserEvent
Aggregate = Account | AdminKey | Invitation | Key | Session | User
Details = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the trail; `details` is a JSON object."""

    actor: str
    subject: str
    details: Details


def audit_entry(before: Aggregate | None, event: Event) -> AuditEntry:
    """The line for an event, given the state of its aggregate before it."""
    match event:
        case KeyIssued() | KeyChanged() | KeySuspended() | KeyResumed() | KeyRotated():
            assert before is None or isinstance(before, Key)
            return _of_key(before, event)
        case AdminKeyIssued() | AdminKeyRotated() | AdminKeyRevoked():
            return _of_admin_key(event)
        case InvitationMade() | InvitationRenewed() | InvitationRevoked() | InvitationAccepted():
            assert before is None or isinstance(before, Invitation)
            return _of_invitation(before, event)
        case SessionStarted(session_id, user_id, _, user_agent):
            return AuditEntry(user_id, session_id, {"user_agent": user_agent})
        case SessionEnded(session_id, user_id, reason):
            return AuditEntry(user_id, session_id, {"reason": reason})
        case UserSignedUp(user_id, email, name):
            return AuditEntry(user_id, user_id, {"email": email, "name": name})
        case IdentityLinked(user_id, issuer):
            return AuditEntry(user_id, user_id, {"issuer": issuer})
        case PasswordChanged(user_id):
            return AuditEntry(user_id, user_id, {})
        case _:
            assert before is None or isinstance(before, Account)
            return _of_account(before, event)


def _of_account(before: Account | None, event: AccountEvent) -> AuditEntry:
    match event:
        case AccountOpened(account_id, name, owner):
            return AuditEntry(owner, account_id, {"name": name})
        case AccountSuspended(account_id, reason):
            return AuditEntry(OPERATOR, account_id, {"reason": reason})
        case AccountResumed(account_id):
            return AuditEntry(OPERATOR, account_id, {})
        case OperatorActed(_, actor, action, subject, note):
            return AuditEntry(actor, subject, {"action": action, "note": note})
        case MemberAdded(_, user_id, role, actor):
            return AuditEntry(actor, user_id, {"role": role.name.lower()})
        case MemberRoleChanged(_, user_id, role, actor):
            assert before is not None
            old = before.members[user_id].role
            change = {"from": old.name.lower(), "to": role.name.lower()}
            return AuditEntry(actor, user_id, {"role": change})
        case MemberRemoved(_, user_id, actor):
            return AuditEntry(actor, user_id, {})
        case LimitsSet(_, scope, limits, actor):
            assert before is not None
            known = before.limits.get(scope)
            changes = _changes(known.limits if known else NO_LIMITS, limits)
            return AuditEntry(actor, scope, {"limits": changes})
        case _:
            assert before is not None
            return _of_team(before, event)


def _of_team(before: Account, event: TeamEvent) -> AuditEntry:
    match event:
        case TeamCreated(_, team_id, name, actor):
            return AuditEntry(actor, team_id, {"name": name})
        case TeamRenamed(_, team_id, name, actor):
            change = {"from": before.teams[team_id].name, "to": name}
            return AuditEntry(actor, team_id, {"name": change})
        case TeamRemoved(_, team_id, actor):
            return AuditEntry(actor, team_id, {"name": before.teams[team_id].name})
        case TeamMemberAdded(_, team_id, user_id, actor):
            return AuditEntry(actor, team_id, {"added": user_id})
        case TeamMemberRemoved(_, team_id, user_id, actor):
            return AuditEntry(actor, team_id, {"removed": user_id})
        case _:
            assert_never(event)


def _of_invitation(before: Invitation | None, event: InvitationEvent) -> AuditEntry:
    if isinstance(event, InvitationMade):
        made: Details = {"email": event.email, "role": event.role.name.lower()}
        return AuditEntry(event.invited_by, event.invitation_id, made)
    assert before is not None
    about: Details = {"email": before.email}
    match event:
        case InvitationRenewed():
            return AuditEntry(event.renewed_by, event.invitation_id, about)
        case InvitationRevoked():
            return AuditEntry(event.revoked_by, event.invitation_id, about)
        case InvitationAccepted():
            return AuditEntry(event.user_id, event.invitation_id, about)
        case _:
            assert_never(event)


def _of_admin_key(event: AdminKeyEvent) -> AuditEntry:
    match event:
        case AdminKeyIssued():
            issued: Details = {
                "label": event.label,
                "masked_key": event.masked_key,
                "permissions": list(event.permissions),
                "scope": event.key_scope,
            }
            return AuditEntry(event.created_by, event.admin_key_id, issued)
        case AdminKeyRotated():
            until_ms = event.old_expires_at_ms
            rotation: Details = {"masked_key": event.masked_key, "old_works_until_ms": until_ms}
            return AuditEntry(event.rotated_by, event.admin_key_id, rotation)
        case AdminKeyRevoked():
            return AuditEntry(event.revoked_by, event.admin_key_id, {"reason": event.reason})
        case _:
            assert_never(event)


def _of_key(before: Key | None, event: KeyEvent) -> AuditEntry:
    """Who did it is the admin key where there was one, with the person whom it stands for."""
    entry = _of_key_by_person(before, event)
    if not event.admin_key_id:
        return entry
    details = {**entry.details, "on_behalf_of": entry.actor}
    return AuditEntry(event.admin_key_id, entry.subject, details)


def _of_key_by_person(before: Key | None, event: KeyEvent) -> AuditEntry:
    match event:
        case KeyIssued():
            changes = _changes(NO_SETTINGS, event.settings)
            details = {"masked_key": event.masked_key, "settings": changes}
            return AuditEntry(event.created_by, event.key_id, details)
        case KeyChanged():
            assert before is not None
            changes = _changes(before.settings, event.settings)
            return AuditEntry(event.changed_by, event.key_id, {"settings": changes})
        case KeySuspended():
            return AuditEntry(event.suspended_by, event.key_id, {})
        case KeyResumed():
            return AuditEntry(event.resumed_by, event.key_id, {})
        case KeyRotated():
            end_ms = event.old_expires_at_ms
            rotation: Details = {"masked_key": event.masked_key, "old_works_until_ms": end_ms}
            return AuditEntry(event.rotated_by, event.key_id, rotation)
        case _:
            assert_never(event)


def _changes(old: KeySettings | Limits, new: KeySettings | Limits) -> dict[str, object]:
    """The fields that differ, each as {from, to}."""
    pairs = {
        field.name: (getattr(old, field.name), getattr(new, field.name)) for field in fields(new)
    }
    return {
        name: {"from": _plain(first), "to": _plain(second)}
        for name, (first, second) in pairs.items()
        if first != second
    }


def _plain(value: object) -> object:
    if isinstance(value, IntEnum):
        return value.name.lower()
    if isinstance(value, ModelLimits):
        return {"model_id": value.model_id, **_changes(NO_LIMITS, value.limits)}
    return [_plain(one) for one in value] if isinstance(value, tuple) else value
