"""Tenants cannot reach one another: every method, called with another tenant's ids."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from google.protobuf.message import Message

from services.accounts.entrypoints.policies import POLICIES
from services.accounts.rebuild import READ_TABLES
from services.common.errors import AppError, NotFound, Unauthorized
from services.common.grpc import Principal
from services.common.pb.mesh.accounts.v1 import accounts_pb2 as pb
from services.common.pb.mesh.accounts.v1 import (
    admin_keys_pb2,
    invitations_pb2,
    keys_pb2,
    limits_pb2,
)
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1.accounts_pb2 import KeySettings, Limits
from tests.integration.accounts.conftest import PASSWORD, Person, Service

NEW_PERSON = "a-new-person@example.com"
INVITED = "somebody-invited@example.com"
SECRET_TABLES = ("session_tokens", "user_passwords")


@dataclass(frozen=True, slots=True)
class Tenant:
    """Everything of one tenant that another may have got to know."""

    owner: Person
    member: Person
    key_id: str
    team_id: str
    invitation_id: str
    link_token: str
    admin_key_id: str

    @property
    def traces(self) -> set[str]:
        """What must not appear in another tenant's answers."""
        people = (self.owner, self.member)
        known = {self.key_id, self.team_id, self.invitation_id, INVITED, self.admin_key_id}
        known |= {self.owner.principal.account_id}
        known |= {person.principal.user_id for person in people}
        known |= {person.email for person in people}
        return known | {person.session_id for person in people}


@pytest.fixture
async def victim(service: Service) -> Tenant:
    owner = await service.sign_up()
    member = await service.add(owner, "developer")
    create = limits_pb2.CreateTeamRequest(name="research")
    team = await service.call(service.limits.CreateTeam, create, owner.principal)
    key_id = (await service.create_key(owner)).key.key_id
    invite = invitations_pb2.InviteRequest(email=INVITED, role=common_pb2.ROLE_VIEWER)
    sent = await service.call(service.invitations.Invite, invite, owner.principal)
    invitation_id = sent.invitation.invitation_id
    admin_key_id = (await service.create_admin_key(owner)).admin_key.admin_key_id
    return Tenant(owner, member, key_id, team.team_id, invitation_id, sent.token, admin_key_id)


Attack = Callable[[Tenant, Person], Any]  # Any: a request of the method it is listed under

