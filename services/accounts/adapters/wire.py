"""Events to records of the log and back, and what gateways read about keys.

Domain events and messages carry the same names and fields (`services/accounts/domain`,
`mesh.events.v1`), so that one table pairs them; the time of an event is that of its envelope.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from google.protobuf.message import Message

from services.accounts.domain import (
    account,
    admin_key,
    invitation,
    key,
    operation,
    session,
    team,
    user,
)
from services.accounts.domain.audit import Event
from services.accounts.domain.credential import Credential
from services.accounts.domain.key_settings import KeySettings
from services.accounts.domain.limits import CapWindow, Limits, ModelLimits, ScopeLimits
from services.accounts.domain.roles import Role
from services.common.events import EventRecord, UndecodableEvent, record_of
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import accounts_pb2 as pb

_CLASSES: tuple[tuple[type[Event], type[Message]], ...] = (
    (account.AccountOpened, pb.AccountOpened),
    (account.AccountSuspended, pb.AccountSuspended),
    (account.AccountResumed, pb.AccountResumed),
    (operation.OperatorActed, pb.OperatorActed),
    (account.MemberAdded, pb.MemberAdded),
    (account.MemberRoleChanged, pb.MemberRoleChanged),
    (account.MemberRemoved, pb.MemberRemoved),
    (team.TeamCreated, pb.TeamCreated),
    (team.TeamRenamed, pb.TeamRenamed),
    (team.TeamRemoved, pb.TeamRemoved),
    (team.TeamMemberAdded, pb.TeamMemberAdded),
    (team.TeamMemberRemoved, pb.TeamMemberRemoved),
    (team.LimitsSet, pb.LimitsSet),
    (admin_key.AdminKeyIssued, pb.AdminKeyIssued),
    (admin_key.AdminKeyRotated, pb.AdminKeyRotated),
    (admin_key.AdminKeyRevoked, pb.AdminKeyRevoked),
    (invitation.InvitationMade, pb.InvitationMade),
    (invitation.InvitationRenewed, pb.InvitationRenewed),
    (invitation.InvitationRevoked, pb.InvitationRevoked),
    (invitation.InvitationAccepted, pb.InvitationAccepted),
    (user.UserSignedUp, pb.UserSignedUp),
    (user.PasswordChanged, pb.PasswordChanged),
    (user.IdentityLinked, pb.IdentityLinked),
    (session.SessionStarted, pb.SessionStarted),
    (session.SessionEnded, pb.SessionEnded),
    (key.KeyIssued, pb.KeyIssued),
    (key.KeyChanged, pb.KeyChanged),
    (key.KeySuspended, pb.KeySuspended),
    (key.KeyResumed, pb.KeyResumed),
    (key.KeyRotated, pb.KeyRotated),
)
_MESSAGES: Mapping[type[Event], type[Message]] = dict(_CLASSES)
_EVENTS: Mapping[type[Message], type[Event]] = {message: event for event, message in _CLASSES}


def message_from_event(event: Event) -> Message:
    """The message of an event, without its time."""
    names = [field.name for field in fields(event) if field.name != "at_ms"]
    return _MESSAGES[type(event)](**{name: _to_wire(getattr(event, name)) for name in names})


def event_from_record(record: EventRecord) -> Event:
    """The event of a record. Raises UndecodableEvent where it is none of ours."""
    message = record.message()
    found = _EVENTS.get(type(message))
    if found is None:
        raise UndecodableEvent(f"not an event of accounts: {record.type}")
    names = [field.name for field in fields(found) if field.name != "at_ms"]
    values = {name: _from_wire(name, getattr(message, name)) for name in names}
    return found(**values, at_ms=record.occurred_at_ms)


def _to_wire(value: object) -> object:
    if isinstance(value, Limits):
        return limits_to_message(value)
    return settings_to_message(value) if isinstance(value, KeySettings) else value


def _from_wire(name: str, value: Any) -> Any:  # Any: a field of any message
    if name == "settings":
        return settings_from_message(value)
    if name == "limits":
        return limits_from_message(value)
    if name == "permissions":
        return tuple(value)
    return Role(value) if name == "role" else value


def settings_to_message(settings: KeySettings) -> pb.KeySettings:
    """The settings as a message; limits that are not set stay absent."""
    return pb.KeySettings(
        label=settings.label,
        spend_cap_nanousd=settings.spend_cap_nanousd,
        spend_cap_window=common_pb2.CapWindow.ValueType(settings.spend_cap_window),
        rpm_limit=settings.rpm_limit,
        rpd_limit=settings.rpd_limit,
        tpm_limit=settings.tpm_limit,
        default_model=settings.default_model,
        default_params_json=settings.default_params_json,
        allowed_models=settings.allowed_models,
        expires_at_ms=settings.expires_at_ms,
        model_limits=[
            pb.ModelLimits(model_id=one.model_id, limits=limits_to_message(one.limits))
            for one in settings.model_limits
        ],
        team_id=settings.team_id,
        routing_policy_json=settings.routing_policy_json,
        api_version=settings.api_version,
        response_cache_disabled=settings.response_cache_disabled,
        content_stored=settings.content_stored,
    )


def limits_to_message(limits: Limits) -> pb.Limits:
    """Limits as a message; those that are not set stay absent."""
    return pb.Limits(
        spend_cap_nanousd=limits.spend_cap_nanousd,
        spend_cap_window=common_pb2.CapWindow.ValueType(limits.spend_cap_window),
        rpm_limit=limits.rpm_limit,
        rpd_limit=limits.rpd_limit,
        tpm_limit=limits.tpm_limit,
    )


def scope_limits_to_message(one: ScopeLimits) -> pb.ScopeLimits:
    """The limits of a scope as a message."""
    return pb.ScopeLimits(
        scope=one.scope, limits=limits_to_message(one.limits), version=one.version
    )


def limits_from_message(message: pb.Limits) -> Limits:
    """The limits of a message. Raises ValueError for a window this build does not know."""
    return Limits(
        spend_cap_nanousd=_optional(message, "spend_cap_nanousd"),
        spend_cap_window=CapWindow(message.spend_cap_window or CapWindow.LIFETIME),
        rpm_limit=_optional(message, "rpm_limit"),
        rpd_limit=_optional(message, "rpd_limit"),
        tpm_limit=_optional(message, "tpm_limit"),
    )


def settings_from_message(message: pb.KeySettings) -> KeySettings:
    """The settings of a message. Raises ValueError for a window this build does not know."""
    return KeySettings(
        label=message.label,
        spend_cap_nanousd=_optional(message, "spend_cap_nanousd"),
        spend_cap_window=CapWindow(message.spend_cap_window or CapWindow.LIFETIME),
        rpm_limit=_optional(message, "rpm_limit"),
        rpd_limit=_optional(message, "rpd_limit"),
        tpm_limit=_optional(message, "tpm_limit"),
        default_model=message.default_model,
        default_params_json=message.default_params_json,
        allowed_models=tuple(message.allowed_models),
        expires_at_ms=message.expires_at_ms,
        model_limits=tuple(
            ModelLimits(one.model_id, limits_from_message(one.limits))
            for one in message.model_limits
        ),
        team_id=message.team_id,
        routing_policy_json=message.routing_policy_json,
        api_version=message.api_version,
        response_cache_disabled=message.response_cache_disabled,
        content_stored=message.content_stored,
    )


def _optional(message: pb.KeySettings | pb.Limits, name: str) -> int | None:
    return int(getattr(message, name)) if message.HasField(name) else None  # type: ignore[arg-type] # a literal each


def key_state_from_credential(credential: Credential) -> pb.KeyState:
    """What the compacted topic carries for one hash."""
    return pb.KeyState(
        key_hash=credential.key_hash,
        key_id=credential.key_id,
        account_id=credential.account_id,
        user_id=credential.user_id,
        settings=settings_to_message(credential.settings),
        suspended=credential.suspended,
        account_suspended=credential.account_suspended,
        expires_at_ms=credential.expires_at_ms,
        version=credential.version,
        scopes=[scope_limits_to_message(one) for one in credential.scopes],
    )


def key_state_value(credential: Credential, occurred_at_ms: int) -> bytes:
    """The bytes of that message in its envelope."""
    record = record_of(
        key_state_from_credential(credential),
        account_id=credential.account_id,
        occurred_at_ms=occurred_at_ms,
    )
    return record.to_bytes()
