"""Every method has a policy, and the policies say what the contract says."""

from __future__ import annotations

import pytest

from services.accounts.entrypoints.policies import POLICIES
from services.common.errors import Forbidden, Unauthorized
from services.common.grpc import CallIdentity, Principal
from services.common.pb.mesh.accounts.v1 import (
    accounts_pb2,
    admin_keys_pb2,
    invitations_pb2,
    keys_pb2,
    limits_pb2,
)

SERVICES = (
    accounts_pb2.DESCRIPTOR.services_by_name["AccountsService"],
    keys_pb2.DESCRIPTOR.services_by_name["KeysService"],
    limits_pb2.DESCRIPTOR.services_by_name["LimitsService"],
    admin_keys_pb2.DESCRIPTOR.services_by_name["AdminKeysService"],
    invitations_pb2.DESCRIPTOR.services_by_name["InvitationsService"],
)
METHODS = {f"/{s.full_name}/{method.name}" for s in SERVICES for method in s.methods}
WITHOUT_PRINCIPAL = {
    "SignUp", "LogIn", "ResolveSession", "LogOut", "GetInvitation", "SignUpInvited",
    "LogInWithIdentity", "ConnectIdentity",
    "ResolveAdminKey",
}  # fmt: skip
OPERATOR_ONLY = {"ListAccounts", "SuspendAccount", "ResumeAccount", "RecordOperation"}


def test_every_method_has_a_policy_and_no_policy_lacks_its_method() -> None:
    assert set(POLICIES) == METHODS


# What the public API does for people who are logged in.
GATEWAYS = {
    "ResolveSession", "GetKey", "ListKeys", "CreateKey", "UpdateKey", "SuspendKey", "ResumeKey",
    "RotateKey", "GetKeyLimits", "CreateAdminKey", "ListAdminKeys", "GetAdminKey",
    "RotateAdminKey", "RevokeAdminKey", "ResolveAdminKey",
}  # fmt: skip


@pytest.mark.parametrize("method", sorted(METHODS))
def test_only_edges_may_call_and_the_gateway_only_for_keys_and_sessions(method: str) -> None:
    allowed = method.rpartition("/")[2] in GATEWAYS
    caller = CallIdentity("gateway", Principal("operator", "acc_1"))
    if allowed:
        POLICIES[method].check(caller)
    for service in ("billing", "usage", "catalog", "", *(() if allowed else ("gateway",))):
        with pytest.raises(Forbidden):
            POLICIES[method].check(CallIdentity(service, Principal("operator", "acc_1")))


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_call_for_nobody_reaches_only_what_needs_no_principal(method: str) -> None:
    caller = CallIdentity("dashboard")
    if method.rpartition("/")[2] in WITHOUT_PRINCIPAL:
        POLICIES[method].check(caller)
    else:
        with pytest.raises(Unauthorized):
            POLICIES[method].check(caller)


@pytest.mark.parametrize("method", sorted(OPERATOR_ONLY))
def test_not_even_an_owner_does_what_is_the_operators(method: str) -> None:
    policy = POLICIES[f"/mesh.accounts.v1.AccountsService/{method}"]
    owner = Principal("user", "acc_1", "usr_1", role="owner")
    with pytest.raises(Forbidden):
        policy.check(CallIdentity("dashboard", owner))
    policy.check(CallIdentity("cli", Principal("operator", "acc_1")))


@pytest.mark.parametrize("method", sorted(METHODS))
def test_an_api_key_manages_nothing(method: str) -> None:
    if method.rpartition("/")[2] in WITHOUT_PRINCIPAL:
        return
    key = Principal("key", "acc_1", key_id="key_1", role="owner")
    with pytest.raises(Forbidden):
        POLICIES[method].check(CallIdentity("dashboard", key))
