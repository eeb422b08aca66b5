"""Which services may call which method, and for whom; what is not listed here is denied."""

from __future__ import annotations

from collections.abc import Mapping

from services.common.grpc import Access

CALLERS = frozenset({"dashboard", "cli"})

NOBODY = Access(CALLERS, "none")
# The public API manages keys for people who are logged in; their roles are looked up here.
_PUBLIC = CALLERS | {"gateway"}
SESSIONS = Access(_PUBLIC, "none")
READ_KEYS = Access(_PUBLIC, "user", "viewer")
OPERATOR = Access(CALLERS, "operator")
READ = Access(CALLERS, "user", "viewer")
WRITE_KEYS = Access(_PUBLIC, "user", "developer")
WRITE_ADMIN_KEYS = Access(_PUBLIC, "user", "admin")
WRITE_MEMBERS = Access(CALLERS, "user", "admin")

_ACCOUNTS: Mapping[str, Access] = {
    "SignUp": NOBODY,
    "LogIn": NOBODY,
    # Only the dashboard checks what a log-in provider says.
    "LogInWithIdentity": Access(frozenset({"dashboard"}), "none"),
    "ConnectIdentity": Access(frozenset({"dashboard"}), "none"),
    "ResolveSession": SESSIONS,
    "LogOut": NOBODY,
    # A person's own sessions and password: no role is needed beyond being a member.
    "ListSessions": READ,
    "RevokeSession": READ,
    "ChangePassword": READ,
    "SetPassword": Access(frozenset({"dashboard"}), "user", "viewer"),
    # A person's own memberships, and the way from one to another.
    "ListMemberships": READ,
    "SwitchAccount": READ,
    "GetAccount": READ,
    "ListAccounts": OPERATOR,
    "SuspendAccount": OPERATOR,
    "ResumeAccount": OPERATOR,
    "RecordOperation": OPERATOR,
    "ListMembers": READ,
    "AddMember": WRITE_MEMBERS,
    "ChangeMemberRole": WRITE_MEMBERS,
    "RemoveMember": WRITE_MEMBERS,
    "ListAuditEvents": READ,
}
_KEYS: Mapping[str, Access] = {
    "GetKey": READ_KEYS,
    "ListKeys": READ_KEYS,
    "CreateKey": WRITE_KEYS,
    "UpdateKey": WRITE_KEYS,
    "SuspendKey": WRITE_KEYS,
    "ResumeKey": WRITE_KEYS,
    "RotateKey": WRITE_KEYS,
}

_LIMITS: Mapping[str, Access] = {
    "ListTeams": READ,
    "CreateTeam": WRITE_MEMBERS,
    "RenameTeam": WRITE_MEMBERS,
    "RemoveTeam": WRITE_MEMBERS,
    "PutTeamMember": WRITE_MEMBERS,
    "RemoveTeamMember": WRITE_MEMBERS,
    "ListLimits": READ,
    "SetLimits": WRITE_MEMBERS,
    "GetKeyLimits": READ_KEYS,
}

# What may manage keys is for those to give who may manage people.
_ADMIN_KEYS: Mapping[str, Access] = {
    "CreateAdminKey": WRITE_ADMIN_KEYS,
    "ListAdminKeys": READ_KEYS,
    "GetAdminKey": READ_KEYS,
    "RotateAdminKey": WRITE_ADMIN_KEYS,
    "RevokeAdminKey": WRITE_ADMIN_KEYS,
    "ResolveAdminKey": SESSIONS,
}

_INVITATIONS: Mapping[str, Access] = {
    "Invite": WRITE_MEMBERS,
    "ListInvitations": READ,
    "RenewInvitation": WRITE_MEMBERS,
    "RevokeInvitation": WRITE_MEMBERS,
    # What the holder of a link may do before they are anybody here.
    "GetInvitation": NOBODY,
    "SignUpInvited": NOBODY,
    # For the person, in whatever account they are now.
    "AcceptInvitation": READ,
}

POLICIES: Mapping[str, Access] = {
    **{f"/mesh.accounts.v1.AccountsService/{name}": access for name, access in _ACCOUNTS.items()},
    **{f"/mesh.accounts.v1.KeysService/{name}": access for name, access in _KEYS.items()},
    **{f"/mesh.accounts.v1.AdminKeysService/{n}": access for n, access in _ADMIN_KEYS.items()},
    **{f"/mesh.accounts.v1.InvitationsService/{n}": access for n, access in _INVITATIONS.items()},
    **{f"/mesh.accounts.v1.LimitsService/{name}": access for name, access in _LIMITS.items()},
}
