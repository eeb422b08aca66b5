"""What staff did, kept in the trail of the account that the person works in.

It changes no state: the service that owns what was changed has events of its own, and this one says
which person stood behind the operator.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.accounts.domain.roles import OPERATOR, Actor
from services.common.errors import Forbidden, InvalidArgument
from services.common.ids import AccountId

ACTION_LENGTH_MAX = 64
SUBJECT_LENGTH_MAX = 200
NOTE_LENGTH_MAX = 500


@dataclass(frozen=True, slots=True)
class OperatorActed:
    account_id: AccountId
    acted_by: str
    action: str
    subject: str
    note: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class RecordOperation:
    actor: Actor
    action: str
    subject: str
    note: str
    at_ms: int


def recorded(account_id: AccountId, command: RecordOperation) -> OperatorActed:
    """The event. Raises Forbidden for anybody but an operator, InvalidArgument."""
    if not command.actor.is_operator:
        raise Forbidden("Only the operator may do this.")
    _check("action", command.action, least=1, most=ACTION_LENGTH_MAX)
    _check("subject", command.subject, least=1, most=SUBJECT_LENGTH_MAX)
    _check("note", command.note, least=0, most=NOTE_LENGTH_MAX)
    by = command.actor.user_id or OPERATOR
    return OperatorActed(
        account_id, by, command.action, command.subject, command.note, command.at_ms
    )


def _check(field: str, value: str, *, least: int, most: int) -> None:
    if not least <= len(value) <= most:
        raise InvalidArgument.of(field, f"must have {least} to {most} characters")
