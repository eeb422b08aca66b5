"""The load of a chaos run: a few clients that go on whatever happens, and all that they saw."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp

from tests.e2e.load import Kind, Seen, counts

MIX = (
    Kind("test/ok-priced", stream=False, weight=30),
    Kind("test/ok-priced", stream=True, weight=30),
    Kind("test/ok-free", stream=False, weight=8),
    Kind("test/ok-free", stream=True, weight=8),
    Kind("test/slow-priced", stream=True, hang_up=True, weight=8),
    Kind("test/500-priced", stream=False, weight=6),
    Kind("test/close-priced", stream=True, weight=6),
    Kind("test/close-free", stream=False, weight=4),
    Kind("test/essay-priced", stream=True, weight=6, bounded=False),
    Kind("test/essay-priced", stream=False, weight=3, bounded=False),
)
PROBE = Kind("test/ok-priced", stream=False)
REQUEST_TIMEOUT_S = 30.0
UNANSWERED_PAUSE_S = 0.5


@dataclass(slots=True)
class Traffic:
    """`clients` clients, each with one request at a time and a pause of up to `pause_s` after it.

    `keys` are plain keys, a key that is there twice is used twice as often.
    """

    base_url: str
    keys: Sequence[str]
    seed: int
    clients: int = 10
    pause_s: float = 0.6
    seen: list[Seen] = field(default_factory=list)
    # Connections that were refused or lost before there was any answer.
    unanswered: int = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Sends until told to stop, and then ends what is under way."""
        order = random.Random(self.seed)
        seeds = [order.random() for _ in range(self.clients)]
        async with session() as open_session:
            await asyncio.gather(*(self._client(open_session, stop, seed) for seed in seeds))

    async def _client(
        self, open_session: aiohttp.ClientSession, stop: asyncio.Event, seed: float
    ) -> None:
        order = random.Random(seed)
        weights = [kind.weight for kind in MIX]
        while not stop.is_set():
            [kind] = order.choices(MIX, weights)
            seen = await self.send(open_session, order.choice(self.keys), kind)
            await asyncio.sleep(
                order.uniform(0, self.pause_s) + UNANSWERED_PAUSE_S * (seen is None)
            )

    async def send(self, open_session: aiohttp.ClientSession, key: str, kind: Kind) -> Seen | None:
        """One request; what was seen of it is kept. None where there was no answer at all."""
        body = {
            "model": kind.model,
            "stream": kind.stream,
            **({"max_tokens": 64} if kind.bounded else {}),
            "messages": [{"role": "user", "content": "Count to ten."}],
            "cache": False,
        }
        url = f"{self.base_url}/v1/chat/completions"
        headers = {"authorization": f"Bearer {key}"}
        try:
            async with open_session.post(url, json=body, headers=headers) as answer:
                seen = await read(answer, kind)
        except (aiohttp.ClientError, TimeoutError, ConnectionError):
            self.unanswered += 1
            return None
        self.seen.append(seen)
        return seen


def session() -> aiohttp.ClientSession:
    """Every request on a connection of its own, so that the kernel spreads them over workers."""
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S),
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
    )


async def read(answer: aiohttp.ClientResponse, kind: Kind) -> Seen:
    """Reads an answer to its end; one that breaks off is `broken`, whatever it said before."""
    request_id = answer.headers["x-request-id"]
    broken = Seen(request_id, kind, "broken", answer.status)
    try:
        if answer.status != 200:
            await answer.read()
            return Seen(request_id, kind, "refused", answer.status)
        if kind.hang_up:
            await answer.content.readany()
            answer.close()
            return Seen(request_id, kind, "hung_up", 200)
        if not kind.stream:
            whole = await answer.json()
            return Seen(request_id, kind, "complete", 200, counts(whole["usage"]))
        return await _read_stream(answer, broken)
    except (aiohttp.ClientError, TimeoutError, ConnectionError):
        return broken


async def _read_stream(answer: aiohttp.ClientResponse, broken: Seen) -> Seen:
    usage: dict[str, int] | None = None
    async for line in answer.content:
        if line.startswith(b"data: [DONE]"):
            return Seen(broken.request_id, broken.kind, "complete", 200, usage)
        if line.startswith(b"data: "):
            frame = json.loads(line[6:])
            if frame.get("error") is not None:
                return broken
            if frame.get("usage"):
                usage = counts(frame["usage"])
    return broken
