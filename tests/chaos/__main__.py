"""`python -m tests.chaos --kills 200 --seed 7`: prints one line of figures; exits 1 on a violation.

What was violated goes to stderr, with where the data and the logs of the run are.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys

from tests.chaos.run import ChaosRun


async def main() -> int:
    """Parses the arguments and runs once."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=40, help="processes to kill")
    parser.add_argument("--seed", type=int, help="of victims, moments and load; default: any")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.randrange(1_000_000)
    run = ChaosRun(arguments.kills, seed)
    print(f"chaos seed={seed} kills={arguments.kills} in {run.folder}", file=sys.stderr, flush=True)
    report = await run.run()
    for violation in report.violations:
        print(f"violated: {violation}", file=sys.stderr)
    if report.violations:
        print(f"data and logs: {run.folder}", file=sys.stderr)
    print(report.line)
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
