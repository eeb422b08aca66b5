"""Messages to what commands carry, and results to messages."""

from __future__ import annotations

from services.accounts.adapters.email_address import normalised
from services.accounts.adapters.wire import (
    limits_from_message,
    settings_from_message,
    settings_to_message,
)
from services.accounts.commands import Identity, MemberView, StartedSession
from services.accounts.domain.key import Key
from services.accounts.domain.key_settings import KeySettings
from services.accounts.domain.limits import Limits
from services.accounts.domain.roles import Actor, Role
from services.accounts.domain.session import Session
from services.accounts.views import AccountRow, AuditLine, MemberRow, Page, SessionHolder
from services.common.errors import Forbidden, InvalidArgument
from services.common.grpc import principal
from services.common.ids import AccountId, UserId
from services.common.pb.mesh.accounts.v1 import accounts_pb2, keys_pb2
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import accounts_pb2 as events_pb2


def caller() -> tuple[AccountId, Actor]:
    """The account that the call is about and who acts, both from the authenticated principal
    alone.
    """
    found = principal()
    if not found.account_id:
        raise InvalidArgument("The principal names no account.")
    if found.kind == "operator":
        return AccountId(found.account_id), Actor(UserId(""), is_operator=True)
    if found.kind != "user" or not found.user_id:
        raise Forbidden("Only a user or an operator may do this.")
    # A user's principal names a key where an admin key acts as its maker.
    return AccountId(found.account_id), Actor(UserId(found.user_id), admin_key_id=found.key_id)


def person() -> tuple[AccountId, UserId]:
    """The account and the user of the principal. Forbidden for an operator, who is nobody in
    particular.
    """
    account_id, actor = caller()
    if actor.is_operator:
        raise Forbidden("Only a user may do this.")
    return account_id, actor.user_id


def role_from_message(role: common_pb2.Role.ValueType) -> Role:
    """The role of a message. InvalidArgument where it is none."""
    try:
        return Role(role)
    except ValueError as error:
        raise InvalidArgument.of("role", "is not a role") from error


def role_to_message(role: Role) -> common_pb2.Role.ValueType:
    return common_pb2.Role.ValueType(role)


def settings_from_request(settings: events_pb2.KeySettings) -> KeySettings:
    """The settings of a request. InvalidArgument for a window that is none."""
    try:
        return settings_from_message(settings)
    except ValueError as error:
        raise InvalidArgument.of("spend_cap_window", "is not a window") from error


def limits_from_request(limits: events_pb2.Limits) -> Limits:
    """The limits of a request. InvalidArgument for a window that is none."""
    try:
        return limits_from_message(limits)
    except ValueError as error:
        raise InvalidArgument.of("limits.spend_cap_window", "is not a window") from error


def page_from_message(page: common_pb2.PageRequest) -> Page:
    return Page(page.page_size, page.page_token)


def next_page(token: str) -> common_pb2.PageResponse:
    return common_pb2.PageResponse(next_page_token=token)


def account_to_message(account: AccountRow) -> accounts_pb2.Account:
    return accounts_pb2.Account(
        account_id=account.account_id,
        name=account.name,
        suspended=account.suspended,
        created_at_ms=account.created_at_ms,
        owner_email=account.owner_email,
    )


def identity_from_message(found: accounts_pb2.Identity) -> Identity:
    """The identity of a request. InvalidArgument where its address is none."""
    email = normalised("identity.email", found.email)
    return Identity(found.issuer, found.subject, email, found.email_verified)


def started_to_message(started: StartedSession) -> accounts_pb2.SessionResponse:
    return accounts_pb2.SessionResponse(
        session_token=started.token,
        principal=accounts_pb2.SessionPrincipal(
            session_id=started.session_id,
            user_id=started.user.user_id,
            account_id=started.account.account_id,
            role=role_to_message(started.role),
            email=started.user.email,
            name=started.user.name,
            account_name=started.account.name,
        ),
        expires_at_ms=started.expires_at_ms,
    )


def holder_to_message(holder: SessionHolder) -> accounts_pb2.ResolveSessionResponse:
    return accounts_pb2.ResolveSessionResponse(
        principal=accounts_pb2.SessionPrincipal(
            session_id=holder.session_id,
            user_id=holder.user_id,
            account_id=holder.account_id,
            role=role_to_message(holder.role),
            email=holder.email,
            name=holder.name,
            account_name=holder.account_name,
        ),
        expires_at_ms=holder.expires_at_ms,
        without_password=holder.without_password,
    )


def session_to_message(session: Session) -> accounts_pb2.Session:
    return accounts_pb2.Session(
        session_id=session.session_id,
        user_agent=session.user_agent,
        started_at_ms=session.started_at_ms,
        expires_at_ms=session.expires_at_ms,
    )


def member_row_to_message(row: MemberRow) -> accounts_pb2.Member:
    return accounts_pb2.Member(
        user_id=row.user_id,
        email=row.email,
        name=row.name,
        role=role_to_message(row.role),
        added_at_ms=row.added_at_ms,
    )


def member_to_message(view: MemberView) -> accounts_pb2.Member:
    return accounts_pb2.Member(
        user_id=view.user.user_id,
        email=view.user.email,
        name=view.user.name,
        role=role_to_message(view.member.role),
        added_at_ms=view.member.added_at_ms,
    )


def audit_to_message(line: AuditLine) -> accounts_pb2.AuditEvent:
    return accounts_pb2.AuditEvent(
        event_id=line.event_id,
        type=line.type,
        actor=line.actor,
        subject=line.subject,
        occurred_at_ms=line.occurred_at_ms,
        details_json=line.details_json,
    )


def key_to_message(key: Key) -> keys_pb2.Key:
    return keys_pb2.Key(
        key_id=key.key_id,
        account_id=key.account_id,
        masked_key=key.masked_key,
        settings=settings_to_message(key.settings),
        suspended=key.suspended,
        created_at_ms=key.created_at_ms,
        updated_at_ms=key.updated_at_ms,
        created_by=key.created_by,
        version=key.version,
    )