# Every method that is called for somebody, with the victim's ids wherever a request takes an id.
ATTACKS: Mapping[str, Attack] = {
    "AccountsService/ListSessions": lambda _v, _a: pb.ListSessionsRequest(),
    "AccountsService/RevokeSession": lambda v, _a: pb.RevokeSessionRequest(
        session_id=v.owner.session_id
    ),
    "AccountsService/ChangePassword": lambda v, _a: pb.ChangePasswordRequest(
        current_password=PASSWORD,
        new_password="the attacker's own",
        session_token=v.owner.token,
    ),
    "AccountsService/SetPassword": lambda v, _a: pb.SetPasswordRequest(
        identity=pb.Identity(issuer="https://id.example.com", subject="s", email=v.owner.email),
        new_password="the attacker's own",
        session_token=v.owner.token,
    ),
    "AccountsService/GetAccount": lambda _v, _a: pb.GetAccountRequest(),
    "AccountsService/ListAccounts": lambda v, _a: pb.ListAccountsRequest(search=v.owner.email),
    "AccountsService/SuspendAccount": lambda _v, _a: pb.SuspendAccountRequest(),
    "AccountsService/ResumeAccount": lambda _v, _a: pb.ResumeAccountRequest(),
    "AccountsService/RecordOperation": lambda v, _a: pb.RecordOperationRequest(
        action="account.suspend", subject=v.owner.principal.account_id
    ),
    "AccountsService/ListMembers": lambda _v, _a: pb.ListMembersRequest(),
    # Adding by an e-mail address is meant to reach people of other accounts: here a new person.
    "AccountsService/AddMember": lambda _v, _a: pb.AddMemberRequest(
        email=NEW_PERSON, role=common_pb2.ROLE_VIEWER, initial_password=PASSWORD
    ),
    "AccountsService/ChangeMemberRole": lambda v, _a: pb.ChangeMemberRoleRequest(
        user_id=v.member.principal.user_id, role=common_pb2.ROLE_ADMIN
    ),
    "AccountsService/RemoveMember": lambda v, _a: pb.RemoveMemberRequest(
        user_id=v.member.principal.user_id
    ),
    "AccountsService/ListAuditEvents": lambda _v, _a: pb.ListAuditEventsRequest(),
    "AccountsService/ListMemberships": lambda _v, _a: pb.ListMembershipsRequest(),
    "AccountsService/SwitchAccount": lambda v, a: pb.SwitchAccountRequest(
        account_id=v.owner.principal.account_id, session_token=a.token
    ),
    "AdminKeysService/CreateAdminKey": lambda _v, _a: admin_keys_pb2.CreateAdminKeyRequest(
        label="mine", permissions=["keys:read"], scope="org"
    ),
    "AdminKeysService/ListAdminKeys": lambda _v, _a: admin_keys_pb2.ListAdminKeysRequest(),
    "AdminKeysService/GetAdminKey": lambda v, _a: admin_keys_pb2.GetAdminKeyRequest(
        admin_key_id=v.admin_key_id
    ),
    "AdminKeysService/RotateAdminKey": lambda v, _a: admin_keys_pb2.RotateAdminKeyRequest(
        admin_key_id=v.admin_key_id
    ),
    "AdminKeysService/RevokeAdminKey": lambda v, _a: admin_keys_pb2.RevokeAdminKeyRequest(
        admin_key_id=v.admin_key_id
    ),
    # Inviting an address that another account invited as well is nobody's loss.
    "InvitationsService/Invite": lambda _v, _a: invitations_pb2.InviteRequest(
        email=NEW_PERSON, role=common_pb2.ROLE_VIEWER
    ),
    "InvitationsService/ListInvitations": lambda _v, _a: invitations_pb2.ListInvitationsRequest(),
    "InvitationsService/RenewInvitation": lambda v, _a: invitations_pb2.RenewInvitationRequest(
        invitation_id=v.invitation_id
    ),
    "InvitationsService/RevokeInvitation": lambda v, _a: invitations_pb2.RevokeInvitationRequest(
        invitation_id=v.invitation_id
    ),
    # Whoever found the link knows for whom it is; the refusal says no more than the link does.
    "InvitationsService/AcceptInvitation": lambda v, a: invitations_pb2.AcceptInvitationRequest(
        token=v.link_token, session_token=a.token
    ),
    "KeysService/CreateKey": lambda _v, _a: keys_pb2.CreateKeyRequest(
        settings=KeySettings(label="mine")
    ),
    "KeysService/GetKey": lambda v, _a: keys_pb2.GetKeyRequest(key_id=v.key_id),
    "KeysService/ListKeys": lambda _v, _a: keys_pb2.ListKeysRequest(),
    "KeysService/UpdateKey": lambda v, _a: keys_pb2.UpdateKeyRequest(
        key_id=v.key_id, settings=KeySettings(label="stolen"), update_mask=["label"]
    ),
    "KeysService/SuspendKey": lambda v, _a: keys_pb2.SuspendKeyRequest(key_id=v.key_id),
    "KeysService/ResumeKey": lambda v, _a: keys_pb2.ResumeKeyRequest(key_id=v.key_id),
    "KeysService/RotateKey": lambda v, _a: keys_pb2.RotateKeyRequest(key_id=v.key_id),
    "LimitsService/ListTeams": lambda _v, _a: limits_pb2.ListTeamsRequest(),
    "LimitsService/CreateTeam": lambda _v, _a: limits_pb2.CreateTeamRequest(name="mine"),
    "LimitsService/RenameTeam": lambda v, _a: limits_pb2.RenameTeamRequest(
        team_id=v.team_id, name="stolen"
    ),
    "LimitsService/RemoveTeam": lambda v, _a: limits_pb2.RemoveTeamRequest(team_id=v.team_id),
    "LimitsService/PutTeamMember": lambda v, a: limits_pb2.PutTeamMemberRequest(
        team_id=v.team_id, user_id=a.principal.user_id
    ),
    "LimitsService/RemoveTeamMember": lambda v, _a: limits_pb2.RemoveTeamMemberRequest(
        team_id=v.team_id, user_id=v.member.principal.user_id
    ),
    "LimitsService/ListLimits": lambda _v, _a: limits_pb2.ListLimitsRequest(),
    "LimitsService/SetLimits": lambda v, _a: limits_pb2.SetLimitsRequest(
        scope=f"team:{v.team_id}", limits=Limits(rpm_limit=0)
    ),
    "LimitsService/GetKeyLimits": lambda v, _a: limits_pb2.GetKeyLimitsRequest(key_id=v.key_id),
}
WITHOUT_PRINCIPAL = {
    *(f"AccountsService/{name}" for name in ("SignUp", "LogIn", "ResolveSession", "LogOut")),
    *(f"AccountsService/{name}Identity" for name in ("LogInWith", "Connect")),
    "AdminKeysService/ResolveAdminKey",
    *(f"InvitationsService/{name}" for name in ("GetInvitation", "SignUpInvited")),
}
TAKES_A_FOREIGN_ID = {
    "AccountsService/RevokeSession",
    "AccountsService/ChangeMemberRole",
    "AccountsService/RemoveMember",
    "AccountsService/SwitchAccount",
    *(f"AdminKeysService/{name}AdminKey" for name in ("Get", "Rotate", "Revoke")),
    *(f"InvitationsService/{name}Invitation" for name in ("Renew", "Revoke")),
    *(f"KeysService/{name}Key" for name in ("Get", "Update", "Suspend", "Resume", "Rotate")),
    *(f"LimitsService/{name}" for name in ("RenameTeam", "RemoveTeam", "PutTeamMember")),
    *(f"LimitsService/{name}" for name in ("RemoveTeamMember", "SetLimits", "GetKeyLimits")),
}


