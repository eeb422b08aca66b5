"""Who is staff: people whose addresses the installation names, and nobody by any role.

For everybody else the operators' routes are not there. For staff the calls are made as the
operator, which the owning services demand; each change is first noted in accounts, under the
person's name, and is not asked for where that cannot be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends

from services.common.errors import Forbidden, NotFound
from services.common.pb.mesh.accounts.v1 import accounts_pb2
from services.common.security.tokens import Principal
from services.dashboard.api.session import BackendsDep, Session, SessionDep, SettingsDep
from services.dashboard.config import DashboardSettings
from services.dashboard.ports import Backends

NOTE_LENGTH_MAX = 500


def is_staff(session: Session, known: DashboardSettings) -> bool:
    """True where the person's address is one of the staff's."""
    return session.principal.email in known.staff


@dataclass(frozen=True, slots=True)
class Operator:
    """A person of the staff, and the services that do what they ask."""

    session: Session
    backends: Backends

    def acting(self, account_id: str = "") -> Principal:
        """The operator, for this account or for none; by which person stands beside it."""
        return Principal(
            kind="operator", account_id=account_id, user_id=self.session.principal.user_id
        )

    async def note(self, action: str, subject: str, note: str = "") -> None:
        """Writes down what the person is about to change. Raises what accounts raises."""
        request = accounts_pb2.RecordOperationRequest(
            action=action, subject=subject, note=note[:NOTE_LENGTH_MAX]
        )
        own = self.acting(self.session.principal.account_id)
        await self.backends.accounts_channel.call(
            self.backends.accounts.RecordOperation, request, principal=own
        )


async def operator(session: SessionDep, found: BackendsDep, known: SettingsDep) -> Operator:
    """The person of the staff that asks; NotFound for anybody else."""
    if not is_staff(session, known):
        raise NotFound("no such route")
    return Operator(session, found)


OperatorDep = Annotated[Operator, Depends(operator)]


def refuse_staff_address(email: str, known: DashboardSettings) -> None:
    """Forbidden for an address of the staff: whoever came first would otherwise be staff.

    Broader than the comparison of `is_staff`: what accounts may take for the same domain counts.
    """
    if known.staff and folded(email) in {folded(one) for one in known.staff} | {None}:
        raise Forbidden(
            "This address is kept for the staff: its user is made by `mesh admin accounts create`."
        )


def folded(email: str) -> str | None:
    """The address with its domain as the net has it; None where it has no such form."""
    name, _, domain = email.strip().lower().rpartition("@")
    try:
        return f"{name}@{domain.encode('idna').decode().lower()}"
    except UnicodeError:
        # Accounts says what is wrong with one that is plain; any other may be read in several ways.
        return None if not domain.isascii() else f"{name}@{domain}"
