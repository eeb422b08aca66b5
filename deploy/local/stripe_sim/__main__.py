"""`python -m deploy.local.stripe_sim`: the simulator on loopback until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
from pathlib import Path

from aiohttp import web

from deploy.local.stripe_sim.app import make_app, system_now_ms
from deploy.local.stripe_sim.faults import FaultPlan
from deploy.local.stripe_sim.world import World

SECRET = "MESH_BILLING_STRIPE_WEBHOOK_SECRET"  # noqa: S105 - the name of the variable


def load(world: World, state: Path | None) -> None:
    """Takes over what an earlier life kept."""
    if state is not None and state.is_file():
        world.load(state.read_text("utf-8"))


async def serve(arguments: argparse.Namespace, secret: str) -> None:
    """Serves until SIGTERM or SIGINT."""
    rng = random.Random(arguments.seed)  # noqa: S311 - a simulator
    world = World(
        now_ms=system_now_ms,
        rng=rng if arguments.seed is not None else random.SystemRandom(),
        secret=secret,
        plan=FaultPlan.seeded(rng) if arguments.seed is not None else None,
        public_url=f"http://127.0.0.1:{arguments.port}",
    )
    state: Path | None = arguments.state
    await asyncio.to_thread(load, world, state)
    runner = web.AppRunner(make_app(world, webhook=arguments.webhook, state=state))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", arguments.port).start()
    print(f"TEST MODE: the payment simulator is at {world.public_url}", flush=True)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await stopping.wait()
    await runner.cleanup()


def main() -> int:
    """Reads the command line and serves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8400)
    parser.add_argument("--webhook", default="http://127.0.0.1:8222/webhooks/stripe")
    parser.add_argument("--state", type=Path, help="file that keeps its state over restarts")
    parser.add_argument("--seed", type=int, help="of a plan of faults; default: none go wrong")
    secret = os.environ.get(SECRET, "")
    if not secret:
        print(f"{SECRET} is not set", file=sys.stderr)
        return 2
    asyncio.run(serve(parser.parse_args(), secret))
    return 0


if __name__ == "__main__":
    sys.exit(main())
