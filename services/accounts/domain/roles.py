"""Roles and who acts: an ordered scale of four roles, and the person or operator behind a
command.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from services.common.ids import UserId

OPERATOR = "operator"


class Role(IntEnum):
    """What a member may do; a greater number includes the smaller. Numbers as in
    `mesh.common.v1.Role`.
    """

    VIEWER = 1
    DEVELOPER = 2
    ADMIN = 3
    OWNER = 4


@dataclass(frozen=True, slots=True)
class Actor:
    """Who gives a command. The operator of the installation has no user id and passes role
    checks.
    """

    user_id: UserId
    is_operator: bool = False
    # The admin key that the person acts through; empty for the person themselves.
    admin_key_id: str = ""

    @property
    def name(self) -> str:
        """What the audit trail shows: the user's id, or `operator`."""
        return OPERATOR if self.is_operator else self.user_id
