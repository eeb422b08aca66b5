"""What the journal says is still open: a fold over its records, kept up, rebuilt at start.

Open are requests that were admitted and have not ended, and grants that were not closed, each with
the sum of the costs of the events written under it. A checkpoint is this state as frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from services.common.events import EventRecord
from services.common.ids import AccountId, GrantId, KeyId, UsageId, WorkerId
from services.common.pb.mesh.events.v1.usage_pb2 import UsageRecorded
from services.gateway.budget.ports import GrantTotal
from services.gateway.journal.frames import (
    Frame,
    FrameKind,
    JournalDamaged,
    frame_to_bytes,
    frames_in,
)


@dataclass(frozen=True, slots=True, order=True)
class JournalPosition:
    """A place in the journal: before the byte `offset` of the segment `segment`."""

    segment: int
    offset: int


@dataclass(frozen=True, slots=True)
class UsageFacts:
    """What of a usage event changes the state."""

    usage_id: UsageId
    grant_id: GrantId
    cost_nanousd: int


def facts_of(event: UsageRecorded) -> UsageFacts:
    """The facts of an event."""
    return UsageFacts(UsageId(event.usage_id), GrantId(event.grant_id), event.cost_nanousd)


class JournalState:
    """The fold. Every method is one record."""

    def __init__(self) -> None:
        self.admitted: dict[UsageId, bytes] = {}
        self.grants: dict[GrantId, GrantTotal] = {}
        # None until something was delivered.
        self.delivered: JournalPosition | None = None

    def admit(self, usage_id: UsageId, skeleton: bytes) -> None:
        """A request was let in."""
        if usage_id in self.admitted:
            raise JournalDamaged(f"{usage_id} was admitted twice")
        self.admitted[usage_id] = skeleton

    def end(self, facts: UsageFacts) -> None:
        """A request ended; its cost counts under its grant."""
        self.admitted.pop(facts.usage_id, None)
        if facts.cost_nanousd == 0:
            return
        total = self.grants.get(facts.grant_id)
        if total is None:
            raise JournalDamaged(f"{facts.usage_id} cost {facts.cost_nanousd} under no open grant")
        spent = total.spent_nanousd + facts.cost_nanousd
        # Written out, as `replace` takes its time and every request comes by here.
        self.grants[facts.grant_id] = GrantTotal(
            total.grant_id, total.worker_id, total.account_id, total.key_id, spent
        )

    def oldest_admitted_ms(self) -> int | None:
        """When the request was let in that has waited longest for its end; None: all have ended."""
        skeleton = next(iter(self.admitted.values()), None)
        return None if skeleton is None else UsageRecorded.FromString(skeleton).admitted_at_ms

    def open_grant(self, total: GrantTotal) -> None:
        """Billing is being asked for a grant, or a checkpoint says that it has lent one."""
        if total.grant_id in self.grants:
            raise JournalDamaged(f"{total.grant_id} was opened twice")
        self.grants[total.grant_id] = total

    def close_grant(self, grant_id: GrantId) -> None:
        """Billing has it back."""
        self.grants.pop(grant_id, None)

    @property
    def empty(self) -> bool:
        """True where nothing is open."""
        return not self.admitted and not self.grants

    def checkpoint(self) -> bytes:
        """The payload of a CHECKPOINT: this state, what was delivered apart."""
        frames = [
            frame_to_bytes(FrameKind.GRANT_OPENED, total_to_bytes(total))
            for total in self.grants.values()
        ]
        frames += [
            frame_to_bytes(FrameKind.ADMITTED, skeleton) for skeleton in self.admitted.values()
        ]
        return b"".join(frames)

    def apply(self, frame: Frame, *, first: bool) -> None:
        """Replays one record; `first` says that nothing came before it."""
        match frame.kind:
            case FrameKind.CHECKPOINT:
                self._meet(frame.payload, first=first)
            case FrameKind.ADMITTED:
                self.admit(_usage_id(frame.payload), frame.payload)
            case FrameKind.USAGE:
                self.end(facts_of(event_from_envelope(frame.payload)))
            case FrameKind.GRANT_OPENED:
                self.open_grant(total_from_bytes(frame.payload))
            case FrameKind.GRANT_CLOSED:
                self.close_grant(GrantId(frame.payload.decode()))
            case FrameKind.DELIVERED:
                self.delivered = position_from_bytes(frame.payload)

    def _meet(self, payload: bytes, *, first: bool) -> None:
        """A checkpoint is where a replay begins; any later one must say what the replay says."""
        if first:
            for frame in frames_in(payload):
                self.apply(frame, first=False)
        elif payload != self.checkpoint():
            raise JournalDamaged("a checkpoint is not what the records before it come to")


def event_from_envelope(raw: bytes) -> UsageRecorded:
    """The event in a USAGE record."""
    event = EventRecord.from_bytes(raw).message()
    if not isinstance(event, UsageRecorded):
        raise JournalDamaged(f"a usage record with a {type(event).__name__}")
    return event


def total_to_bytes(total: GrantTotal) -> bytes:
    """The payload of GRANT_OPENED."""
    return orjson.dumps(total)


def total_from_bytes(payload: bytes) -> GrantTotal:
    """The grant of a GRANT_OPENED record."""
    fields = orjson.loads(payload)
    return GrantTotal(
        GrantId(fields["grant_id"]),
        WorkerId(fields["worker_id"]),
        AccountId(fields["account_id"]),
        KeyId(fields["key_id"]),
        int(fields["spent_nanousd"]),
    )


def position_to_bytes(position: JournalPosition) -> bytes:
    """The payload of DELIVERED."""
    return orjson.dumps(position)


def position_from_bytes(payload: bytes) -> JournalPosition:
    """The position of a DELIVERED record."""
    fields = orjson.loads(payload)
    return JournalPosition(int(fields["segment"]), int(fields["offset"]))


def _usage_id(skeleton: bytes) -> UsageId:
    return UsageId(UsageRecorded.FromString(skeleton).usage_id)
