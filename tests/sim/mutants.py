"""Production code broken on purpose, one way at a time, to see that the simulator notices.

A mutant replaces attributes of production modules while a seed runs; production has no part.
`python -m tests.sim.mutants` ends with 1 where one survives.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from tests.sim.mutations import MUTANTS
from tests.sim.runner import run_all
from tests.sim.simulation import Result, run_seed

SEEDS = 100


def hunt(name: str) -> tuple[str, Result | None]:
    """The first seed that catches the mutant; None where none of the first hundred does."""
    for seed in range(1, SEEDS + 1):
        result = run_seed(seed, MUTANTS[name]())
        if result.violation:
            return name, result
    return name, None


def main(arguments: Sequence[str] | None = None) -> int:
    """Hunts those named, or all."""
    parser = argparse.ArgumentParser(prog="tests.sim.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*MUTANTS, []], default=[])
    names = parser.parse_args(arguments).names or list(MUTANTS)
    started_s = time.monotonic()
    caught = 0
    for name, result in run_all(hunt, names):
        if result is None:
            print(f"SURVIVED  {name}")
            continue
        caught += 1
        print(f"caught    {name:<36} seed {result.seed:<3} {result.invariant}")
        print(f"          {result.violation[:160]}", file=sys.stderr)
    elapsed_s = time.monotonic() - started_s
    print(f"sim-mutants: {caught}/{len(names)} mutants caught ({elapsed_s:.0f} s)")
    return 0 if caught == len(names) else 1


if __name__ == "__main__":
    sys.exit(main())
