"""From events to what is stored of them: the state after, the records of the log, the lines of the
audit trail.

Shared by both stores, so that they cannot differ in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import orjson

from services.accounts.adapters.wire import message_from_event
from services.accounts.domain.account import Account
from services.accounts.domain.admin_key import AdminKey
from services.accounts.domain.audit import Aggregate, Event, audit_entry
from services.accounts.domain.invitation import Invitation
from services.accounts.domain.key import Key
from services.accounts.domain.session import Session
from services.accounts.domain.user import User
from services.common.events import EventRecord, record_of

StateT = TypeVar("StateT", Account, AdminKey, Invitation, Key, Session, User)
EventT = TypeVar("EventT", bound=Event)


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One row of `audit_events`."""

    event_id: str
    account_id: str
    type: str
    actor: str
    subject: str
    occurred_at_ms: int
    details_json: str


@dataclass(frozen=True, slots=True)
class Recorded(Generic[StateT]):
    """What one append comes to."""

    after: StateT
    records: tuple[EventRecord, ...]
    audit: tuple[AuditRow, ...]


def audit_row(before: Aggregate | None, event: Event, record: EventRecord) -> AuditRow:
    """The line of the trail for one recorded event."""
    entry = audit_entry(before, event)
    return AuditRow(
        event_id=record.event_id,
        account_id=record.account_id,
        type=record.type,
        actor=entry.actor,
        subject=entry.subject,
        occurred_at_ms=record.occurred_at_ms,
        details_json=orjson.dumps(entry.details).decode(),
    )


def recorded(
    before: StateT | None,
    events: Sequence[EventT],
    *,
    evolve: Callable[[StateT | None, EventT], StateT],
    account_id: str,
) -> Recorded[StateT]:
    """Folds the events over `before`. There has to be at least one."""
    assert events, "an append without events"
    state, records, audit = before, [], []
    for event in events:
        record = record_of(
            message_from_event(event),
            account_id=account_id,
            occurred_at_ms=event.at_ms,
        )
        records.append(record)
        audit.append(audit_row(state, event, record))
        state = evolve(state, event)
    assert state is not None
    assert state.version == (before.version if before else 0) + len(events)
    return Recorded(state, tuple(records), tuple(audit))
