"""A mixed load on a stack, and the books that must balance after it.

Requests are streamed and not, free and priced, some fail upstream, some are hung up by the client.
What every client saw is kept beside its request id, so that the log, the ledger and the clients can
be compared one by one.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import aiohttp

from services.common.money import nanousd_from_usd
from tests.e2e.stack import Stack

Ending = Literal["complete", "refused", "hung_up", "broken"]
PROMPT_NANOUSD_PER_TOKEN = 3_000
COMPLETION_NANOUSD_PER_TOKEN = 15_000


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of request of the mix: which model, streamed or not, whether the client hangs up."""

    model: str
    stream: bool
    hang_up: bool = False
    weight: int = 1
    # False: the caller sets no limit, so that its hold grows while the answer comes.
    bounded: bool = True


@dataclass(frozen=True, slots=True)
class Seen:
    """What a client saw of one request. `usage` only where the answer was complete."""

    request_id: str
    kind: Kind
    ending: Ending
    status: int
    usage: dict[str, int] | None = None


@dataclass(slots=True)
class Load:
    """Sends `total` requests from `clients` clients, each with one request at a time."""

    base_url: str
    key: str
    mix: Sequence[Kind]
    seed: int
    total: int = 1_000
    clients: int = 20
    seen: list[Seen] = field(default_factory=list)
    broken: int = 0
    _kinds: Iterator[Kind] = field(default_factory=lambda: iter(()))
    _left: int = 0

    async def run(self, meanwhile: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        """At least `total` requests, and more until `meanwhile` has ended."""
        order = random.Random(self.seed)
        weights = [kind.weight for kind in self.mix]
        self._kinds = (order.choices(self.mix, weights)[0] for _ in itertools.count())
        self._left = self.total
        timeout = aiohttp.ClientTimeout(total=60)
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            beside = asyncio.create_task(meanwhile()) if meanwhile else None
            clients = (self._client(session, beside) for _ in range(self.clients))
            await asyncio.gather(*clients, *([beside] if beside else []))

    async def _client(
        self, session: aiohttp.ClientSession, beside: asyncio.Task[None] | None
    ) -> None:
        while self._left > 0 or (beside is not None and not beside.done()):
            self._left -= 1
            kind = next(self._kinds)
            try:
                self.seen.append(await self._send(session, kind))
            except (aiohttp.ClientError, TimeoutError, ConnectionError):
                # A killed worker, or one that is not up again yet.
                self.broken += 1
                await asyncio.sleep(0.05)

    async def _send(self, session: aiohttp.ClientSession, kind: Kind) -> Seen:
        body = {
            "model": kind.model,
            "stream": kind.stream,
            "max_tokens": 64,
            "messages": [{"role": "user", "content": "Count to ten."}],
            "cache": False,
        }
        headers = {"authorization": f"Bearer {self.key}"}
        url = f"{self.base_url}/v1/chat/completions"
        async with session.post(url, json=body, headers=headers) as answer:
            request_id = answer.headers["x-request-id"]
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
            return await self._read_stream(answer, request_id, kind)

    async def _read_stream(
        self, answer: aiohttp.ClientResponse, request_id: str, kind: Kind
    ) -> Seen:
        usage: dict[str, int] | None = None
        failed = False
        async for line in answer.content:
            if not line.startswith(b"data: "):
                continue
            if line.startswith(b"data: [DONE]"):
                ending: Ending = "broken" if failed else "complete"
                return Seen(request_id, kind, ending, 200, None if failed else usage)
            frame = json.loads(line[6:])
            failed = failed or frame.get("error") is not None
            if frame.get("usage"):
                usage = counts(frame["usage"])
        raise ConnectionError("the stream ended without [DONE]")


def counts(usage: dict[str, Any]) -> dict[str, int]:
    """The two figures that are compared."""
    return {"prompt": usage["prompt_tokens"], "completion": usage["completion_tokens"]}


@dataclass(frozen=True, slots=True)
class Books:
    """The figures of one account after a load, in nano-dollars."""

    rows: dict[str, dict[str, Any]]
    log_nanousd: int
    recomputed_nanousd: int
    wallet_fall_nanousd: int
    held_nanousd: int


async def posted_nanousd(stack: Stack, account: str) -> int:
    """The wallet's posted balance."""
    [row] = await stack.admin("balances", "show", account)
    return nanousd_from_usd(row["posted_usd"])


async def quiescence(stack: Stack, account: str, *, within_s: float = 90.0) -> None:
    """Returns when nothing is held and nothing has changed between two looks."""
    deadline = time.monotonic() + within_s
    before: object = None
    while True:
        state = await held_and_newest(stack, account)
        if state is not None and state[0] == 0 and state == before:
            return
        if time.monotonic() > deadline:
            grants = await stack.admin("grants", "list", "--account", account)
            raise TimeoutError(f"not quiet after {within_s} s: {state} {grants}")
        before = state
        await asyncio.sleep(0.5)


async def held_and_newest(stack: Stack, account: str) -> tuple[int, str, str] | None:
    """What is held, what is posted, and the newest row of the log; None while a service is away."""
    try:
        [balance] = await stack.admin("balances", "show", account)
        newest = await stack.admin("logs", "list", "--account", account, "--limit", "1")
    except RuntimeError as error:
        if "UNAVAILABLE" in str(error) or "away" in str(error):
            return None
        raise
    return nanousd_from_usd(balance["held_usd"]), str(balance["posted_usd"]), json.dumps(newest)


async def books(stack: Stack, account: str, *, start_nanousd: int, limit: int) -> Books:
    """Everything that must agree, from the log and the ledger."""
    listed = await stack.admin("logs", "list", "--account", account, "--limit", str(limit))
    rows = {str(row["usage_id"]): row for row in listed}
    assert len(rows) == len(listed), "a request is in the log twice"
    [balance] = await stack.admin("balances", "show", account)
    return Books(
        rows=rows,
        log_nanousd=sum(int(row["cost_nanousd"]) for row in listed),
        recomputed_nanousd=sum(map(recomputed, listed)),
        wallet_fall_nanousd=start_nanousd - nanousd_from_usd(balance["posted_usd"]),
        held_nanousd=nanousd_from_usd(balance["held_usd"]),
    )


def recomputed(row: dict[str, Any]) -> int:
    """Tokens x price of one row of the log, for the test's priced models; 0 if not billed."""
    if row["usage_basis"] == "none" or not str(row["model_id"]).endswith("-priced"):
        return 0
    prompt, completion = int(row["prompt"]), int(row["completion"])
    return prompt * PROMPT_NANOUSD_PER_TOKEN + completion * COMPLETION_NANOUSD_PER_TOKEN
