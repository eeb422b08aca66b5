"""The matrix of roles, over gRPC: who may do what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest

from services.common.errors import Forbidden
from services.common.grpc import Principal
from services.common.pb.mesh.accounts.v1 import accounts_pb2 as pb
from services.common.pb.mesh.accounts.v1 import keys_pb2, limits_pb2
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1.accounts_pb2 import KeySettings
from tests.integration.accounts.conftest import PASSWORD, ROLE_NAMES, Person, Service, operator

EVERYBODY = set(ROLE_NAMES)
WRITERS = {"developer", "admin", "owner"}
ADMINS = {"admin", "owner"}


@dataclass(frozen=True, slots=True)
class Team:
    """An account with one person of each role, someone to change, and a key."""

    people: Mapping[str, Person]
    junior: Person
    key_id: str


@dataclass(frozen=True, slots=True)
class Rule:
    """Which roles may call a method, and how it is called."""

    allowed: set[str]
    call: Callable[[Service, Team], tuple[Any, Any]]  # Any: a method of a stub and its request


def new_member(team: Team) -> pb.AddMemberRequest:
    return pb.AddMemberRequest(
        email=f"n-{team.key_id}@example.com".lower(),
        role=common_pb2.ROLE_VIEWER,
        initial_password=PASSWORD,
    )


RULES: Mapping[str, Rule] = {
    "GetAccount": Rule(EVERYBODY, lambda s, _: (s.accounts.GetAccount, pb.GetAccountRequest())),
    "ListMembers": Rule(EVERYBODY, lambda s, _: (s.accounts.ListMembers, pb.ListMembersRequest())),
    "ListSessions": Rule(
        EVERYBODY, lambda s, _: (s.accounts.ListSessions, pb.ListSessionsRequest())
    ),
    "ListAuditEvents": Rule(
        EVERYBODY, lambda s, _: (s.accounts.ListAuditEvents, pb.ListAuditEventsRequest())
    ),
    "GetKey": Rule(
        EVERYBODY, lambda s, t: (s.keys.GetKey, keys_pb2.GetKeyRequest(key_id=t.key_id))
    ),
    "ListKeys": Rule(EVERYBODY, lambda s, _: (s.keys.ListKeys, keys_pb2.ListKeysRequest())),
    "CreateKey": Rule(
        WRITERS,
        lambda s, _: (
            s.keys.CreateKey,
            keys_pb2.CreateKeyRequest(settings=KeySettings(label="k")),
        ),
    ),
    "UpdateKey": Rule(
        WRITERS,
        lambda s, t: (
            s.keys.UpdateKey,
            keys_pb2.UpdateKeyRequest(key_id=t.key_id, update_mask=["rpm_limit"]),
        ),
    ),
    "SuspendKey": Rule(
        WRITERS, lambda s, t: (s.keys.SuspendKey, keys_pb2.SuspendKeyRequest(key_id=t.key_id))
    ),
    "ResumeKey": Rule(
        WRITERS, lambda s, t: (s.keys.ResumeKey, keys_pb2.ResumeKeyRequest(key_id=t.key_id))
    ),
    "RotateKey": Rule(
        WRITERS, lambda s, t: (s.keys.RotateKey, keys_pb2.RotateKeyRequest(key_id=t.key_id))
    ),
    "AddMember": Rule(ADMINS, lambda s, t: (s.accounts.AddMember, new_member(t))),
    "ChangeMemberRole": Rule(
        ADMINS,
        lambda s, t: (
            s.accounts.ChangeMemberRole,
            pb.ChangeMemberRoleRequest(
                user_id=t.junior.principal.user_id, role=common_pb2.ROLE_DEVELOPER
            ),
        ),
    ),
    "RemoveMember": Rule(
        ADMINS,
        lambda s, t: (
            s.accounts.RemoveMember,
            pb.RemoveMemberRequest(user_id=t.junior.principal.user_id),
        ),
    ),
    "ListTeams": Rule(EVERYBODY, lambda s, _: (s.limits.ListTeams, limits_pb2.ListTeamsRequest())),
    "ListLimits": Rule(
        EVERYBODY, lambda s, _: (s.limits.ListLimits, limits_pb2.ListLimitsRequest())
    ),
    "GetKeyLimits": Rule(
        EVERYBODY,
        lambda s, t: (s.limits.GetKeyLimits, limits_pb2.GetKeyLimitsRequest(key_id=t.key_id)),
    ),
    "CreateTeam": Rule(
        ADMINS, lambda s, _: (s.limits.CreateTeam, limits_pb2.CreateTeamRequest(name="research"))
    ),
    "SetLimits": Rule(
        ADMINS, lambda s, _: (s.limits.SetLimits, limits_pb2.SetLimitsRequest(scope="account"))
    ),
    "ListAccounts": Rule(set(), lambda s, _: (s.accounts.ListAccounts, pb.ListAccountsRequest())),
    "SuspendAccount": Rule(
        set(), lambda s, _: (s.accounts.SuspendAccount, pb.SuspendAccountRequest())
    ),
    "ResumeAccount": Rule(
        set(), lambda s, _: (s.accounts.ResumeAccount, pb.ResumeAccountRequest())
    ),
    "RecordOperation": Rule(
        set(),
        lambda s, _: (
            s.accounts.RecordOperation,
            pb.RecordOperationRequest(action="account.suspend", subject="acc_2"),
        ),
    ),
}


@pytest.fixture
async def team(service: Service) -> Team:
    owner = await service.sign_up()
    others = {role: await service.add(owner, role) for role in ROLE_NAMES if role != "owner"}
    junior = await service.add(owner, "viewer")
    key_id = (await service.create_key(owner)).key.key_id
    return Team({**others, "owner": owner}, junior, key_id)


@pytest.mark.parametrize("name", sorted(RULES))
async def test_each_role_may_do_what_the_contract_says(
    service: Service, team: Team, name: str
) -> None:
    rule = RULES[name]
    refused = [role for role in ROLE_NAMES if role not in rule.allowed]
    # Those who may not go first, as what is allowed may use up what it acts on.
    for role in refused:
        method, request = rule.call(service, team)
        with pytest.raises(Forbidden):
            await service.call(method, request, team.people[role].principal)
        # A token that claims more than the member list knows does not help either.
        if rule.allowed and rule.allowed != EVERYBODY:
            claimed = team.people[role].principal
            forged = Principal("user", claimed.account_id, claimed.user_id, role="owner")
            with pytest.raises(Forbidden):
                await service.call(method, request, forged)
    for role in sorted(rule.allowed)[:1]:
        method, request = rule.call(service, team)
        await service.call(method, request, team.people[role].principal)


@pytest.mark.parametrize("name", sorted(RULES))
async def test_the_operator_may_do_everything_but_be_a_person(
    service: Service, team: Team, name: str
) -> None:
    method, request = RULES[name].call(service, team)
    acting = operator(team.people["owner"].principal.account_id)
    if name == "ListSessions":
        with pytest.raises(Forbidden):
            await service.call(method, request, acting)
    else:
        await service.call(method, request, acting)


@pytest.mark.parametrize(("who", "granted"), list(product(ROLE_NAMES, ROLE_NAMES)))
async def test_a_role_is_granted_up_to_ones_own(
    service: Service, team: Team, who: str, granted: str
) -> None:
    request = pb.ChangeMemberRoleRequest(
        user_id=team.junior.principal.user_id,
        role=common_pb2.Role.Value(f"ROLE_{granted.upper()}"),
    )
    call = service.call(service.accounts.ChangeMemberRole, request, team.people[who].principal)
    if who in ADMINS and ROLE_NAMES.index(granted) <= ROLE_NAMES.index(who):
        assert (await call).role == request.role
    else:
        with pytest.raises(Forbidden):
            await call


async def test_an_admin_does_not_touch_an_owner(service: Service, team: Team) -> None:
    admin = team.people["admin"].principal
    owner_id = team.people["owner"].principal.user_id
    demote = pb.ChangeMemberRoleRequest(user_id=owner_id, role=common_pb2.ROLE_VIEWER)
    with pytest.raises(Forbidden):
        await service.call(service.accounts.ChangeMemberRole, demote, admin)
    with pytest.raises(Forbidden):
        await service.call(
            service.accounts.RemoveMember, pb.RemoveMemberRequest(user_id=owner_id), admin
        )
