"""`mesh up`: the whole product on this machine."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from deploy.local.demo import MODEL_PRICED
from deploy.local.layout import Ports
from deploy.local.logs import Console
from deploy.local.problems import StackProblem
from deploy.local.stack import KafkaMode, Stack, StackOptions

_USUAL = Ports()
# A terminal that is closed sends two signals at once; a second one later is meant.
IMPATIENCE_AFTER_S = 0.5


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class PortOptions:
    """Where the stack listens; all on 127.0.0.1."""

    ports_from: Annotated[
        int | None, Parameter(help="Take neighbouring ports from this one on.")
    ] = None
    gateway_port: int | None = None
    dashboard_port: int | None = None
    kafka_port: int | None = None
    model_port: int | None = None

    def ports(self) -> Ports:
        """The usual ports, or those counted from `ports_from`, with what was named over them."""
        base = _USUAL if self.ports_from is None else Ports.counted_from(self.ports_from)
        return replace(
            base,
            gateway=self.gateway_port or base.gateway,
            dashboard=self.dashboard_port or base.dashboard,
            kafka=self.kafka_port or base.kafka,
            model=self.model_port or base.model,
        )


def up(
    *,
    data_dir: Path = Path(".mesh"),
    fresh: Annotated[bool, Parameter(negative="", help="Start empty.")] = False,
    gateway_workers: Annotated[int, Parameter(help="Gateway processes, at least one.")] = 2,
    kafka: Annotated[
        KafkaMode, Parameter(help="`auto` falls back to memory only where Java is missing.")
    ] = "auto",
    ports: PortOptions = PortOptions(),
    seed: Annotated[bool, Parameter(help="Make the demo account.")] = True,
    quiet: Annotated[bool, Parameter(negative="", help="Leave the children's lines out.")] = False,
) -> None:
    """Starts the embedded stack and keeps it running until Ctrl-C.

    PostgreSQL, Apache Kafka, a local model and every service, each a process of its own, healed
    when it dies. Everything is kept in the data directory and found again at the next start.
    """
    if gateway_workers < 1:
        sys.exit("mesh: --gateway-workers must be at least 1")
    options = StackOptions(
        data_dir=data_dir,
        ports=ports.ports(),
        gateway_workers=gateway_workers,
        fresh=fresh,
        kafka=kafka,
        seed=seed,
        quiet=quiet,
    )
    sys.exit(asyncio.run(_run(options)))


async def _run(options: StackOptions) -> int:
    """The exit code: 0 after a stop that was asked for, 1 after a problem."""
    console = Console(quiet=options.quiet)
    stack = Stack(options, console)
    asked = asyncio.Event()
    _on_signals(stack, asked)
    started = time.monotonic()
    code = 0
    try:
        await _start_or_stop(stack, asked)
        if not asked.is_set():
            console.plain(summary(stack, time.monotonic() - started))
            await stack.wait(asked)
    except StackProblem as problem:
        console.plain(f"mesh: {problem}")
        code = 1
    finally:
        console.say("stopping")
        stopping = time.monotonic()
        await stack.stop()
        console.say(f"stopped (in {time.monotonic() - stopping:.1f} s)")
    return code


async def _start_or_stop(stack: Stack, asked: asyncio.Event) -> None:
    """Start the stack; given up when a stop is asked for meanwhile."""
    start = asyncio.create_task(stack.start())
    stop = asyncio.create_task(asked.wait())
    both: list[asyncio.Task[None] | asyncio.Task[bool]] = [start, stop]
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if not start.done():
        start.cancel()
        await asyncio.wait([start])
        return
    start.result()


def _on_signals(stack: Stack, asked: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    asked_at = loop.time()

    def stop() -> None:
        nonlocal asked_at
        if not asked.is_set():
            asked_at = loop.time()
            asked.set()
        elif stack.supervisor is not None and loop.time() - asked_at > IMPATIENCE_AFTER_S:
            # The second Ctrl-C: the user does not want to wait.
            stack.supervisor.kill_all()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop)


def summary(stack: Stack, start_s: float) -> str:
    """What a newcomer needs, and how to stop."""
    lines = ["", f"Mesh is ready (in {start_s:.1f} s)."]
    demo = stack.demo
    if demo is not None:
        messages = '[{"role": "user", "content": "Say hello."}]'
        lines += [
            "",
            f"  Dashboard  {demo.dashboard_url}",
            f"  Log in     {demo.email} / {demo.password}",
            f"  API        {demo.base_url}/v1",
            f"  Key        {demo.api_key}",
            "",
            f"  curl -s {demo.base_url}/v1/chat/completions \\",
            f"    -H 'Authorization: Bearer {demo.api_key}' \\",
            "    -H 'Content-Type: application/json' \\",
            f'    -d \'{{"model": "{MODEL_PRICED}", "messages": {messages}}}\'',
            "",
            f"  The same as variables: set -a; source {stack.layout.demo}; set +a",
        ]
    elif stack.options.seed:
        lines.append("There is no demo account, because services are left out.")
    if stack.layout.memory_only:
        lines += ["", "  MEMORY ONLY: all of this is lost when it stops."]
    lines += ["", f"Logs are in {stack.layout.logs}. Ctrl-C stops everything.", ""]
    return "\n".join(lines)
