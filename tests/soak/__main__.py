"""`python -m tests.soak --hours 24`: one line of JSON an hour, one with the figures at the end.

Exits 1 where memory grows by 1 MB an hour or more, or where anything is left at rest; what that is
goes to stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from pathlib import Path

import orjson

from tests.soak.gauge import Sample
from tests.soak.run import Plan, soak


def main() -> int:
    """Parses the arguments and runs once."""
    usual = Plan()
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--hours", type=int, default=usual.hours, help="simulated hours")
    parser.add_argument("--requests", type=int, default=usual.requests, help="in each hour")
    parser.add_argument("--seed", type=int, default=usual.seed, help="of the traffic")
    given = parser.parse_args()
    if given.hours < 1 or given.requests < 1:
        parser.error("--hours and --requests must be at least 1")
    # The scripted provider's server tells of every connection that it was told to break.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    plan = Plan(hours=given.hours, requests=given.requests, seed=given.seed)
    with tempfile.TemporaryDirectory() as directory:
        report = asyncio.run(soak(Path(directory), plan, each=_say))
    for fault in report.faults:
        print(f"fault: {fault}", file=sys.stderr)
    print(orjson.dumps(report.line()).decode(), flush=True)
    return 1 if report.faults else 0


def _say(sample: Sample) -> None:
    print(orjson.dumps(sample.line()).decode(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
