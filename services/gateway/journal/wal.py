"""The write-ahead file: appends records, knows what is open, reads back what is to be delivered.

Every append is one write(2) and survives the death of the process; `sync` makes what was appended
survive the machine's. The state is changed with the append, never before and never later.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from services.common.errors import Unavailable
from services.common.ids import GrantId, UsageId
from services.common.telemetry import get_logger
from services.gateway.budget.ports import GrantTotal
from services.gateway.journal.frames import (
    FrameKind,
    JournalDamaged,
    frame_at,
    frame_to_bytes,
    wanted_bytes,
)
from services.gateway.journal.limits import JournalLimits
from services.gateway.journal.segments import (
    DiskCalls,
    DiskReserve,
    Segment,
    create_segment,
    find_segments,
    lock_directory,
    open_for_append,
    replay,
    sync_directory,
    write_all,
)
from services.gateway.journal.state import (
    JournalPosition,
    JournalState,
    UsageFacts,
    position_to_bytes,
    total_to_bytes,
)

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class UsageChunk:
    """Usage records (envelopes) read in order, and where to read on."""

    envelopes: list[bytes]
    end: JournalPosition


class WriteAheadFile:
    """One worker's journal on disk. Not thread-safe, but for `sync`."""

    def __init__(
        self, directory: Path, limits: JournalLimits, disk: DiskCalls | None = None
    ) -> None:
        """Locks and replays the directory. Raises JournalLocked, JournalDamaged, OSError."""
        self._directory = directory
        self._limits = limits
        self._disk = disk or DiskCalls()
        self._lock = lock_directory(directory)
        self.state = JournalState()
        self._segments: deque[Segment] = deque(find_segments(directory))
        for place, frame in enumerate(replay(list(self._segments))):
            if place == 0 and frame.kind is not FrameKind.CHECKPOINT:
                raise JournalDamaged("the oldest segment does not begin with a checkpoint")
            self.state.apply(frame, first=place == 0)
        self._total = sum(segment.size for segment in self._segments)
        self._reserve = DiskReserve(directory, limits.reserve_bytes, self._disk)
        self._short = not self._reserve.take()
        self._tried_s = time.monotonic()
        self.failed = False
        self._syncing = threading.Lock()
        self._reader: tuple[int, int] | None = None
        self._handle = self._begin(self._segments[-1].number + 1 if self._segments else 1)

    @property
    def bytes_total(self) -> int:
        """The size of all segments."""
        return self._total

    @property
    def end(self) -> JournalPosition:
        """Where the next record goes."""
        return JournalPosition(self._segments[-1].number, self._segments[-1].size)

    @property
    def delivered(self) -> JournalPosition:
        """From where on usage records may not be in Kafka yet."""
        start = JournalPosition(self._segments[0].number, 0)
        return max(start, self.state.delivered) if self.state.delivered else start

    def admits(self) -> bool:
        """False where new requests are refused: the file or its disk is full, or has failed."""
        if self._short and time.monotonic() - self._tried_s >= self._limits.disk_retry_s:
            self._tried_s = time.monotonic()
            self._short = not self._reserve.take()
        room = self._limits.total_bytes - self._limits.reserve_bytes
        return not (self.failed or self._short) and self._total < room

    def admitted(self, usage_id: UsageId, skeleton: bytes) -> None:
        """A request is let in. Raises Unavailable where none is."""
        if not self.admits():
            raise Unavailable("this worker's journal takes no new requests", retry_after_s=1)
        assert usage_id not in self.state.admitted, f"{usage_id} was admitted already"
        self._append(FrameKind.ADMITTED, skeleton)
        self.state.admit(usage_id, skeleton)

    def usage(self, facts: UsageFacts, envelope: bytes) -> None:
        """A request ended. Raises Unavailable where it cannot be written."""
        paid = facts.cost_nanousd == 0 or facts.grant_id in self.state.grants
        assert paid, f"{facts.usage_id} costs {facts.cost_nanousd} under no open grant"
        self._append(FrameKind.USAGE, envelope)
        self.state.end(facts)

    def grant_opened(self, total: GrantTotal) -> None:
        """Billing is about to be asked. Raises Unavailable."""
        if not self.admits():
            raise Unavailable("this worker's journal takes no new grants", retry_after_s=1)
        self._append(FrameKind.GRANT_OPENED, total_to_bytes(total))
        self.state.open_grant(total)

    def grant_closed(self, grant_id: GrantId) -> None:
        """Billing has it back. A failure to write it costs one closing more at the next start."""
        with contextlib.suppress(Unavailable):
            self._append(FrameKind.GRANT_CLOSED, grant_id.encode())
            self.state.close_grant(grant_id)

    def mark_delivered(self, position: JournalPosition) -> None:
        """Everything before it is in Kafka: what lies only there is deleted."""
        self.state.delivered = position
        # Unwritten, it costs duplicates after a crash, which consumers drop.
        with contextlib.suppress(Unavailable):
            self._append(FrameKind.DELIVERED, position_to_bytes(position))
        while self._segments[0].number < position.segment:
            old = self._segments.popleft()
            old.path.unlink()
            self._total -= old.size

    def read(self, start: JournalPosition, until: JournalPosition) -> UsageChunk:
        """Up to about `read_bytes` of records between the two, the usage records among them."""
        if start >= until:
            return UsageChunk([], start)
        segment = self._segment(start.segment)
        stop = until.offset if until.segment == segment.number else segment.size
        if start.offset >= stop:
            assert segment.number < until.segment, "read past the end"
            return self.read(JournalPosition(segment.number + 1, 0), until)
        handle = self._reading(segment)
        size = min(self._limits.read_bytes, stop - start.offset)
        data = os.pread(handle, size, start.offset)
        wanted = wanted_bytes(data, 0)
        if wanted > len(data):
            data = os.pread(handle, wanted, start.offset)
        offset = 0
        envelopes = []
        while (frame := frame_at(data, offset)) is not None:
            offset = frame.next_offset
            if frame.kind is FrameKind.USAGE:
                envelopes.append(frame.payload)
        if offset == 0:
            raise JournalDamaged(f"{segment.path.name}: a bad record at byte {start.offset}")
        return UsageChunk(envelopes, JournalPosition(segment.number, start.offset + offset))

    def sync(self) -> None:
        """Makes everything appended before the call durable; for a thread of its own.

        Raises OSError. What a failed flush has lost cannot be known, so the file takes no more.
        """
        with self._syncing:
            try:
                self._disk.sync(self._handle)
            except OSError:
                self.failed = True
                raise

    def close(self, *, remove: bool) -> None:
        """Lets the directory go.

        `remove` says that all is delivered: where nothing is open either, the segments go too.
        """
        if remove and self.state.empty:
            for segment in self._segments:
                segment.path.unlink()
            self._reserve.give_up()
            sync_directory(self._directory)
        if self._reader is not None:
            os.close(self._reader[1])
        os.close(self._handle)
        os.close(self._lock)

    def _append(self, kind: FrameKind, payload: bytes) -> None:
        data = frame_to_bytes(kind, payload)
        if self.failed or self._total + len(data) > self._limits.total_bytes:
            raise Unavailable("this worker's journal is full or has failed", retry_after_s=1)
        try:
            if self._finished(len(data)):
                self._rotate()
            self._write(data)
        except OSError as error:
            _log.error("journal_write_failed", error=str(error))
            self._short = True
            # Only what ends or closes something may use what was kept back for it.
            opening = kind in (FrameKind.ADMITTED, FrameKind.GRANT_OPENED)
            if opening or not self._reserve.give_up():
                raise Unavailable("this worker's disk is full", retry_after_s=1) from error
            try:
                self._write(data)
            except OSError as again:
                raise Unavailable("this worker's disk is full", retry_after_s=1) from again

    def _finished(self, more: int) -> bool:
        """True where the segment is long enough, and a checkpoint does not eat into the reserve."""
        segment = self._segments[-1]
        room = self._limits.total_bytes - self._limits.reserve_bytes
        return (
            segment.size - segment.checkpoint + more > self._limits.segment_bytes
            and self._total < room
        )

    def _write(self, data: bytes) -> None:
        segment = self._segments[-1]
        try:
            write_all(self._handle, data, self._disk)
        except OSError:
            # A part may be there; nothing may ever follow it.
            try:
                os.ftruncate(self._handle, segment.size)
            except OSError:
                self.failed = True
            raise
        segment.size += len(data)
        self._total += len(data)

    def _rotate(self) -> None:
        """Finishes the segment and begins the next; goes on in the old one where it cannot."""
        old = self._handle
        try:
            self._disk.sync(old)
        except OSError:
            self.failed = True
            raise
        try:
            self._handle = self._begin(self._segments[-1].number + 1)
        except OSError as error:
            _log.error("journal_rotation_failed", error=str(error))
            self._short = True
            return
        with self._syncing:
            os.close(old)

    def _begin(self, number: int) -> int:
        first = frame_to_bytes(FrameKind.CHECKPOINT, self.state.checkpoint())
        segment = create_segment(self._directory, number, first, disk=self._disk)
        handle = open_for_append(segment)
        self._segments.append(segment)
        self._total += segment.size
        return handle

    def _segment(self, number: int) -> Segment:
        return self._segments[number - self._segments[0].number]

    def _reading(self, segment: Segment) -> int:
        if self._reader is not None and self._reader[0] == segment.number:
            return self._reader[1]
        if self._reader is not None:
            os.close(self._reader[1])
        handle = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
        self._reader = (segment.number, handle)
        return handle
