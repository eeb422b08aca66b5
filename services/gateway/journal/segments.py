"""The files of the journal: a locked directory of numbered segments, each begun by a checkpoint.

Here is what is durable and what is where; `wal.py` knows what the records mean. A segment comes
into being whole - written aside, flushed, renamed - so that its first record is always there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from services.common.telemetry import get_logger
from services.gateway.journal.frames import Frame, JournalDamaged, frames_in, good_bytes

_log = get_logger(__name__)
_SUFFIX = ".wal"
_RESERVE = "reserve"


class JournalLocked(Exception):
    """Another worker has this directory: two must never share one."""


@dataclass(frozen=True, slots=True)
class DiskCalls:
    """The calls that can fail for want of a disk."""

    write: Callable[[int, bytes], int] = os.write
    sync: Callable[[int], None] = os.fdatasync
    allocate: Callable[[int, int, int], None] = field(default=os.posix_fallocate)


@dataclass(slots=True)
class Segment:
    """One file: its number, how many sound bytes it has, how many of them its checkpoint takes."""

    number: int
    path: Path
    size: int = 0
    checkpoint: int = 0


def lock_directory(directory: Path) -> int:
    """The descriptor that holds the lock; it ends with the process. Raises JournalLocked."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise JournalLocked(f"{directory} belongs to another worker that is running") from error
    return lock


def find_segments(directory: Path) -> list[Segment]:
    """The segments, oldest first. Raises JournalDamaged where one in between is missing."""
    for unfinished in directory.glob(f"*{_SUFFIX}.new"):
        unfinished.unlink()
    segments = sorted(
        (Segment(int(path.stem), path) for path in directory.glob(f"*{_SUFFIX}")),
        key=lambda segment: segment.number,
    )
    for place, segment in enumerate(segments):
        if segment.number != segments[0].number + place:
            raise JournalDamaged(f"{directory}: no segment before {segment.path.name}")
    return segments


def replay(segments: list[Segment]) -> Iterator[Frame]:
    """Every record, oldest first; sets the sizes and cuts a torn end off the last segment.

    The last segment is flushed too: a process that was killed may have left it in memory alone, and
    once another follows it, it counts as finished and may not lose its end any more.
    """
    for segment in segments:
        data = segment.path.read_bytes()
        last = segment is segments[-1]
        segment.size = good_bytes(data, name=segment.path.name, last=last)
        if segment.size == 0:
            raise JournalDamaged(f"{segment.path.name} does not begin with a checkpoint")
        if segment.size < len(data):
            _log.warning(
                "journal_torn_end", segment=segment.path.name, bytes=len(data) - segment.size
            )
        if last:
            _finish(segment)
        yield from frames_in(data[: segment.size])


def create_segment(directory: Path, number: int, first: bytes, *, disk: DiskCalls) -> Segment:
    """A new segment with this first record, on disk. Raises OSError."""
    path = directory / f"{number:012d}{_SUFFIX}"
    aside = path.with_suffix(f"{_SUFFIX}.new")
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_all(handle, first, disk)
        os.fsync(handle)
        os.rename(aside, path)
    except OSError:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise
    finally:
        os.close(handle)
    sync_directory(directory)
    return Segment(number, path, len(first), len(first))


def open_for_append(segment: Segment) -> int:
    """A descriptor whose writes go to the end."""
    return os.open(segment.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)


def write_all(handle: int, data: bytes, disk: DiskCalls) -> None:
    """Writes everything, mostly in one call. Raises OSError; a part may have been written then."""
    written = disk.write(handle, data)
    while written < len(data):
        more = disk.write(handle, data[written:])
        if more <= 0:
            raise OSError("nothing more could be written")
        written += more


def sync_directory(directory: Path) -> None:
    """Makes the names in a directory durable."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _finish(segment: Segment) -> None:
    """Cuts the file at its sound end and makes it durable."""
    handle = os.open(segment.path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.ftruncate(handle, segment.size)
        os.fsync(handle)
    finally:
        os.close(handle)


class DiskReserve:
    """Blocks kept back on the disk, given up when it is full, so that what was admitted can end."""

    def __init__(self, directory: Path, size: int, disk: DiskCalls) -> None:
        self._path = directory / _RESERVE
        self._size = size
        self._disk = disk
        self.held = False

    def take(self) -> bool:
        """Has the blocks set aside; False where the disk has not that much."""
        if self.held or self._size == 0:
            return True
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._disk.allocate(handle, 0, self._size)
        except OSError:
            self._path.unlink(missing_ok=True)
        else:
            self.held = True
        finally:
            os.close(handle)
        return self.held

    def give_up(self) -> bool:
        """Frees the blocks; False where there were none."""
        if not self.held:
            return False
        self._path.unlink(missing_ok=True)
        self.held = False
        return True
