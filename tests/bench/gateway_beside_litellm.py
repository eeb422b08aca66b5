"""CPU time of a streamed request here and in a LiteLLM proxy, at the same provider, in turns.

`LITELLM=/path/to/bin/litellm python -m tests.bench.gateway_beside_litellm [requests]`; without the
variable nothing is measured. Install it somewhere else than here (`litellm[proxy]`); it runs as one
worker without a database, so that it keeps neither keys nor spend, while this gateway does all its
work.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import aiohttp
import uvloop

from tests.bench._figures import say
from tests.bench.gateway_overhead import KINDS, measure, start

TURN = 100
STARTS_WITHIN_S = 120


@dataclass(frozen=True, slots=True)
class Started:
    """Its one process."""

    pid: int | None


@contextmanager
def litellm(program: str, upstream: str) -> Iterator[tuple[Started, str]]:
    """The proxy as it comes, with one model; its process, and its address with a key for it."""
    key, port = f"sk-{secrets.token_hex(24)}", _free_port()
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory, "config.yaml")
        config.write_text(
            "model_list:\n"
            "  - model_name: vendor/ok\n"
            f"    litellm_params: {{model: openai/ok, api_base: {upstream}/v1, api_key: sk-none}}\n"
            f"general_settings: {{master_key: {key}}}\n"
        )
        process = subprocess.Popen(
            [program, "--config", config, "--host", "127.0.0.1", "--port", str(port)],
            cwd=directory,
            env={**os.environ, "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield Started(process.pid), f"http://127.0.0.1:{port} {key}"
        finally:
            process.terminate()
            process.wait()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def _answers(url: str) -> None:
    async with aiohttp.ClientSession() as session, asyncio.timeout(STARTS_WITHIN_S):
        while True:
            try:
                async with session.get(f"{url}/health/liveliness") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.5)


async def main(program: str, count: int) -> None:
    """Prints a figure for each kind of stream."""
    upstream = start("provider")
    worker = start("gateway", upstream.said)
    with litellm(program, upstream.said) as (process, said):
        other = type(worker)(process, said)
        await _answers(said.partition(" ")[0])
        for kind in (kind for kind in KINDS if kind.stream):
            for one in (worker, other):
                await measure(one, kind, TURN)
            turns = [
                (await measure(worker, kind, TURN), await measure(other, kind, TURN))
                for _ in range(max(1, count // TURN))
            ]
            ours, theirs = (median(turn[place] for turn in turns) for place in (0, 1))
            name = f"CPU time per {kind.name} request"
            say(name, ours, "us", baseline=theirs, baseline_is="LiteLLM proxy, no database")


if __name__ == "__main__":
    if known := os.environ.get("LITELLM"):
        uvloop.run(main(known, int(sys.argv[1]) if len(sys.argv) > 1 else 300))
    else:
        print("gateway_beside_litellm: skipped, as LITELLM names no program", file=sys.stderr)