def test_no_method_is_left_out() -> None:
    methods = {path.removeprefix("/mesh.accounts.v1.") for path in POLICIES}
    assert set(ATTACKS) | WITHOUT_PRINCIPAL == methods


async def rows_of(service: Service, tenant: Tenant) -> dict[str, list[str]]:
    """Every row that bears a trace of the tenant, as text."""
    found = {}
    for table in (*READ_TABLES, *SECRET_TABLES):
        rows = await service.pool.fetch(f"SELECT t::text AS row FROM {table} AS t ORDER BY 1")
        found[table] = [r["row"] for r in rows if any(t in r["row"] for t in tenant.traces)]
    return found


def method_of(service: Service, name: str) -> Any:  # Any: a method of a stub
    stub, _, method = name.partition("/")
    stubs = {
        "AccountsService": service.accounts,
        "KeysService": service.keys,
        "LimitsService": service.limits,
        "InvitationsService": service.invitations,
        "AdminKeysService": service.admin_keys,
    }
    return getattr(stubs[stub], method)


@pytest.mark.parametrize("name", sorted(ATTACKS))
async def test_another_tenants_ids_lead_nowhere(
    service: Service, victim: Tenant, name: str
) -> None:
    attacker = await service.sign_up()
    before = await rows_of(service, victim)
    request = ATTACKS[name](victim, attacker)
    call = service.call(method_of(service, name), request, attacker.principal)
    answer = (await asyncio.gather(call, return_exceptions=True))[0]
    assert isinstance(answer, NotFound) or name not in TAKES_A_FOREIGN_ID
    assert isinstance(answer, AppError | Message)
    shown = victim.traces - ({INVITED} if "Accept" in name else set())
    assert not any(trace in str(answer) for trace in shown)
    assert await rows_of(service, victim) == before


@pytest.mark.parametrize("name", sorted(ATTACKS))
async def test_a_forged_account_in_the_principal_gives_a_stranger_no_power(
    service: Service, victim: Tenant, name: str
) -> None:
    """A viewer of nothing: the token names the victim's account, the person is no member of it."""
    attacker = await service.sign_up()
    forged = Principal("user", victim.owner.principal.account_id, attacker.principal.user_id)
    before = await rows_of(service, victim)
    with pytest.raises(AppError):
        await service.call(method_of(service, name), ATTACKS[name](victim, attacker), forged)
    assert await rows_of(service, victim) == before


async def test_no_one_gets_in_without_a_token(service: Service, victim: Tenant) -> None:
    for name, attack in ATTACKS.items():
        with pytest.raises(Unauthorized):
            await service.call(method_of(service, name), attack(victim, victim.owner))


async def test_the_database_itself_shows_a_tenant_only_its_own_rows(
    service: Service, victim: Tenant
) -> None:
    attacker = await service.sign_up()
    await service.create_key(attacker)
    await service.create_admin_key(attacker)
    invite = invitations_pb2.InviteRequest(email=NEW_PERSON, role=common_pb2.ROLE_VIEWER)
    await service.call(service.invitations.Invite, invite, attacker.principal)
    async with service.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL ROLE mesh_accounts_tenant")
        for table in READ_TABLES:
            assert await connection.fetch(f"SELECT FROM {table}") == [], table
        await connection.execute(
            "SELECT set_config('mesh.account_id', $1, true)", attacker.principal.account_id
        )
        for table in READ_TABLES:
            rows = await connection.fetch(f"SELECT t::text AS row FROM {table} AS t")
            assert rows, table
            assert not any(trace in row["row"] for row in rows for trace in victim.traces), table


@pytest.mark.parametrize("table", [*SECRET_TABLES, "events", "outbox"])
async def test_the_tenants_role_reads_no_secrets(service: Service, table: str) -> None:
    async with service.pool.acquire() as connection:
        allowed = await connection.fetchval(
            "SELECT has_table_privilege('mesh_accounts_tenant', $1, 'SELECT')", table
        )
    assert allowed is False
