"""Many seeds on all cores, in the order of their numbers."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tests.sim.simulation import Result

Job = TypeVar("Job")
Done = TypeVar("Done")


def run_all(work: Callable[[Job], Done], jobs: Iterable[Job]) -> Iterator[Done]:
    """The results, in order; each job in one of as many processes as there are cores."""
    processes = min(4, os.cpu_count() or 1)
    if processes == 1:
        prepare()
        yield from map(work, jobs)
        return
    with multiprocessing.get_context("fork").Pool(processes, prepare) as pool:
        yield from pool.imap(work, jobs)


def prepare() -> None:
    """Collecting is done between seeds; what was imported is no garbage."""
    gc.collect()
    gc.freeze()
    gc.disable()


def print_failure(result: Result) -> None:
    """Seed, step and trace, to standard error."""
    lines = [
        f"seed {result.seed} at step {result.steps}: {result.violation}",
        *result.trace,
        f"again: make sim SEED={result.seed}",
    ]
    print("\n".join(lines), file=sys.stderr)
