"""Teams, and the limits of scopes: who may set what, and how a key's published state carries it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.accounts.domain import account as accounts
from services.accounts.domain import key as keys
from services.accounts.domain import team as teams
from services.accounts.domain.account import Account, AccountEvent, check_team_change, decide
from services.accounts.domain.audit import audit_entry
from services.accounts.domain.credential import credentials
from services.accounts.domain.key_settings import KeySettings
from services.accounts.domain.limits import (
    MODEL_LIMITS_MAX,
    CapWindow,
    Limits,
    ModelLimits,
    checked_model_limits,
)
from services.accounts.domain.team import LIMITED_MODELS_MAX
from services.common.errors import Conflict, Forbidden, InvalidArgument, NotFound
from services.common.ids import TeamId, UserId
from tests.unit.accounts.builders import (
    ACCOUNT,
    ADMIN,
    DEVELOPER,
    ISSUED,
    KEY,
    NOW_MS,
    OPERATOR,
    OWNER,
    STAFFED,
    STRANGER,
    VIEWER,
    account_of,
    actor,
    key_of,
)

TEAM = TeamId("tm_1")
CAPPED = Limits(spend_cap_nanousd=5, spend_cap_window=CapWindow.MONTH, rpm_limit=60)
WITH_TEAM: list[AccountEvent] = [
    *STAFFED,
    teams.TeamCreated(ACCOUNT, TEAM, "research", OWNER, NOW_MS),
    teams.TeamMemberAdded(ACCOUNT, TEAM, DEVELOPER, OWNER, NOW_MS),
]


def set_limits(scope: str, limits: Limits = CAPPED, by: UserId = ADMIN) -> teams.SetLimits:
    return teams.SetLimits(actor(by), scope, limits, NOW_MS)


def limited(*scopes: str) -> Account:
    found = account_of(WITH_TEAM)
    for scope in scopes:
        for event in decide(found, set_limits(scope)):
            found = accounts.evolve(found, event)
    return found


@pytest.mark.parametrize("who", [DEVELOPER, VIEWER, STRANGER])
def test_limits_and_teams_are_for_admins(who: UserId) -> None:
    account = account_of(WITH_TEAM)
    for command in (
        set_limits("account", by=who),
        teams.CreateTeam(actor(who), TeamId("tm_2"), "x", NOW_MS),
        teams.PutTeamMember(actor(who), TEAM, VIEWER, NOW_MS),
    ):
        with pytest.raises(Forbidden):
            decide(account, command)


def test_a_name_of_a_team_is_no_other_teams() -> None:
    account = account_of(WITH_TEAM)
    with pytest.raises(InvalidArgument, match="another team"):
        decide(account, teams.CreateTeam(OPERATOR, TeamId("tm_2"), " research ", NOW_MS))
    assert decide(account, teams.RenameTeam(OPERATOR, TEAM, "research", NOW_MS)) == []


def test_a_team_with_keys_stays() -> None:
    account = account_of(WITH_TEAM)
    with pytest.raises(Conflict):
        decide(account, teams.RemoveTeam(OPERATOR, TEAM, 1, NOW_MS))
    removed = teams.TeamRemoved(ACCOUNT, TEAM, "operator", NOW_MS)
    assert decide(account, teams.RemoveTeam(OPERATOR, TEAM, 0, NOW_MS)) == [removed]
    assert accounts.evolve(account, removed).teams == {}


def test_who_leaves_the_account_leaves_its_teams() -> None:
    account = account_of([
        *WITH_TEAM, accounts.MemberRemoved(ACCOUNT, DEVELOPER, OWNER, NOW_MS)
    ])  # fmt: skip
    assert account.teams[TEAM].members == frozenset()


def test_only_members_of_the_account_are_put_in_a_team() -> None:
    with pytest.raises(NotFound):
        decide(account_of(WITH_TEAM), teams.PutTeamMember(OPERATOR, TEAM, STRANGER, NOW_MS))


@pytest.mark.parametrize("scope", ["", "key:key_1", "key_model:key_1/m", "account:x", "team"])
def test_a_scope_is_of_a_kind_that_can_have_limits(scope: str) -> None:
    with pytest.raises((InvalidArgument, NotFound)):
        decide(account_of(WITH_TEAM), set_limits(scope))


@pytest.mark.parametrize("scope", ["team:tm_9", f"member:{STRANGER}"])
def test_limits_are_set_on_what_is_there(scope: str) -> None:
    with pytest.raises(NotFound):
        decide(account_of(WITH_TEAM), set_limits(scope))


def test_an_admin_does_not_limit_an_owner() -> None:
    with pytest.raises(Forbidden):
        decide(account_of(WITH_TEAM), set_limits(f"member:{OWNER}"))


@pytest.mark.parametrize("name", ["spend_cap_nanousd", "rpm_limit", "rpd_limit", "tpm_limit"])
def test_a_negative_limit_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        decide(account_of(WITH_TEAM), set_limits("account", Limits(**{name: -1})))  # type: ignore[arg-type]  # one of the limits
    assert [error.loc for error in refused.value.details] == [("limits", name)]


def test_the_same_limits_again_change_nothing() -> None:
    assert decide(limited("account"), set_limits("account")) == []


def test_each_change_of_limits_has_a_greater_version_also_one_that_takes_them_away() -> None:
    account = limited("account", "team:tm_1")
    assert account.limits["team:tm_1"].version == account.limits["account"].version + 1
    (event,) = decide(account, set_limits("account", Limits()))
    account = accounts.evolve(account, event)
    assert account.limits["account"].limits == Limits()
    assert account.limits["account"].version == account.version


def test_limits_of_at_most_so_many_models() -> None:
    account = limited(*(f"account_model:m{n}" for n in range(LIMITED_MODELS_MAX)))
    with pytest.raises(InvalidArgument, match="at most"):
        decide(account, set_limits("account_model:one-more"))
    assert decide(account, set_limits("account_model:m0", Limits())) != []


def test_a_key_is_published_with_the_limits_of_its_scopes_and_no_others() -> None:
    account = limited("account", "account_model:m", "team:tm_1", f"member:{DEVELOPER}")
    key = key_of(ISSUED)
    (found,) = credentials(key, account)
    assert [one.scope for one in found.scopes] == ["account", "account_model:m"]
    moved = replace(key, created_by=DEVELOPER, settings=replace(key.settings, team_id=TEAM))
    (found,) = credentials(moved, account)
    assert [one.scope for one in found.scopes] == [
        "account", "account_model:m", f"member:{DEVELOPER}", "team:tm_1",
    ]  # fmt: skip


def test_every_change_of_limits_gives_keys_a_greater_version() -> None:
    key = key_of(ISSUED)
    before, after = limited(), limited("account")
    assert credentials(key, after)[0].version == credentials(key, before)[0].version + 1


def test_a_developer_puts_a_new_key_in_an_own_team_and_moves_none() -> None:
    account = account_of(WITH_TEAM)
    check_team_change(account, actor(DEVELOPER), before="", after=TEAM)
    check_team_change(account, actor(DEVELOPER), before=TEAM, after=TEAM)
    check_team_change(account, actor(ADMIN), before=TEAM, after="")
    with pytest.raises(Forbidden):
        check_team_change(account, actor(DEVELOPER), before=TEAM, after="")
    with pytest.raises(InvalidArgument, match="team_id"):
        check_team_change(account, actor(ADMIN), before="", after="tm_9")


def test_model_limits_are_sorted_and_bounded_and_named_once() -> None:
    many = [ModelLimits(f"m{n:02}", CAPPED) for n in range(MODEL_LIMITS_MAX)]
    assert checked_model_limits(many[::-1]) == tuple(many)
    assert checked_model_limits([ModelLimits("a")]) == ()
    for wrong in (
        [*many, ModelLimits("x", CAPPED)],
        [many[0], many[0]],
        [ModelLimits("", CAPPED)],
        [ModelLimits("a", Limits(tpm_limit=-1))],
    ):
        with pytest.raises(InvalidArgument):
            checked_model_limits(wrong)


def test_the_audit_trail_says_what_changed_of_limits() -> None:
    account = limited("account")
    event = teams.LimitsSet(ACCOUNT, "account", Limits(rpm_limit=5), OWNER, NOW_MS)
    entry = audit_entry(account, event)
    assert (entry.actor, entry.subject) == (OWNER, "account")
    assert entry.details == {
        "limits": {
            "spend_cap_nanousd": {"from": 5, "to": None},
            "spend_cap_window": {"from": "month", "to": "lifetime"},
            "rpm_limit": {"from": 60, "to": 5},
        }
    }
    changed = keys.KeyChanged(
        KEY, ACCOUNT, KeySettings(label="web", model_limits=(ModelLimits("m", CAPPED),)), "u", 1
    )
    details = audit_entry(key_of(ISSUED), changed).details
    assert details["settings"] == {
        "model_limits": {
            "from": [],
            "to": [
                {
                    "model_id": "m",
                    "spend_cap_nanousd": {"from": None, "to": 5},
                    "spend_cap_window": {"from": "lifetime", "to": "month"},
                    "rpm_limit": {"from": None, "to": 60},
                }
            ],
        }
    }
