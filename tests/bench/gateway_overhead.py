"""CPU time of the gateway for each request, beside a bare aiohttp reverse proxy in the same run.

`python -m tests.bench.gateway_overhead [requests]` prints one JSON line a figure. Provider, proxy
and gateway are processes of their own, with the garbage collector as a worker has it; what is
counted is the user and system time of the one that is measured. The gateway does all its work: key,
validation, exact prompt tokens, hold, write-ahead file with fsync, usage event. Proxy and gateway
take turns, and figures are medians, as other work on the machine changes what a request costs.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Protocol

import aiohttp
import orjson
import uvloop
from aiohttp import web

from services.common.runtime import calm_garbage_collector
from tests.fixtures.gateway import running_gateway

CHUNKS = 32
CONCURRENCY = 16
WARM_UP = 500
TURN = 500
TOKEN_S = 0.002


def _sse() -> bytes:
    def frame(body: dict[str, object]) -> bytes:
        head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        return b"data: " + orjson.dumps({**head, **body}) + b"\n\n"

    words = [
        frame({"choices": [{"index": 0, "delta": {"content": " word"}, "finish_reason": None}]})
        for _ in range(CHUNKS)
    ]
    stop = frame({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    usage = {"prompt_tokens": 170, "completion_tokens": CHUNKS, "total_tokens": 170 + CHUNKS}
    last = frame({"choices": [], "usage": usage})
    return b"".join(words) + stop + last + b"data: [DONE]\n\n"


async def _serve(app: web.Application, pipe: Connection) -> None:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    calm_garbage_collector()
    pipe.send(f"http://127.0.0.1:{runner.addresses[0][1]}")
    await asyncio.Event().wait()


async def provider(pipe: Connection, _: str) -> None:
    """Answers every request with the same stream: in writes of four chunks, which come together, or
    token by token, as models speak, where the request is for that.
    """
    frames = [frame + b"\n\n" for frame in _sse().split(b"\n\n")[:-1]]
    fours = [b"".join(frames[i : i + 4]) for i in range(0, len(frames), 4)]

    async def answer(request: web.Request) -> web.StreamResponse:
        slowly = b"slowly" in await request.read()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece in frames if slowly else fours:
            await response.write(piece)
            if slowly:
                await asyncio.sleep(TOKEN_S)
        return response

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    await _serve(app, pipe)


async def proxy(pipe: Connection, upstream: str) -> None:
    """The baseline: bytes through, nothing looked at."""
    session = aiohttp.ClientSession()

    async def forward(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        async with session.post(
            f"{upstream}/v1/chat/completions",
            data=body,
            headers={"Content-Type": "application/json"},
        ) as answer:
            response = web.StreamResponse(headers={"Content-Type": answer.content_type})
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            return response

    app = web.Application()
    app.router.add_post("/v1/chat/completions", forward)
    await _serve(app, pipe)


async def gateway(pipe: Connection, upstream: str) -> None:
    """A whole worker; only billing and Kafka are in memory."""
    with tempfile.TemporaryDirectory() as directory:
        async with running_gateway(Path(directory), provider_url=f"{upstream}/v1") as worker:
            calm_garbage_collector()
            pipe.send(f"{worker.url} {worker.key}")
            await asyncio.Event().wait()


def _child(name: str, pipe: Connection, upstream: str) -> None:
    uvloop.run({"provider": provider, "proxy": proxy, "gateway": gateway}[name](pipe, upstream))


class HasPid(Protocol):
    """A process of the system."""

    @property
    def pid(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Process:
    """A started role and what it said of itself."""

    handle: HasPid
    said: str

    def cpu_s(self) -> float:
        """User and system time so far, by the clock that Linux keeps for every process."""
        pid = self.handle.pid
        assert pid is not None
        return time.clock_gettime(~pid << 3 | 2)


def start(name: str, upstream: str = "") -> Process:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    handle = spawn.Process(target=_child, args=(name, theirs, upstream), daemon=True)
    handle.start()
    return Process(handle, str(ours.recv()))


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of request."""

    name: str
    question: str = "Say a few words about the weather. " * 20
    stream: bool = True

    @property
    def body(self) -> bytes:
        """The request as it is sent."""
        messages = [{"role": "user", "content": self.question}]
        return orjson.dumps({"model": "vendor/ok", "messages": messages, "stream": self.stream})


KINDS = (
    Kind("streamed"),
    Kind("whole", stream=False),
    Kind("token by token", question="Say a few words slowly, if you please. " * 18),
)


async def _load(said: str, kind: Kind, count: int) -> None:
    url, _, key = said.partition(" ")
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    left = iter(range(count))
    async with aiohttp.ClientSession(headers=headers) as session:

        async def caller() -> None:
            for _ in left:
                async with session.post(f"{url}/v1/chat/completions", data=kind.body) as answer:
                    assert answer.status == 200, await answer.text()
                    await answer.read()

        await asyncio.gather(*(caller() for _ in range(CONCURRENCY)))


async def measure(process: Process, kind: Kind, count: int = TURN) -> float:
    """Microseconds of CPU for each request."""
    before_s = process.cpu_s()
    await _load(process.said, kind, count)
    return (process.cpu_s() - before_s) / count * 1e6


async def main(count: int) -> None:
    """Prints the figures of each kind."""
    upstream = start("provider")
    bare, worker = start("proxy", upstream.said), start("gateway", upstream.said)
    for kind in KINDS:
        for process in (bare, worker):
            await measure(process, kind, WARM_UP)
        # The proxy passes a stream on whatever the caller wants.
        turns = [
            (await measure(bare, kind), await measure(worker, kind))
            for _ in range(max(1, count // TURN))
        ]
        figure = {
            "figure": f"gateway CPU time per {kind.name} request",
            "unit": "us",
            "value": round(median(spent for _, spent in turns)),
            "baseline": round(median(least for least, _ in turns)),
            "baseline_is": "aiohttp reverse proxy, same stream",
            "ratio": round(median(spent / least for least, spent in turns), 2),
            "chunks": CHUNKS,
            "requests": TURN * len(turns),
        }
        print(orjson.dumps(figure).decode(), flush=True)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 4_000))
