"""Who may make an admin key, what it may be given, and when a secret stops working."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.accounts.domain import admin_key as admin_keys
from services.accounts.domain.admin_key import (
    GRACE_S_MAX,
    LIFETIME_MS_MAX,
    LIVE_KEYS_MAX,
    AdminKey,
    IssueAdminKey,
    RevokeAdminKey,
    RotateAdminKey,
)
from services.accounts.domain.roles import Actor
from services.common.errors import AppError, Conflict, Forbidden, InvalidArgument, NotFound
from services.common.ids import AccountId, AdminKeyId
from tests.unit.accounts.builders import (
    ACCOUNT,
    ADMIN,
    DEVELOPER,
    NOW_MS,
    OPERATOR,
    OWNER,
    STAFFED,
    account_of,
    actor,
)

ISSUE = IssueAdminKey(
    admin_key_id=AdminKeyId("adk_1"),
    account=account_of(STAFFED),
    actor=actor(OWNER),
    key_hash="hash-1",
    masked_key="mak_1",
    label=" ci ",
    permissions=("keys:write", "keys:read", "keys:read"),
    key_scope="self",
    expires_at_ms=NOW_MS + 1_000,
    live_before=0,
    at_ms=NOW_MS,
)


def issued(**changes: object) -> AdminKey:
    (event,) = admin_keys.decide(None, replace(ISSUE, **changes))  # type: ignore[arg-type] # by name
    return admin_keys.evolve(None, event)


def rotate(
    key: AdminKey, *, grace_s: int = 0, expires_at_ms: int = 0, at_ms: int = NOW_MS
) -> AdminKey:
    command = RotateAdminKey(
        ISSUE.account, actor(OWNER), f"{key.key_hash}'", "mak_2", grace_s, expires_at_ms, at_ms
    )
    (event,) = admin_keys.decide(key, command)
    return admin_keys.evolve(key, event)


def revoke(by: Actor = ISSUE.actor, reason: str = "") -> RevokeAdminKey:
    return RevokeAdminKey(ISSUE.account, by, reason, NOW_MS)


def test_a_key_is_its_makers_and_has_each_permission_once() -> None:
    key = issued()
    assert (key.created_by, key.label) == (OWNER, "ci")
    assert key.permissions == ("keys:read", "keys:write")
    assert issued(actor=actor(ADMIN)).created_by == ADMIN


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"label": " "}, "label"),
        ({"label": "x" * 101}, "label"),
        ({"permissions": ()}, "permissions"),
        ({"permissions": ("keys:delete",)}, "permissions"),
        ({"permissions": ("keys:read", "org:read")}, "permissions"),
        ({"permissions": ("limits:write",), "key_scope": "team"}, "permissions"),
        ({"permissions": ("alerts:read",), "key_scope": "self"}, "permissions"),
        ({"key_scope": "all"}, "scope"),
        ({"expires_at_ms": NOW_MS}, "expires_at"),
        ({"expires_at_ms": NOW_MS + LIFETIME_MS_MAX + 1}, "expires_at"),
    ],
)
def test_what_cannot_be_given_is_named(changes: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidArgument, match=named):
        issued(**changes)


def test_the_whole_account_is_for_the_widest_scope() -> None:
    every = admin_keys.PERMISSIONS
    assert issued(permissions=every, key_scope="org").permissions == every


@pytest.mark.parametrize("who", [actor(DEVELOPER), Actor(DEVELOPER)])
def test_only_admins_make_rotate_and_revoke_keys(who: Actor) -> None:
    with pytest.raises(Forbidden):
        issued(actor=who)
    with pytest.raises(Forbidden):
        admin_keys.decide(issued(), revoke(who))


def test_the_operator_is_nobody_that_a_key_could_act_as() -> None:
    with pytest.raises(InvalidArgument):
        issued(actor=OPERATOR)


def test_an_account_has_a_bound_of_keys_that_work() -> None:
    assert issued(live_before=LIVE_KEYS_MAX - 1).version == 1
    with pytest.raises(Conflict):
        issued(live_before=LIVE_KEYS_MAX)


def test_the_old_secret_works_through_its_grace_and_the_one_before_ends_at_once() -> None:
    once = rotate(issued(expires_at_ms=NOW_MS + LIFETIME_MS_MAX), grace_s=60)
    assert (once.key_hash, once.old_key_hash) == ("hash-1'", "hash-1")
    assert once.old_expires_at_ms == NOW_MS + 60_000
    twice = rotate(once, grace_s=60)
    assert (twice.key_hash, twice.old_key_hash) == ("hash-1''", "hash-1'")
    at_once = rotate(twice)
    assert (at_once.old_key_hash, at_once.old_expires_at_ms) == ("", 0)


def test_a_grace_lengthens_no_secrets_life() -> None:
    rotated = rotate(issued(), grace_s=3_600, expires_at_ms=NOW_MS + 9_000)
    assert (rotated.old_expires_at_ms, rotated.expires_at_ms) == (NOW_MS + 1_000, NOW_MS + 9_000)


def test_a_rotation_out_of_bounds_is_refused() -> None:
    for grace_s in (-1, GRACE_S_MAX + 1):
        with pytest.raises(InvalidArgument, match="grace_hours"):
            rotate(issued(), grace_s=grace_s)
    with pytest.raises(InvalidArgument, match="expires_at"):
        rotate(issued(), expires_at_ms=NOW_MS + LIFETIME_MS_MAX + 1)
    with pytest.raises(Conflict):
        rotate(issued(), at_ms=NOW_MS + 1_000)


def test_a_revoked_key_is_dead_for_good() -> None:
    key = issued()
    (event,) = admin_keys.decide(key, revoke(reason="leaked"))
    dead = admin_keys.evolve(key, event)
    assert (dead.is_live(NOW_MS), dead.revoke_reason) == (False, "leaked")
    assert admin_keys.decide(dead, revoke()) == []
    with pytest.raises(Conflict):
        rotate(dead)
    with pytest.raises(InvalidArgument, match="reason"):
        admin_keys.decide(key, revoke(reason="x" * 401))


def test_another_accounts_key_looks_like_one_that_never_was() -> None:
    foreign = replace(issued(), account_id=AccountId("acc_other"))
    for known in (None, foreign):
        with pytest.raises(NotFound):
            admin_keys.decide(known, revoke())


def test_a_command_by_a_stranger_is_refused_before_anything_is_looked_at() -> None:
    with pytest.raises(AppError):
        admin_keys.decide(None, revoke(Actor(AdminKeyId("usr_none"))))  # type: ignore[arg-type] # any id
    assert ISSUE.account.account_id == ACCOUNT
