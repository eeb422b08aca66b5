"""Who may call which method: a policy for each, everything else is denied, and the caller as a
context variable.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

from services.common.errors import Forbidden, Unauthorized
from services.common.security.tokens import CallIdentity, Principal

ROLES = ("viewer", "developer", "admin", "owner")
Role = Literal["viewer", "developer", "admin", "owner"]

_identity: ContextVar[CallIdentity | None] = ContextVar("mesh_identity", default=None)


@dataclass(frozen=True, slots=True)
class Access:
    """Which services may call a method, and for whom.

    principal: "none" - the service for itself (a principal is ignored); "any" - for anybody;
    "user" - for a user of at least `role_min`, or an operator; "operator" - for an operator alone.
    """

    services: frozenset[str]
    principal: Literal["none", "any", "user", "operator"]
    role_min: Role = "viewer"

    def check(self, caller: CallIdentity) -> None:
        """Raises Forbidden where the caller may not, Unauthorized where it is to speak for
        somebody and does not.
        """
        if caller.service not in self.services:
            raise Forbidden(f"the service {caller.service} may not call this method")
        if self.principal == "none":
            return
        found = caller.principal
        if found is None:
            raise Unauthorized("this method is called for a principal")
        if found.kind == "operator":
            return
        if self.principal == "operator":
            raise Forbidden("only an operator may do this")
        if self.principal == "user":
            if found.kind != "user":
                raise Forbidden("only a user may do this")
            if not has_role(found.role, self.role_min):
                raise Forbidden(f"this needs the role {self.role_min}")


def has_role(role: str, role_min: str) -> bool:
    """True where `role` is `role_min` or more; an unknown role is less than every other."""
    return role in ROLES and ROLES.index(role) >= ROLES.index(role_min)


def identity() -> CallIdentity:
    """The verified caller of the method being handled. Raises Unauthorized outside of one."""
    found = _identity.get()
    if found is None:
        raise Unauthorized("no call is being handled")
    return found


def principal() -> Principal:
    """Whom the call being handled is made for. Raises Unauthorized where it is for nobody."""
    found = identity().principal
    if found is None:
        raise Unauthorized("the call is made for no principal")
    return found


@contextmanager
def identified(caller: CallIdentity) -> Iterator[None]:
    """Sets the caller for the time of the block; for the server, and for tests of servicers."""
    # Not reset by a token: a generator may be closed in another context than it was begun in.
    before = _identity.get()
    _identity.set(caller)
    try:
        yield
    finally:
        _identity.set(before)
