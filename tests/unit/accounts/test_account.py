"""An account and its members: given events, when a command, then events or a refusal."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from services.accounts.domain import account as accounts
from services.accounts.domain.account import authorise, decide, evolve
from services.accounts.domain.operation import OperatorActed, RecordOperation
from services.accounts.domain.roles import Role
from services.common.errors import AppError, Conflict, Forbidden, InvalidArgument, NotFound
from services.common.ids import UserId
from tests.unit.accounts.builders import (
    ACCOUNT,
    ADMIN,
    DEVELOPER,
    NOW_MS,
    OPENED,
    OPERATOR,
    OWNER,
    ROLES,
    STAFFED,
    STRANGER,
    VIEWER,
    account_of,
    actor,
)

NEW = UserId("usr_new")
LATER_MS = NOW_MS + 1


def test_an_account_opens_with_its_founder_as_owner() -> None:
    events = decide(None, accounts.OpenAccount(ACCOUNT, "  Acme ", OWNER, NOW_MS))
    assert events == OPENED
    assert account_of(events).members[OWNER].role is Role.OWNER


def test_an_account_needs_a_name() -> None:
    with pytest.raises(InvalidArgument, match="account_name"):
        decide(None, accounts.OpenAccount(ACCOUNT, "  ", OWNER, NOW_MS))


def test_an_account_opens_once() -> None:
    with pytest.raises(Conflict):
        decide(account_of(OPENED), accounts.OpenAccount(ACCOUNT, "Acme", OWNER, NOW_MS))


def test_a_command_on_an_account_that_never_was_is_not_found() -> None:
    with pytest.raises(NotFound):
        decide(None, accounts.SuspendAccount(OPERATOR, "", NOW_MS))


def test_an_operator_suspends_and_resumes_and_each_counts_as_a_change() -> None:
    account = account_of(OPENED)
    suspended = decide(account, accounts.SuspendAccount(OPERATOR, "unpaid", LATER_MS))
    assert suspended == [accounts.AccountSuspended(ACCOUNT, "unpaid", LATER_MS)]
    account = evolve(account, suspended[0])
    assert account.suspended
    assert decide(account, accounts.SuspendAccount(OPERATOR, "again", LATER_MS)) == []
    resumed = decide(account, accounts.ResumeAccount(OPERATOR, LATER_MS))
    account = evolve(account, resumed[0])
    assert not account.suspended
    assert account.suspension_changes == 2
    assert decide(account, accounts.ResumeAccount(OPERATOR, LATER_MS)) == []


def test_not_even_an_owner_suspends_or_resumes_the_account() -> None:
    for command in (
        accounts.SuspendAccount(actor(OWNER), "", NOW_MS),
        accounts.ResumeAccount(actor(OWNER), NOW_MS),
    ):
        with pytest.raises(Forbidden):
            decide(account_of(OPENED), command)


def test_what_staff_do_is_recorded_by_name_and_changes_nothing() -> None:
    account = account_of(OPENED)
    grace = replace(OPERATOR, user_id=UserId("usr_9"))
    record = RecordOperation(grace, "account.suspend", "acc_2", "unpaid", LATER_MS)
    [event] = decide(account, record)
    assert event == OperatorActed(ACCOUNT, "usr_9", "account.suspend", "acc_2", "unpaid", LATER_MS)
    assert evolve(account, event) == replace(account, version=account.version + 1)
    with pytest.raises(Forbidden):
        decide(account, replace(record, actor=actor(OWNER)))
    for field, wrong in (
        ("action", replace(record, action="")),
        ("subject", replace(record, subject="x" * 201)),
        ("note", replace(record, note="x" * 501)),
    ):
        with pytest.raises(InvalidArgument) as refused:
            decide(account, wrong)
        assert refused.value.details[0].loc[-1] == field


def may_grant(own: Role, granted: Role) -> bool:
    """The rule in other words: admins and owners, up to their own role."""
    return own >= Role.ADMIN and granted <= own


@pytest.mark.parametrize(("who", "role"), list(product(ROLES, Role)))
def test_nobody_grants_above_their_own_role(who: UserId, role: Role) -> None:
    command = accounts.AddMember(actor(who), NEW, role, LATER_MS)
    if may_grant(ROLES[who], role):
        events = decide(account_of(STAFFED), command)
        assert events == [accounts.MemberAdded(ACCOUNT, NEW, role, who, LATER_MS)]
    else:
        with pytest.raises(Forbidden):
            decide(account_of(STAFFED), command)


@pytest.mark.parametrize(("who", "whom", "role"), list(product(ROLES, ROLES, Role)))
def test_a_role_changes_only_within_what_the_changer_may_touch_and_grant(
    who: UserId, whom: UserId, role: Role
) -> None:
    command = accounts.ChangeMemberRole(actor(who), whom, role, LATER_MS)
    touchable = ROLES[whom] <= ROLES[who]
    last_owner = whom == OWNER and role is not Role.OWNER
    allowed = may_grant(ROLES[who], role) and touchable
    if not allowed or last_owner:
        with pytest.raises(Forbidden if not allowed else Conflict):
            decide(account_of(STAFFED), command)
        return
    changed = [accounts.MemberRoleChanged(ACCOUNT, whom, role, who, LATER_MS)]
    assert decide(account_of(STAFFED), command) == ([] if ROLES[whom] is role else changed)


@pytest.mark.parametrize(("who", "whom"), list(product(ROLES, ROLES)))
def test_a_member_is_removed_only_by_an_admin_of_at_least_their_role(
    who: UserId, whom: UserId
) -> None:
    command = accounts.RemoveMember(actor(who), whom, LATER_MS)
    if ROLES[who] >= Role.ADMIN and ROLES[whom] <= ROLES[who] and whom != OWNER:
        assert decide(account_of(STAFFED), command) == [
            accounts.MemberRemoved(ACCOUNT, whom, who, LATER_MS)
        ]
    else:
        with pytest.raises(AppError):
            decide(account_of(STAFFED), command)


def test_the_last_owner_cannot_be_removed_but_one_of_two_can() -> None:
    removal = accounts.RemoveMember(actor(OWNER), OWNER, LATER_MS)
    with pytest.raises(Conflict) as refused:
        decide(account_of(STAFFED), removal)
    assert refused.value.extra == {"rule": "last_owner"}
    two_owners = [*STAFFED, accounts.MemberRoleChanged(ACCOUNT, ADMIN, Role.OWNER, OWNER, NOW_MS)]
    assert len(decide(account_of(two_owners), removal)) == 1


def test_not_even_the_operator_removes_the_last_owner() -> None:
    with pytest.raises(Conflict):
        decide(account_of(STAFFED), accounts.RemoveMember(OPERATOR, OWNER, LATER_MS))


def test_a_member_is_added_once_and_a_stranger_cannot_be_changed() -> None:
    account = account_of(STAFFED)
    with pytest.raises(Conflict):
        decide(account, accounts.AddMember(actor(OWNER), VIEWER, Role.ADMIN, LATER_MS))
    with pytest.raises(NotFound):
        decide(account, accounts.ChangeMemberRole(actor(OWNER), STRANGER, Role.ADMIN, LATER_MS))
    with pytest.raises(NotFound):
        decide(account, accounts.RemoveMember(actor(OWNER), STRANGER, LATER_MS))


def test_a_removed_member_has_no_role_left() -> None:
    removed = [*STAFFED, accounts.MemberRemoved(ACCOUNT, DEVELOPER, OWNER, NOW_MS)]
    with pytest.raises(Forbidden):
        authorise(account_of(removed), actor(DEVELOPER), Role.VIEWER)


@pytest.mark.parametrize(("who", "needed"), list(product(ROLES, Role)))
def test_a_role_includes_the_lesser_ones(who: UserId, needed: Role) -> None:
    account = account_of(STAFFED)
    if ROLES[who] >= needed:
        assert authorise(account, actor(who), needed) is ROLES[who]
    else:
        with pytest.raises(Forbidden):
            authorise(account, actor(who), needed)


def test_the_operator_passes_every_role_check() -> None:
    assert authorise(account_of(OPENED), OPERATOR, Role.OWNER) is Role.OWNER


def test_the_number_of_members_is_bounded() -> None:
    full = [
        *OPENED,
        *(
            accounts.MemberAdded(ACCOUNT, UserId(f"usr_{n}"), Role.VIEWER, OWNER, NOW_MS)
            for n in range(accounts.MEMBERS_MAX - 1)
        ),
    ]
    with pytest.raises(Conflict, match="at most"):
        decide(account_of(full), accounts.AddMember(actor(OWNER), NEW, Role.VIEWER, LATER_MS))


def test_the_version_counts_the_events() -> None:
    assert account_of(STAFFED).version == len(STAFFED)
