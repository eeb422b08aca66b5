"""Who calls a route beside inference: the holder of an API key, a person who is logged in, or a
script with an admin key. What an admin key was not given, it may not; inference it may never.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from starlette.requests import Request

from services.common.errors import Forbidden, NotFound, Unauthorized
from services.common.grpc.auth import has_role
from services.common.security.tokens import Principal
from services.gateway.adapters.account_reads_grpc import call_principal_from_key
from services.gateway.admin_keys import AdminGrant, Permission
from services.gateway.auth import KEY_PREFIX
from services.gateway.entrypoints.app import caller_of, head_of, reads_of
from services.gateway.key_admin import ManagedKey
from services.gateway.ports import KeySettings

SESSION_PREFIX = b"mss_"
ADMIN_PREFIX = b"mak_"
_TOKEN_BYTES_MAX = 256


@dataclass(frozen=True, slots=True)
class Manager:
    """Who manages keys, and which: those of the account, of some teams, or their own."""

    principal: Principal
    scope: str = "org"
    team_ids: frozenset[str] = frozenset()

    def sees(self, key: ManagedKey) -> bool:
        """True where the key is within the scope."""
        if self.scope == "self":
            return key.created_by == self.principal.user_id
        return self.scope == "org" or key.fields.team_id in self.team_ids

    def require(self, key: ManagedKey) -> ManagedKey:
        """The key; one outside of the scope looks like one that never was."""
        if not self.sees(key):
            raise NotFound(f"there is no key {key.key_id!r}")
        return key

    def require_team(self, team_id: str) -> None:
        """Forbidden where a key would come to lie outside of the scope."""
        if self.scope == "team" and team_id not in self.team_ids:
            raise Forbidden("this admin key is for keys of its maker's teams: give such a team_id")


async def account_caller_of(request: Request) -> Principal:
    """Dependency: whom the services are asked for. Raises Unauthorized, Forbidden, Unavailable."""
    token = _token(request, SESSION_PREFIX)
    if token:
        return await reads_of(request).sessions.holder(token)
    return call_principal_from_key(caller_of(request))


async def reader_of(request: Request) -> Principal:
    """Dependency: who reads of money and usage. A key sees its own, people and scripts with
    `org:read` the account's.
    """
    if _token(request, ADMIN_PREFIX):
        return (await manager_of("org:read")(request)).principal
    return await account_caller_of(request)


async def person_of(request: Request) -> Principal:
    """Dependency: the person who is logged in. Forbidden for any key, whatever it may else."""
    token = _token(request, SESSION_PREFIX)
    if token:
        return await reads_of(request).sessions.holder(token)
    if _token(request, ADMIN_PREFIX):
        await _grant_of(request)
        raise Forbidden("this is for people, not for admin keys: send a session's token")
    _refuse_key(request)
    raise Unauthorized("send 'Authorization: Bearer <session token>'")


def manager_of(*sufficient: Permission) -> Callable[[Request], Awaitable[Manager]]:
    """Dependency: a person, or a script whose admin key has one of these permissions."""

    async def dependency(request: Request) -> Manager:
        token = _token(request, SESSION_PREFIX)
        if token:
            return Manager(await reads_of(request).sessions.holder(token))
        if not _token(request, ADMIN_PREFIX):
            _refuse_key(request)
            raise Unauthorized("send 'Authorization: Bearer <session token or admin key>'")
        grant = await _grant_of(request)
        if not grant.permissions.intersection(sufficient):
            raise Forbidden(f"this admin key lacks the permission {' or '.join(sufficient)}")
        return Manager(_narrowed(grant, sufficient), grant.scope, grant.team_ids)

    return dependency


async def settings_of(request: Request) -> KeySettings:
    """Dependency: what the key that asks may use; a person sees what the account may."""
    token = _token(request, SESSION_PREFIX)
    if token:
        await reads_of(request).sessions.holder(token)
        return KeySettings()
    return caller_of(request).settings


async def _grant_of(request: Request) -> AdminGrant:
    return await reads_of(request).admin_holders.holder(_token(request, ADMIN_PREFIX))


def _narrowed(grant: AdminGrant, permissions: tuple[Permission, ...]) -> Principal:
    """The maker with no more of their role than the call needs: accounts checks it once more."""
    needed = "viewer"
    if permissions == ("alerts:write",):
        needed = "admin"
    elif "alerts:write" not in permissions and any(one.endswith(":write") for one in permissions):
        needed = "developer"
    role = needed if has_role(grant.principal.role, needed) else grant.principal.role
    return replace(grant.principal, role=role)


def _refuse_key(request: Request) -> None:
    """Forbidden where an API key asks for what none may, Unauthorized where it is no good one."""
    authorization = head_of(request).authorization or b""
    if authorization.partition(b" ")[2].strip().startswith(KEY_PREFIX):
        caller_of(request)
        raise Forbidden("an API key cannot manage keys: send a session's token or an admin key")


def _token(request: Request, prefix: bytes) -> str:
    """The token with this prefix of the head; empty where there is none."""
    scheme, _, secret = (head_of(request).authorization or b"").partition(b" ")
    secret = secret.strip()
    fits = len(secret) <= _TOKEN_BYTES_MAX and secret.isascii()
    if scheme.lower() != b"bearer" or not secret.startswith(prefix) or not fits:
        return ""
    return secret.decode()
