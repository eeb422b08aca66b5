"""kill -9 at random moments: nothing that was promised is missing, nothing is there twice."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from services.gateway.journal.state import JournalPosition
from services.gateway.journal.wal import WriteAheadFile
from tests.integration.gateway_money.writer_process import LIMITS
from tests.unit.gateway_money.builders import usage_of

KILLS = 20


def _live_and_die(directory: Path, life: int, chance: random.Random) -> list[list[str]]:
    """One life of the worker; what it said before it was killed, word by word."""
    module = "tests.integration.gateway_money.writer_process"
    with subprocess.Popen(
        [sys.executable, "-m", module, str(directory), str(life)], stdout=subprocess.PIPE
    ) as worker:
        assert worker.stdout is not None
        while worker.stdout.readline() != b"ready\n":
            assert worker.poll() is None, "the worker did not start"
        time.sleep(chance.uniform(0.0, 0.15))
        worker.send_signal(signal.SIGKILL)
        said = worker.stdout.read().decode()
    # The last line may have been cut off with the process.
    words = [line.split() for line in said[: said.rfind("\n") + 1].splitlines()]
    return [line for line in words if line and line[0] in ("A", "R")]


def test_no_kill_loses_or_doubles_an_event_that_was_promised(tmp_path: Path) -> None:
    chance = random.Random(20261122)
    admitted: set[str] = set()
    recorded: dict[str, int] = {}
    for life in range(KILLS):
        for kind, usage_id, *cost in _live_and_die(tmp_path, life, chance):
            if kind == "A":
                admitted.add(usage_id)
            else:
                recorded[usage_id] = int(cost[0])
    wal = WriteAheadFile(tmp_path, LIMITS)
    events = usage_of(wal, JournalPosition(1, 0))
    times = Counter(event.usage_id for event in events)
    assert max(times.values()) == 1
    costs = {event.usage_id: event.cost_nanousd for event in events}
    assert len(recorded) > 50
    assert {usage_id: costs.get(usage_id) for usage_id in recorded} == recorded
    # Every admitted request of a life that is over has its one event, or is still to be ended.
    assert admitted <= costs.keys() | wal.state.admitted.keys()
    assert not costs.keys() & wal.state.admitted.keys()
    for total in wal.state.grants.values():
        spent = sum(event.cost_nanousd for event in events if event.grant_id == total.grant_id)
        assert spent == total.spent_nanousd
    wal.close(remove=False)
