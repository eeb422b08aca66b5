"""`make sim`: seeds, then one line of figures; 1 where a seed violates an invariant."""

from __future__ import annotations

import argparse
import sys
import time

from tests.sim.runner import print_failure, run_all
from tests.sim.simulation import run_seed


def main() -> int:
    """Runs the seeds that the command line names."""
    parser = argparse.ArgumentParser(prog="tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--first", type=int, default=1, help="from this one on")
    parser.add_argument("--seed", type=int, help="this one alone")
    arguments = parser.parse_args()
    first = arguments.first
    alone = arguments.seed is not None
    seeds = [arguments.seed] if alone else range(first, first + arguments.seeds)
    started_s = time.monotonic()
    steps = requests = crashes = violations = 0
    for result in run_all(run_seed, seeds):
        steps += result.steps
        requests += result.requests
        crashes += result.crashes
        if result.violation:
            violations += 1
            print_failure(result)
    elapsed_s = time.monotonic() - started_s
    print(
        f"sim: {len(seeds)} seeds, {steps} steps, {requests} requests, {crashes} crashes,"
        f" {violations} violations ({elapsed_s:.0f} s, {len(seeds) / elapsed_s:.1f} seeds/s)"
    )
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
