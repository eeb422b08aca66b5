"""The write-ahead file: what a restart finds, what a full disk does, what is trimmed."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.common.errors import Unavailable
from services.common.events import record_of
from services.common.ids import GrantId, UsageId
from services.gateway.journal.frames import JournalDamaged
from services.gateway.journal.limits import JournalLimits
from services.gateway.journal.segments import DiskCalls, JournalLocked
from services.gateway.journal.state import JournalPosition, facts_of
from services.gateway.journal.wal import WriteAheadFile
from tests.unit.gateway_money.builders import (
    SMALL,
    event,
    ids_of,
    open_wal,
    total,
    usage_of,
)

NO_LIMIT = JournalLimits(reserve_bytes=0)


def _usage(wal: WriteAheadFile, name: str | int, cost: int = 0, grant_id: str = "") -> None:
    ended = event(name, cost, grant_id)
    envelope = record_of(ended, account_id=ended.account_id, occurred_at_ms=1).to_bytes()
    wal.usage(facts_of(ended), envelope)


def _admit(wal: WriteAheadFile, name: str | int) -> None:
    wal.admitted(UsageId(f"use_{name}"), event(name).SerializeToString())


def _fill(wal: WriteAheadFile, records: int = 60) -> None:
    """Grants, requests that ended, requests that did not, over several segments."""
    wal.grant_opened(total("gr_1"))
    wal.grant_opened(total("gr_2"))
    for number in range(records):
        _admit(wal, number)
        if number % 7:
            _usage(wal, number, number, "gr_1")
    wal.grant_closed(GrantId("gr_2"))


def test_a_restart_finds_what_was_open(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    _fill(wal)
    state = wal.state
    assert wal.end.segment >= 3
    wal.close(remove=False)
    again = open_wal(tmp_path)
    assert again.state.admitted == state.admitted
    assert [*again.state.admitted] == [f"use_{number}" for number in range(0, 60, 7)]
    spent = sum(number for number in range(60) if number % 7)
    assert list(again.state.grants.values()) == [total("gr_1", spent)]
    assert ids_of(usage_of(again)) == [f"use_{number}" for number in range(60) if number % 7]


def test_what_a_killed_process_left_is_flushed_before_another_segment_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wal = open_wal(tmp_path)
    _admit(wal, 1)
    wal.close(remove=False)
    (left,) = tmp_path.glob("*.wal")
    flushed: list[int] = []
    fsync = os.fsync

    def watched(handle: int) -> None:
        flushed.append(os.fstat(handle).st_ino)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    again = open_wal(tmp_path)
    assert flushed[0] == left.stat().st_ino
    again.close(remove=False)


def test_every_cut_of_the_last_segment_replays_to_a_prefix(tmp_path: Path) -> None:
    wal = open_wal(tmp_path / "whole", JournalLimits(reserve_bytes=0))
    begun = wal.end.offset
    _fill(wal, 4)
    wal.close(remove=False)
    data = (tmp_path / "whole" / "000000000001.wal").read_bytes()
    ended = [f"use_{number}" for number in range(4) if number % 7]
    seen = set()
    for cut in range(begun, len(data) + 1):
        directory = tmp_path / str(cut)
        directory.mkdir()
        (directory / "000000000001.wal").write_bytes(data[:cut])
        torn = WriteAheadFile(directory, NO_LIMIT)
        found = ids_of(usage_of(torn))
        assert found == ended[: len(found)]
        assert all(usage_id not in torn.state.admitted for usage_id in found)
        spent = sum(int(usage_id[4:]) for usage_id in found)
        grant = torn.state.grants.get(GrantId("gr_1"))
        assert (grant.spent_nanousd if grant else 0) == spent
        torn.close(remove=False)
        again = WriteAheadFile(directory, NO_LIMIT)
        assert ids_of(usage_of(again)) == found
        again.close(remove=False)
        seen.add(len(found))
    assert seen == set(range(len(ended) + 1))


def test_a_flipped_bit_in_the_middle_stops_the_start(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    _fill(wal)
    wal.close(remove=False)
    first = tmp_path / "000000000001.wal"
    data = bytearray(first.read_bytes())
    data[len(data) // 2] ^= 4
    first.write_bytes(data)
    with pytest.raises(JournalDamaged):
        open_wal(tmp_path)


def test_a_missing_segment_stops_the_start(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    _fill(wal)
    wal.close(remove=False)
    (tmp_path / "000000000002.wal").unlink()
    with pytest.raises(JournalDamaged, match="no segment before"):
        open_wal(tmp_path)


def test_two_workers_cannot_share_a_directory(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    with pytest.raises(JournalLocked):
        open_wal(tmp_path)
    wal.close(remove=True)
    open_wal(tmp_path).close(remove=True)


def test_what_is_delivered_is_trimmed_and_open_things_are_carried_over(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    _fill(wal, 200)
    before = wal.bytes_total
    wal.mark_delivered(wal.end)
    assert wal.bytes_total < before / 3
    assert len(list(tmp_path.glob("*.wal"))) <= 2
    wal.close(remove=False)
    again = open_wal(tmp_path)
    assert again.state.admitted == wal.state.admitted
    assert again.state.grants == wal.state.grants
    assert usage_of(again) == []


def test_what_was_delivered_before_a_crash_is_not_read_again(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    for number in range(5):
        _usage(wal, number)
    wal.mark_delivered(wal.end)
    _usage(wal, 5)
    wal.close(remove=False)
    assert ids_of(usage_of(open_wal(tmp_path))) == ["use_5"]


def test_reading_goes_in_pieces_and_over_large_records(tmp_path: Path) -> None:
    limits = JournalLimits(reserve_bytes=0, read_bytes=100)
    wal = WriteAheadFile(tmp_path, limits)
    for number in range(10):
        ended = event(number)
        ended.tags["x"] = "y" * 50 * number
        envelope = record_of(ended, account_id="a", occurred_at_ms=1).to_bytes()
        wal.usage(facts_of(ended), envelope)
    assert ids_of(usage_of(wal)) == [f"use_{number}" for number in range(10)]


def test_an_empty_journal_leaves_no_segment_behind(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    _admit(wal, 1)
    _usage(wal, 1)
    wal.mark_delivered(wal.end)
    wal.close(remove=True)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_journal_with_something_open_stays(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    wal.grant_opened(total("gr_1"))
    wal.close(remove=True)
    assert list(open_wal(tmp_path).state.grants) == ["gr_1"]


def test_a_full_journal_refuses_new_requests_and_still_ends_old_ones(tmp_path: Path) -> None:
    limits = JournalLimits(total_bytes=60_000, reserve_bytes=20_000, segment_bytes=10_000)
    wal = WriteAheadFile(tmp_path, limits)
    number = 0
    while wal.admits():
        _admit(wal, number)
        number += 1
    with pytest.raises(Unavailable):
        _admit(wal, "more")
    with pytest.raises(Unavailable):
        wal.grant_opened(total("gr_1"))
    for ended in range(0, number, 10):
        _usage(wal, ended)
    assert wal.bytes_total <= limits.total_bytes
    wal.mark_delivered(wal.end)
    _admit(wal, "later")


def test_the_size_never_passes_its_bound(tmp_path: Path) -> None:
    limits = JournalLimits(total_bytes=30_000, reserve_bytes=10_000, segment_bytes=5_000)
    wal = WriteAheadFile(tmp_path, limits)
    with pytest.raises(Unavailable):
        _many(wal, 10_000)
    assert sum(path.stat().st_size for path in tmp_path.glob("*.wal")) <= 30_000
    assert len(usage_of(wal)) > 50


def _many(wal: WriteAheadFile, records: int) -> None:
    for number in range(records):
        _usage(wal, number)


@dataclass
class Disk:
    """A disk of so many bytes: what does not fit is written in part, then refused."""

    room: int
    broken: bool = False

    def write(self, handle: int, data: bytes) -> int:
        if self.room <= 0:
            raise OSError(errno.ENOSPC, "no space left")
        written = os.write(handle, data[: self.room])
        self.room -= written
        return written

    def sync(self, handle: int) -> None:
        if self.broken:
            raise OSError(errno.EIO, "input/output error")
        os.fdatasync(handle)

    def calls(self) -> DiskCalls:
        return DiskCalls(self.write, self.sync, lambda _handle, _start, _size: None)


def test_a_full_disk_refuses_new_requests_and_leaves_no_half_record(tmp_path: Path) -> None:
    disk = Disk(room=1_000_000)
    wal = WriteAheadFile(tmp_path, SMALL, disk.calls())
    _admit(wal, 1)
    disk.room = 30
    with pytest.raises(Unavailable):
        _admit(wal, 2)
    assert not wal.admits()
    disk.room = 1_000_000
    _usage(wal, 1)
    wal.close(remove=False)
    again = open_wal(tmp_path)
    assert ids_of(usage_of(again)) == ["use_1"]
    assert again.state.admitted == {}


def test_the_reserve_on_the_disk_is_given_up_for_a_request_that_ends(tmp_path: Path) -> None:
    disk = Disk(room=1_000_000)
    wal = WriteAheadFile(tmp_path, SMALL, disk.calls())
    _admit(wal, 1)
    reserve = tmp_path / "reserve"
    assert reserve.exists()
    disk.room = 30
    real = disk.write

    def write(handle: int, data: bytes) -> int:
        if not reserve.exists():
            disk.room = 10_000
        return real(handle, data)

    wal._disk = DiskCalls(write, disk.sync, os.posix_fallocate)
    _usage(wal, 1)
    assert not reserve.exists()
    assert not wal.admits()
    assert ids_of(usage_of(wal)) == ["use_1"]


def test_after_a_failed_flush_nothing_more_is_taken(tmp_path: Path) -> None:
    disk = Disk(room=1_000_000)
    wal = WriteAheadFile(tmp_path, SMALL, disk.calls())
    _admit(wal, 1)
    disk.broken = True
    with pytest.raises(OSError, match="input/output"):
        wal.sync()
    disk.broken = False
    with pytest.raises(Unavailable):
        _usage(wal, 1)


def test_a_cost_under_a_grant_that_is_not_open_is_a_defect(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    with pytest.raises(AssertionError, match="no open grant"):
        _usage(wal, 1, 5, "gr_unknown")
    assert usage_of(wal, JournalPosition(1, 0)) == []
