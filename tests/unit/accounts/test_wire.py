"""Every event survives the way into an envelope and back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.accounts.adapters.wire import event_from_record, message_from_event
from services.accounts.domain import account as accounts
from services.accounts.domain import admin_key, invitation, operation, team
from services.accounts.domain import key as keys
from services.accounts.domain import session as sessions
from services.accounts.domain import user as users
from services.accounts.domain.audit import Event
from services.accounts.domain.key_settings import KeySettings
from services.accounts.domain.limits import CapWindow, Limits, ModelLimits
from services.accounts.domain.roles import Role
from services.accounts.rebuild import evolved
from services.common.events import EventRecord, UndecodableEvent, record_of
from services.common.ids import AdminKeyId, InvitationId, SessionId, TeamId
from services.common.pb.mesh.events.v1 import accounts_pb2
from services.common.topics import ACCOUNTS
from tests.contract.events.golden import examples
from tests.unit.accounts.builders import ACCOUNT, ISSUED, KEY, NOW_MS, OPENED, OWNER, VIEWER

SETTINGS = KeySettings("web", 5, CapWindow.DAY, 1, 2, 3, "m", '{"a":1}', ("x",), 9)
LIMITS = Limits(5, CapWindow.MONTH, 1, 0, 3)
TEAM = TeamId("tm_1")
INVITATION = InvitationId("inv_1")
ADMIN_KEY = AdminKeyId("adk_1")
LIMITED = replace(SETTINGS, team_id=TEAM, model_limits=(ModelLimits("m", LIMITS),))
EVENTS: list[Event] = [
    *OPENED,
    accounts.AccountSuspended(ACCOUNT, "unpaid", NOW_MS),
    accounts.AccountResumed(ACCOUNT, NOW_MS),
    operation.OperatorActed(ACCOUNT, "usr_9", "account.suspend", "acc_2", "unpaid", NOW_MS),
    accounts.MemberRoleChanged(ACCOUNT, VIEWER, Role.ADMIN, OWNER, NOW_MS),
    accounts.MemberRemoved(ACCOUNT, VIEWER, OWNER, NOW_MS),
    users.UserSignedUp(OWNER, "ada@example.com", "Ada", NOW_MS),
    users.PasswordChanged(OWNER, NOW_MS),
    sessions.SessionStarted(SessionId("ses_1"), OWNER, ACCOUNT, "browser", NOW_MS + 1, NOW_MS),
    users.IdentityLinked(OWNER, "https://id.example.com", "subject-1", NOW_MS),
    sessions.SessionEnded(SessionId("ses_1"), OWNER, "revoked", NOW_MS),
    *ISSUED,
    keys.KeyChanged(KEY, ACCOUNT, SETTINGS, OWNER, NOW_MS),
    keys.KeyChanged(KEY, ACCOUNT, LIMITED, OWNER, NOW_MS),
    admin_key.AdminKeyIssued(
        ADMIN_KEY,
        ACCOUNT,
        OWNER,
        "hash-4",
        "mak_4",
        "ci",
        ("keys:read", "org:read"),
        "org",
        NOW_MS + 1,
        NOW_MS,
    ),
    admin_key.AdminKeyRotated(
        ADMIN_KEY, ACCOUNT, "hash-5", "mak_5", NOW_MS + 1, NOW_MS + 2, OWNER, NOW_MS
    ),
    admin_key.AdminKeyRevoked(ADMIN_KEY, ACCOUNT, OWNER, "leaked", NOW_MS),
    invitation.InvitationMade(
        INVITATION, ACCOUNT, "eve@example.com", Role.DEVELOPER, "hash-2", NOW_MS + 1, OWNER, NOW_MS
    ),
    invitation.InvitationRenewed(INVITATION, ACCOUNT, "hash-3", NOW_MS + 2, OWNER, NOW_MS),
    invitation.InvitationRevoked(INVITATION, ACCOUNT, OWNER, NOW_MS),
    invitation.InvitationAccepted(INVITATION, ACCOUNT, VIEWER, NOW_MS),
    team.TeamCreated(ACCOUNT, TEAM, "research", OWNER, NOW_MS),
    team.TeamRenamed(ACCOUNT, TEAM, "search", OWNER, NOW_MS),
    team.TeamMemberAdded(ACCOUNT, TEAM, VIEWER, OWNER, NOW_MS),
    team.TeamMemberRemoved(ACCOUNT, TEAM, VIEWER, OWNER, NOW_MS),
    team.TeamRemoved(ACCOUNT, TEAM, OWNER, NOW_MS),
    team.LimitsSet(ACCOUNT, "account", LIMITS, OWNER, NOW_MS),
    team.LimitsSet(ACCOUNT, "team:tm_1", Limits(), OWNER, NOW_MS),
    keys.KeySuspended(KEY, ACCOUNT, OWNER, NOW_MS),
    keys.KeyResumed(KEY, ACCOUNT, OWNER, NOW_MS),
    keys.KeyRotated(KEY, ACCOUNT, "hash-2", "rsk_2", "hash-1", NOW_MS + 1, OWNER, NOW_MS),
]


def recorded(event: Event) -> EventRecord:
    return record_of(message_from_event(event), account_id=ACCOUNT, occurred_at_ms=event.at_ms)


def test_there_is_an_event_for_every_type_of_the_topic() -> None:
    assert {recorded(event).type for event in EVENTS} == set(ACCOUNTS.event_types)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_survives_the_way_through_bytes(event: Event) -> None:
    assert event_from_record(EventRecord.from_bytes(recorded(event).to_bytes())) == event


def test_a_key_state_is_no_event_of_a_stream() -> None:
    state = record_of(accounts_pb2.KeyState(), account_id=ACCOUNT, occurred_at_ms=NOW_MS)
    with pytest.raises(UndecodableEvent):
        event_from_record(state)


@pytest.mark.parametrize("turn", ["first", "second"])
def test_the_golden_examples_fold(turn: str) -> None:
    golden = examples(*ACCOUNTS.event_types)
    assert len(golden) >= len(ACCOUNTS.event_types), turn
    for example in golden:
        event = event_from_record(EventRecord.from_bytes(example.envelope))
        assert recorded(event).type == example.type
        first = isinstance(
            event,
            accounts.AccountOpened | users.UserSignedUp | sessions.SessionStarted | keys.KeyIssued,
        )
        if first:
            assert evolved(None, event).version == 1
