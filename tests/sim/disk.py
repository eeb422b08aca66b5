"""A disk in memory: what a write, a flush and a rename are worth when something dies.

A killed process loses nothing that was written. A machine that loses its power keeps what was
flushed, a prefix of the names that were changed since, and of each file's unflushed end any part,
the last bytes of which may be zeros. Files are never written out of order.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field

from services.gateway.journal.segments import DiskCalls
from tests.sim.loop import PROCESS, Process
from tests.sim.world import World


@dataclass(slots=True, eq=False)
class SimFile:
    """One file: what readers see, and what a power cut leaves for certain."""

    data: bytearray = field(default_factory=bytearray)
    flushed: bytes = b""
    # Bytes set aside for it on the disk beyond what is in it.
    allocated: int = 0
    locked_by: Process | None = None


class SimDisk:
    """One machine's directory of files."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.names: dict[str, SimFile] = {}
        self._flushed_names: dict[str, SimFile] = {}
        self._renames: list[dict[str, SimFile]] = []
        # Bytes left while somebody else fills the disk; None where there is room enough.
        self.free: int | None = None

    def changed(self) -> None:
        """The names changed; a power cut may undo it."""
        self._renames.append(dict(self.names))

    def flush_names(self) -> None:
        """The directory is flushed."""
        self._flushed_names = dict(self.names)
        self._renames.clear()

    def use(self, count: int) -> None:
        """Takes bytes of what is left. Raises OSError where there are not so many."""
        if self.free is not None:
            if self.free < count:
                raise OSError(errno.ENOSPC, "no space left")
            self.free -= count

    def certain(self) -> bytes:
        """All that a power cut leaves in any case."""
        return b"".join(file.flushed for file in self._flushed_names.values())

    def lose_power(self) -> None:
        """What is there after the machine comes back."""
        rng = self.world.rng
        kept = rng.randrange(len(self._renames) + 1)
        self.names = dict(self._renames[kept - 1] if kept else self._flushed_names)
        for file in self.names.values():
            file.data = _survivors(self.world, file)
            file.flushed = bytes(file.data)
            file.locked_by = None
        self.flush_names()


def _survivors(world: World, file: SimFile) -> bytearray:
    flushed, data = file.flushed, bytes(file.data)
    if not data.startswith(flushed):
        # Cut off and not flushed: either length may be there.
        return bytearray(world.rng.choice([flushed, data]))
    end = world.rng.randint(len(flushed), len(data))
    torn = bytearray(data[:end])
    zeros = min(world.rng.choice([0, 0, 3, 40]), end - len(flushed))
    torn[end - zeros :] = bytes(zeros)
    return torn


class SimPath:
    """As much of `pathlib.Path` as the journal uses; "" is the directory itself."""

    def __init__(self, disk: SimDisk, name: str = "") -> None:
        self.disk = disk
        self.name = name

    def __truediv__(self, name: str) -> SimPath:
        return SimPath(self.disk, name)

    def __str__(self) -> str:
        return f"wal/{self.name}"

    @property
    def stem(self) -> str:
        """The name without its last suffix."""
        return self.name.rpartition(".")[0]

    def mkdir(self, mode: int = 0o777, *, parents: bool = False, exist_ok: bool = False) -> None:
        """It is there."""

    def with_suffix(self, suffix: str) -> SimPath:
        """The name with another last suffix."""
        return SimPath(self.disk, self.stem + suffix)

    def glob(self, pattern: str) -> list[SimPath]:
        """Names that end as the pattern does."""
        ending = pattern.removeprefix("*")
        return [SimPath(self.disk, name) for name in list(self.disk.names) if name.endswith(ending)]

    def read_bytes(self) -> bytes:
        """The whole file."""
        return bytes(self.disk.names[self.name].data)

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Takes the name away."""
        self.disk.world.point("unlink")
        file = self.disk.names.pop(self.name, None)
        if file is None and not missing_ok:
            raise FileNotFoundError(self.name)
        if file is not None and self.disk.free is not None:
            self.disk.free += len(file.data) + file.allocated
        self.disk.changed()


class SimOs:
    """The calls of `os` and `fcntl` that the journal makes, on simulated disks."""

    O_RDWR, O_CREAT, O_CLOEXEC, O_RDONLY = os.O_RDWR, os.O_CREAT, os.O_CLOEXEC, os.O_RDONLY
    O_WRONLY, O_TRUNC, O_APPEND, O_DIRECTORY = os.O_WRONLY, os.O_TRUNC, os.O_APPEND, os.O_DIRECTORY
    LOCK_EX = LOCK_NB = 0

    def __init__(self, world: World) -> None:
        self._world = world
        self._open: dict[int, tuple[SimDisk, SimFile | None]] = {}
        self._next = 100

    def disk_calls(self) -> DiskCalls:
        """For `WriteAheadFile`."""
        return DiskCalls(write=self.write, sync=self.fsync, allocate=self.allocate)

    def open(self, path: SimPath, flags: int, mode: int = 0o777) -> int:
        """A descriptor."""
        PROCESS.get().check()
        self._next += 1
        if flags & os.O_DIRECTORY:
            self._open[self._next] = (path.disk, None)
            return self._next
        file = path.disk.names.get(path.name)
        if file is None:
            if not flags & os.O_CREAT:
                raise FileNotFoundError(path.name)
            file = path.disk.names[path.name] = SimFile()
            path.disk.changed()
        elif flags & os.O_TRUNC:
            file.data.clear()
        self._open[self._next] = (path.disk, file)
        return self._next

    def close(self, handle: int) -> None:
        """Forgets the descriptor."""
        _, file = self._open.pop(handle)
        if file is not None and file.locked_by is PROCESS.get():
            file.locked_by = None

    def write(self, handle: int, data: bytes) -> int:
        """write(2): all or nothing, since a kill does not cut a write to a file."""
        self._world.point("write")
        disk, file = self._open[handle]
        assert file is not None
        disk.use(len(data))
        file.data += data
        self._world.point("written")
        return len(data)

    def fsync(self, handle: int) -> None:
        """fsync(2) and fdatasync(2)."""
        self._world.point("fsync")
        disk, file = self._open[handle]
        if file is None:
            disk.flush_names()
        else:
            file.flushed = bytes(file.data)
        self._world.point("fsynced")

    def allocate(self, handle: int, offset: int, length: int) -> None:
        """posix_fallocate(3)."""
        disk, file = self._open[handle]
        assert file is not None
        disk.use(max(0, length - file.allocated))
        file.allocated = length

    def rename(self, old: SimPath, new: SimPath) -> None:
        """rename(2)."""
        self._world.point("rename")
        names = old.disk.names
        names[new.name] = names.pop(old.name)
        old.disk.changed()

    def ftruncate(self, handle: int, length: int) -> None:
        """ftruncate(2)."""
        _, file = self._open[handle]
        assert file is not None
        del file.data[length:]

    def pread(self, handle: int, length: int, offset: int) -> bytes:
        """pread(2)."""
        PROCESS.get().check()
        _, file = self._open[handle]
        assert file is not None
        return bytes(file.data[offset : offset + length])

    def flock(self, handle: int, operation: int) -> None:
        """flock(2), which ends with its process."""
        _, file = self._open[handle]
        assert file is not None
        owner = file.locked_by
        if owner is not None and owner.alive and owner is not PROCESS.get():
            raise OSError(errno.EWOULDBLOCK, "locked")
        file.locked_by = PROCESS.get()
