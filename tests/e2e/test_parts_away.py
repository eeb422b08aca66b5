"""What a caller is told when something is wrong or away, how soon; and nothing is lost by it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import aiohttp
import pytest

from tests.e2e.load import books, quiescence
from tests.e2e.market import Customer, Market
from tests.e2e.stack import Stack

PRICED, FREE = "test/ok-priced", "test/ok-free"
# Of the session's stack (conftest): how long a worker goes on without hearing from Kafka.
STALE_MAX_S = 8.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer and how long it took."""

    status: int
    code: str
    request_id: str
    retry_after: str | None
    after_s: float


async def send(stack: Stack, key: str, body: bytes | dict[str, object]) -> Answer:
    """One request on a connection of its own."""
    url = f"{stack.demo['MESH_BASE_URL']}/v1/chat/completions"
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    sent = {"data": body} if isinstance(body, bytes) else {"json": body}
    started = time.monotonic()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        async with session.post(url, headers=headers, **sent) as answer:
            said = await answer.json()
            assert answer.headers["x-request-id"]
            if answer.status != 200:
                assert said["request_id"] == answer.headers["x-request-id"]
            return Answer(
                answer.status,
                said.get("error", {}).get("code", ""),
                answer.headers["x-request-id"],
                answer.headers.get("retry-after"),
                time.monotonic() - started,
            )


def chat(model: str, **more: object) -> dict[str, object]:
    return {"model": model, "max_tokens": 16, "cache": False, **more,
            "messages": [{"role": "user", "content": "Hello"}]}  # fmt: skip


async def until(stack: Stack, key: str, model: str, status: int, *, within_s: float) -> Answer:
    """Sends until the answer has this status."""
    deadline = time.monotonic() + within_s
    while True:
        answer = await send(stack, key, chat(model))
        if answer.status == status:
            return answer
        assert time.monotonic() < deadline, f"still {answer} after {within_s} s"
        await asyncio.sleep(0.2)


async def answers(stack: Stack, customer: Customer, *, within_s: float) -> None:
    """Waits until the services answer again."""
    async with asyncio.timeout(within_s):
        while True:
            with suppress(RuntimeError):
                await stack.admin("balances", "show", customer.account_id)
                return
            await asyncio.sleep(0.2)


@contextmanager
def paused(stack: Stack, name: str) -> Iterator[None]:
    """The part is there and does not answer, which is the worst way to be away."""
    stack.pause(name)
    try:
        yield
    finally:
        stack.resume(name)


@pytest.fixture
async def customer(market: Market, request: pytest.FixtureRequest) -> AsyncIterator[Customer]:
    """A customer of the test's own, whose books must balance in the end."""
    name = request.node.name.replace("_", "-")[:60]
    found = await market.customer(f"{name}@example.com")
    yield found
    await quiescence(market.stack, found.account_id, within_s=120)
    at_end = await books(
        market.stack, found.account_id, start_nanousd=found.start_nanousd, limit=1_000
    )
    assert at_end.wallet_fall_nanousd == at_end.log_nanousd == at_end.recomputed_nanousd


async def test_a_wrong_key_is_401_unauthorized(stack: Stack, market: Market) -> None:
    answer = await send(stack, "rsk_INVALID_TOKEN", chat(PRICED))
    assert (answer.status, answer.code) == (401, "unauthorized")


async def test_malformed_json_is_400_bad_request(stack: Stack, customer: Customer) -> None:
    answer = await send(stack, customer.key, b'{"model": "test/ok-priced", ')
    assert (answer.status, answer.code) == (400, "bad_request")


async def test_an_unknown_model_is_404_model_not_found(stack: Stack, customer: Customer) -> None:
    answer = await send(stack, customer.key, chat("no/such-model"))
    assert (answer.status, answer.code) == (404, "model_not_found")


async def test_an_upstream_that_is_down_is_a_5xx_of_the_catalogue_and_is_not_billed(
    stack: Stack, customer: Customer
) -> None:
    answer = await send(stack, customer.key, chat("test/refuse-priced"))
    assert answer.status in (500, 502, 503)
    assert answer.code in ("upstream_error", "provider_not_available")
    assert answer.after_s < 10
    [balance] = await stack.admin("balances", "show", customer.account_id)
    assert balance["posted_usd"] == "1.00"


async def test_an_upstream_that_hangs_is_504_within_the_time_that_the_request_allows(
    stack: Stack, customer: Customer
) -> None:
    answer = await send(stack, customer.key, chat("test/hang-priced", timeout=1.5))
    assert (answer.status, answer.code) == (504, "gateway_timeout")
    assert 1.4 < answer.after_s < 6


async def test_without_kafka_requests_go_on_then_are_refused_and_no_event_is_lost(
    stack: Stack, customer: Customer
) -> None:
    served = [await until(stack, customer.key, PRICED, 200, within_s=5)]
    with paused(stack, "kafka"):
        served += [await send(stack, customer.key, chat(PRICED)) for _ in range(3)]
        assert {answer.status for answer in served} == {200}
        refused = await until(stack, customer.key, PRICED, 503, within_s=STALE_MAX_S + 20)
        assert refused.code == "service_unavailable"
        assert refused.retry_after
        assert refused.after_s < 5
    served.append(await until(stack, customer.key, PRICED, 200, within_s=60))
    await quiescence(stack, customer.account_id, within_s=120)
    listed = await stack.admin("logs", "list", "--account", customer.account_id, "--limit", "500")
    assert {answer.request_id for answer in served} <= {str(row["request_id"]) for row in listed}


async def test_without_postgresql_priced_requests_are_refused_free_ones_served_and_it_heals(
    stack: Stack, customer: Customer
) -> None:
    with paused(stack, "postgres"):
        refused = await until(stack, customer.key, PRICED, 503, within_s=20)
        assert refused.code == "service_unavailable"
        assert refused.retry_after
        assert refused.after_s < 10
        free = await send(stack, customer.key, chat(FREE))
        assert free.status == 200
    healed = await until(stack, customer.key, PRICED, 200, within_s=60)
    await quiescence(stack, customer.account_id, within_s=120)
    listed = await stack.admin("logs", "list", "--account", customer.account_id, "--limit", "500")
    assert {free.request_id, healed.request_id} <= {str(row["request_id"]) for row in listed}


async def test_a_database_that_is_killed_comes_back_with_everything(
    stack: Stack, customer: Customer
) -> None:
    await until(stack, customer.key, PRICED, 200, within_s=5)
    stack.kill("postgres")
    # Workers go on with the money that they were lent; the services answer when it is back.
    await answers(stack, customer, within_s=60)
    await until(stack, customer.key, PRICED, 200, within_s=60)


async def test_a_broker_that_is_killed_comes_back_with_everything(
    stack: Stack, customer: Customer
) -> None:
    await until(stack, customer.key, PRICED, 200, within_s=5)
    stack.kill("kafka")
    await until(stack, customer.key, PRICED, 200, within_s=60)
