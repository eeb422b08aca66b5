"""The journal as the request path and the budget see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from services.common.clock import Clock
from services.common.errors import Unavailable
from services.common.events import record_of
from services.common.ids import EventId, GrantId, UsageId, WorkerId
from services.common.pb.mesh.events.v1.usage_pb2 import (
    REQUEST_OUTCOME_CRASHED,
    USAGE_BASIS_NONE,
    UsageRecorded,
)
from services.gateway.budget.ports import GrantTotal
from services.gateway.journal.flusher import Flusher
from services.gateway.journal.state import facts_of
from services.gateway.journal.wal import WriteAheadFile
from services.gateway.money_metrics import JOURNAL_FAILURES
from services.gateway.ports import AdmittedRecord, Hold

# Well below what the producer takes in one message.
EVENT_BYTES_MAX = 500_000


class JournalGrantLog:
    """The budget's `GrantLog`."""

    def __init__(self, wal: WriteAheadFile, flusher: Flusher) -> None:
        self._wal = wal
        self._flusher = flusher

    def grant_opened(self, total: GrantTotal) -> None:
        """See `GrantLog`."""
        self._wal.grant_opened(total)

    async def sync(self) -> None:
        """See `GrantLog`."""
        await self._flusher.durable()

    def grant_closed(self, grant_id: GrantId) -> None:
        """See `GrantLog`."""
        self._wal.grant_closed(grant_id)

    def spent_nanousd(self, grant_id: GrantId) -> int:
        """See `GrantLog`."""
        return self._wal.state.grants[grant_id].spent_nanousd


class FileJournal:
    """The `UsageJournal`: one event for every request."""

    def __init__(
        self,
        wal: WriteAheadFile,
        flusher: Flusher,
        *,
        settle: Callable[[Hold, int], None],
        worker_id: WorkerId,
        clock: Clock,
    ) -> None:
        self._wal = wal
        self._flusher = flusher
        self._settle = settle
        self._worker_id = worker_id
        self._clock = clock
        # Requests whose events could not be written: they end as crashed once the disk is back.
        self._owed: set[UsageId] = set()

    def admitted(self, record: AdmittedRecord) -> None:
        """See `ports.UsageJournal.admitted`."""
        event = crashed_event(record, self._worker_id)
        self._wal.admitted(record.usage_id, event.SerializeToString())
        if self._owed:
            self._write_owed()

    async def record(self, event: UsageRecorded, hold: Hold | None) -> None:
        """See `ports.UsageJournal.record`. Between the write and the settling nothing may wait."""
        event.worker_id = self._worker_id
        if hold is not None:
            assert hold.usage_id == event.usage_id, f"{event.usage_id}: not its hold"
            event.grant_id = hold.grant_id
            event.held_nanousd = hold.amount_nanousd
        try:
            self.write(event)
        except Unavailable:
            JOURNAL_FAILURES.inc()
            self._owed.add(UsageId(event.usage_id))
            if hold is not None:
                self._settle(hold, 0)
            raise
        if hold is not None:
            self._settle(hold, event.cost_nanousd)
        await self._flusher.durable()

    def write(self, event: UsageRecorded) -> None:
        """Appends the event; its envelope's id comes from the usage id, so a repetition shows."""
        record = record_of(
            event,
            account_id=event.account_id,
            occurred_at_ms=self._clock.now_ms(),
            event_id=event_id_of(UsageId(event.usage_id)),
        )
        if len(record.payload) > EVENT_BYTES_MAX:
            _shorten(event)
            record = replace(record, payload=event.SerializeToString())
        self._wal.usage(facts_of(event), record.to_bytes())

    async def record_crashed(self) -> int:
        """Ends every request that an earlier life of this worker left open; how many."""
        skeletons = list(self._wal.state.admitted.values())
        for skeleton in skeletons:
            self.write(UsageRecorded.FromString(skeleton))
        if skeletons:
            await self._flusher.durable()
        return len(skeletons)

    def _write_owed(self) -> None:
        for usage_id in list(self._owed):
            skeleton = self._wal.state.admitted.get(usage_id)
            if skeleton is not None:
                try:
                    self.write(UsageRecorded.FromString(skeleton))
                except Unavailable:
                    return
            self._owed.discard(usage_id)


def _shorten(event: UsageRecorded) -> None:
    """Drops what nobody is billed by, so that the log never refuses an event for its size."""
    for name in ("tags", "attempts", "session_id", "end_user_id", "trace_id"):
        event.ClearField(name)


def event_id_of(usage_id: UsageId) -> EventId:
    """The id of the one event of a request."""
    return EventId(f"evt_{usage_id.rpartition('_')[2]}")


def crashed_event(record: AdmittedRecord, worker_id: WorkerId) -> UsageRecorded:
    """The event of a request of which no more is known than that it was let in. Never billed."""
    return UsageRecorded(
        usage_id=record.usage_id,
        request_id=record.request_id,
        account_id=record.account_id,
        key_id=record.key_id,
        user_id=record.user_id,
        trace_id=record.trace_id,
        worker_id=worker_id,
        route=record.route,
        requested_model=record.requested_model,
        model_id=record.model_id,
        stream=record.stream,
        outcome=REQUEST_OUTCOME_CRASHED,
        error_code="worker_crashed",
        failure_stage="settlement",
        received_at_ms=record.received_at_ms,
        admitted_at_ms=record.admitted_at_ms,
        usage_basis=USAGE_BASIS_NONE,
        grant_id=record.grant_id,
        held_nanousd=record.held_nanousd,
        session_id=record.session_id,
        # Filling a map takes longer than all the rest, even with nothing.
        tags=record.tags or None,
        end_user_id=record.end_user_id,
    )
